//! One followed face: where it is, how it moves, and how much there is to be said against it.

use crate::align::appearance::AppearanceTemplate;
use crate::detect::detection::Detection;
use crate::geometry::TRACKING_LANDMARKS;
use crate::geometry::{Point, Similarity};
use crate::geometry::{keypoints_of_landmarks, middle};
use crate::track::one_euro::Smoother;
use crate::track::track_check::{KeypointTemplate, Suspicion};

/// So many looks of the finder in a row that miss a face without a suspicion lose it.
pub(crate) const MAX_MISSES: u32 = 4;
/// A face is moved on by its speed at most so many sides of its crop.
const FARTHEST_STEP: f32 = 0.15;
/// The share of the newest frame in the speed.
const SPEED_SHARE: f32 = 0.5;
/// Keypoints that the finder sees so many sides of the box from where they were thought to be are somewhere else.
const ELSEWHERE: f32 = 0.1;

/// One followed face.
#[derive(Clone, Debug)]
pub struct Track {
    /// From 1 on; never used again.
    pub id: u32,
    /// The finder's, when it saw the face last.
    score: f32,
    /// In the frame that is worked on; predicted until it was looked at.
    keypoints: [Point; 5],
    /// In the last frame in which it was looked at.
    observed: [Point; 5],
    /// Of its middle, pixels per second.
    speed: Point,
    /// The finder's box, and the keypoints of the same frame.
    anchor: [f32; 4],
    anchor_keypoints: [Point; 5],
    /// The anchor's keypoints are still the finder's.
    anchor_is_new: bool,
    /// Looks of the finder in a row that missed it.
    pub(crate) misses: u32,
    /// Since the finder saw it last.
    suspicion: Suspicion,
    smoother: Smoother,
    /// Its landmarks when it was looked at last, as the network gave them.
    landmarks: heapless::Vec<Point, TRACKING_LANDMARKS>,
    /// Its crop when the finder saw it last.
    looks: Option<AppearanceTemplate>,
    /// Seconds since it was looked at.
    elapsed_s: f32,
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
            looks: None,
            elapsed_s: 0.0,
        }
    }

    /// The face as it is known in this frame.
    pub fn detection(&self) -> Detection {
        Detection { score: self.score, edges: self.edges(), keypoints: self.keypoints }
    }

    /// The five keypoints that the crop of this frame is made of, or that were seen in it.
    pub fn keypoints(&self) -> &[Point; 5] {
        &self.keypoints
    }

    /// How likely it is that the face has gone: 0 when nothing is said against it; from 1 on it is lost.
    pub fn lost_score(&self) -> f32 {
        self.misses as f32 / MAX_MISSES as f32 + self.suspicion.score()
    }

    /// The finder's box, moved and scaled as the keypoints have moved since.
    fn edges(&self) -> [f32; 4] {
        let Some(moved) = Similarity::fit(&self.anchor_keypoints, &self.keypoints) else { return self.anchor };
        let [left, top, right, bottom] = self.anchor;
        let [x, y] = moved.apply_point([(left + right) / 2.0, (top + bottom) / 2.0]);
        let half = moved.scale() as f32 / 2.0;
        let (width, height) = ((right - left) * half, (bottom - top) * half);
        [x - width, y - height, x + width, y + height]
    }

    /// Side of the box, pixels.
    fn side(&self) -> f32 {
        let [left, top, right, bottom] = self.edges();
        (right - left).max(bottom - top).max(1.0)
    }

    /// Moves the keypoints on to this frame.
    pub(crate) fn predict(&mut self, elapsed_s: f32) {
        self.elapsed_s += elapsed_s;
        let farthest = FARTHEST_STEP * self.side();
        let step = self.speed.map(|speed| (speed * self.elapsed_s).clamp(-farthest, farthest));
        self.keypoints = self.observed.map(|[x, y]| [x + step[0], y + step[1]]);
    }

    /// The finder has seen it. `surely`: its keypoints count for more than the predicted ones.
    pub(crate) fn confirm(&mut self, found: &Detection, surely: bool) {
        let apart = |(a, b): (&Point, &Point)| (a[0] - b[0]).hypot(a[1] - b[1]);
        let error = found.keypoints.iter().zip(&self.keypoints).map(apart).sum::<f32>() / 5.0;
        let elsewhere = self.suspicion == Suspicion::Shape || error > ELSEWHERE * self.side();
        if elsewhere {
            self.speed = [0.0; 2];
        }
        if surely || elsewhere {
            self.keypoints = found.keypoints;
            self.smoother.reset();
            self.landmarks.clear();
        }
        (self.score, self.misses, self.suspicion, self.looks) = (found.score, 0, Suspicion::None, None);
        (self.anchor, self.anchor_keypoints, self.anchor_is_new) = (found.edges, self.keypoints, true);
    }

    /// The finder has seen it some frames ago, so it says that there is a face and how large its box is, not where.
    pub(crate) fn confirm_late(&mut self, found: &Detection) {
        let (from, to) = (middle(&found.keypoints), middle(&self.keypoints));
        let shift = [to[0] - from[0], to[1] - from[1]];
        let [left, top, right, bottom] = found.edges;
        self.anchor = [left + shift[0], top + shift[1], right + shift[0], bottom + shift[1]];
        (self.anchor_keypoints, self.anchor_is_new) = (self.keypoints, true);
        (self.score, self.misses, self.suspicion, self.looks) = (found.score, 0, Suspicion::None, None);
    }

    /// Its keypoints in this frame are those that it has now, and compare with those of the last time.
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

    /// Takes its 68 landmarks (pixels), seen in the crop `to_picture`, and smooths them in place if told to. Those that
    /// are no face's move nothing: the next crop is where the face was expected, until the finder has looked.
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
        if !self.looks.get_or_insert(*appearance).is_like(appearance) {
            self.suspicion = self.suspicion.max(Suspicion::Appearance);
        }
        self.landmarks.clear();
        // As many as there is room for: they have five keypoints.
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

    /// Whether both speak against it: its landmarks are no face's, and the finder has missed it since it saw it last.
    pub(crate) fn is_denied(&self) -> bool {
        self.suspicion == Suspicion::Shape && self.misses > 0
    }

    /// Whether the finder should look at the next frame.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.suspicion > Suspicion::None || self.misses > 0
    }
}
