//! A detected face, and non-maximum suppression.

use heapless::binary_heap::{BinaryHeap, Min};

use crate::geometry::Point;

/// Maximum number of faces in one picture. Every list of faces has this fixed capacity; `--max-faces` may request
/// fewer.
pub const MAX_FACES: usize = 64;
/// Maximum number of cells above the threshold that are considered, best first: about a dozen belong to one face.
pub const MAX_CANDIDATES: usize = 1024;

/// A detected face in picture coordinates (pixels, the centre of the top-left pixel is 0, 0).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// Confidence, 0..1.
    pub score: f32,
    /// Left, top, right and bottom edge.
    pub edges: [f32; 4],
    /// Eyes, nose, mouth corners; left to right in the picture.
    pub keypoints: [Point; 5],
}

/// The faces of one picture, best score first.
pub type Detections = heapless::Vec<Detection, MAX_FACES>;

impl Detection {
    /// Returns left, top, width and height.
    pub fn xywh(&self) -> [f32; 4] {
        let [left, top, right, bottom] = self.edges;
        [left, top, right - left, bottom - top]
    }

    /// Returns the detection with its box clipped to a picture of `size` pixels, for reports. Keypoints stay as they are: they
    /// may lie outside, and say so.
    pub fn clipped(&self, size: [usize; 2]) -> Detection {
        let [width, height] = size.map(|side| side as f32);
        let [left, top, right, bottom] = self.edges;
        let across = [left, right].map(|edge| edge.clamp(0.0, width));
        let down = [top, bottom].map(|edge| edge.clamp(0.0, height));
        Detection { edges: [across[0], down[0], across[1], down[1]], ..*self }
    }

    /// Returns the share of the box that lies in a picture of `size` pixels, 0..1. Where the box is larger than the picture,
    /// it is the share of what has room there.
    pub(crate) fn share_inside(&self, size: [usize; 2]) -> f32 {
        let [left, top, right, bottom] = self.edges;
        let along = |low: f32, high: f32, side: usize| {
            let room = (high - low).min(side as f32);
            let inside = high.min(side as f32) - low.max(0.0);
            // Coordinates that are not numbers compare as false.
            if high > low { inside.max(0.0) / room } else { 0.0 }
        };
        along(left, right, size[0]) * along(top, bottom, size[1])
    }

    /// Returns the longer side of the box.
    pub fn side(&self) -> f32 {
        let [_, _, width, height] = self.xywh();
        width.max(height)
    }

    /// Returns the middle of the box.
    pub fn middle(&self) -> Point {
        let [left, top, right, bottom] = self.edges;
        [(left + right) / 2.0, (top + bottom) / 2.0]
    }

    /// Returns the degrees, -180 to 180, by which the keypoints are turned clockwise from those of an upright face.
    pub fn roll(&self) -> f32 {
        let [left_eye, right_eye, _, left_mouth, right_mouth] = self.keypoints;
        // The face's direction to the right, and downwards turned into the same direction.
        let right = |axis: usize| right_eye[axis] - left_eye[axis] + right_mouth[axis] - left_mouth[axis];
        let down = |axis: usize| (left_mouth[axis] + right_mouth[axis] - left_eye[axis] - right_eye[axis]) / 2.0;
        (right(1) - down(0)).atan2(right(0) + down(1)).to_degrees()
    }

    fn area(&self) -> f32 {
        let [_, _, width, height] = self.xywh();
        width.max(0.0) * height.max(0.0)
    }

    fn intersection(&self, other: &Detection) -> f32 {
        let (a, b) = (self.edges, other.edges);
        let width = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
        let height = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
        width * height
    }

    /// Returns the part of the smaller box that lies in the other, 0..1.
    pub fn shared_part(&self, other: &Detection) -> f32 {
        let smaller = self.area().min(other.area());
        if smaller > 0.0 { self.intersection(other) / smaller } else { 0.0 }
    }

    /// Returns the intersection over union of the two boxes, 0..1.
    pub fn overlap(&self, other: &Detection) -> f32 {
        let shared = self.intersection(other);
        let union = self.area() + other.area() - shared;
        if union > 0.0 { shared / union } else { 0.0 }
    }
}

impl Eq for Detection {}

impl PartialOrd for Detection {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Detection {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.score.total_cmp(&other.score)
    }
}

/// The best candidates so far, with the worst on top, to be replaced first.
pub struct Candidates {
    heap: BinaryHeap<Detection, Min, MAX_CANDIDATES>,
    sorted: Vec<Detection>,
    /// Faces beyond the limit of the last suppression.
    left_out: Vec<Detection>,
    /// True when candidates were dropped for lack of room.
    crowded: bool,
}

impl Default for Candidates {
    /// Allocates for a crowd at once, so that the first crowd does not delay a frame.
    fn default() -> Candidates {
        let list = || Vec::with_capacity(MAX_CANDIDATES);
        Candidates { heap: BinaryHeap::new(), sorted: list(), left_out: list(), crowded: false }
    }
}

