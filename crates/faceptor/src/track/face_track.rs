//! A track: the position of one face, its motion, and the evidence that it has left.

use crate::align::appearance::AppearanceTemplate;
use crate::detect::detection::Detection;
use crate::geometry::TRACKING_LANDMARKS;
use crate::geometry::{Point, Similarity};
use crate::geometry::{keypoints_of_landmarks, middle};
use crate::track::likeness::Likeness;
use crate::track::one_euro::Smoother;
use crate::track::track_check::{KeypointTemplate, Suspicion};

/// Consecutive detector runs that end a track without suspicion when they all miss it.
pub(crate) const MAX_MISSES: u32 = 4;
/// Maximum extrapolation of a track, in box sides.
const FARTHEST_STEP: f32 = 0.15;
/// Weight of the newest frame in the velocity.
const SPEED_SHARE: f32 = 0.5;
/// Detector runs in a row that end a track whose face is covered, if they all miss it: a hand passes in less than a second.
pub(crate) const MAX_COVERED_MISSES: u32 = 30;
/// Frames for which something else in the place of a covered face may be that face, still covered in part.
pub(crate) const MAX_STRANGERS: u32 = 5;
/// Frames with something else in that place after which the face has left, even if it looks different in each: a face comes out
/// from under a hand in less.
const MAX_STRANGE: u32 = 12;
/// After this time the confirmed likeness follows the face even if they disagree, because the face has turned.
const LIKENESS_KEPT_S: f32 = 1.0;
/// Distance between detected and predicted keypoints, in box sides, above which the face is elsewhere.
const ELSEWHERE: f32 = 0.1;

/// Score below which a new face may be a turned one, which is then looked for at two other rolls.
const SURELY_UPRIGHT: f32 = 0.9;

/// One tracked face.
#[derive(Clone, Debug)]
pub struct Track {
    /// Unique id, counted from 1; never used again.
    pub id: u32,
    /// The detector's score when it last found the face.
    score: f32,
    /// Keypoints in the current frame, predicted until landmarks are observed.
    keypoints: [Point; 5],
    /// Keypoints in the last observed frame.
    observed: [Point; 5],
    /// Velocity of the keypoints' mean, pixels per second.
    speed: Point,
    /// The detector's box, and the keypoints of the same frame.
    anchor: [f32; 4],
    anchor_keypoints: [Point; 5],
    /// The anchor's keypoints are still the detector's.
    anchor_is_new: bool,
    /// Consecutive detector runs that missed the face.
    pub(crate) misses: u32,
    /// Suspicion since the detector last found the face.
    suspicion: Suspicion,
    smoother: Smoother,
    /// The last observed landmarks, before smoothing.
    landmarks: heapless::Vec<Point, TRACKING_LANDMARKS>,
    /// The crop's appearance when the detector last found the face.
    appearance_when_found: Option<AppearanceTemplate>,
    /// The face's likeness in the last frame that showed it.
    likeness: Option<Likeness>,
    /// Its likeness when the detector confirmed it: where a hand has passed, the last frame shows the hand.
    confirmed_likeness: Option<Likeness>,
    /// Seconds since the confirmed likeness was taken.
    confirmed_s: f32,
    /// This frame shows something else in the face's place.
    is_broken: bool,
    /// Since the detector misses the face, a part of it looks different than when it was confirmed.
    is_changed: bool,
    /// The likeness that the detector found last in the place of the covered face, and in how many frames in a row.
    stranger: Option<Likeness>,
    strangers: u32,
    /// Frames in which the detector found something else in the place of the covered face, and the roll of the last one, degrees.
    strange: u32,
    strange_roll: f32,
    /// Seconds since the last observation.
    elapsed_s: f32,
    /// Rolls at which the face is still to be looked for, because it may be a turned one: 2, 1 or 0.
    pub(crate) untried_rolls: u8,
}

