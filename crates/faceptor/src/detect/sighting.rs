//! Finds every place of a picture that may show a face, so that it can be covered.
//!
//! A face that is missed costs more here than a place without one, so scores far below those of a face count, and small faces
//! are looked for at a larger scale than that of the usual search. Four kinds of faces get such scores: those in profile, those
//! that the picture's edge cuts, covered or dark ones, and those of few pixels.
//!
//! `docs/privacy.md` has the measured coverage and the area of false places.

use crate::detect::detection::{Detection, Detections, MAX_FACES};
use crate::detect::detector::{Detector, Samples, collect, decode, to_picture};
use crate::detect::placement::Placement;
use crate::detect::search::PhotoSearch;
use crate::detect::tiles;
use crate::error::{Error, Result};
use crate::image::normalization::Normalization;
use crate::image::picture::{Pixels, Pyramid};
use faceptor_nn::engine::Engine;

/// Score from which a place of a frame may show a face: in the loop's own input, and in a closer look.
const IN_FRAME: f32 = 0.4;
const IN_CLOSER_FRAME: f32 = 0.38;
/// That in a photo: in a middling input, with room around the photo, and in the largest input and the tiles.
const IN_PHOTO: f32 = 0.35;
const WITH_ROOM: f32 = 0.5;
const AT_LARGEST: f32 = 0.38;
/// Shorter side of the input for the closer look, which is the middling one of photos.
const CLOSER_PX: f64 = 320.0;
/// Sides of the input in sides of the photo, with room around it: a face that the photo's edge cuts is found more surely.
const ROOM: f64 = 1.35;
/// Longer side of a place, in pixels of the smallest input, in the second look at it, and the score there from which it may show a
/// face in a frame and in a photo. Half of the places without a face have a smaller one.
const SECOND_LOOK_PX: f64 = 64.0;
const AGAIN_IN_FRAME: f32 = 0.35;
const AGAIN_IN_PHOTO: f32 = 0.25;
/// Overlap of a place and what the second look shows there.
const SEEN_AGAIN: f32 = 0.3;
/// Most second looks at a frame, best scores first; they bound the time. Places beyond count.
const MAX_LOOKS: usize = 8;
/// Photo pixels for each pixel of the input, below which magnifying shows no further face.
const LEAST_STEP: f64 = 0.5;
/// Overlap of two places of a photo from which one cover is enough.
const SAME_PLACE: f32 = 0.6;
/// Part of a place inside the larger box of a face, from which it shows a part of that face.
const PART_OF_FACE: f32 = 0.6;
/// Most places of a frame beside its faces.
pub(crate) const MAX_OTHERS: usize = 2 * MAX_FACES;

/// The faces of a frame, and the other places that may show one.
#[derive(Clone, Debug, Default)]
pub(crate) struct FrameSightings {
    pub(crate) faces: Detections,
    pub(crate) others: heapless::Vec<Detection, MAX_OTHERS>,
    /// There was room for all.
    pub(crate) are_all: bool,
}

impl FrameSightings {
    /// Adds the places that neither a face nor an earlier place shows.
    fn add(&mut self, found: &[Detection], overlap: f32) {
        for place in found {
            let is_known = self.faces.iter().any(|face| face.overlap(place) > overlap || shows_part(place, face));
            if !is_known && self.others.iter().all(|other| other.overlap(place) <= overlap) {
                self.are_all &= self.others.push(*place).is_ok();
            }
        }
    }
}

/// Reports whether a place shows a part of a face.
pub fn shows_part(place: &Detection, face: &Detection) -> bool {
    place.side() <= face.side() && place.shared_part(face) >= PART_OF_FACE
}

impl Detector {
    /// Finds the faces of a frame as [`Detector::find`] does for the live loop, and the other places that may show one, also with
    /// a closer look.
    pub(crate) fn sight_frame(&mut self, engine: &mut Engine, picture: &impl Pixels) -> Result<FrameSightings> {
        self.sight_samples(engine, picture)
    }

