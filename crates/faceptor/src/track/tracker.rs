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
//! A cut to another person, or another scene, is noticed in its first frame: before the detector's turn each track compares
//! [what it shows](crate::track::likeness) with what it showed. If that is something else, the detector runs on this frame.
//! A face that it finds there begins a new track, unless it is the old one in a new position. If it finds none, the face is
//! covered: the track is hidden, and goes on when the same face is found there within a second.
//!
//! Without 68 landmarks (another bundle, or the landmarks cost more than the detector) the detector runs on every
//! second frame, and the tracks are extrapolated in between.

use crate::align::appearance::AppearanceTemplate;
use crate::detect::detection::Detection;
use crate::geometry::{Point, Similarity, middle};
use crate::track::face_track::{MAX_COVERED_MISSES, Track};
use crate::track::likeness::{Likeness, SAME, SAME_AFTER_GAP, SAME_FOUND};
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

/// Seconds between two frames from which on a face may have changed in its looks.
const GAP_S: f32 = 0.1;

/// Samples what a frame shows of a face with these keypoints; `None` when these are not distinct.
pub(crate) type Look<'a> = &'a dyn Fn(&[Point; 5]) -> Option<Likeness>;

/// Rolls in degrees and scales at which a face is compared where the detector has found one.
const TURNS: [[f32; 2]; 8] =
    [[-7.0, 0.93], [-7.0, 1.0], [-7.0, 1.07], [0.0, 0.93], [0.0, 1.07], [7.0, 0.93], [7.0, 1.0], [7.0, 1.07]];

/// Turns and scales keypoints about their middle.
fn turned(keypoints: &[Point; 5], [degrees, scale]: [f32; 2]) -> [Point; 5] {
    let (sine, cosine) = degrees.to_radians().sin_cos();
    let centre = middle(keypoints);
    keypoints.map(|[x, y]| {
        let [x, y] = [scale * (x - centre[0]), scale * (y - centre[1])];
        [centre[0] + cosine * x - sine * y, centre[1] + sine * x + cosine * y]
    })
}

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
    /// This frame comes long after the last one.
    after_gap: bool,
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
            after_gap: false,
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
        self.after_gap = elapsed_s >= GAP_S;
        self.slots.iter_mut().flatten().for_each(|track| track.predict(elapsed_s));
    }

    /// Returns a limit on likenesses, or the one after a gap.
    fn least(&self, limit: f32) -> f32 {
        if self.after_gap { SAME_AFTER_GAP } else { limit }
    }

    /// Compares what this frame shows in the predicted places with the faces that were there. Returns true if one of them shows
    /// something else, and did not before.
    pub(crate) fn look(&mut self, look: Look) -> bool {
        let (mut breaks, least) = (false, self.least(SAME));
        for track in self.slots.iter_mut().flatten() {
            if let Some(now) = look(track.keypoints()) {
                let before = track.is_broken();
                track.look(&now, least);
                breaks |= track.is_broken() && !before;
            }
        }
        breaks
    }

    /// Ends the tracks in whose place the detector has found another face in this frame. Call it before `check`.
    pub(crate) fn end_cut(&mut self, found: &[Detection], look: Look) {
        let least = self.least(SAME_FOUND);
        for slot in 0..self.slots.len() {
            if !self.get(slot).is_some_and(Track::is_broken) {
                continue;
            }
            let there = found.iter().find(|detection| self.known_as(detection) == Some(slot));
            let (Some(detection), Some(track)) = (there.copied(), &mut self.slots[slot]) else { continue };
            // After a pause the face may be turned, and the detector errs in turn and size.
            let turns = TURNS.iter().map(|turn| turned(&detection.keypoints, *turn));
            let mut views = std::iter::once(detection.keypoints).chain(turns);
            if views.any(|keypoints| look(&keypoints).is_some_and(|now| track.shows(&now, least))) {
                track.mend(&detection);
            } else if track.gives_way(&detection, look(&detection.keypoints)) {
                self.slots[slot] = None;
            }
        }
    }

    /// Takes the likenesses of the faces that are in this frame. Call it when their positions are known.
    pub(crate) fn memorize(&mut self, look: Look) {
        for track in self.slots.iter_mut().flatten().filter(|track| !track.is_broken()) {
            if let Some(now) = look(track.keypoints()) {
                track.memorize(now);
            }
        }
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
                // It is not the covered face, or not yet.
                Some(slot) if self.get(slot).is_some_and(Track::is_broken) => {}
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
                track.miss();
                let lost = match guided {
                    true => track.lost_score() >= 1.0,
                    false => track.misses >= if track.is_covered() { MAX_COVERED_MISSES } else { UNSEEN_LOOKS },
                };
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

    /// Returns the slot of the track that the detection overlaps most, if it overlaps enough; otherwise that of a covered face
    /// near by, which may have moved meanwhile.
    fn known_as(&self, detection: &Detection) -> Option<usize> {
        let overlaps = self.iter().map(|(slot, track)| (slot, track.detection().overlap(detection)));
        let best = overlaps.max_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, overlap)| *overlap >= SAME_FACE);
        let covered = || self.iter().find(|(_, track)| track.is_covered() && track.may_have_moved_to(detection));
        best.map(|(slot, _)| slot).or_else(|| covered().map(|(slot, _)| slot))
    }

    fn admit(&mut self, detection: &Detection, limit: usize) -> Option<usize> {
        if !self.is_inside(detection, INSIDE_TO_BEGIN) {
            return None;
        }
        if self.count() >= limit.min(self.options.limit) {
            // A face that is there has precedence over one that may come back.
            let covered = self.iter().find(|(_, track)| track.is_covered())?.0;
            self.slots[covered] = None;
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
        let is_shown = |track: &Track| if guided { !track.is_denied() } else { track.misses == 0 };
        self.get(slot).is_some_and(|track| !track.is_covered() && is_shown(track))
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
    /// youngest ones beyond `limit`; covered faces go first.
    pub fn settle(&mut self, limit: usize) {
        for slot in 0..self.slots.len() {
            if self.get(slot).is_some_and(|track| !self.is_inside(&track.detection(), INSIDE_TO_STAY)) {
                self.slots[slot] = None;
            }
        }
        for one in 0..self.slots.len() {
            for other in 0..self.slots.len() {
                let order = |track: &Track| (track.is_covered(), track.id);
                let pair = self.get(one).zip(self.get(other)).filter(|(a, b)| order(a) < order(b));
                if pair.is_some_and(|(a, b)| a.detection().overlap(&b.detection()) > DUPLICATE) {
                    self.slots[other] = None;
                }
            }
        }
        while self.count() > limit.max(1) {
            let order = |(_, track): &(usize, &Track)| (track.is_covered(), track.id);
            let youngest = self.iter().max_by_key(order).map(|(slot, _)| slot);
            let Some(slot) = youngest else { return };
            self.slots[slot] = None;
        }
    }
}

#[cfg(test)]
#[path = "tracker_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "cut_tests.rs"]
mod cut_tests;
