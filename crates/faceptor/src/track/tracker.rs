//! Tracks faces from frame to frame: predicts where each face is in the next frame, matches detections to tracks, and
//! ends tracks.
//!
//! Between detector runs a face is tracked by its own landmarks. Five keypoints derived from the 68 landmarks of this
//! frame, extrapolated by their velocity, give the crop of the next frame. The detector runs
//! - when there is no track;
//! - every [`CHECK_FRAMES`] frames, to find new faces and to confirm the tracks;
//! - while a track is under [suspicion](crate::track::track_check), and until a track that it missed is confirmed.
//!
//! A missed track ends sooner when there is more evidence against it: [`Track::lost_score`].
//!
//! Without 68 landmarks (another bundle, or the landmarks cost more than the detector) the detector runs on every
//! second frame, and the tracks are extrapolated in between.

use crate::align::appearance::AppearanceTemplate;
use crate::detect::detection::Detection;
use crate::geometry::{Point, Similarity};
use crate::track::face_track::Track;
use crate::track::search_roll::{is_rolled, judges};
use crate::track::track_check::KeypointTemplate;

/// Maximum number of tracks.
pub const MAX_TRACKS: usize = 16;
/// Frames between two detector runs on a scene with tracks: half a second at 30 frames/s.
pub const CHECK_FRAMES: u32 = 15;
/// Frames between two detector runs without landmarks.
pub const UNGUIDED_CHECK_FRAMES: u32 = 2;
/// The input of a scheduled detector run is prepared in this many frames before it, one part in each.
pub const SWEEP_FRAMES: u32 = 8;
/// Detector runs for which a missed track keeps its id without being visible, when there are no landmarks.
const UNSEEN_LOOKS: u32 = 15;
/// Minimum overlap (intersection over union) for a detection to belong to a track.
const SAME_FACE: f32 = 0.3;
/// Overlap above which one of two tracks is a duplicate.
const DUPLICATE: f32 = 0.55;
/// Share of the box that must lie in the picture for a track to begin, and to go on: a face at the edge does not flicker.
const INSIDE_TO_BEGIN: f32 = 0.6;
const INSIDE_TO_STAY: f32 = 0.5;

/// Settings of a tracker.
#[derive(Clone, Copy, Debug)]
pub struct TrackerOptions {
    /// Maximum number of tracks, at most [`MAX_TRACKS`].
    pub limit: usize,
    pub smoothing: bool,
}

/// The detector's work in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    Nothing,
    /// Prepares one of [`SWEEP_FRAMES`] parts of its input.
    Part(usize),
    /// Runs on the prepared input.
    Prepared,
    /// Runs on the whole frame.
    Whole,
}

/// The tracks, each in a slot that it keeps until it ends.
#[derive(Debug)]
pub struct Tracker {
    options: TrackerOptions,
    slots: heapless::Vec<Option<Track>, MAX_TRACKS>,
    template: KeypointTemplate,
    next_id: u32,
    frames_since_check: u32,
    /// Parts prepared for the next detector run, one in each frame.
    prepared: u32,
    /// Width and height of the picture in pixels; `None` before the first frame.
    size: Option<[usize; 2]>,
    /// The roll at which this frame was searched, degrees.
    search_roll: f32,
}

impl Tracker {
    /// Creates a tracker without tracks. `template` holds the five keypoints in the aligned frame.
    pub fn new(options: TrackerOptions, template: &[Point; 5]) -> Tracker {
        let options = TrackerOptions { limit: options.limit.clamp(1, MAX_TRACKS), ..options };
        Tracker {
            options,
            slots: (0..options.limit).map(|_| None).collect(),
            template: KeypointTemplate::new(template),
            next_id: 1,
            // The first frame is always searched.
            frames_since_check: 2 * CHECK_FRAMES,
            prepared: 0,
            size: None,
            search_roll: 0.0,
        }
    }

