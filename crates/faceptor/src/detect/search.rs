//! Searches a photo for faces of every size and at every roll.
//!
//! The network knows faces that are turned by less than about 35 degrees and fill [`LEAST_INPUT_PX`] of its input. So
//! - the whole photo is searched upright, which finds nearly every face of an ordinary photo: its results stand;
//! - tiles of a larger photo are searched where faces of the requested size are too small in the whole photo;
//! - both are searched once more turned by a right angle, with a low threshold. One of the two runs gives every turned
//!   face a score, though keypoints and roll are often wrong there: upside down, a chin looks like a forehead;
//! - each place with such a score, and each face whose score is lower than that of nearly all upright ones, is looked at
//!   in eight rolls, in the smallest input. The right one wins clearly; the face is looked at again at its own roll, so that
//!   its keypoints are as good as those of an upright face.
//!
//! A second detection at a larger scale also rejects doubtful upright detections.
//!
//! `docs/behaviour.md` has the measured recall and cost.

use crate::detect::detection::{Detection, Detections, MAX_FACES};
use crate::detect::detector::{Detector, MAX_MAGNIFICATION};
use crate::detect::placement::Placement;
use crate::detect::tiles::{self, Tile};
use crate::error::Result;
use crate::image::picture::{Pixels, Pyramid};
use faceptor_nn::engine::Engine;

/// Longer side of the smallest faces, in pixels of the input, that are found as often as those a little larger.
const LEAST_INPUT_PX: f64 = 20.0;
/// Longer side of a face, in pixels of the input, below which its detection is doubted where there are tiles: it is replaced
/// by that of a tile, or detected a second time at a larger scale.
const COARSE_PX: f64 = 32.0;
/// Score from which a face of a tile is believed at once, and that of a look at it from which it is otherwise. Real faces reach it
/// nearly always, others hardly ever.
const CERTAIN: f32 = 0.9;
const CONFIRMED: f32 = 0.8;
/// Score from which a place is looked at in eight rolls. Turned faces reach it upright or turned by a right angle.
const WEAK: f32 = 0.4;
/// Score from which an upright face is not compared with its other rolls: half of the upright faces, no turned one.
const SURE: f32 = 0.975;
/// Score of a turned face in its own roll from which it is one: at a place of an upright face, and elsewhere. In 175 pictures
/// without faces no place reaches the second.
const TURNED: f32 = 0.85;
const NEW_AND_TURNED: f32 = 0.9;
/// Difference between the scores of two looks at a place from which the better one is believed.
const CLEARLY: f32 = 0.03;
/// Degrees between the rolls of two faces that are compared.
const OTHER_ROLL: f32 = 30.0;
const UPRIGHT: f32 = 0.0;
/// Degrees of roll from which keypoints lag, so that the face is looked at again at its roll.
const STRAIGHT: f32 = 15.0;
/// Score at the best of four rolls below which the four between them are not tried.
const HOPELESS: f32 = 0.5;
/// Longer side of a face in the input when it is looked at: to compare rolls, and for its keypoints.
const COMPARED_PX: f64 = 48.0;
const LOOKED_AT_PX: f64 = 64.0;
/// Part of the smaller of two boxes inside the other from which they show the same face, or a part of it.
const SAME_PLACE: f32 = 0.6;
/// Most places of a photo that are looked at, best score first, and most tiles. They bound the time.
const MAX_PLACES: usize = 128;
const MAX_TILES: usize = 1024;

/// Settings of the search of a photo.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PhotoSearch {
    /// Longer side of the smallest faces, pixels of the photo. The smaller, the longer the search takes in large photos.
    pub min_face_px: f32,
    /// Finds upright faces alone, turned by up to about 35 degrees, in less than half of the time.
    pub upright_only: bool,
}

impl Default for PhotoSearch {
    fn default() -> PhotoSearch {
        PhotoSearch { min_face_px: 24.0, upright_only: false }
    }
}

/// The faces of a photo, and what was looked for.
#[derive(Clone, Debug)]
pub struct PhotoFaces {
    /// Best score first. Keypoints of a turned face have the order that they have when it is upright.
    pub faces: Detections,
    /// Faces that were found and left out because of the limit: at least as many, in a crowd.
    pub left_out: usize,
    /// Longer side of the smallest faces that were looked for, pixels of the photo; `None` where they are unknown.
    pub searched_from_px: Option<f32>,
}

impl Detector {
    /// Searches a photo; returns at most `limit` faces.
    pub fn search(
        &mut self,
        engine: &mut Engine,
        photo: &Pyramid,
        search: &PhotoSearch,
        limit: usize,
    ) -> Result<PhotoFaces> {
        let (picture, _) = photo.level(0);
        let size = [picture.width(), picture.height()];
        Search {
            weak: WEAK.min(self.threshold),
            detector: self,
            engine,
            photo,
            size,
            upright_only: search.upright_only,
        }
        .run(search.min_face_px, limit)
    }