impl Candidates {
    /// Forgets the candidates of the last picture.
    pub fn clear(&mut self) {
        self.heap.clear();
        self.crowded = false;
    }

    /// Adds a candidate; at full capacity the one with the lowest score is dropped.
    pub fn push(&mut self, candidate: Detection) {
        let Err(candidate) = self.heap.push(candidate) else { return };
        self.crowded = true;
        if self.heap.peek().is_some_and(|worst| worst.score < candidate.score) {
            self.heap.pop();
            // There is room now.
            let _ = self.heap.push(candidate);
        }
    }

    /// Applies greedy non-maximum suppression and returns at most `limit` detections. Box and keypoints of each are
    /// averaged with those of its group that almost coincide with it.
    pub fn suppress(&mut self, overlap: f32, limit: usize) -> Detections {
        self.sorted.clear();
        self.left_out.clear();
        self.sorted.extend(self.heap.iter());
        self.sorted.sort_unstable_by(|a, b| b.cmp(a));
        let mut kept = Detections::new();
        let mut means: heapless::Vec<Mean, MAX_FACES> = heapless::Vec::new();
        for candidate in &self.sorted {
            let shares = kept.iter().map(|better| better.overlap(candidate)).enumerate();
            let (index, shared) = shares.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, 0.0));
            if shared > overlap.max(SAME_FACE) {
                means[index].add(candidate);
            } else if shared <= overlap && kept.len() < limit.min(MAX_FACES) {
                // There is room: checked just now, and both lists grow together.
                let _ = kept.push(*candidate);
                let _ = means.push(Mean::of(candidate));
            } else if shared <= overlap && self.left_out.iter().all(|other| other.overlap(candidate) <= overlap) {
                self.left_out.push(*candidate);
            }
        }
        for (face, mean) in kept.iter_mut().zip(&means) {
            mean.settle(face);
        }
        kept
    }

    /// Returns how many faces the last suppression left out because of its limit. If there were too many candidates to
    /// consider, this is a lower bound, at least 1.
    pub fn left_out(&self) -> usize {
        self.left_out.len().max(usize::from(self.crowded))
    }
}

/// Overlap above which two boxes show one face from neighbouring cells or sizes. On the dev scenes their mean
/// keypoints err by a sixth less than those of the best cell alone.
const SAME_FACE: f32 = 0.5;

/// The weighted sum of the boxes and keypoints of one face.
struct Mean {
    weight: f32,
    edges: [f32; 4],
    keypoints: [Point; 5],
}

impl Mean {
    fn of(first: &Detection) -> Mean {
        let mut mean = Mean { weight: 0.0, edges: [0.0; 4], keypoints: [[0.0; 2]; 5] };
        mean.add(first);
        mean
    }

    fn add(&mut self, other: &Detection) {
        self.weight += other.score;
        self.edges.iter_mut().zip(other.edges).for_each(|(sum, edge)| *sum += edge * other.score);
        let (sums, points) = (self.keypoints.iter_mut().flatten(), other.keypoints.iter().flatten());
        sums.zip(points).for_each(|(sum, coordinate)| *sum += coordinate * other.score);
    }

