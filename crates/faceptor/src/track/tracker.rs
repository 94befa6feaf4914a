//! Faces from frame to frame: where to look for each in the next frame, which are the same, and which are lost.
//!
//! Between runs of the finder a face is followed by its own landmarks: the crop of the next frame comes from five
//! keypoints among the 68 points of this one, moved on by the speed at which they moved. The finder is asked
//! - when no face is known;
//! - every [`CHECK_FRAMES`] frames: for faces that came in, and to confirm those that are followed;
//! - as long as a face is in [suspicion](crate::track::track_check), and until it has confirmed a face that it missed.
//!
//! A face that it misses is lost the sooner the more there is to be said against it: [`Track::lost_score`].
//!
//! Without 68 landmarks (another bundle, or following by them costs more than the finder) it runs on every second frame,
//! and faces are moved on by their speed in between.

use crate::align::appearance::AppearanceTemplate;
use crate::detect::detection::Detection;
use crate::geometry::{Point, Similarity};
use crate::track::track::Track;
use crate::track::track_check::KeypointTemplate;

/// The most faces that are followed.
pub const MAX_TRACKS: usize = 16;
/// Frames between two looks of the finder at a scene with faces: half a second at 30 frames/s.
pub const CHECK_FRAMES: u32 = 15;
/// The same without landmarks.
pub const UNGUIDED_CHECK_FRAMES: u32 = 2;
/// Over so many frames before a regular look its picture is prepared, a part in each.
pub const SWEEP_FRAMES: u32 = 8;
/// Without landmarks a missed face is not shown, and its number is kept for so many looks of the finder.
const UNSEEN_LOOKS: u32 = 15;
/// Detections that overlap a face so much are that face.
const SAME_FACE: f32 = 0.3;
/// Of two followed faces that overlap so much, one is a duplicate.
const DUPLICATE: f32 = 0.55;

/// What the tracks are told once.
#[derive(Clone, Copy, Debug)]
pub struct TrackerOptions {
    /// The most faces, at most [`MAX_TRACKS`].
    pub limit: usize,
    pub smoothing: bool,
}

/// What the finder has to do for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    Nothing,
    /// Prepare this of [`SWEEP_FRAMES`] parts.
    Part(usize),
    /// Look at what was prepared.
    Prepared,
    /// Look at the frame.
    Whole,
}

/// The followed faces, each in a slot that stays its own as long as it is followed.
#[derive(Debug)]
pub struct Tracker {
    options: TrackerOptions,
    slots: heapless::Vec<Option<Track>, MAX_TRACKS>,
    template: KeypointTemplate,
    next_id: u32,
    frames_since_check: u32,
    /// Parts that were prepared for the next look, one in each frame.
    prepared: u32,
    /// The picture has nothing to do with the last one.
    cut: bool,
}

impl Tracker {
    /// Nobody yet.
    pub fn new(options: TrackerOptions, template: &[Point; 5]) -> Tracker {
        let options = TrackerOptions { limit: options.limit.clamp(1, MAX_TRACKS), ..options };
        Tracker {
            options,
            slots: (0..options.limit).map(|_| None).collect(),
            template: KeypointTemplate::new(template),
            next_id: 1,
            // The first frame is searched in any case.
            frames_since_check: 2 * CHECK_FRAMES,
            prepared: 0,
            cut: false,
        }
    }