    /// Returns width and height of an input.
    pub(super) fn input_size(&self, index: usize) -> [usize; 2] {
        let size = &self.sizes[index];
        [size.width, size.height]
    }

    /// Returns photo pixels for each input pixel at which faces of the requested size are found, as far as that makes sense
    /// and the number of tiles is bounded.
    pub(super) fn finest_step(&self, photo: [usize; 2], min_face_px: f32) -> f64 {
        let mut step = (f64::from(min_face_px) / LEAST_INPUT_PX).max(1.0 / MAX_MAGNIFICATION);
        let longest = photo[0].max(photo[1]) as f64;
        if let Some(index) = self.photo_size_of(f64::INFINITY) {
            let side = self.sizes[index].shorter_side();
            while tiles::count(photo, side, step) > MAX_TILES && step < longest {
                step *= 1.1;
            }
        }
        step
    }
}

/// A face that was detected a second time, at a larger scale.
#[derive(Clone, Copy, Debug)]
struct Look {
    found: Detection,
    /// Longer side of the box in its own roll, pixels of the photo.
    side: f32,
    /// Degrees clockwise, -180 to 180.
    roll: f32,
}

/// Result of a second detection at an upright face.
enum Finding {
    /// The face as it was found.
    Upright,
    /// The face at its own roll.
    Turned(Detection),
    /// The second detection finds no face.
    NoFace,
}

/// One search.
struct Search<'a> {
    detector: &'a mut Detector,
    engine: &'a mut Engine,
    photo: &'a Pyramid<'a>,
    /// The photo's width and height.
    size: [usize; 2],
    /// Score from which a place is looked at.
    weak: f32,
    upright_only: bool,
}

