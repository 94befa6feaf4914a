//! Places the detector's input on a photo: anywhere, at any scale and roll.
//!
//! Means of two pixels along each side are enough: a pyramid holds the photo at every second scale, and the network was
//! trained on inputs that were made in this way (`models/faceptor_models/finder/data.py`).

use crate::detect::detection::Detection;
use crate::geometry::{Point, Similarity};
use crate::image::bilinear::bilinear;
use crate::image::normalization::Normalization;
use crate::image::picture::{Pixels, Pyramid};

/// A halved copy of the photo is sampled where its pixels are at most this much larger than the input's, as a power of 2.
const LEVEL_BIAS: f64 = 0.35;

/// Most pixels of a camera's frame along each side for a pixel of the input.
const MAX_SAMPLES: usize = 3;

/// The place of an input of `width` x `height` pixels in a photo.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placement {
    /// Maps pixels of the input to pixels of the photo; pixel centres are whole numbers in both.
    to_picture: Similarity,
    width: usize,
    height: usize,
}

impl Placement {
    /// Places the middle of an input at a point of the photo. `step`: photo pixels for each pixel of the input; `roll`:
    /// degrees by which faces that are upright in the input are turned clockwise in the photo.
    pub fn around(middle: [f64; 2], step: f64, roll: f32, [width, height]: [usize; 2]) -> Placement {
        let (sin, cos) = f64::from(roll).to_radians().sin_cos();
        let turned = Similarity { a: step * cos, b: step * sin, tx: 0.0, ty: 0.0 };
        let (x, y) = turned.apply((width as f64 - 1.0) / 2.0, (height as f64 - 1.0) / 2.0);
        let to_picture = Similarity { tx: middle[0] - x, ty: middle[1] - y, ..turned };
        Placement { to_picture, width, height }
    }

    /// Places an input so that it shows a whole photo, turned by `roll` degrees.
    pub fn whole(photo: [usize; 2], roll: f32, [width, height]: [usize; 2]) -> Placement {
        let (sin, cos) = f64::from(roll).to_radians().sin_cos();
        let [across, down] = photo.map(|side| side as f64);
        let step_across = (across * cos.abs() + down * sin.abs()) / width as f64;
        let step_down = (across * sin.abs() + down * cos.abs()) / height as f64;
        let middle = [(across - 1.0) / 2.0, (down - 1.0) / 2.0];
        Placement::around(middle, step_across.max(step_down), roll, [width, height])
    }

    /// Places an input on the middle of a picture at the scale at which the whole upright picture fits.
    pub fn middle(picture: [usize; 2], roll: f32, size: [usize; 2]) -> Placement {
        let step = Placement::whole(picture, 0.0, size).step();
        Placement::around(picture.map(|side| (side as f64 - 1.0) / 2.0), step, roll, size)
    }

    /// Returns photo pixels for each pixel of the input.
    pub fn step(&self) -> f64 {
        self.to_picture.scale()
    }

    /// Fills `input` (three planes) from the photo; beyond its edge lies zero, the mean colour.
    pub fn fill(&self, photo: &Pyramid, normalization: &Normalization, input: &mut [f32]) {
        let level = (self.step().log2() + LEVEL_BIAS).floor().max(0.0);
        let (picture, level) = photo.level(level as usize);
        let shrink = 1.0 / (1u64 << level) as f64;
        let smaller = Similarity { a: shrink, b: 0.0, tx: 0.5 * shrink - 0.5, ty: 0.5 * shrink - 0.5 };
        let place = self.to_picture.then(&smaller);
        let (right, bottom) = (picture.width() as f64 - 0.5, picture.height() as f64 - 0.5);
        let plane = self.width * self.height;
        for y in 0..self.height {
            let (first_x, first_y) = place.apply(0.0, y as f64);
            for x in 0..self.width {
                let at = y * self.width + x;
                let (x, y) = (first_x + place.a * x as f64, first_y + place.b * x as f64);
                if !((-0.5..=right).contains(&x) && (-0.5..=bottom).contains(&y)) {
                    (0..3).for_each(|channel| input[channel * plane + at] = 0.0);
                    continue;
                }
                let rgb = bilinear(picture, |x, y| picture.stored(x, y), x as f32, y as f32);
                for (channel, value) in rgb.into_iter().enumerate() {
                    let (to, value) = normalization.apply(channel, value as f32 / 65536.0);
                    input[to * plane + at] = value;
                }
            }
        }
    }

    /// Fills `input` from a camera's frame at its own resolution, with the mean of a few pixels for each pixel of the input.
    pub fn fill_sparse(&self, frame: &impl Pixels, normalization: &Normalization, input: &mut [f32]) {
        let count = ((self.step() * 0.75).round() as usize).clamp(1, MAX_SAMPLES);
        let share = 1.0 / (count * count) as f32;
        let offset = |sample: usize| (sample as f64 + 0.5) / count as f64 - 0.5;
        let (last_x, last_y) = (frame.width() as f64 - 1.0, frame.height() as f64 - 1.0);
        let plane = self.width * self.height;
        for at in 0..plane {
            let (column, row) = ((at % self.width) as f64, (at / self.width) as f64);
            let (x, y) = self.to_picture.apply(column, row);
            if !((-0.5..=last_x + 0.5).contains(&x) && (-0.5..=last_y + 0.5).contains(&y)) {
                (0..3).for_each(|channel| input[channel * plane + at] = 0.0);
                continue;
            }
            let mut sum = [0u32; 3];
            for index in 0..count * count {
                let (x, y) = self.to_picture.apply(column + offset(index % count), row + offset(index / count));
                let stored = frame.stored(x.round().clamp(0.0, last_x) as usize, y.round().clamp(0.0, last_y) as usize);
                sum.iter_mut().zip(stored).for_each(|(sum, value)| *sum += u32::from(value));
            }
            let rgb = frame.mean_rgb(sum.map(|value| value as f32 * share));
            for (channel, value) in rgb.into_iter().enumerate() {
                let (to, value) = normalization.apply(channel, value);
                input[to * plane + at] = value;
            }
        }
    }

