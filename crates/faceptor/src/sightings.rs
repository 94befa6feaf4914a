//! Every place of a frame where the detector has seen what may be a face.
//!
//! The tracker follows the faces with the highest scores, up to a limit. That does not suffice to cover faces: those beyond the
//! limit, at the edge of the frame or with a low score must be covered too.

use crate::detect::detection::{Detection, Detections, MAX_FACES};
use crate::error::Result;
use crate::image::view::ImageView;
use crate::pipeline::Pipeline;

/// Score from which a place may be a face: a tracked face has a higher one.
const MAY_BE_A_FACE: f32 = 0.5;
/// Most places of a frame: the detector's faces and further places, and those of a search at another roll.
pub const MAX_SIGHTINGS: usize = 3 * MAX_FACES;

/// The places of one frame.
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
        let (faces, others, are_all) = pipeline.find_all(view, MAY_BE_A_FACE)?;
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