impl Track {
    pub(crate) fn new(id: u32, found: &Detection) -> Track {
        Track {
            id,
            score: found.score,
            keypoints: found.keypoints,
            observed: found.keypoints,
            speed: [0.0; 2],
            anchor: found.edges,
            anchor_keypoints: found.keypoints,
            anchor_is_new: true,
            misses: 0,
            suspicion: Suspicion::None,
            smoother: Smoother::default(),
            landmarks: heapless::Vec::new(),
            appearance_when_found: None,
            likeness: None,
            confirmed_likeness: None,
            confirmed_s: 0.0,
            is_broken: false,
            is_changed: false,
            stranger: None,
            strangers: 0,
            strange: 0,
            strange_roll: 0.0,
            elapsed_s: 0.0,
            untried_rolls: if found.score < SURELY_UPRIGHT { 2 } else { 0 },
        }
    }

    /// Returns the face as it is known in this frame.
    pub fn detection(&self) -> Detection {
        Detection { score: self.score, edges: self.edges(), keypoints: self.keypoints }
    }

    /// Returns the five keypoints, predicted or observed, from which the crop of this frame is made.
    pub fn keypoints(&self) -> &[Point; 5] {
        &self.keypoints
    }

    /// Returns the evidence that the face has left: 0 without any; the track ends at 1.
    pub fn lost_score(&self) -> f32 {
        if self.may_be_covered() { self.misses as f32 / MAX_COVERED_MISSES as f32 } else { self.denials() }
    }

    /// Returns the detector's box, moved and scaled as the keypoints have moved since.
    fn edges(&self) -> [f32; 4] {
        let Some(moved) = Similarity::fit(&self.anchor_keypoints, &self.keypoints) else { return self.anchor };
        let [left, top, right, bottom] = self.anchor;
        let [x, y] = moved.apply_point([(left + right) / 2.0, (top + bottom) / 2.0]);
        let half = moved.scale() as f32 / 2.0;
        let (width, height) = ((right - left) * half, (bottom - top) * half);
        [x - width, y - height, x + width, y + height]
    }

    /// Returns the longer side of the box, pixels.
    fn side(&self) -> f32 {
        let [left, top, right, bottom] = self.edges();
        (right - left).max(bottom - top).max(1.0)
    }

    /// Predicts the keypoints in this frame.
    pub(crate) fn predict(&mut self, elapsed_s: f32) {
        self.elapsed_s += elapsed_s;
        self.confirmed_s += elapsed_s;
        let farthest = FARTHEST_STEP * self.side();
        let step = self.speed.map(|speed| (speed * self.elapsed_s).clamp(-farthest, farthest));
        self.keypoints = self.observed.map(|[x, y]| [x + step[0], y + step[1]]);
    }

    /// Takes what this frame shows in the predicted place. The track is broken if that is not its face.
    pub(crate) fn look(&mut self, now: &Likeness, least: f32) {
        self.is_broken = !self.shows(now, least);
    }

    /// Takes notice of another face in the place of this one. Returns true if the track ends: at once, or after some frames where
    /// the face was covered. A face that comes out from under a hand does not look like itself at first, and changes from frame to
    /// frame: it is waited for longer.
    pub(crate) fn gives_way(&mut self, found: &Detection, now: Option<Likeness>) -> bool {
        let stays = self.stranger.as_ref().zip(now.as_ref()).is_some_and(|(known, now)| known.agrees_wholly(now));
        self.strangers = if stays { self.strangers + 1 } else { 1 };
        (self.stranger, self.strange, self.strange_roll) = (now, self.strange + 1, found.roll());
        !self.is_covered() || self.strangers > MAX_STRANGERS || self.strange > MAX_STRANGE
    }

    /// Returns the roll (degrees) of what the detector found in the place of this broken track; `None` where it found nothing.
    pub(crate) fn stranger_roll(&self) -> Option<f32> {
        (self.is_broken && self.strange > 0).then_some(self.strange_roll)
    }