    /// Maps a detection in the input to the photo. The box of a turned face is that of the ellipse in its box.
    pub fn to_picture(self, found: &Detection) -> Detection {
        let [left, top, right, bottom] = found.edges;
        let [x, y] = self.to_picture.apply_point([(left + right) / 2.0, (top + bottom) / 2.0]);
        let (half_width, half_height) = (f64::from(right - left) / 2.0, f64::from(bottom - top) / 2.0);
        let Similarity { a, b, .. } = self.to_picture;
        let half_x = (a * half_width).hypot(b * half_height) as f32;
        let half_y = (b * half_width).hypot(a * half_height) as f32;
        Detection {
            score: found.score,
            edges: [x - half_x, y - half_y, x + half_x, y + half_y],
            keypoints: found.keypoints.map(|point: Point| self.to_picture.apply_point(point)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::picture::Picture;

    const PLAIN: Normalization = Normalization { mean: [0.0; 3], std: [1.0; 3], bgr: false };

    fn filled(picture: &Picture, placement: &Placement) -> Vec<f32> {
        let mut input = vec![9.0; 3 * placement.width * placement.height];
        placement.fill(&Pyramid::new(picture), &PLAIN, &mut input);
        input
    }

    #[test]
    fn every_pixel_of_the_input_shows_its_place_at_every_roll() {
        let picture = Picture::ramp(200, 160);
        for roll in [0.0f32, 45.0, 90.0, -120.0, 180.0] {
            for step in [0.5, 1.0, 2.5] {
                let placement = Placement::around([100.0, 80.0], step, roll, [20, 16]);
                let input = filled(&picture, &placement);
                for (x, y) in [(0, 0), (19, 0), (7, 9), (0, 15)] {
                    let (px, py) = placement.to_picture.apply(x as f64, y as f64);
                    let seen = [input[y * 20 + x], input[320 + y * 20 + x]].map(f64::from);
                    // Halved copies are rounded.
                    assert!(
                        (seen[0] - px).abs() < 1.1 && (seen[1] - py).abs() < 1.1,
                        "{roll} {step}: {seen:?} {px} {py}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_whole_photo_fits_at_every_roll_and_the_rest_is_zero() {
        let picture = Picture::ramp(120, 60);
        for roll in [0.0f32, 30.0, 90.0, 135.0, 180.0, -90.0] {
            let placement = Placement::whole([120, 60], roll, [40, 40]);
            let to_input = placement.to_picture.inverse();
            for corner in [[0.0, 0.0], [119.0, 0.0], [0.0, 59.0], [119.0, 59.0]] {
                let [x, y] = to_input.apply_point(corner);
                assert!((-0.5..39.6).contains(&x) && (-0.5..39.6).contains(&y), "{roll}: {corner:?} at {x} {y}");
            }
        }
        let input = filled(&picture, &Placement::whole([120, 60], 90.0, [40, 40]));
        // The photo is 20 columns wide in the input, in its middle.
        assert_eq!((input[3200 + 20 * 40 + 5], input[3200 + 20 * 40 + 35]), (0.0, 0.0));
        assert_eq!(input[3200 + 20 * 40 + 20], 200.0);
    }

    #[test]
    fn a_frame_is_sampled_at_the_same_place() {
        let picture = Picture::ramp(240, 180);
        for roll in [0.0f32, 45.0, -60.0] {
            let placement = Placement::middle([240, 180], roll, [40, 30]);
            assert!((placement.step() - 6.0).abs() < 1e-9, "{}", placement.step());
            let mut input = vec![9.0; 3 * 1200];
            placement.fill_sparse(&picture, &PLAIN, &mut input);
            for (x, y) in [(20, 15), (12, 18), (25, 11)] {
                let (px, py) = placement.to_picture.apply(x as f64, y as f64);
                let seen = [input[y * 40 + x], input[1200 + y * 40 + x]].map(f64::from);
                assert!((seen[0] - px).abs() < 0.6 && (seen[1] - py).abs() < 0.6, "{roll}: {seen:?} {px} {py}");
            }
        }
        let mut input = vec![9.0; 3 * 1200];
        Placement::middle([240, 180], 90.0, [40, 30]).fill_sparse(&picture, &PLAIN, &mut input);
        assert_eq!(
            (input[0], input[39], input[2400 + 15 * 40 + 20]),
            (0.0, 0.0, 200.0),
            "beyond the frame, and inside"
        );
    }

    #[test]
    fn detections_come_back_where_the_face_is() {
        let edges = [5.0, 6.0, 15.0, 26.0];
        let found = Detection { score: 0.9, edges, keypoints: [[8.0, 12.0]; 5] };
        let upright = Placement::whole([400, 400], 0.0, [40, 40]).to_picture(&found);
        assert_eq!(upright.xywh(), [54.5, 64.5, 100.0, 200.0]);
        let placement = Placement::whole([400, 400], 90.0, [40, 40]);
        let turned = placement.to_picture(&found);
        let [x, y, width, height] = turned.xywh();
        assert!((width - 200.0).abs() < 1e-3 && (height - 100.0).abs() < 1e-3, "{turned:?}");
        let middle = placement.to_picture.apply_point([10.0, 16.0]);
        assert!((x + 100.0 - middle[0]).abs() < 1e-3 && (y + 50.0 - middle[1]).abs() < 1e-3);
        assert_eq!(turned.keypoints[3], placement.to_picture.apply_point([8.0, 12.0]));
    }
}