    /// Returns the tracks with their slots.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Track)> + Clone {
        self.slots.iter().enumerate().filter_map(|(slot, track)| Some((slot, track.as_ref()?)))
    }

    /// Returns the track in a slot.
    pub fn get(&self, slot: usize) -> Option<&Track> {
        self.slots.get(slot)?.as_ref()
    }

    /// Returns the number of tracks.
    pub fn count(&self) -> usize {
        self.iter().count()
    }

    /// Announces that the next frame shows another scene: every track ends, and the detector runs.
    pub fn cut(&mut self) {
        self.slots.fill(None);
        (self.frames_since_check, self.prepared) = (2 * CHECK_FRAMES, 0);
    }

    /// Takes the size of the frame in pixels. A frame of another size than the last one shows another scene; returns true
    /// then.
    pub fn resize(&mut self, size: [usize; 2]) -> bool {
        let changed = self.size.replace(size).is_some_and(|last| last != size);
        if changed {
            self.cut();
        }
        changed
    }

    /// Returns true if at least `share` of a face's box lies in the picture.
    fn is_inside(&self, face: &Detection, share: f32) -> bool {
        self.size.is_none_or(|size| face.share_inside(size) >= share)
    }

    /// Begins a frame that was captured `elapsed_s` after the last one, and predicts every track.
    pub fn begin(&mut self, elapsed_s: f32) {
        self.frames_since_check = self.frames_since_check.saturating_add(1);
        self.slots.iter_mut().flatten().for_each(|track| track.predict(elapsed_s));
    }

    /// Returns the detector's work in this frame. The input of a scheduled run is prepared over the frames before it,
    /// so that no frame takes much longer than the others.
    pub fn search(&mut self, guided: bool, rarely: bool) -> Search {
        // The input of a later run is prepared upright.
        let disturbs = |face: &Track| face.is_doubtful() || is_rolled(&face.detection());
        let calm = guided && self.count() > 0 && !self.iter().any(|(_, face)| disturbs(face));
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

    /// Returns true if the detector must run on this frame. `guided`: faces are tracked by landmarks. `rarely` (under
    /// overload): half as often when no track is under suspicion.
    pub fn needs_finder(&self, guided: bool, rarely: bool) -> bool {
        if self.iter().any(|(_, track)| track.is_doubtful()) {
            return true;
        }
        let wait = match guided {
            _ if self.count() == 0 => 1,
            true => CHECK_FRAMES,
            false => UNGUIDED_CHECK_FRAMES,
        };
        self.frames_since_check >= if rarely { 2 * wait } else { wait }
    }

    /// Announces that the detections of this frame come from a search at a roll, for [`Tracker::check`].
    pub(crate) fn searched_at(&mut self, roll: f32) {
        self.search_roll = roll;
        if roll != 0.0 {
            self.slots
                .iter_mut()
                .flatten()
                .for_each(|track| track.untried_rolls = track.untried_rolls.saturating_sub(1));
        }
    }

    /// Takes the detections of this frame, best first. Ends tracks that were missed too often, and starts a track for
    /// each new face while there are fewer than `limit`.
    pub fn check(&mut self, found: &[Detection], guided: bool, limit: usize) {
        self.frames_since_check = 0;
        let roll = std::mem::take(&mut self.search_roll);
        let mut seen = [false; MAX_TRACKS];
        for detection in found {
            match self.known_as(detection) {
                // A second detection of the same face changes nothing.
                Some(slot) if seen[slot] => {}
                Some(slot) => {
                    if let Some(track) = &mut self.slots[slot] {
                        track.confirm(detection, !guided);
                        if !guided {
                            // No landmarks follow that would refine its position in this frame.
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
            if let Some(track) = place.as_mut().filter(|track| !seen[slot] && judges(roll, &track.detection())) {
                track.misses += 1;
                let lost = if guided { track.lost_score() >= 1.0 } else { track.misses >= UNSEEN_LOOKS };
                if lost {
                    *place = None;
                }
            }
        }
    }

    /// Takes the detections of a prepared input, which is some frames old. They confirm tracks; if they disagree in
    /// any other way, the detector runs on the whole next frame.
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
                None => {
                    let may_begin = self.is_inside(detection, INSIDE_TO_BEGIN);
                    agrees &= !may_begin || self.count() >= limit.min(self.options.limit);
                }
            }
        }
        agrees &= self.iter().all(|(slot, _)| seen[slot]);
        self.frames_since_check = if agrees { 0 } else { 2 * CHECK_FRAMES };
    }

    /// Returns the slot of the track that the detection overlaps most, if it overlaps enough.
    fn known_as(&self, detection: &Detection) -> Option<usize> {
        let overlaps = self.iter().map(|(slot, track)| (slot, track.detection().overlap(detection)));
        let best = overlaps.max_by(|a, b| a.1.total_cmp(&b.1));
        best.filter(|(_, overlap)| *overlap >= SAME_FACE).map(|(slot, _)| slot)
    }

    fn admit(&mut self, detection: &Detection, limit: usize) -> Option<usize> {
        if self.count() >= limit.min(self.options.limit) || !self.is_inside(detection, INSIDE_TO_BEGIN) {
            return None;
        }
        let slot = self.slots.iter().position(Option::is_none)?;
        self.slots[slot] = Some(Track::new(self.next_id, detection));
        self.next_id += 1;
        Some(slot)
    }

    /// Returns true if the face in `slot` is believed to be in this frame: without landmarks only if the detector
    /// found it, with landmarks unless both the detector and the landmarks deny it. A track keeps its id until it
    /// ends.
    pub fn is_visible(&self, slot: usize, guided: bool) -> bool {
        self.get(slot).is_some_and(|track| if guided { !track.is_denied() } else { track.misses == 0 })
    }

    /// Takes the 68 landmarks of the track in `slot` (pixels) and smooths them in place. They update its position and
    /// show whether it still is a face. `to_picture` is the crop they were computed in, `appearance` what that crop
    /// showed.
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

    /// Ends the frame: removes faces that have slid out of the picture, the younger of two tracks in one place, and the
    /// youngest ones beyond `limit`.
    pub fn settle(&mut self, limit: usize) {
        for slot in 0..self.slots.len() {
            if self.get(slot).is_some_and(|track| !self.is_inside(&track.detection(), INSIDE_TO_STAY)) {
                self.slots[slot] = None;
            }
        }
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