    /// Mends a broken track: the detector has found its face. A covered face may have moved meanwhile.
    pub(crate) fn mend(&mut self, found: &Detection) {
        if self.is_covered() {
            (self.keypoints, self.speed) = (found.keypoints, [0.0; 2]);
            self.smoother.reset();
            self.landmarks.clear();
        }
        self.is_broken = false;
    }

    /// Returns true unless what a place shows is known to be something else than the track's face.
    pub(crate) fn shows(&self, now: &Likeness, least: f32) -> bool {
        let mut known = self.likeness.iter().chain(&self.confirmed_likeness).peekable();
        known.peek().is_none() || known.any(|known| known.agrees(now, least))
    }

    /// Takes what this frame shows in the face's place as its likeness.
    pub(crate) fn memorize(&mut self, now: Likeness) {
        if self.confirmed_likeness.is_none() {
            (self.confirmed_likeness, self.confirmed_s) = (Some(now.clone()), 0.0);
        }
        self.likeness = Some(now);
    }

    /// Takes notice that the detector has missed the face. Where it is covered, the track waits at the place and for the
    /// likeness that the detector confirmed last.
    pub(crate) fn miss(&mut self) {
        self.misses += 1;
        let changed = |known: &Likeness| self.likeness.as_ref().is_some_and(|now| !known.agrees_wholly(now));
        self.is_changed |= self.confirmed_likeness.as_ref().is_some_and(changed);
        if self.is_covered() {
            self.is_broken = true;
            self.likeness.clone_from(&self.confirmed_likeness);
            (self.keypoints, self.observed, self.speed) = (self.anchor_keypoints, self.anchor_keypoints, [0.0; 2]);
        }
    }

    /// Returns true if this frame shows something else in the face's place.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Returns true if the detector misses the face and something is before it or in its place.
    fn may_be_covered(&self) -> bool {
        self.misses > 0 && (self.is_broken || self.is_changed)
    }

    /// Returns true if the face is covered, or gone: something else is in its place, or it was missed for long. The track waits
    /// for it without being shown.
    pub(crate) fn is_covered(&self) -> bool {
        self.may_be_covered() && (self.is_broken || self.denials() >= 1.0)
    }

    /// Returns true if a detection is so near that the covered face may have moved there.
    pub(crate) fn may_have_moved_to(&self, found: &Detection) -> bool {
        let (from, to) = (middle(&self.keypoints), middle(&found.keypoints));
        (to[0] - from[0]).hypot(to[1] - from[1]) <= self.side()
    }

    /// Returns the evidence of the detector and the landmarks against the face.
    fn denials(&self) -> f32 {
        self.misses as f32 / MAX_MISSES as f32 + self.suspicion.score()
    }

    /// Takes the likeness as confirmed by the detector.
    fn confirm_likeness(&mut self) {
        (self.is_broken, self.is_changed) = (false, false);
        (self.stranger, self.strangers, self.strange) = (None, 0, 0);
        let Some(now) = &self.likeness else { return };
        let follows = |known: &Likeness| known.agrees_wholly(now) || self.confirmed_s > LIKENESS_KEPT_S;
        if self.confirmed_likeness.as_ref().is_none_or(follows) {
            (self.confirmed_likeness, self.confirmed_s) = (self.likeness.clone(), 0.0);
        }
    }

    /// Takes a detection of this frame. `replace_keypoints`: its keypoints replace the predicted ones.
    pub(crate) fn confirm(&mut self, found: &Detection, replace_keypoints: bool) {
        let apart = |(a, b): (&Point, &Point)| (a[0] - b[0]).hypot(a[1] - b[1]);
        let error = found.keypoints.iter().zip(&self.keypoints).map(apart).sum::<f32>() / 5.0;
        let elsewhere = self.suspicion == Suspicion::Shape || error > ELSEWHERE * self.side();
        if elsewhere {
            self.speed = [0.0; 2];
        }
        if replace_keypoints || elsewhere {
            self.keypoints = found.keypoints;
            self.smoother.reset();
            self.landmarks.clear();
        }
        (self.score, self.misses, self.suspicion, self.appearance_when_found) = (found.score, 0, Suspicion::None, None);
        (self.anchor, self.anchor_keypoints, self.anchor_is_new) = (found.edges, self.keypoints, true);
        self.confirm_likeness();
    }