    fn sight_samples(&mut self, engine: &mut Engine, picture: &dyn Samples) -> Result<FrameSightings> {
        self.candidates.clear();
        self.weak.clear();
        let (overlap, threshold) = (self.overlap, self.threshold);
        let mut smallest = true;
        for size in self.sizes.iter_mut().filter(|size| size.live) {
            if !std::mem::take(&mut smallest) && size.magnifies(picture.size()) {
                continue;
            }
            size.letterbox.set_sparse(true);
            let input = engine.input(size.input).map_err(Error::network)?;
            picture.fill_letterbox(&mut size.letterbox, &self.normalization, input);
            let (candidates, others) = (&mut self.candidates, &mut self.weak);
            collect(size, IN_FRAME.min(threshold), engine, picture.size(), |found| match found.score >= threshold {
                true => candidates.push(found),
                false => others.push(found),
            })?;
        }
        let faces = self.candidates.suppress(overlap, MAX_FACES);
        let mut seen = FrameSightings { faces, are_all: self.candidates.left_out() == 0, ..FrameSightings::default() };
        seen.add(&self.weak.suppress(overlap, MAX_FACES), overlap);
        seen.are_all &= self.weak.left_out() == 0;
        let closer = self.photo_size_of(CLOSER_PX).filter(|&index| !self.sizes[index].live);
        let Some(size) = closer.and_then(|index| self.sizes.get_mut(index)) else { return Ok(seen) };
        size.letterbox.set_sparse(true);
        let input = engine.input(size.input).map_err(Error::network)?;
        picture.fill_letterbox(&mut size.letterbox, &self.normalization, input);
        for grid in &size.grids {
            let output = engine.output(grid.tensor).map_err(Error::network)?;
            // Each output by itself: a crowd has many cells with such scores.
            self.weak.clear();
            let weak = &mut self.weak;
            decode(output, &grid.cells, IN_CLOSER_FRAME, |found| {
                weak.push(to_picture(&found, &size.letterbox, picture.size()));
            });
            seen.add(&self.weak.suppress(overlap, MAX_FACES), overlap);
            seen.are_all &= self.weak.left_out() == 0;
        }
        seen.others.sort_unstable_by(|one, other| other.cmp(one));
        let mut kept = heapless::Vec::new();
        for (number, place) in seen.others.iter().enumerate() {
            let fill = |input: &Placement, normalization: &Normalization, values: &mut [f32]| {
                picture.fill_placement(input, normalization, values);
            };
            if number >= MAX_LOOKS || self.is_seen_again(engine, place, AGAIN_IN_FRAME, fill)? {
                // It has room for as many.
                let _ = kept.push(*place);
            }
        }
        seen.others = kept;
        Ok(seen)
    }

    /// Reports whether a second look at a place, at the scale at which faces are seen best, may show a face too.
    fn is_seen_again(
        &mut self,
        engine: &mut Engine,
        place: &Detection,
        least: f32,
        fill: impl FnOnce(&Placement, &Normalization, &mut [f32]),
    ) -> Result<bool> {
        let step = f64::from(place.side()) / SECOND_LOOK_PX;
        let Some(size) = self.sizes.first().filter(|_| step > 0.0 && step.is_finite()) else { return Ok(true) };
        let look = Placement::around(place.middle().map(f64::from), step, 0.0, [size.width, size.height]);
        fill(&look, &self.normalization, engine.input(size.input).map_err(Error::network)?);
        let mut is_seen = false;
        for grid in &size.grids {
            let output = engine.output(grid.tensor).map_err(Error::network)?;
            decode(output, &grid.cells, least, |found| {
                is_seen |= look.to_picture(&found).overlap(place) >= SEEN_AGAIN;
            });
        }
        Ok(is_seen)
    }

