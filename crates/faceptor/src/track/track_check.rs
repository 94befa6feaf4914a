//! Checks whether a track still shows its face.
//!
//! The network puts landmarks on any crop, even on a wall. Three signs raise a [`Suspicion`]:
//! - the five keypoints do not form a face, or lie far from the predicted position;
//! - the landmarks change shape faster than a face does: 0.002 to 0.006 eye distances between frames of the demo clip,
//!   0.2 and more when the face leaves (`tests/integration/live.rs` has such clips);
//! - the crop does not look as it did when the detector last found the face: their correlation stays above 0.8 in the
//!   demo clip, and is about 0 when the face has left.
//!
//! A suspicion makes the detector run on the next frame, and shortens the time for which a missed face is kept.

use crate::geometry::{Point, Similarity, middle};

/// Root mean square distance of the five keypoints from the fitted template, in eye distances, above which they do not
/// form a face. Frontal faces have 0.05 to 0.15, half profiles up to 0.3.
const ODD_SHAPE: f64 = 0.45;
/// Maximum distance between the centres of the face and of its crop, in sides of the crop.
const FAR_OFF: f64 = 0.2;
/// Maximum ratio between the sizes of the face and of its crop.
const SIZE_RATIO: f64 = 1.6;
/// Root mean square change of the landmarks' shape in 1/30 s, in eye distances. An opening mouth has 0.05.
const FAST_CHANGE: f64 = 0.12;

/// The evidence against a track, weakest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suspicion {
    #[default]
    None,
    /// The crop looks different: the face may have turned or the light may have changed.
    Appearance,
    /// The landmarks do not form a face.
    Shape,
}

impl Suspicion {
    /// Returns its contribution to the score of a lost face.
    pub fn score(self) -> f32 {
        match self {
            Suspicion::None => 0.0,
            Suspicion::Appearance => 0.25,
            Suspicion::Shape => 0.5,
        }
    }
}

/// The keypoints of a face in its crop (0..1).
#[derive(Clone, Copy, Debug)]
pub struct KeypointTemplate {
    points: [Point; 5],
    /// The distance between the eyes.
    eyes: f64,
}

impl KeypointTemplate {
    pub fn new(points: &[Point; 5]) -> KeypointTemplate {
        let [left, right] = [points[0], points[1]];
        KeypointTemplate { points: *points, eyes: f64::from((right[0] - left[0]).hypot(right[1] - left[1])).max(1e-6) }
    }

    /// Returns true if five keypoints (pixels) can be a face near the crop `to_picture`.
    pub fn fits(&self, keypoints: &[Point; 5], to_picture: &Similarity) -> bool {
        let to_frame = to_picture.inverse();
        let seen = keypoints.map(|point| to_frame.apply_point(point));
        let Some(fitted) = Similarity::fit(&self.points, &seen) else { return false };
        let shape = residual(&fitted, &self.points, &seen) / (self.eyes * fitted.scale());
        let (from, to) = (middle(&self.points), middle(&seen));
        let off = f64::from((to[0] - from[0]).hypot(to[1] - from[1]));
        shape < ODD_SHAPE && off < FAR_OFF && (1.0 / SIZE_RATIO..SIZE_RATIO).contains(&fitted.scale())
    }

    /// Returns true if the landmarks (pixels) of one face can change from `before` to `now` in that time, however it
    /// moved.
    pub fn may_become(&self, before: &[Point], now: &[Point], to_picture: &Similarity, elapsed_s: f32) -> bool {
        if before.len() != now.len() || before.is_empty() {
            return true;
        }
        let Some(moved) = Similarity::fit(before, now) else { return false };
        let frames = f64::from(elapsed_s * 30.0).clamp(1.0, 2.0);
        residual(&moved, before, now) <= FAST_CHANGE * frames * self.eyes * to_picture.scale()
    }
}

/// Returns the root mean square distance between `to` and `from` transformed by `fitted`.
fn residual(fitted: &Similarity, from: &[Point], to: &[Point]) -> f64 {
    let squared = |(from, to): (&Point, &Point)| {
        let [x, y] = fitted.apply_point(*from);
        f64::from(x - to[0]).powi(2) + f64::from(y - to[1]).powi(2)
    };
    (from.iter().zip(to).map(squared).sum::<f64>() / from.len().max(1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINTS: [Point; 5] = [[0.4, 0.43], [0.6, 0.43], [0.5, 0.55], [0.42, 0.67], [0.58, 0.67]];

    fn crop(x: f32, y: f32, side: f64) -> Similarity {
        Similarity { a: side, b: 0.0, tx: f64::from(x), ty: f64::from(y) }
    }

    #[test]
    fn keypoints_that_form_no_face_or_lie_far_off_do_not_fit() {
        let (template, to_picture) = (KeypointTemplate::new(&POINTS), crop(0.0, 0.0, 200.0));
        let good = POINTS.map(|p| to_picture.apply_point(p));
        for (change, fits) in [
            (crop(5.0, 5.0, 1.0), true),
            (crop(50.0, 0.0, 1.0), false),
            (crop(-100.0, -100.0, 2.0), false),
            (crop(f32::NAN, 0.0, 1.0), false),
        ] {
            let points = good.map(|p| change.apply_point(p));
            assert_eq!(template.fits(&points, &to_picture), fits, "{change:?}");
        }
        let mut scrambled = good;
        scrambled.swap(0, 4);
        assert!(!template.fits(&scrambled, &to_picture));
    }

    #[test]
    fn a_face_may_move_anywhere_but_not_change_shape_at_once() {
        let (template, to_picture) = (KeypointTemplate::new(&POINTS), crop(0.0, 0.0, 200.0));
        let before = POINTS.map(|p| to_picture.apply_point(p));
        let moved = Similarity { a: 1.1, b: 0.2, tx: 40.0, ty: -7.0 };
        let mut now = before.map(|p| moved.apply_point(p));
        assert!(template.may_become(&before, &now, &to_picture, 0.033));
        // The mouth opens by a tenth of the eye distance.
        now[3][1] += 4.0;
        now[4][1] += 4.0;
        assert!(template.may_become(&before, &now, &to_picture, 0.033));
        now[2][0] += 15.0;
        assert!(!template.may_become(&before, &now, &to_picture, 0.033));
        assert!(template.may_become(&before, &now, &to_picture, 0.1), "in more time it may");
        assert!(template.may_become(&[], &now, &to_picture, 0.033), "there is no earlier shape");
        now[0][0] = f32::NAN;
        assert!(!template.may_become(&before, &now, &to_picture, 0.033));
    }
}