impl Search<'_> {
    fn run(&mut self, min_face_px: f32, limit: usize) -> Result<PhotoFaces> {
        let (picture, _) = self.photo.level(0);
        let (faces, weak) = self.detector.find_upright(self.engine, picture, self.weak)?;
        let mut left_out = self.detector.left_out();
        let (mut faces, mut places) = (faces.to_vec(), weak.to_vec());
        let whole = self.detector.photo_sizes(picture);
        if whole.is_empty() {
            return Ok(PhotoFaces { faces: Detections::new(), left_out: 0, searched_from_px: None });
        }
        if !self.upright_only {
            for &index in &whole {
                let place = Placement::whole(self.size, 90.0, self.input(index));
                let found = self.detector.look(self.engine, self.photo, index, &place, self.weak)?;
                places.extend(found.iter().map(|found| place.to_picture(found)));
            }
        }
        let steps = whole.iter().map(|&index| Placement::whole(self.size, 0.0, self.input(index)).step());
        let coarse = steps.fold(f64::INFINITY, f64::min);
        let fine = self.detector.finest_step(self.size, min_face_px);
        let mut last = coarse;
        for step in tiles::steps(coarse, fine) {
            let small = self.search_tiles(step, &mut places)?;
            faces = self.merge(faces, small, (COARSE_PX * last) as f32, &mut places)?;
            last = step;
        }
        faces.sort_by(|one, other| other.cmp(one));
        // The tiles find some of those again.
        left_out = left_out.max(faces.len().saturating_sub(MAX_FACES));
        faces.truncate(MAX_FACES);
        faces = self.put_right(faces)?;
        if !self.upright_only {
            self.look_at_places(places, &mut faces)?;
        }
        faces.sort_by(|one, other| other.cmp(one));
        left_out += faces.len().saturating_sub(limit.min(MAX_FACES));
        let faces = faces.into_iter().take(limit.min(MAX_FACES)).collect();
        let searched_from_px = ((LEAST_INPUT_PX * fine.min(coarse)) as f32).max(min_face_px);
        Ok(PhotoFaces { faces, left_out, searched_from_px: Some(searched_from_px) })
    }

    fn input(&self, index: usize) -> [usize; 2] {
        self.detector.input_size(index)
    }

    /// Returns the upright faces that lie whole in a tile at a step, and adds the places that are to be looked at.
    fn search_tiles(&mut self, step: f64, places: &mut Vec<Detection>) -> Result<Vec<Detection>> {
        let longest = self.size[0].max(self.size[1]) as f64;
        let Some(index) = self.detector.photo_size_of(longest / step) else { return Ok(Vec::new()) };
        let mut faces = Vec::new();
        for tile in tiles::cover(self.size, self.detector.sizes[index].shorter_side(), step) {
            for found in self.search_tile(index, &tile, 0.0)? {
                if found.score >= self.detector.threshold { faces.push(found) } else { places.push(found) }
            }
            if !self.upright_only {
                places.extend(self.search_tile(index, &tile, 90.0)?);
            }
        }
        Ok(faces)
    }

    fn search_tile(&mut self, index: usize, tile: &Tile, roll: f32) -> Result<Vec<Detection>> {
        let place = Placement::around(tile.middle, tile.step, roll, self.input(index));
        let found = self.detector.look(self.engine, self.photo, index, &place, self.weak)?;
        let found = found.iter().map(|found| place.to_picture(found));
        Ok(found.filter(|found| !tile.cuts(&found.edges)).map(|found| found.clipped(self.size)).collect())
    }

    /// Returns upright faces unchanged, and those that are turned as they are at their own roll.
    fn put_right(&mut self, faces: Vec<Detection>) -> Result<Vec<Detection>> {
        let (mut kept, mut turned) = (Vec::with_capacity(faces.len()), Vec::new());
        for face in faces {
            match self.look_into(&face)? {
                Finding::Upright => kept.push(face),
                Finding::Turned(again) => turned.push(again.clipped(self.size)),
                Finding::NoFace => {}
            }
        }
        // Several detections may have shown parts of one turned face.
        turned.sort_by(|one: &Detection, other| other.cmp(one));
        for face in turned {
            if !kept.iter().any(|other| is_same(other, &face)) {
                kept.push(face);
            }
        }
        Ok(kept)
    }

    /// Looks at a face that was found upright, unless its score and keypoints leave no doubt.
    fn look_into(&mut self, face: &Detection) -> Result<Finding> {
        let roll = face.roll();
        if face.score >= SURE && roll.abs() <= STRAIGHT {
            return Ok(Finding::Upright);
        }
        let own = self.look_again(Look { found: *face, side: face.side(), roll })?;
        let score = own.map_or(0.0, |own| own.found.score);
        if face.score < SURE && !self.upright_only {
            let best = self.compare_rolls(face, own.map_or(roll, |own| own.roll))?;
            let turned = best.map(|best| self.look_again(best)).transpose()?.flatten();
            if let Some(turned) = turned.filter(|turned| self.is_turned(turned, TURNED) && turned.found.score > score) {
                return Ok(Finding::Turned(turned.found));
            }
        }
        match own.filter(|_| score >= self.detector.threshold) {
            Some(own) if own.roll.abs() > STRAIGHT => Ok(Finding::Turned(own.found)),
            None if face.score < CERTAIN && !self.is_at_edge(face) => Ok(Finding::NoFace),
            _ => Ok(Finding::Upright),
        }
    }

    /// Adds the turned faces among places to those that were found.
    fn look_at_places(&mut self, mut places: Vec<Detection>, faces: &mut Vec<Detection>) -> Result<()> {
        places.sort_by(|one, other| other.cmp(one));
        let overlap = self.detector.overlap;
        let mut seen: Vec<Detection> = Vec::new();
        for place in places {
            let known = |other: &Detection| other.overlap(&place) > overlap;
            // A part of a turned face may have been taken for a small one.
            let found = |face: &Detection| is_same(face, &place) && place.side() < 2.0 * face.side();
            if seen.len() >= MAX_PLACES || seen.iter().any(known) || faces.iter().any(found) {
                continue;
            }
            seen.push(place);
            let Some(best) = self.compare_rolls(&place, UPRIGHT)? else { continue };
            let Some(face) = self.look_again(best)?.filter(|face| self.is_turned(face, NEW_AND_TURNED)) else {
                continue;
            };
            let upright = self.look_again(Look { found: place, side: place.side(), roll: UPRIGHT })?;
            if upright.is_some_and(|upright| upright.found.score >= face.found.score) {
                continue;
            }
            let found = face.found.clipped(self.size);
            let stands = |other: &Detection| is_same(other, &found) && other.score + CLEARLY > found.score;
            if !faces.iter().any(stands) {
                faces.retain(|other| !is_same(other, &found));
                faces.push(found);
            }
        }
        Ok(())
    }

    /// Reports whether a face that was looked at in its own roll is a turned one.
    fn is_turned(&self, look: &Look, score: f32) -> bool {
        look.found.score >= score.max(self.detector.threshold) && look.roll.abs() > STRAIGHT
    }

    /// Adds the upright faces of a level's tiles to those of coarser levels. Faces below `coarse_px` were hardly seen there:
    /// a tile has more pixels of the face, so its detection replaces theirs. Faces that no tile shows are detected a second time
    /// at a larger scale; those that are not found again become places.
    fn merge(
        &mut self,
        faces: Vec<Detection>,
        found: Vec<Detection>,
        coarse_px: f32,
        places: &mut Vec<Detection>,
    ) -> Result<Vec<Detection>> {
        let overlap = self.detector.overlap;
        let (coarse, mut kept): (Vec<_>, Vec<_>) = faces.into_iter().partition(|face| face.side() < coarse_px);
        let mut small = Vec::new();
        for face in found {
            let believed = face.score >= CERTAIN || self.is_confirmed(&face)?;
            if believed { small.push(face) } else { places.push(face) }
        }
        for face in coarse {
            if !small.iter().any(|other| other.overlap(&face) > overlap) {
                let believed = self.is_confirmed(&face)?;
                if believed { small.push(face) } else { places.push(face) }
            }
        }
        small.sort_by(|one, other| other.cmp(one));
        for face in small {
            if !kept.iter().any(|other| other.overlap(&face) > overlap || is_same(other, &face)) {
                kept.push(face);
            }
        }
        Ok(kept)
    }

    /// Reports whether the photo's edge may cut a face: a look from nearby shows no more of it.
    fn is_at_edge(&self, face: &Detection) -> bool {
        let [left, top, right, bottom] = face.edges;
        let [width, height] = self.size.map(|side| side as f32 - 1.0);
        left < 1.0 || top < 1.0 || right > width || bottom > height
    }

    /// Reports whether a look from nearby shows the same face.
    fn is_confirmed(&mut self, face: &Detection) -> Result<bool> {
        if self.is_at_edge(face) {
            return Ok(true);
        }
        let look = self.look_at(face.middle(), face.side(), face.roll(), LOOKED_AT_PX)?;
        let score = CONFIRMED.max(self.detector.threshold);
        Ok(look.is_some_and(|look| look.found.score >= score && look.found.overlap(face) > self.detector.overlap))
    }

    /// Looks at a place in eight rolls; returns the best look at a face whose roll is not about `known`.
    fn compare_rolls(&mut self, place: &Detection, known: f32) -> Result<Option<Look>> {
        let mut best: Option<Look> = None;
        for rolls in [[0.0, 90.0, 180.0, -90.0], [45.0, 135.0, -135.0, -45.0]] {
            for roll in rolls {
                let look = self.look_at(place.middle(), place.side(), roll, COMPARED_PX)?;
                let look = look.filter(|look| normalized(look.roll - known).abs() > OTHER_ROLL);
                best = best.into_iter().chain(look).max_by(|one, other| one.found.cmp(&other.found));
            }
            if best.is_none_or(|best| best.found.score < HOPELESS) {
                return Ok(None);
            }
        }
        Ok(best)
    }

    /// Looks at a face in its own roll, twice if that was not known well; `None` where no face is seen.
    fn look_again(&mut self, look: Look) -> Result<Option<Look>> {
        let mut look = look;
        for _ in 0..2 {
            let next = self.look_at(look.found.middle(), look.side, look.roll, LOOKED_AT_PX)?;
            let Some(next) = next else { return Ok(None) };
            let off = normalized(next.roll - look.roll);
            look = next;
            if off.abs() < STRAIGHT / 2.0 {
                break;
            }
        }
        Ok(Some(look))
    }

    /// Looks at a place in one roll, at a scale at which a face of its size has `face_px` pixels in the smallest input.
    fn look_at(&mut self, middle: [f32; 2], side: f32, roll: f32, face_px: f64) -> Result<Option<Look>> {
        let step = f64::from(side) / face_px;
        if self.detector.sizes.is_empty() || !(step > 0.0 && step.is_finite() && roll.is_finite()) {
            return Ok(None);
        }
        let input = self.input(0);
        let place = Placement::around(middle.map(f64::from), step, roll, input);
        let found = self.detector.look(self.engine, self.photo, 0, &place, self.weak)?;
        let centre = input.map(|side| (side as f32 - 1.0) / 2.0);
        let near = found.iter().find(|found| {
            let [x, y] = found.middle();
            let far_off = (x - centre[0]).hypot(y - centre[1]) > 0.5 * face_px as f32;
            !far_off && (0.5..2.0).contains(&(found.side() / face_px as f32))
        });
        Ok(near.map(|found| Look {
            found: place.to_picture(found),
            side: found.side() * step as f32,
            roll: normalized(roll + found.roll()),
        }))
    }
}

/// Reports whether a place shows a face that was found, or a part of it.
fn is_same(face: &Detection, place: &Detection) -> bool {
    face.shared_part(place) > SAME_PLACE
}

/// Returns the same direction in -180 to 180 degrees.
fn normalized(degrees: f32) -> f32 {
    (degrees + 180.0).rem_euclid(360.0) - 180.0
}
