//! Faces from frame to frame: where to look for each in the next frame, which are the same, and which are lost.
//!
//! Between runs of the finder a face is followed by its own landmarks: the crop of the next frame comes from five
//! keypoints among the 68 points of this one, moved on by the speed at which they moved. The finder is asked
//! - when no face is known;
//! - every [`CHECK_FRAMES`] frames: for faces that came in, and to confirm those that are followed, because a network
//!   that is shown a wall puts landmarks on it without a doubt;
//! - when the landmarks of a face are no face's, or leave its crop too fast, and as long as it has not confirmed a face
//!   that it missed.
//!
//! Without 68 landmarks (another bundle, or the task is not chosen) the finder runs on every frame.

use super::alignment::{Point, Similarity};
use super::detection::Detection;
use super::one_euro::Smoother;

/// The most faces that are followed.
pub const MAX_FOLLOWED: usize = 16;
/// Points of the landmark sets that faces can be followed by (iBUG order).
pub const GUIDE_POINTS: usize = 68;
/// Frames between two looks of the finder at a scene with faces: half a second at 30 frames/s.
pub const CHECK_FRAMES: u32 = 15;
/// So many looks of the finder in a row that miss a face lose it.
const MISSES: u32 = 4;
/// Without landmarks a missed face is not shown, and its number is kept for so many frames.
const UNSEEN_FRAMES: u32 = 15;
/// Detections that overlap a face so much are that face.
const SAME_FACE: f32 = 0.3;
/// Of two followed faces that overlap so much, one is a duplicate.
const DUPLICATE: f32 = 0.55;
/// Root mean square distance of the five keypoints from the template after fitting, in distances between the eyes,
/// beyond which they are no face. Frontal faces have 0.05 to 0.15, half profiles up to 0.3.
const ODD_SHAPE: f64 = 0.45;
/// How far a face's middle may lie from that of its crop, in sides of the crop, before it is doubted.
const FAR_OFF: f64 = 0.2;
/// How much its size may differ from the crop's.
const SIZE_RATIO: f64 = 1.6;
/// A face is moved on by its speed at most so many sides of its crop.
const FARTHEST_STEP: f32 = 0.15;
/// The share of the newest frame in the speed.
const SPEED_SHARE: f32 = 0.5;

/// Eye centres, nose tip and mouth corners, left to right in the picture, of 68 landmarks in iBUG order.
pub fn keypoints_of_landmarks(points: &[Point]) -> Option<[Point; 5]> {
    if points.len() != GUIDE_POINTS {
        return None;
    }
    let mean = |range: std::ops::Range<usize>| {
        let count = range.len() as f32;
        let sum = points[range].iter().fold([0.0f32; 2], |sum, p| [sum[0] + p[0], sum[1] + p[1]]);
        sum.map(|v| v / count)
    };
    Some([mean(36..42), mean(42..48), points[30], points[48], points[54]])
}

fn middle(points: &[Point; 5]) -> Point {
    let sum = points.iter().fold([0.0f32; 2], |sum, p| [sum[0] + p[0], sum[1] + p[1]]);
    sum.map(|v| v / 5.0)
}

/// One followed face.
#[derive(Clone, Debug)]
pub struct Follower {
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
    misses: u32,
    doubtful: bool,
    smoother: Smoother,
    /// Seconds since it was looked at.
    elapsed_s: f32,
}

