//! Measures how well a face can be seen: size, turn, roll and light, which limit the accuracy of its results.
//!
//! The network computes nothing for this: size and turn come from the five keypoints, light from the pixels that were
//! sampled for the network. At the limits the embedded network's errors are about 1.5 times those on good photos:
//! `models/edge/CARD.md` has the errors by size and turn, `docs/behaviour.md` by light.

use crate::align::face_window::TEMPLATE;
use crate::align::light::Light;
use crate::geometry::{Point, Similarity};

/// Distance between the eyes in the aligned frame, in sides of the frame.
const EYES: f64 = 40.0 / 192.0;
/// Pixels between the eyes below which landmarks err by 40 % more than on large faces, and age by 10 %.
const LEAST_EYES_PX: f32 = 12.0;
/// Offset of the nose tip, in distances between the eyes, beyond which the development photos have too few faces.
const MOST_TURN: f32 = 0.35;
/// Degrees of roll to which photos are searched: any.
pub(crate) const ANY_ROLL: f32 = 180.0;
/// Degrees of roll to which the finder looks for faces in the live loop. A tracked face may turn further, unconfirmed.
pub(crate) const LIVE_ROLL: f32 = 60.0;
/// Mean grey level, 0..=255, below which a face is too dark.
const LEAST_BRIGHTNESS: f32 = 24.0;
/// Mean grey level above which much of a face is saturated.
const MOST_BRIGHTNESS: f32 = 225.0;
/// Standard deviation of grey levels below which the contrast is low.
const LEAST_CONTRAST: f32 = 7.0;

/// How well a face can be seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// Pixels of the image between the eyes of a frontal face of this size.
    pub eyes_px: f32,
    /// Offset of the nose tip from the midpoint of the eyes along the line through them, in distances between the eyes: 0
    /// is frontal, above 0 the face looks to the right in the image.
    pub turn: f32,
    /// Degrees by which the face is turned clockwise in the image, -180 to 180: 0 is upright.
    pub roll: f32,
    /// Degrees of roll to which faces were looked for.
    pub most_roll: f32,
    /// Light on the face; `None` where the network has not run.
    pub light: Option<Light>,
}

impl Quality {
    /// Measures a face with these keypoints.
    pub(crate) fn of(keypoints: &[Point; 5], light: Option<Light>, most_roll: f32) -> Quality {
        let to_picture = Similarity::fit(&TEMPLATE, keypoints);
        let eyes_px = to_picture.map_or(0.0, |to_picture| (to_picture.scale() * EYES) as f32);
        // Without distinct keypoints the size is a reason already.
        let roll = to_picture.map_or(0.0, |to_picture| to_picture.b.atan2(to_picture.a).to_degrees() as f32);
        let [left, right, nose, ..] = *keypoints;
        let eyes = [right[0] - left[0], right[1] - left[1]];
        let square = eyes[0] * eyes[0] + eyes[1] * eyes[1];
        let off = [nose[0] - (left[0] + right[0]) / 2.0, nose[1] - (left[1] + right[1]) / 2.0];
        // Eyes in one place: the turn is unknown.
        let turn = if square > 0.0 { (off[0] * eyes[0] + off[1] * eyes[1]) / square } else { f32::NAN };
        Quality { eyes_px, turn, roll, most_roll, light }
    }

