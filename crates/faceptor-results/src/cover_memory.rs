//! Remembers where faces were, so that a face which is missed for a moment stays covered.

use crate::cover::{Area, Covers, Style};
use faceptor::stages::{Detection, Point};

/// A face that is missed stays covered for so many seconds.
pub const HELD_S: f32 = 1.0;
/// Growth of its cover a second, in sides of the cover: the face may move meanwhile.
const GROWTH: f32 = 1.0;
/// Score from which the cover of a place without a track grows: what is hardly a face comes and goes at one place.
const GROWS_FROM: f32 = 0.5;
/// Overlap of two covers of one face.
const SAME_FACE: f32 = 0.3;
/// Most covers that are remembered; while there are more, the whole picture is covered.
const MAX_REMEMBERED: usize = 256;

/// A place of a frame where a face is, or may be.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The face's box and keypoints; they may reach beyond the frame.
    pub detection: Detection,
    /// Landmarks of this frame; may be empty.
    pub landmarks: &'a [Point],
    /// Number of the face's track; 0 without one.
    pub track: u32,
    /// The face may be seen.
    pub is_shown: bool,
}

/// A cover of an earlier frame.
#[derive(Clone, Copy, Debug)]
struct Remembered {
    area: Area,
    track: u32,
    /// Seconds since the face was there.
    age_s: f32,
    grows: bool,
}

/// The covers of a video's frames, and what was covered a moment ago. Its memory is inline: a frame allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct CoverMemory {
    covers: Covers,
    /// Covers of earlier frames whose faces have not been found again.
    missed: heapless::Vec<Remembered, MAX_REMEMBERED>,
    /// Covers of this frame's faces.
    fresh: heapless::Vec<Remembered, MAX_REMEMBERED>,
    /// Seconds for which the whole picture stays covered, because not every cover could be remembered.
    blind_s: f32,
}

impl CoverMemory {
    /// Makes a memory for covers of a style.
    pub fn new(style: Style) -> CoverMemory {
        CoverMemory { covers: Covers::new(style), ..CoverMemory::default() }
    }

    /// Forgets everything: the next frame shows another scene.
    pub fn forget(&mut self) {
        self.covers.clear();
        self.missed.clear();
        self.fresh.clear();
        self.blind_s = 0.0;
    }