impl Follower {
    fn new(id: u32, found: &Detection) -> Follower {
        Follower {
            id,
            score: found.score,
            keypoints: found.keypoints,
            observed: found.keypoints,
            speed: [0.0; 2],
            anchor: found.edges,
            anchor_keypoints: found.keypoints,
            anchor_is_new: true,
            misses: 0,
            doubtful: false,
            smoother: Smoother::default(),
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
    fn predict(&mut self, elapsed_s: f32) {
        self.elapsed_s += elapsed_s;
        let farthest = FARTHEST_STEP * self.side();
        let step = self.speed.map(|speed| (speed * self.elapsed_s).clamp(-farthest, farthest));
        self.keypoints = self.observed.map(|[x, y]| [x + step[0], y + step[1]]);
    }

    /// The finder has seen it. `surely`: its keypoints count for more than the predicted ones.
    fn confirm(&mut self, found: &Detection, surely: bool) {
        (self.score, self.misses) = (found.score, 0);
        let apart = |(a, b): (&Point, &Point)| (a[0] - b[0]).hypot(a[1] - b[1]);
        let error = found.keypoints.iter().zip(&self.keypoints).map(apart).sum::<f32>() / 5.0;
        let elsewhere = self.doubtful || error > 0.1 * self.side();
        if elsewhere {
            self.speed = [0.0; 2];
        }
        if surely || elsewhere {
            self.keypoints = found.keypoints;
            self.smoother.reset();
        }
        (self.anchor, self.anchor_keypoints, self.anchor_is_new) = (found.edges, self.keypoints, true);
    }
}

impl Follower {
    /// It has been seen here in this frame. `moved`: the keypoints compare with those of the last time.
    fn arrive(&mut self, keypoints: [Point; 5], moved: bool) {
        if moved && self.elapsed_s > 0.0 {
            let (from, to) = (middle(&self.observed), middle(&keypoints));
            let now = [(to[0] - from[0]) / self.elapsed_s, (to[1] - from[1]) / self.elapsed_s];
            for (speed, now) in self.speed.iter_mut().zip(now) {
                *speed += SPEED_SHARE * (now - *speed);
            }
        }
        (self.keypoints, self.observed, self.elapsed_s) = (keypoints, keypoints, 0.0);
    }
}

/// What the followers are told once.
#[derive(Clone, Copy, Debug)]
pub struct FollowOptions {
    /// The most faces, at most [`MAX_FOLLOWED`].
    pub limit: usize,
    pub smoothing: bool,
}

/// The followed faces, each in a slot that stays its own as long as it is followed.
#[derive(Debug)]
pub struct Followers {
    options: FollowOptions,
    slots: heapless::Vec<Option<Follower>, MAX_FOLLOWED>,
    /// Where a face's keypoints lie in its crop.
    template: [Point; 5],
    template_eyes: f64,
    next_id: u32,
    frames_since_check: u32,
    /// The picture has nothing to do with the last one.
    cut: bool,
}

impl Followers {
    /// Nobody yet.
    pub fn new(options: FollowOptions, template: &[Point; 5]) -> Followers {
        let options = FollowOptions { limit: options.limit.clamp(1, MAX_FOLLOWED), ..options };
        let [left, right] = [template[0], template[1]];
        Followers {
            options,
            slots: (0..options.limit).map(|_| None).collect(),
            template: *template,
            template_eyes: f64::from((right[0] - left[0]).hypot(right[1] - left[1])).max(1e-6),
            next_id: 1,
            // The first frame is searched in any case.
            frames_since_check: 2 * CHECK_FRAMES,
            cut: false,
        }
    }

    /// The faces with their slots.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Follower)> {
        self.slots.iter().enumerate().filter_map(|(slot, follower)| Some((slot, follower.as_ref()?)))
    }

    /// The face in a slot.
    pub fn get(&self, slot: usize) -> Option<&Follower> {
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
        self.slots.iter_mut().flatten().for_each(|follower| follower.predict(elapsed_s));
    }

    /// Whether the finder has to look at this frame. `guided`: faces are followed by landmarks. `rarely` (under
    /// overload): half as often where nothing is in doubt.
    pub fn needs_finder(&self, guided: bool, rarely: bool) -> bool {
        let pause = if rarely { 2 } else { 1 };
        let unsure = |(_, follower): (usize, &Follower)| follower.doubtful || follower.misses > 0;
        if self.cut || (guided && self.iter().any(unsure)) {
            return true;
        }
        let wait = if !guided || self.count() == 0 { pause } else { CHECK_FRAMES * pause };
        self.frames_since_check >= wait
    }

    /// Tells which faces the finder has seen in this frame, best first. Faces that it missed too often are lost, those
    /// that are new get a slot as long as `limit` is not reached.
    pub fn check(&mut self, found: &[Detection], guided: bool, limit: usize) {
        self.frames_since_check = 0;
        let cut = std::mem::take(&mut self.cut);
        let mut seen = [false; MAX_FOLLOWED];
        for detection in found {
            let overlaps = self.iter().map(|(slot, follower)| (slot, follower.detection().overlap(detection)));
            let best = overlaps.max_by(|a, b| a.1.total_cmp(&b.1));
            match best.filter(|(_, overlap)| *overlap >= SAME_FACE) {
                // A second detection of one face changes nothing.
                Some((slot, _)) if seen[slot] => {}
                Some((slot, _)) => {
                    if let Some(follower) = &mut self.slots[slot] {
                        follower.confirm(detection, cut || !guided);
                        if !guided {
                            // Nothing will tell more of where it is in this frame.
                            follower.arrive(follower.keypoints, true);
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
        let misses = if guided { MISSES } else { UNSEEN_FRAMES };
        for (slot, place) in self.slots.iter_mut().enumerate() {
            if let Some(follower) = place.as_mut().filter(|_| !seen[slot]) {
                follower.misses += 1;
                if cut || follower.misses >= misses || (follower.doubtful && follower.misses >= 2) {
                    *place = None;
                }
            }
        }
    }

    fn admit(&mut self, detection: &Detection, limit: usize) -> Option<usize> {
        if self.count() >= limit.min(self.options.limit) {
            return None;
        }
        let slot = self.slots.iter().position(Option::is_none)?;
        self.slots[slot] = Some(Follower::new(self.next_id, detection));
        self.next_id += 1;
        Some(slot)
    }

    /// Whether the face in `slot` is in this frame as far as is known: without landmarks only if the finder saw it.
    pub fn is_visible(&self, slot: usize, guided: bool) -> bool {
        self.get(slot).is_some_and(|follower| guided || follower.misses == 0)
    }

    /// Takes the 68 landmarks of the face in `slot` (pixels) and smooths them in place. They say where the face is now,
    /// and whether it is one: `to_picture` is the crop that they were seen in.
    pub fn observe(&mut self, slot: usize, points: &mut [Point], to_picture: &Similarity) {
        let (template, eyes, smoothing) = (self.template, self.template_eyes, self.options.smoothing);
        let Some(follower) = self.slots.get_mut(slot).and_then(Option::as_mut) else { return };
        let Some(raw) = keypoints_of_landmarks(points) else { return };
        follower.doubtful = !is_plausible(&raw, to_picture, &template, eyes);
        if smoothing {
            follower.smoother.smooth(points, to_picture.scale() as f32, follower.elapsed_s);
        }
        let Some(now) = keypoints_of_landmarks(points).filter(|now| now.iter().flatten().all(|v| v.is_finite())) else {
            follower.doubtful = true;
            return;
        };
        if follower.anchor_is_new {
            follower.anchor_keypoints = now;
        }
        follower.arrive(now, !follower.anchor_is_new);
        follower.anchor_is_new = false;
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
            let youngest = self.iter().max_by_key(|(_, follower)| follower.id).map(|(slot, _)| slot);
            let Some(slot) = youngest else { return };
            self.slots[slot] = None;
        }
    }
}

/// Whether five keypoints (pixels) can be a face that was about where `to_picture` looked.
fn is_plausible(keypoints: &[Point; 5], to_picture: &Similarity, template: &[Point; 5], eyes: f64) -> bool {
    let to_frame = to_picture.inverse();
    let seen = keypoints.map(|point| to_frame.apply_point(point));
    let Some(fitted) = Similarity::fit(template, &seen) else { return false };
    let squared = |(t, s): (&Point, &Point)| {
        let [x, y] = fitted.apply_point(*t);
        f64::from(x - s[0]).powi(2) + f64::from(y - s[1]).powi(2)
    };
    let shape = (template.iter().zip(&seen).map(squared).sum::<f64>() / 5.0).sqrt() / (eyes * fitted.scale());
    let (from, to) = (middle(template), middle(&seen));
    let off = f64::from((to[0] - from[0]).hypot(to[1] - from[1]));
    shape < ODD_SHAPE && off < FAR_OFF && (1.0 / SIZE_RATIO..SIZE_RATIO).contains(&fitted.scale())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: [Point; 5] = [[0.4, 0.43], [0.6, 0.43], [0.5, 0.55], [0.42, 0.67], [0.58, 0.67]];
    const FRAME_S: f32 = 1.0 / 30.0;

    fn followers(limit: usize) -> Followers {
        Followers::new(FollowOptions { limit, smoothing: false }, &TEMPLATE)
    }

    /// A face whose crop has its corner at x, y.
    fn crop(x: f32, y: f32, side: f64) -> Similarity {
        Similarity { a: side, b: 0.0, tx: f64::from(x), ty: f64::from(y) }
    }

    fn detection(x: f32, y: f32, score: f32) -> Detection {
        let keypoints = TEMPLATE.map(|p| crop(x, y, 200.0).apply_point(p));
        Detection { score, edges: [x + 50.0, y + 50.0, x + 150.0, y + 170.0], keypoints }
    }

    /// Landmarks of which only the five that are looked at mean something.
    fn landmarks(keypoints: &[Point; 5]) -> [Point; GUIDE_POINTS] {
        let mut points = [[0.0; 2]; GUIDE_POINTS];
        points[36..42].fill(keypoints[0]);
        points[42..48].fill(keypoints[1]);
        (points[30], points[48], points[54]) = (keypoints[2], keypoints[3], keypoints[4]);
        points
    }

    fn crop_of(followers: &Followers, slot: usize) -> Similarity {
        let keypoints = followers.get(slot).expect("followed").keypoints();
        Similarity::fit(keypoints, &TEMPLATE).expect("distinct").inverse()
    }

    /// One frame in which the finder runs if it must; returns whether it did.
    fn frame(followers: &mut Followers, faces: &[(f32, f32)]) -> bool {
        followers.begin(FRAME_S);
        let asked = followers.needs_finder(true, false);
        if asked {
            let found: Vec<Detection> = faces.iter().map(|&(x, y)| detection(x, y, 0.9)).collect();
            followers.check(&found, true, MAX_FOLLOWED);
        }
        for slot in 0..MAX_FOLLOWED {
            let Some(follower) = followers.get(slot) else { continue };
            // The face whose landmarks the network would see is the one nearest to the crop.
            let at = middle(follower.keypoints());
            let distance = |face: &&(f32, f32)| {
                let [x, y] = middle(&detection(face.0, face.1, 0.9).keypoints);
                (x - at[0]).hypot(y - at[1])
            };
            let nearest = faces.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
            if let Some(&(x, y)) = nearest.filter(|face| distance(face) < 60.0) {
                let to_picture = crop_of(followers, slot);
                followers.observe(slot, &mut landmarks(&detection(x, y, 0.9).keypoints), &to_picture);
            }
        }
        followers.settle(MAX_FOLLOWED);
        asked
    }

    #[test]
    fn a_moving_face_is_followed_and_the_finder_rarely_asked() {
        let mut followers = followers(4);
        let mut asked = 0;
        for number in 0..150 {
            let x = 8.0 * number as f32;
            asked += u32::from(frame(&mut followers, &[(x, 20.0)]));
            let (_, follower) = followers.iter().next().expect("followed");
            assert_eq!((follower.id, followers.count()), (1, 1));
            let edges = follower.detection().edges;
            assert!((edges[0] - x - 50.0).abs() < 1.0 && (edges[3] - 190.0).abs() < 1.0, "{number}: {edges:?}");
        }
        assert_eq!(asked, 10);
    }

    #[test]
    fn the_next_crop_is_where_the_face_will_be() {
        let mut followers = followers(1);
        for number in 0..30 {
            frame(&mut followers, &[(10.0 * number as f32, 0.0)]);
        }
        followers.begin(FRAME_S);
        let expected = detection(300.0, 0.0, 0.9).keypoints[0];
        let predicted = followers.get(0).expect("followed").keypoints()[0];
        assert!((predicted[0] - expected[0]).abs() < 1.0, "{predicted:?} {expected:?}");
    }

    #[test]
    fn a_face_that_the_finder_misses_four_times_is_lost_and_never_comes_back_under_its_number() {
        let mut followers = followers(4);
        frame(&mut followers, &[(0.0, 0.0)]);
        for _ in 0..CHECK_FRAMES - 1 {
            frame(&mut followers, &[]);
            assert_eq!(followers.count(), 1, "nobody has looked");
        }
        // From now on it is in doubt, and the finder is asked at every frame.
        for _ in 0..MISSES {
            assert_eq!(followers.count(), 1);
            assert!(frame(&mut followers, &[]));
        }
        assert_eq!(followers.count(), 0);
        frame(&mut followers, &[(0.0, 0.0)]);
        assert_eq!(followers.iter().map(|(_, f)| f.id).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_face_missed_once_is_kept() {
        let mut followers = followers(4);
        frame(&mut followers, &[(0.0, 0.0)]);
        followers.begin(FRAME_S);
        followers.check(&[], true, 4);
        assert!(frame(&mut followers, &[(0.0, 0.0)]), "asked again at once");
        assert!(!frame(&mut followers, &[(0.0, 0.0)]));
        assert_eq!(followers.iter().map(|(_, f)| f.id).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn landmarks_that_are_no_face_call_the_finder() {
        let mut followers = followers(4);
        frame(&mut followers, &[(0.0, 0.0)]);
        let to_picture = crop_of(&followers, 0);
        let mut scrambled = detection(0.0, 0.0, 0.9).keypoints;
        scrambled.swap(0, 4);
        followers.begin(FRAME_S);
        assert!(!followers.needs_finder(true, false));
        followers.observe(0, &mut landmarks(&scrambled), &to_picture);
        assert!(followers.needs_finder(true, false));
        // So do landmarks that are far off, of another size, or no numbers.
        let good = detection(0.0, 0.0, 0.9).keypoints;
        for (change, doubted) in [
            (crop(5.0, 5.0, 1.0), false),
            (crop(50.0, 0.0, 1.0), true),
            (crop(-100.0, -100.0, 2.0), true),
            (crop(f32::NAN, 0.0, 1.0), true),
        ] {
            let points = good.map(|p| change.apply_point(p));
            assert_eq!(is_plausible(&points, &to_picture, &TEMPLATE, 0.2), !doubted, "{change:?}");
        }
    }

    #[test]
    fn two_faces_keep_their_numbers_while_they_pass_and_duplicates_go() {
        let mut followers = followers(4);
        for number in 0..60 {
            let step = 5.0 * number as f32;
            frame(&mut followers, &[(step, 0.0), (300.0 - step, 150.0)]);
        }
        let mut all: Vec<(u32, f32)> = followers.iter().map(|(_, f)| (f.id, f.detection().edges[0])).collect();
        all.sort_by_key(|(id, _)| *id);
        assert_eq!(all.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2]);
        assert!((all[0].1 - 345.0).abs() < 2.0 && (all[1].1 - 55.0).abs() < 2.0, "{all:?}");
        // Both on one face: the older one stays.
        for slot in 0..2 {
            let to_picture = crop_of(&followers, slot);
            followers.observe(slot, &mut landmarks(&detection(100.0, 0.0, 0.9).keypoints), &to_picture);
        }
        followers.settle(4);
        assert_eq!(followers.iter().map(|(_, f)| f.id).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn the_limit_holds_and_may_fall() {
        let mut followers = followers(3);
        let faces: Vec<(f32, f32)> = (0..5).map(|i| (300.0 * i as f32, 0.0)).collect();
        frame(&mut followers, &faces);
        assert_eq!(followers.count(), 3);
        followers.settle(1);
        assert_eq!(followers.iter().map(|(_, f)| f.id).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn without_landmarks_the_finder_runs_on_every_frame_and_numbers_stay() {
        let mut followers = followers(2);
        for number in 0..20 {
            followers.begin(FRAME_S);
            assert!(followers.needs_finder(false, false));
            let found = [detection(6.0 * number as f32, 0.0, 0.8)];
            let visible = number % 5 != 4;
            followers.check(if visible { &found } else { &[] }, false, 2);
            assert_eq!(followers.is_visible(0, false), visible);
            if visible {
                let known = followers.get(0).expect("followed").detection();
                assert_eq!((known.edges, known.keypoints), (found[0].edges, found[0].keypoints));
            }
        }
        assert_eq!(followers.get(0).map(|f| f.id), Some(1));
    }

    #[test]
    fn a_cut_forgets_everything_that_is_not_seen_again() {
        let mut followers = followers(2);
        frame(&mut followers, &[(0.0, 0.0), (400.0, 0.0)]);
        followers.cut();
        assert!(frame(&mut followers, &[(400.0, 10.0)]));
        assert_eq!(followers.iter().map(|(_, f)| f.id).collect::<Vec<_>>(), [2]);
    }
}