    /// Returns the reasons not to trust the results: `too_small`, `turned`, `rolled`, `too_dark`, `too_bright`, `low_contrast`; none for
    /// a face that can be seen well.
    pub fn warnings(&self) -> impl Iterator<Item = &'static str> {
        let light = |is: fn(&Light) -> bool| self.light.as_ref().is_some_and(is);
        let warnings = [
            // No range contains NaN, which is a reason too.
            (!(LEAST_EYES_PX..=f32::MAX).contains(&self.eyes_px)).then_some("too_small"),
            (!(-MOST_TURN..=MOST_TURN).contains(&self.turn)).then_some("turned"),
            (self.roll.abs() > self.most_roll).then_some("rolled"),
            light(|light| light.mean < LEAST_BRIGHTNESS).then_some("too_dark"),
            light(|light| light.mean > MOST_BRIGHTNESS).then_some("too_bright"),
            light(|light| light.spread < LEAST_CONTRAST).then_some("low_contrast"),
        ];
        warnings.into_iter().flatten()
    }

    /// Reports whether there is no such reason.
    pub fn is_trusted(&self) -> bool {
        self.warnings().next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keypoints(side: f32) -> [Point; 5] {
        TEMPLATE.map(|[x, y]| [x * side + 7.0, y * side + 9.0])
    }

    fn warnings(quality: Quality) -> Vec<&'static str> {
        quality.warnings().collect()
    }

    #[test]
    fn frontal_face_is_measured_between_its_eyes() {
        let quality = Quality::of(&keypoints(192.0), Some(Light { mean: 120.0, spread: 40.0 }), ANY_ROLL);
        assert!((quality.eyes_px - 40.0).abs() < 0.01 && quality.turn.abs() < 0.01, "{quality:?}");
        assert!(quality.is_trusted());
        assert_eq!(warnings(Quality::of(&keypoints(57.0), None, ANY_ROLL)), ["too_small"]);
        assert!(Quality::of(&keypoints(58.0), None, ANY_ROLL).is_trusted());
    }

    #[test]
    fn turned_face_keeps_its_size_and_is_not_trusted() {
        let mut turned = keypoints(192.0);
        // Along the line of the eyes, however that lies.
        turned[2][0] += 0.3 * 40.0;
        assert!(
            (Quality::of(&turned, None, ANY_ROLL).turn - 0.3).abs() < 0.01
                && Quality::of(&turned, None, ANY_ROLL).is_trusted()
        );
        turned[2][0] += 0.1 * 40.0;
        assert_eq!(warnings(Quality::of(&turned, None, ANY_ROLL)), ["turned"]);
        let upright = turned.map(|[x, y]| [-y, x]);
        let (a, b) = (Quality::of(&turned, None, ANY_ROLL), Quality::of(&upright, None, ANY_ROLL));
        assert!((a.turn - b.turn).abs() < 1e-4 && (a.eyes_px - b.eyes_px).abs() < 1e-3, "{a:?} {b:?}");
        let profile = [[5.0, 5.0]; 5];
        assert_eq!(warnings(Quality::of(&profile, None, ANY_ROLL)), ["too_small", "turned"]);
        assert_eq!(warnings(Quality::of(&[[f32::NAN; 2]; 5], None, ANY_ROLL)), ["too_small", "turned"]);
    }

    #[test]
    fn roll_is_measured_all_the_way_round_and_doubted_beyond_the_limit() {
        for degrees in [0.0f32, 59.0, -59.0, 61.0, -90.0, 179.0] {
            let (sin, cos) = degrees.to_radians().sin_cos();
            let rolled = keypoints(192.0).map(|[x, y]| [cos * x - sin * y, sin * x + cos * y]);
            let live = Quality::of(&rolled, None, LIVE_ROLL);
            assert!((live.roll - degrees).abs() < 0.01 && live.turn.abs() < 0.01, "{live:?}");
            assert_eq!(warnings(live).contains(&"rolled"), degrees.abs() > 60.0, "{live:?}");
            assert!(Quality::of(&rolled, None, ANY_ROLL).is_trusted(), "{degrees}");
        }
    }

    #[test]
    fn light_is_the_mean_and_spread_of_luma() {
        let light = Light::of([10.0, 20.0, 30.0, 20.0].into_iter()).expect("four");
        assert!((light.mean - 20.0).abs() < 1e-4 && (light.spread - 50.0f32.sqrt()).abs() < 1e-3, "{light:?}");
        assert_eq!(Light::of([].into_iter()), None);
        let seen = |mean, spread| warnings(Quality::of(&keypoints(192.0), Some(Light { mean, spread }), ANY_ROLL));
        assert_eq!(seen(8.0, 3.0), ["too_dark", "low_contrast"]);
        assert_eq!(seen(250.0, 9.0), ["too_bright"]);
    }
}