    /// Takes the places of a frame, `elapsed_s` after the last one. `are_all`: every face of the frame that can be found is among
    /// them; otherwise the whole frame is covered.
    pub fn update<'a>(&mut self, places: impl Iterator<Item = Place<'a>>, are_all: bool, elapsed_s: f32) {
        // A time that is no number makes nothing older.
        let elapsed_s = elapsed_s.max(0.0);
        self.blind_s -= elapsed_s;
        self.covers.clear();
        self.keep_last(elapsed_s);
        for place in places {
            if place.is_shown {
                // It was covered until it was known who it is.
                self.missed.retain(|cover| place.track == 0 || cover.track != place.track);
                continue;
            }
            let area = Area::of_head(&place.detection, place.landmarks);
            self.covers.push(area);
            let grows = place.track != 0 || place.detection.score >= GROWS_FROM;
            let cover = area.map(|area| Remembered { area, track: place.track, age_s: 0.0, grows });
            if cover.is_none_or(|cover| self.fresh.push(cover).is_err()) {
                self.blind_s = HELD_S;
            }
        }
        self.drop_found();
        for cover in &self.missed {
            let growth = if cover.grows { GROWTH * cover.age_s } else { 0.0 };
            self.covers.push(Some(cover.area.scaled(1.0 + growth)));
        }
        if !are_all || self.blind_s > 0.0 {
            self.covers.cover_all();
        }
    }

    /// Makes the last frame's covers earlier ones, and drops those that are too old.
    fn keep_last(&mut self, elapsed_s: f32) {
        if self.missed.extend_from_slice(&self.fresh).is_err() {
            self.blind_s = HELD_S;
        }
        self.fresh.clear();
        self.missed.iter_mut().for_each(|cover| cover.age_s += elapsed_s);
        self.missed.retain(|cover| cover.age_s <= HELD_S);
    }

    /// Drops the covers of earlier frames whose faces were found again: for each face of this frame one, that of its track or the
    /// one that it overlaps most.
    fn drop_found(&mut self) {
        for now in &self.fresh {
            let nearness = |cover: &Remembered| {
                let is_same_track = now.track != 0 && cover.track == now.track;
                if is_same_track { 1.0 + cover.area.overlap(&now.area) } else { cover.area.overlap(&now.area) }
            };
            let best = self.missed.iter().map(nearness).enumerate().max_by(|one, other| one.1.total_cmp(&other.1));
            if let Some((index, _)) = best.filter(|(_, nearness)| *nearness >= SAME_FACE) {
                self.missed.swap_remove(index);
            }
        }
    }

    /// Returns the covers of the last frame.
    pub fn covers(&self) -> &Covers {
        &self.covers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faceptor::stages::{Picture, Pixels};

    fn place(x: f32, track: u32, is_shown: bool) -> Place<'static> {
        let at = |dx: f32, dy: f32| [x + dx, 100.0 + dy];
        let keypoints = [at(-7.0, -5.0), at(7.0, -5.0), at(0.0, 3.0), at(-6.0, 10.0), at(6.0, 10.0)];
        let edges = [x - 16.0, 80.0, x + 16.0, 120.0];
        Place { detection: Detection { score: 0.9, edges, keypoints }, landmarks: &[], track, is_shown }
    }

    fn covers_at(memory: &CoverMemory, x: f32) -> bool {
        let covers = |area: &Area| area.edges[0] <= x - 16.0 && area.edges[2] >= x + 16.0;
        memory.covers().is_whole() || memory.covers().areas().iter().any(covers)
    }

    #[test]
    fn a_missed_face_stays_covered_for_a_second_and_its_cover_grows() {
        let mut memory = CoverMemory::new(Style::Solid);
        memory.update([place(100.0, 1, false)].into_iter(), true, 0.0);
        let mut width = 0.0;
        for frame in 1..=16 {
            memory.update(std::iter::empty(), true, 0.0625);
            assert!(covers_at(&memory, 100.0), "frame {frame}");
            let [left, _, right, _] = memory.covers().areas()[0].edges;
            assert!(right - left > width, "frame {frame}");
            width = right - left;
        }
        memory.update(std::iter::empty(), true, 0.0625);
        assert_eq!(memory.covers().areas(), []);
    }

    #[test]
    fn a_face_that_is_found_again_has_one_cover() {
        let mut memory = CoverMemory::new(Style::Solid);
        for frame in 0..100 {
            let x = 100.0 + 3.0 * frame as f32;
            let track = if frame % 7 == 6 { 0 } else { 1 };
            memory.update([place(x, track, false)].into_iter().filter(|_| frame % 5 != 4), true, 0.033);
            assert!(covers_at(&memory, x), "frame {frame}");
            assert_eq!(memory.covers().areas().len(), 1, "frame {frame}");
        }
        // One of two faces side by side is missed.
        memory.forget();
        memory.update([place(100.0, 1, false), place(110.0, 2, false)].into_iter(), true, 0.033);
        memory.update([place(101.0, 1, false)].into_iter(), true, 0.033);
        assert!(covers_at(&memory, 110.0) && covers_at(&memory, 101.0));
    }

    #[test]
    fn a_face_that_may_be_seen_uncovers_itself_alone() {
        let mut memory = CoverMemory::new(Style::Solid);
        memory.update([place(100.0, 1, false), place(300.0, 2, false)].into_iter(), true, 0.033);
        memory.update([place(102.0, 1, true)].into_iter(), true, 0.033);
        assert!(!covers_at(&memory, 102.0) && covers_at(&memory, 300.0));
        // Before a stranger who is missed, a known face uncovers nothing of the stranger.
        memory.update([place(300.0, 1, true)].into_iter(), true, 0.033);
        assert!(covers_at(&memory, 300.0));
        // Who is not known any more is covered at once.
        memory.update([place(102.0, 1, false)].into_iter(), true, 0.033);
        assert!(covers_at(&memory, 102.0));
    }

    #[test]
    fn what_cannot_be_decided_covers_the_frame() {
        let mut memory = CoverMemory::new(Style::Pixelated);
        memory.update(std::iter::empty(), false, 0.033);
        assert!(memory.covers().is_whole());
        memory.update(std::iter::empty(), true, 0.033);
        assert!(!memory.covers().is_whole());
        // A face without a place is somewhere, also while it is missed.
        memory.update([place(f32::NAN, 1, false)].into_iter(), true, 0.033);
        for frame in 0..29 {
            assert!(memory.covers().is_whole(), "frame {frame}");
            memory.update(std::iter::empty(), true, 0.033);
        }
        memory.update(std::iter::empty(), true, 0.1);
        assert!(!memory.covers().is_whole());
        // More faces than there is room for.
        let crowd = |shift: f32| (0..300).map(move |number| place(1000.0 * number as f32 + shift, 0, false));
        memory.update(crowd(0.0), true, 0.033);
        assert!(memory.covers().is_whole());
        memory.update(std::iter::empty(), true, 0.033);
        assert!(memory.covers().is_whole());
        // A time that is no number, or negative, makes no cover older.
        memory.forget();
        memory.update([place(100.0, 1, false)].into_iter(), true, 0.033);
        for elapsed_s in [f32::NAN, -5.0] {
            memory.update(std::iter::empty(), true, elapsed_s);
            assert!(covers_at(&memory, 100.0), "{elapsed_s}");
        }
        let mut picture = Picture::filled(8, 8, [1, 2, 3]);
        memory.covers().apply(&mut picture);
        assert_eq!((picture.width(), picture.height()), (8, 8));
    }
}
