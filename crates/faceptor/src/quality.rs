//! How far the answers about a face can be trusted: whether it is too small, too dark or turned too far for them.
//!
//! Nothing is computed by the network for it: the size and the turn come from the five keypoints, the light from the
//! numbers that were sampled for the network anyway. The limits are about where the shipped network errs half again as
//! much as on good photos: `models/edge/CARD.md` has the errors by size and by turn, `docs/behaviour.md` by light.

use crate::align::face_window::TEMPLATE;
use crate::align::light::Light;
use crate::geometry::{Point, Similarity};

/// Distance between the eyes in the aligned frame, a share of its side (contract).
const EYES: f64 = 40.0 / 192.0;
/// Fewer pixels than this between the eyes: landmarks err by two fifths more than on large faces, and age by a tenth.
pub const LEAST_EYES_PX: f32 = 12.0;
/// A nose tip further from the middle of the eyes, in distances between them, than the dev photos can tell of.
pub const MOST_TURN: f32 = 0.35;
/// A face darker than this, grey levels of 0..=255.
pub const LEAST_BRIGHTNESS: f32 = 24.0;
/// A face brighter than this: much of it is white.
pub const MOST_BRIGHTNESS: f32 = 225.0;
/// A face whose grey levels spread less.
pub const LEAST_CONTRAST: f32 = 7.0;

/// What an answer's worth depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// Pixels of the picture between the eyes, as those of a face of this size that looks straight ahead.
    pub eyes_px: f32,
    /// How far the nose tip lies from the middle of the eyes along the line through them, in distances between them:
    /// 0 looks straight ahead, above 0 to the right in the picture.
    pub turn: f32,
    /// `None` where the network has not looked.
    pub light: Option<Light>,
}

impl Quality {
    /// Of a face with these keypoints.
    pub fn of(keypoints: &[Point; 5], light: Option<Light>) -> Quality {
        let eyes_px =
            Similarity::fit(&TEMPLATE, keypoints).map_or(0.0, |to_picture| (to_picture.scale() * EYES) as f32);
        let [left, right, nose, ..] = *keypoints;
        let eyes = [right[0] - left[0], right[1] - left[1]];
        let square = eyes[0] * eyes[0] + eyes[1] * eyes[1];
        let off = [nose[0] - (left[0] + right[0]) / 2.0, nose[1] - (left[1] + right[1]) / 2.0];
        // Eyes in one place: turned so far that there is no telling.
        let turn = if square > 0.0 { (off[0] * eyes[0] + off[1] * eyes[1]) / square } else { f32::NAN };
        Quality { eyes_px, turn, light }
    }

    /// Why not to trust what is said of the face; nothing for a face that can be seen well.
    pub fn doubts(&self) -> impl Iterator<Item = &'static str> {
        let light = |is: fn(&Light) -> bool| self.light.as_ref().is_some_and(is);
        let doubts = [
            // Ranges do not hold what is no number, so that is doubtful, too.
            (!(LEAST_EYES_PX..=f32::MAX).contains(&self.eyes_px)).then_some("too_small"),
            (!(-MOST_TURN..=MOST_TURN).contains(&self.turn)).then_some("turned"),
            light(|light| light.mean < LEAST_BRIGHTNESS).then_some("too_dark"),
            light(|light| light.mean > MOST_BRIGHTNESS).then_some("too_bright"),
            light(|light| light.spread < LEAST_CONTRAST).then_some("low_contrast"),
        ];
        doubts.into_iter().flatten()
    }

    /// Whether there is no doubt.
    pub fn is_trusted(&self) -> bool {
        self.doubts().next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keypoints(side: f32) -> [Point; 5] {
        TEMPLATE.map(|[x, y]| [x * side + 7.0, y * side + 9.0])
    }

    fn doubts(quality: Quality) -> Vec<&'static str> {
        quality.doubts().collect()
    }

    #[test]
    fn a_face_that_looks_ahead_is_measured_between_its_eyes() {
        let quality = Quality::of(&keypoints(192.0), Some(Light { mean: 120.0, spread: 40.0 }));
        assert!((quality.eyes_px - 40.0).abs() < 0.01 && quality.turn.abs() < 0.01, "{quality:?}");
        assert!(quality.is_trusted());
        assert_eq!(doubts(Quality::of(&keypoints(57.0), None)), ["too_small"]);
        assert!(Quality::of(&keypoints(58.0), None).is_trusted());
    }

    #[test]
    fn a_turned_face_keeps_its_size_and_loses_trust() {
        let mut turned = keypoints(192.0);
        // Along the line of the eyes, however that lies.
        turned[2][0] += 0.3 * 40.0;
        assert!((Quality::of(&turned, None).turn - 0.3).abs() < 0.01 && Quality::of(&turned, None).is_trusted());
        turned[2][0] += 0.1 * 40.0;
        assert_eq!(doubts(Quality::of(&turned, None)), ["turned"]);
        let upright = turned.map(|[x, y]| [-y, x]);
        let (a, b) = (Quality::of(&turned, None), Quality::of(&upright, None));
        assert!((a.turn - b.turn).abs() < 1e-4 && (a.eyes_px - b.eyes_px).abs() < 1e-3, "{a:?} {b:?}");
        let profile = [[5.0, 5.0]; 5];
        assert_eq!(doubts(Quality::of(&profile, None)), ["too_small", "turned"]);
        assert_eq!(doubts(Quality::of(&[[f32::NAN; 2]; 5], None)), ["too_small", "turned"]);
    }

    #[test]
    fn light_is_the_mean_and_spread_of_luma() {
        let light = Light::of([10.0, 20.0, 30.0, 20.0].into_iter()).expect("four");
        assert!((light.mean - 20.0).abs() < 1e-4 && (light.spread - 50.0f32.sqrt()).abs() < 1e-3, "{light:?}");
        assert_eq!(Light::of([].into_iter()), None);
        let seen = |mean, spread| doubts(Quality::of(&keypoints(192.0), Some(Light { mean, spread })));
        assert_eq!(seen(8.0, 3.0), ["too_dark", "low_contrast"]);
        assert_eq!(seen(250.0, 9.0), ["too_bright"]);
    }
}