    /// Takes a detection that is some frames old: it confirms the face and the size of its box, but not its position.
    pub(crate) fn confirm_late(&mut self, found: &Detection) {
        let (from, to) = (middle(&found.keypoints), middle(&self.keypoints));
        let shift = [to[0] - from[0], to[1] - from[1]];
        let [left, top, right, bottom] = found.edges;
        self.anchor = [left + shift[0], top + shift[1], right + shift[0], bottom + shift[1]];
        (self.anchor_keypoints, self.anchor_is_new) = (self.keypoints, true);
        (self.score, self.misses, self.suspicion, self.appearance_when_found) = (found.score, 0, Suspicion::None, None);
        self.confirm_likeness();
    }

    /// Accepts the current keypoints as an observation and updates the velocity.
    pub(crate) fn arrive(&mut self) {
        self.arrive_at(self.keypoints, true);
    }

    fn arrive_at(&mut self, keypoints: [Point; 5], moved: bool) {
        if moved && self.elapsed_s > 0.0 {
            let (from, to) = (middle(&self.observed), middle(&keypoints));
            let now = [(to[0] - from[0]) / self.elapsed_s, (to[1] - from[1]) / self.elapsed_s];
            for (speed, now) in self.speed.iter_mut().zip(now) {
                *speed += SPEED_SHARE * (now - *speed);
            }
        }
        (self.keypoints, self.observed, self.elapsed_s) = (keypoints, keypoints, 0.0);
    }

    /// Takes the track's 68 landmarks (pixels), computed in the crop `to_picture`, and smooths them in place if asked
    /// to. Landmarks that do not form a face do not move the track: the next crop is the predicted one until the
    /// detector has run.
    pub(crate) fn observe(
        &mut self,
        points: &mut [Point],
        to_picture: &Similarity,
        appearance: &AppearanceTemplate,
        template: &KeypointTemplate,
        smoothing: bool,
    ) {
        let Some(raw) = keypoints_of_landmarks(points) else { return };
        let continues = template.may_become(&self.landmarks, points, to_picture, self.elapsed_s);
        if !continues || !template.fits(&raw, to_picture) {
            self.suspicion = Suspicion::Shape;
            self.landmarks.clear();
            self.smoother.reset();
            return;
        }
        if !self.appearance_when_found.get_or_insert(*appearance).resembles(appearance) {
            self.suspicion = self.suspicion.max(Suspicion::Appearance);
        }
        self.landmarks.clear();
        // Cannot overflow: there are as many as five keypoints were made of.
        let _ = self.landmarks.extend_from_slice(points);
        if smoothing {
            self.smoother.smooth(points, to_picture.scale() as f32, self.elapsed_s);
        }
        let now = keypoints_of_landmarks(points).unwrap_or(raw);
        if self.anchor_is_new {
            self.anchor_keypoints = now;
        }
        self.arrive_at(now, !self.anchor_is_new);
        self.anchor_is_new = false;
    }

    /// Returns the suspicion since the detector last found the face.
    pub fn suspicion(&self) -> Suspicion {
        self.suspicion
    }

    /// Returns true if both the landmarks and the detector deny the face.
    pub(crate) fn is_denied(&self) -> bool {
        self.suspicion == Suspicion::Shape && self.misses > 0
    }

    /// Returns true if the detector should run on the next frame.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.suspicion > Suspicion::None || self.misses > 0 || self.untried_rolls > 0 || self.is_broken
    }
}
