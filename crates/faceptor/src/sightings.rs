//! Every place of a frame or photo where the detector has seen what may be a face.
//!
//! The tracker follows the faces with the highest scores, up to a limit, and a photo reports those that are faces for sure. That
//! does not suffice to cover faces: those beyond the limit, at the edge of the picture or with a low score must be covered too.

use crate::detect::detection::{Detection, Detections, MAX_FACES};
use crate::detect::sighting::{self, FrameSightings};
use crate::error::{Error, Result};
use crate::image::picture::{Picture, Pyramid};
use crate::image::view::ImageView;
use crate::pipeline::Pipeline;

/// Overlap of a place and the face that it shows.
const SAME_FACE: f32 = 0.3;
/// Most places of a picture: those of a frame, and those of a search at another roll.
pub const MAX_SIGHTINGS: usize = 4 * MAX_FACES;

/// The places of one picture.
#[derive(Clone, Debug, Default)]
pub struct Sightings {
    are_wanted: bool,
    places: heapless::Vec<Detection, MAX_SIGHTINGS>,
    are_complete: bool,
}

impl Sightings {
    pub(crate) fn set_wanted(&mut self, on: bool) {
        self.are_wanted = on;
    }

    pub(crate) fn are_wanted(&self) -> bool {
        self.are_wanted
    }

    /// Begins a frame, which has not been searched yet.
    pub(crate) fn begin(&mut self) {
        self.places.clear();
        self.are_complete = false;
    }

    /// Searches the frame and returns the faces among the places.
    pub(crate) fn search(&mut self, pipeline: &mut Pipeline, view: &ImageView) -> Result<Detections> {
        let FrameSightings { faces, others, are_all } = pipeline.sight_frame(view)?;
        self.are_complete = are_all;
        self.add(&faces);
        self.add(&others);
        Ok(faces)
    }

    /// Adds the places of a further search.
    pub(crate) fn add(&mut self, found: &[Detection]) {
        self.are_complete &= self.places.extend_from_slice(found).is_ok();
    }

    /// Returns the places, in the order in which they were found.
    pub fn places(&self) -> &[Detection] {
        &self.places
    }

    /// Returns false where places may be missing: the frame was not searched, or it shows more than there is room for.
    pub fn are_complete(&self) -> bool {
        self.are_complete
    }
}

impl Pipeline {
    /// Returns every place of a photo that may show an upright face, beside those that [`Pipeline::analyze`] finds.
    ///
    /// # Errors
    /// When the bundle has no face detector.
    pub fn sightings(&mut self, picture: &Picture) -> Result<Sightings, Error> {
        let (places, are_complete) = self.sight_photo(&Pyramid::new(picture))?;
        let mut sightings = Sightings { are_complete, ..Sightings::default() };
        sightings.add(&places);
        Ok(sightings)
    }
}

impl Detection {
    /// Reports whether this place shows a face that was found, or a part of it.
    pub fn shows(&self, face: &Detection) -> bool {
        self.overlap(face) >= SAME_FACE || sighting::shows_part(self, face)
    }
}