    fn settle(&self, face: &mut Detection) {
        if self.weight > 0.0 {
            face.edges = self.edges.map(|sum| sum / self.weight);
            face.keypoints = self.keypoints.map(|point| point.map(|sum| sum / self.weight));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face(score: f32, x: f32, y: f32, side: f32) -> Detection {
        Detection { score, edges: [x, y, x + side, y + side], keypoints: [[x, y]; 5] }
    }

    #[test]
    fn overlap_is_the_shared_part() {
        let one = face(1.0, 0.0, 0.0, 10.0);
        assert_eq!(one.overlap(&one), 1.0);
        assert_eq!(one.overlap(&face(1.0, 20.0, 0.0, 10.0)), 0.0);
        assert!((one.overlap(&face(1.0, 5.0, 0.0, 10.0)) - 1.0 / 3.0).abs() < 1e-6);
        assert_eq!(face(1.0, 0.0, 0.0, 0.0).overlap(&face(1.0, 0.0, 0.0, 0.0)), 0.0);
    }

    #[test]
    fn boxes_are_clipped_to_the_picture() {
        let one = face(1.0, -4.0, 15.0, 10.0);
        assert_eq!(one.clipped([100, 20]).edges, [0.0, 15.0, 6.0, 20.0]);
        assert!((one.share_inside([100, 20]) - 0.3).abs() < 1e-6);
        assert_eq!(face(1.0, 3.0, 4.0, 10.0).share_inside([100, 20]), 1.0);
        assert_eq!(face(1.0, -20.0, 4.0, 10.0).clipped([100, 20]).xywh(), [0.0, 4.0, 0.0, 10.0]);
        assert_eq!(face(1.0, -20.0, 4.0, 10.0).share_inside([100, 20]), 0.0);
        // A face that is larger than the picture and fills it.
        assert_eq!(face(1.0, -50.0, -50.0, 200.0).share_inside([100, 20]), 1.0);
        assert_eq!(face(1.0, f32::NAN, 0.0, 10.0).share_inside([100, 20]), 0.0);
    }

    #[test]
    fn roll_is_that_of_the_keypoints() {
        let upright = [[40.0, 42.0], [60.0, 42.0], [50.0, 54.0], [42.0, 66.0], [58.0, 66.0]];
        for degrees in [0.0f32, 30.0, -45.0, 90.0, 135.0, -170.0] {
            let (sin, cos) = degrees.to_radians().sin_cos();
            let keypoints = upright.map(|[x, y]| [cos * x - sin * y + 7.0, sin * x + cos * y]);
            let roll = Detection { keypoints, ..face(0.9, 0.0, 0.0, 1.0) }.roll();
            assert!((roll - degrees).abs() < 0.1, "{roll} instead of {degrees}");
        }
    }

    #[test]
    fn a_box_inside_another_is_shared_wholly() {
        let (large, small) = (face(0.9, 0.0, 0.0, 100.0), face(0.8, 20.0, 30.0, 10.0));
        assert_eq!((large.shared_part(&small), small.shared_part(&large)), (1.0, 1.0));
        assert_eq!(face(0.8, 95.0, 0.0, 10.0).shared_part(&large), 0.5);
        assert_eq!(face(0.8, 0.0, 0.0, 0.0).shared_part(&large), 0.0);
        let cut = face(0.9, -5.0, 90.0, 20.0).clipped([100, 100]);
        assert_eq!((cut.side(), cut.middle()), (15.0, [7.5, 95.0]));
    }

    #[test]
    fn the_best_of_each_group_stays_in_order() {
        let mut candidates = Candidates::default();
        for c in [face(0.6, 1.0, 0.0, 10.0), face(0.9, 0.0, 0.0, 10.0), face(0.7, 50.0, 0.0, 10.0)] {
            candidates.push(c);
        }
        let kept = candidates.suppress(0.4, MAX_FACES);
        assert_eq!(kept.iter().map(|d| d.score).collect::<Vec<_>>(), [0.9, 0.7]);
        assert_eq!((kept.len(), candidates.left_out()), (2, 0));
        assert_eq!((candidates.suppress(0.4, 1).len(), candidates.left_out()), (1, 1));
    }

    #[test]
    fn faces_beyond_the_limit_are_counted_once() {
        let mut candidates = Candidates::default();
        for i in 0..300 {
            // Three cells a face.
            candidates.push(face(0.9 - i as f32 / 1000.0, 20.0 * (i / 3) as f32, (i % 3) as f32, 10.0));
        }
        assert_eq!((candidates.suppress(0.4, MAX_FACES).len(), candidates.left_out()), (MAX_FACES, 100 - MAX_FACES));
        assert_eq!((candidates.suppress(0.4, 3).len(), candidates.left_out()), (3, 97));
        candidates.clear();
        assert_eq!((candidates.suppress(0.4, MAX_FACES).len(), candidates.left_out()), (0, 0));
        // Many cells of a few faces: what was dropped may have been a face.
        for i in 0..=MAX_CANDIDATES {
            candidates.push(face(0.5, 20.0 * (i % 2) as f32, 0.0, 10.0));
        }
        assert_eq!((candidates.suppress(0.4, MAX_FACES).len(), candidates.left_out()), (2, 1));
    }

    #[test]
    fn neighbours_of_the_best_are_averaged_and_strangers_are_not() {
        let mut candidates = Candidates::default();
        // The second one shares most of the box; the third one is suppressed, but shows another part of the face.
        for c in [face(0.9, 0.0, 0.0, 10.0), face(0.6, 0.0, 1.0, 10.0), face(0.8, 4.0, 0.0, 10.0)] {
            candidates.push(c);
        }
        let kept = candidates.suppress(0.4, MAX_FACES);
        assert_eq!((kept.len(), kept[0].score), (1, 0.9));
        let expected = 0.6 / 1.5;
        assert!((kept[0].edges[1] - expected).abs() < 1e-6 && (kept[0].edges[3] - 10.0 - expected).abs() < 1e-5);
        assert!(kept[0].keypoints.iter().all(|p| p[0] == 0.0 && (p[1] - expected).abs() < 1e-6));
    }

    #[test]
    fn a_crowd_keeps_the_best_candidates() {
        let mut candidates = Candidates::default();
        for i in 0..MAX_CANDIDATES + 500 {
            candidates.push(face(i as f32 / 2000.0, 20.0 * i as f32, 0.0, 10.0));
        }
        let kept = candidates.suppress(0.4, MAX_FACES);
        assert_eq!(kept.len(), MAX_FACES);
        let best = (MAX_CANDIDATES + 499) as f32 / 2000.0;
        assert_eq!(kept.first().map(|d| d.score), Some(best));
        candidates.clear();
        assert!(candidates.suppress(0.4, MAX_FACES).is_empty());
    }
}