    /// The faces with their slots.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Track)> {
        self.slots.iter().enumerate().filter_map(|(slot, track)| Some((slot, track.as_ref()?)))
    }

    /// The face in a slot.
    pub fn get(&self, slot: usize) -> Option<&Track> {
        self.slots.get(slot)?.as_ref()
    }

    /// How many faces there are.
    pub fn count(&self) -> usize {
        self.iter().count()
    }

    /// The next picture is another scene: nothing of the last one says where its faces are.
    pub fn cut(&mut self) {
        self.cut = true;
    }

    /// Begins a frame, taken `elapsed_s` after the last one.
    pub fn begin(&mut self, elapsed_s: f32) {
        self.frames_since_check = self.frames_since_check.saturating_add(1);
        self.slots.iter_mut().flatten().for_each(|track| track.predict(elapsed_s));
    }

    /// What the finder has to do for this frame: where it looks only because it is time again, its picture is prepared in
    /// the frames before, so that none of them takes much longer than the others.
    pub fn search(&mut self, guided: bool, rarely: bool) -> Search {
        let calm = guided && !self.cut && self.count() > 0 && !self.iter().any(|(_, face)| face.is_doubtful());
        if self.needs_finder(guided, rarely) {
            let prepared = std::mem::take(&mut self.prepared);
            return if calm && prepared == SWEEP_FRAMES { Search::Prepared } else { Search::Whole };
        }
        let wait = if rarely { 2 * CHECK_FRAMES } else { CHECK_FRAMES };
        let part = (self.frames_since_check + SWEEP_FRAMES).checked_sub(wait);
        match part.filter(|&part| calm && (part == 0 || part == self.prepared)) {
            Some(part) => {
                self.prepared = part + 1;
                Search::Part(part as usize)
            }
            None => Search::Nothing,
        }
    }

    /// Whether the finder has to look at this frame. `guided`: faces are followed by landmarks. `rarely` (under
    /// overload): half as often where nothing is in suspicion.
    pub fn needs_finder(&self, guided: bool, rarely: bool) -> bool {
        if self.cut || self.iter().any(|(_, track)| track.is_doubtful()) {
            return true;
        }
        let wait = match guided {
            _ if self.count() == 0 => 1,
            true => CHECK_FRAMES,
            false => UNGUIDED_CHECK_FRAMES,
        };
        self.frames_since_check >= if rarely { 2 * wait } else { wait }
    }

    /// Tells which faces the finder has seen in this frame, best first. Faces that it missed too often are lost, those
    /// that are new get a slot as long as `limit` is not reached.
    pub fn check(&mut self, found: &[Detection], guided: bool, limit: usize) {
        self.frames_since_check = 0;
        let cut = std::mem::take(&mut self.cut);
        let mut seen = [false; MAX_TRACKS];
        for detection in found {
            match self.known_as(detection) {
                // A second detection of one face changes nothing.
                Some(slot) if seen[slot] => {}
                Some(slot) => {
                    if let Some(track) = &mut self.slots[slot] {
                        track.confirm(detection, cut || !guided);
                        if !guided {
                            // Nothing will tell more of where it is in this frame.
                            track.arrive();
                        }
                        seen[slot] = true;
                    }
                }
                None => {
                    if let Some(slot) = self.admit(detection, limit) {
                        seen[slot] = true;
                    }
                }
            }
        }
        for (slot, place) in self.slots.iter_mut().enumerate() {
            if let Some(track) = place.as_mut().filter(|_| !seen[slot]) {
                track.misses += 1;
                let lost = if guided { track.lost_score() >= 1.0 } else { track.misses >= UNSEEN_LOOKS };
                if cut || lost {
                    *place = None;
                }
            }
        }
    }

    /// Tells which faces the finder has seen in a picture that was prepared over the frames before and is that old: it
    /// confirms faces, and where it says anything else the finder has to look at the next frame as a whole.
    pub fn compare(&mut self, found: &[Detection], limit: usize) {
        let mut seen = [false; MAX_TRACKS];
        let mut agrees = true;
        for detection in found {
            match self.known_as(detection) {
                Some(slot) if seen[slot] => {}
                Some(slot) => {
                    if let Some(track) = &mut self.slots[slot] {
                        track.confirm_late(detection);
                        seen[slot] = true;
                    }
                }
                None => agrees &= self.count() >= limit.min(self.options.limit),
            }
        }
        agrees &= self.iter().all(|(slot, _)| seen[slot]);
        self.frames_since_check = if agrees { 0 } else { 2 * CHECK_FRAMES };
    }

    /// The slot of the face that a detection overlaps most, if it is the same.
    fn known_as(&self, detection: &Detection) -> Option<usize> {
        let overlaps = self.iter().map(|(slot, track)| (slot, track.detection().overlap(detection)));
        let best = overlaps.max_by(|a, b| a.1.total_cmp(&b.1));
        best.filter(|(_, overlap)| *overlap >= SAME_FACE).map(|(slot, _)| slot)
    }

    fn admit(&mut self, detection: &Detection, limit: usize) -> Option<usize> {
        if self.count() >= limit.min(self.options.limit) {
            return None;
        }
        let slot = self.slots.iter().position(Option::is_none)?;
        self.slots[slot] = Some(Track::new(self.next_id, detection));
        self.next_id += 1;
        Some(slot)
    }

    /// Whether the face in `slot` is in this frame as far as is known: without landmarks only if the finder saw it, with
    /// them unless both the finder and the landmarks say no. It keeps its number until it is lost.
    pub fn is_visible(&self, slot: usize, guided: bool) -> bool {
        self.get(slot).is_some_and(|track| if guided { !track.is_denied() } else { track.misses == 0 })
    }

    /// Takes the 68 landmarks of the face in `slot` (pixels) and smooths them in place. They say where the face is now,
    /// and whether it is one: `to_picture` is the crop that they were seen in, and `appearance` how it looked.
    pub fn observe(
        &mut self,
        slot: usize,
        points: &mut [Point],
        to_picture: &Similarity,
        appearance: &AppearanceTemplate,
    ) {
        if let Some(track) = self.slots.get_mut(slot).and_then(Option::as_mut) {
            track.observe(points, to_picture, appearance, &self.template, self.options.smoothing);
        }
    }

    /// Ends a frame: of two faces in one place the younger one goes, and so do those beyond `limit`.
    pub fn settle(&mut self, limit: usize) {
        for one in 0..self.slots.len() {
            for other in 0..self.slots.len() {
                let pair = self.get(one).zip(self.get(other)).filter(|(a, b)| a.id < b.id);
                if pair.is_some_and(|(a, b)| a.detection().overlap(&b.detection()) > DUPLICATE) {
                    self.slots[other] = None;
                }
            }
        }
        while self.count() > limit.max(1) {
            let youngest = self.iter().max_by_key(|(_, track)| track.id).map(|(slot, _)| slot);
            let Some(slot) = youngest else { return };
            self.slots[slot] = None;
        }
    }
}

#[cfg(test)]
#[path = "tracker_tests.rs"]
mod tests;