    /// Returns the places of a photo that may show an upright face, and whether there was room for all of them.
    pub(crate) fn sight_photo(
        &mut self,
        engine: &mut Engine,
        photo: &Pyramid,
        search: &PhotoSearch,
    ) -> Result<(Vec<Detection>, bool)> {
        let (picture, _) = photo.level(0);
        let size = [picture.width(), picture.height()];
        let (mut places, mut are_all) = (Vec::new(), true);
        let (Some(closer), Some(largest)) = (self.photo_size_of(CLOSER_PX), self.photo_size_of(f64::INFINITY)) else {
            return Ok((places, are_all));
        };
        let middle = size.map(|side| (side as f64 - 1.0) / 2.0);
        for (index, room, least) in [(closer, 1.0, IN_PHOTO), (closer, ROOM, WITH_ROOM), (largest, 1.0, AT_LARGEST)] {
            let input = self.input_size(index);
            let step = (Placement::whole(size, 0.0, input).step() * room).max(LEAST_STEP);
            let place = Placement::around(middle, step, 0.0, input);
            are_all &= self.sight(engine, photo, index, &place, least, &mut places)?;
        }
        let coarse = Placement::whole(size, 0.0, self.input_size(largest)).step();
        for step in tiles::steps(coarse, self.finest_step(size, search.min_face_px)) {
            for tile in tiles::cover(size, self.sizes[largest].shorter_side(), step) {
                let place = Placement::around(tile.middle, step, 0.0, self.input_size(largest));
                are_all &= self.sight(engine, photo, largest, &place, AT_LARGEST, &mut places)?;
            }
        }
        let mut kept = Vec::with_capacity(places.len());
        for place in places {
            let fill = |input: &Placement, normalization: &Normalization, values: &mut [f32]| {
                input.fill(photo, normalization, values);
            };
            if self.is_seen_again(engine, &place, AGAIN_IN_PHOTO, fill)? {
                kept.push(place);
            }
        }
        Ok((kept, are_all))
    }

    /// Adds what a part of a photo shows to its places; returns false if there was no room for all of it.
    fn sight(
        &mut self,
        engine: &mut Engine,
        photo: &Pyramid,
        index: usize,
        place: &Placement,
        least: f32,
        places: &mut Vec<Detection>,
    ) -> Result<bool> {
        let size = &self.sizes[index];
        place.fill(photo, &self.normalization, engine.input(size.input).map_err(Error::network)?);
        let mut are_all = true;
        for grid in &size.grids {
            let output = engine.output(grid.tensor).map_err(Error::network)?;
            self.weak.clear();
            let weak = &mut self.weak;
            decode(output, &grid.cells, least, |found| weak.push(place.to_picture(&found)));
            for found in self.weak.suppress(self.overlap, MAX_FACES) {
                if places.iter().all(|other| other.overlap(&found) <= SAME_PLACE) {
                    places.push(found);
                }
            }
            are_all &= self.weak.left_out() == 0;
        }
        Ok(are_all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(score: f32, x: f32, side: f32) -> Detection {
        Detection { score, edges: [x, 0.0, x + side, side], keypoints: [[x, 0.0]; 5] }
    }

    #[test]
    fn a_place_counts_once_and_parts_of_a_face_do_not() {
        let mut seen = FrameSightings { are_all: true, ..FrameSightings::default() };
        seen.faces.push(place(0.9, 0.0, 100.0)).expect("there is room");
        // The face again, its mouth, a face beside it, that one again, and a face of which only a corner lies in the first.
        let found = [
            place(0.5, 10.0, 100.0),
            place(0.6, 40.0, 20.0),
            place(0.4, 150.0, 40.0),
            place(0.5, 152.0, 40.0),
            place(0.4, 90.0, 40.0),
        ];
        seen.add(&found, 0.3);
        assert_eq!(seen.others.iter().map(|place| place.edges[0]).collect::<Vec<_>>(), [150.0, 90.0]);
        // A larger place around a face covers more than that face.
        assert!(
            shows_part(&place(0.5, 40.0, 20.0), &seen.faces[0]) && !shows_part(&seen.faces[0], &place(0.5, 40.0, 20.0))
        );
        assert!(seen.are_all);
        let crowd: Vec<Detection> =
            (0..=MAX_OTHERS).map(|index| place(0.4, 500.0 + 50.0 * index as f32, 40.0)).collect();
        seen.add(&crowd, 0.3);
        assert!(!seen.are_all && seen.others.is_full());
    }
}
