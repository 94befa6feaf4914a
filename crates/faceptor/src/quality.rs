//! Measures how well a face can be seen: size, turn, roll, light, sharpness, and how much of it the picture shows,
//! which limit the accuracy of its results.
//!
//! The network computes nothing for this: size and turn come from the five keypoints, light and sharpness from the pixels that
//! were sampled for the network, the likeness from features that the tasks need anyway. At the limits the embedded network's
//! errors are about 1.5 times those on good photos: `models/edge/CARD.md` has the errors by size and turn, `docs/behaviour.md` by
//! light, by blur and by what is cut off.

use crate::align::face_window::TEMPLATE;
use crate::align::light::Light;
use crate::geometry::{Point, Similarity};
use crate::visibility::Visibility;

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

/// Sharpness below which a face is blurred. One in 300 development faces is less sharp; a Gaussian blur of a tenth of the
/// distance between the eyes, from which on embeddings of different people become alike, leaves none above it.
const LEAST_SHARPNESS: f32 = 0.30;
/// Probability below which it is not a face: the check of a bundle is fitted for this limit.
const LEAST_LIKENESS: f32 = 0.5;
/// Share of the face's area inside the picture below which it is cut off.
const LEAST_AREA: f32 = 0.85;
/// Share of the landmarks inside the picture below which the face is cut off: four of 68 lie outside.
const LEAST_LANDMARKS: f32 = 0.95;

/// How well a face can be seen.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
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
    /// Fine detail of the face next to coarse detail: about 1 when it is sharp, less when it is blurred or enlarged; `None` where
    /// the network has not run.
    pub sharpness: Option<f32>,
    /// Probability that it is a face at all, 0..=1; `None` where no task has run.
    pub likeness: Option<f32>,
    /// How much of the face lies inside the picture.
    pub visibility: Visibility,
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
        Quality {
            eyes_px,
            turn,
            roll,
            most_roll,
            light,
            sharpness: None,
            likeness: None,
            visibility: Visibility::WHOLE,
        }
    }

    /// Adds how much of the face lies inside a picture of `size` pixels; `landmarks` are empty where they are not known.
    pub(crate) fn in_picture(self, keypoints: &[Point; 5], landmarks: &[Point], size: [usize; 2]) -> Quality {
        let to_picture = Similarity::fit(&TEMPLATE, keypoints);
        // Without distinct keypoints the size is a reason already.
        let visibility =
            to_picture.map_or(Visibility::WHOLE, |to_picture| Visibility::of(&to_picture, landmarks, size));
        Quality { visibility, ..self }
    }

    /// Returns the reasons not to trust the results: `too_small`, `turned`, `rolled`, `cut_off`, `blurred`, `too_dark`,
    /// `too_bright`, `low_contrast`, `unlikely_face`; none for a face that can be seen well. Later versions may have further ones.
    pub fn warnings(&self) -> impl Iterator<Item = &'static str> {
        let light = |is: fn(&Light) -> bool| self.light.as_ref().is_some_and(is);
        let Visibility { area, landmarks } = self.visibility;
        // No range contains NaN, which is a reason too. A small face is enlarged for the network, which blurs it.
        let is_small = !(LEAST_EYES_PX..=f32::MAX).contains(&self.eyes_px);
        let is_dark = light(|light| light.mean < LEAST_BRIGHTNESS);
        let is_bright = light(|light| light.mean > MOST_BRIGHTNESS);
        let is_pale = light(|light| light.spread < LEAST_CONTRAST);
        // What cannot be made out in such light may be a face.
        let likeness = self.likeness.filter(|_| !(is_dark || is_bright || is_pale));
        let warnings = [
            is_small.then_some("too_small"),
            (!(-MOST_TURN..=MOST_TURN).contains(&self.turn)).then_some("turned"),
            (self.roll.abs() > self.most_roll).then_some("rolled"),
            (area < LEAST_AREA || landmarks.is_some_and(|share| share < LEAST_LANDMARKS)).then_some("cut_off"),
            (!is_small && self.sharpness.is_some_and(|sharpness| sharpness < LEAST_SHARPNESS)).then_some("blurred"),
            is_dark.then_some("too_dark"),
            is_bright.then_some("too_bright"),
            is_pale.then_some("low_contrast"),
            likeness.is_some_and(|likeness| !(LEAST_LIKENESS..=1.0).contains(&likeness)).then_some("unlikely_face"),
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

    #[test]
    fn face_without_fine_detail_is_blurred() {
        let whole = Quality::of(&keypoints(192.0), None, ANY_ROLL);
        let seen = |sharpness| warnings(Quality { sharpness, ..whole });
        assert_eq!((seen(None), seen(Some(0.31)), seen(Some(0.29))), (vec![], vec![], vec!["blurred"]));
        assert_eq!(warnings(Quality { eyes_px: 9.0, sharpness: Some(0.1), ..whole }), ["too_small"]);
    }

    #[test]
    fn thing_that_is_no_face_is_an_unlikely_one() {
        let whole = Quality::of(&keypoints(192.0), None, ANY_ROLL);
        let seen = |likeness| warnings(Quality { likeness, ..whole });
        assert_eq!((seen(None), seen(Some(0.6))), (vec![], vec![]));
        assert_eq!((seen(Some(0.4)), seen(Some(f32::NAN))), (vec!["unlikely_face"], vec!["unlikely_face"]));
        let dark = Quality { likeness: Some(0.1), light: Some(Light { mean: 9.0, spread: 20.0 }), ..whole };
        assert_eq!(warnings(dark), ["too_dark"]);
    }

    #[test]
    fn face_that_is_not_in_the_picture_is_cut_off() {
        let whole = Quality::of(&keypoints(192.0), None, ANY_ROLL);
        let seen = |area, landmarks| warnings(Quality { visibility: Visibility { area, landmarks }, ..whole });
        assert_eq!(seen(0.9, Some(0.96)), [""; 0]);
        assert_eq!(seen(0.9, Some(0.94)), ["cut_off"]);
        assert_eq!(seen(0.84, None), ["cut_off"]);
        let cut = |width| warnings(whole.in_picture(&keypoints(192.0), &[], [width, 300]));
        assert_eq!((cut(300), cut(100)), (vec![], vec!["cut_off"]));
        let nowhere = [[5.0; 2]; 5];
        assert_eq!(
            Quality::of(&nowhere, None, ANY_ROLL).in_picture(&nowhere, &[], [9, 9]).visibility,
            Visibility::WHOLE
        );
    }
}
