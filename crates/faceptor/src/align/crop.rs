//! Samples a face from a picture into the network's input, through the alignment and the foveal warp.
//!
//! A network pixel covers many picture pixels when the face is large, and more at the rim than in the centre. Each one
//! is therefore the mean of a few bilinear samples, one along each axis for every two pixels that it covers; pictures
//! with very large faces are halved first. (Twice as many samples change no measure on the dev crops.) Outside the
//! picture its nearest pixel is repeated.

use crate::align::warp::Warp;
use crate::geometry::Similarity;
use crate::image::bilinear::bilinear;
use crate::image::downscaled::{MAX_HALVINGS, Region};
use crate::image::normalization::Normalization;
use crate::image::picture::{Picture, Pixels, Pyramid};

/// Maximum number of samples of a network pixel along one axis.
const MAX_SAMPLES: usize = 4;
/// Picture pixels for a network pixel in the centre of the crop, above which a halved picture is sampled.
const MAX_STEP: f64 = 2.0;

/// Luma weights of red, green and blue (ITU-R BT.601).
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// The samples of one network column or row: frame coordinates `first..first + count` of `Crop::along`.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: usize,
    count: usize,
}

/// Samples one network input of `size` x `size` pixels; reuses its buffers for every face.
#[derive(Clone, Debug)]
pub struct Crop {
    size: usize,
    warp: Warp,
    normalization: Normalization,
    /// Mean and standard deviation of a single luma plane, in place of three colour planes.
    grey: Option<[f32; 2]>,
    /// Fills with black outside the picture, in place of its nearest pixel.
    black: bool,
    /// Maximum number of samples of a network pixel along one axis.
    most: usize,
    along: Vec<f64>,
    spans: Vec<Span>,
    /// The contributions of a sample's column and row to the picture coordinates x, y.
    across: Vec<[f32; 2]>,
    down: Vec<[f32; 2]>,
}

impl Crop {
    /// Creates a sampler for a square input of `size` pixels, at least 1.
    pub fn new(size: usize, warp: Warp, normalization: Normalization) -> Crop {
        let samples = size * MAX_SAMPLES;
        Crop {
            size,
            warp,
            normalization,
            grey: None,
            black: false,
            most: MAX_SAMPLES,
            along: Vec::with_capacity(samples),
            spans: Vec::with_capacity(size),
            across: Vec::with_capacity(samples),
            down: Vec::with_capacity(samples),
        }
    }

    /// Samples one plane of luma, normalized by a mean and a standard deviation, in place of three colour planes.
    pub fn grey(mut self, mean: f32, std: f32) -> Crop {
        self.grey = Some([mean, std]);
        self
    }

    /// Takes a single sample for each network pixel, for networks that were trained on such crops.
    pub fn sampled_once(mut self) -> Crop {
        self.most = 1;
        self
    }

    /// Fills with black outside the picture, where otherwise its nearest pixel is repeated.
    pub fn black_beyond(mut self) -> Crop {
        self.black = true;
        self
    }

    /// Fills `input` (three planes of `size * size` values) with the face at `to_picture` (frame to picture), from the
    /// level of the pyramid that has about the right resolution.
    pub fn fill_from_photo(&mut self, photo: &Pyramid, to_picture: &Similarity, input: &mut [f32]) {
        let (picture, level) = photo.level(self.halvings(to_picture) as usize);
        let shrink = 1.0 / (1u64 << level) as f64;
        let smaller = Similarity { a: shrink, b: 0.0, tx: 0.5 * shrink - 0.5, ty: 0.5 * shrink - 0.5 };
        self.fill(picture, &to_picture.then(&smaller), input);
    }

    /// Returns how often a picture should be halved before a face is sampled from it.
    pub fn halvings(&self, to_picture: &Similarity) -> u32 {
        let step = to_picture.scale() * self.warp.stretch(0.5) / self.size as f64;
        (step / MAX_STEP).log2().ceil().max(0.0) as u32
    }

    /// Returns the largest side, in pixels, of an upright frame that needs no halving.
    pub fn largest_side(&self) -> usize {
        (MAX_STEP * self.size as f64 / self.warp.stretch(0.5)).ceil() as usize
    }

    /// Returns the region of the picture that the samples of a face touch.
    pub fn region(&self, to_picture: &Similarity) -> Region {
        let (first, last) = (self.warp.to_frame(0.0), self.warp.to_frame(1.0));
        let corners = [(first, first), (last, first), (first, last), (last, last)].map(|(x, y)| to_picture.apply(x, y));
        let least = |axis: fn(&(f64, f64)) -> f64| corners.iter().map(axis).fold(f64::INFINITY, f64::min);
        let most = |axis: fn(&(f64, f64)) -> f64| corners.iter().map(axis).fold(f64::NEG_INFINITY, f64::max);
        let margin = f64::from(1u32 << MAX_HALVINGS);
        Region {
            left: least(|c| c.0) - margin,
            top: least(|c| c.1) - margin,
            right: most(|c| c.0) + margin,
            bottom: most(|c| c.1) + margin,
        }
    }

    /// Fills `input` (see [`Crop::fill_from_photo`]) from a source of pixels at its own resolution.
    pub fn fill(&mut self, picture: &impl Pixels, to_picture: &Similarity, input: &mut [f32]) {
        self.place_samples(to_picture.scale());
        let Similarity { a, b, tx, ty } = *to_picture;
        self.across.clear();
        self.across.extend(self.along.iter().map(|f| [(a * f + tx) as f32, (b * f + ty) as f32]));
        self.down.clear();
        self.down.extend(self.along.iter().map(|f| [(-b * f) as f32, (a * f) as f32]));
        let plane = self.size * self.size;
        for (y, row) in self.spans.iter().enumerate() {
            for (x, column) in self.spans.iter().enumerate() {
                let mut sum = [0u32; 3];
                for down in &self.down[row.first..row.first + row.count] {
                    for across in &self.across[column.first..column.first + column.count] {
                        let (x, y) = (across[0] + down[0], across[1] + down[1]);
                        let sample = match self.black {
                            true => bilinear_on_black(picture, x, y),
                            false => bilinear(picture, |x, y| picture.stored(x, y), x, y),
                        };
                        sum.iter_mut().zip(sample).for_each(|(sum, value)| *sum += value);
                    }
                }
                let share = 1.0 / (row.count * column.count * 65536) as f32;
                let mean = sum.map(|value| value as f32 * share);
                let rgb = if self.black { mean } else { picture.mean_rgb(mean) };
                if let Some([mean, std]) = self.grey {
                    let luma = rgb.iter().zip(LUMA).map(|(value, weight)| value * weight).sum::<f32>();
                    input[y * self.size + x] = (luma - mean) / std;
                    continue;
                }
                for (channel, value) in rgb.into_iter().enumerate() {
                    let (to, value) = self.normalization.apply(channel, value);
                    input[to * plane + y * self.size + x] = value;
                }
            }
        }
    }

    /// Computes the frame coordinates of every sample along one axis (both axes are alike), for a frame of `side`
    /// picture pixels.
    fn place_samples(&mut self, side: f64) {
        self.along.clear();
        self.spans.clear();
        let size = self.size as f64;
        for index in 0..self.size {
            let middle = (index as f64 + 0.5) / size;
            let covered = side * self.warp.stretch(middle) / size;
            let count = ((covered / 2.0).ceil() as usize).clamp(1, self.most);
            self.spans.push(Span { first: self.along.len(), count });
            for sample in 0..count {
                let within = (sample as f64 + 0.5) / count as f64;
                self.along.push(self.warp.to_frame((index as f64 + within) / size));
            }
        }
    }
}

/// Samples the aligned frame of a face, which lies at `to_picture`, into a picture of `side` x `side` pixels.
pub fn aligned_crop(picture: &Picture, to_picture: &Similarity, side: usize) -> Option<Picture> {
    let mut crop = Crop::new(side, Warp::NONE, Normalization { mean: [0.0; 3], std: [1.0; 3], bgr: false });
    let (plane, mut values) = (side * side, vec![0.0; 3 * side * side]);
    crop.fill_from_photo(&Pyramid::new(picture), to_picture, &mut values);
    let pixel = |at: usize| [0, 1, 2].map(|channel| values[channel * plane + at].round() as u8);
    Picture::from_rgb(side, side, (0..plane).flat_map(pixel).collect())
}

/// Interpolates RGB on a black surround; the edge fades out over one pixel.
fn bilinear_on_black(picture: &impl Pixels, x: f32, y: f32) -> [u32; 3] {
    let (width, height) = (picture.width() as f32, picture.height() as f32);
    if !(x > -1.0 && y > -1.0 && x < width && y < height) {
        return [0; 3];
    }
    let inside = |v: f32, last: f32| if v < 0.0 { 1.0 + v } else { (last - v).clamp(0.0, 1.0) };
    let share = (inside(x, width) * inside(y, height) * 256.0) as u32;
    bilinear(picture, |x, y| picture.rgb(x, y), x, y).map(|value| (value >> 8) * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_crop_shows_the_frame_upright() {
        let picture = ramp(200, 160, 1);
        // The frame of 64 pixels begins at (30, 20).
        let to_picture = Similarity { a: 64.0, b: 0.0, tx: 29.5, ty: 19.5 };
        let crop = aligned_crop(&picture, &to_picture, 32).expect("a picture");
        assert_eq!((crop.width(), crop.height()), (32, 32));
        for (x, y) in [(0usize, 0usize), (31, 0), (0, 31), (16, 16)] {
            let [red, green, blue] = crop.rgb(x, y).map(f32::from);
            assert!((red - (30.5 + 2.0 * x as f32)).abs() <= 1.0, "{x} {y}: {red}");
            assert!((green - (20.5 + 2.0 * y as f32)).abs() <= 1.0 && blue == 50.0, "{x} {y}: {green}");
        }
    }

    const PLAIN: Normalization = Normalization { mean: [0.0; 3], std: [1.0; 3], bgr: false };

    /// Returns a picture whose red is the column and whose green is the row.
    fn ramp(width: usize, height: usize, unit: usize) -> Picture {
        let bytes =
            (0..height * width).flat_map(|i| [(i % width / unit) as u8, (i / width / unit) as u8, 50]).collect();
        Picture::from_rgb(width, height, bytes).expect("three bytes a pixel")
    }

    #[test]
    fn each_network_pixel_sees_the_point_the_training_code_says() {
        let warp = Warp::new(0.5).expect("allowed");
        let mut crop = Crop::new(96, warp, PLAIN);
        let mut input = vec![0.0; 3 * 96 * 96];
        let to_picture = Similarity { a: 90.0, b: 20.0, tx: 60.0, ty: 40.0 };
        crop.fill(&ramp(256, 256, 1), &to_picture, &mut input);
        for (x, y) in [(0, 0), (95, 3), (48, 48), (20, 77)] {
            // geometry.py: f = (warp((2 i + 1) / n - 1) + 1) / 2, pixel index = to_picture(f).
            let u = |i: usize| (2 * i + 1) as f64 / 96.0 - 1.0;
            let f = |i: usize| (0.5 * u(i) + 0.5 * u(i).powi(3) + 1.0) / 2.0;
            let (px, py) = to_picture.apply(f(x), f(y));
            let seen = (input[y * 96 + x], input[9216 + y * 96 + x]);
            assert!((f64::from(seen.0) - px).abs() < 0.05, "{seen:?} {px} {py}");
            assert!((f64::from(seen.1) - py).abs() < 0.05, "{seen:?} {px} {py}");
        }
    }

    #[test]
    fn a_large_face_is_averaged_at_the_same_place() {
        let picture = ramp(2000, 2000, 8);
        let pyramid = Pyramid::new(&picture);
        let warp = Warp::new(0.5).expect("allowed");
        let mut input = vec![0.0; 3 * 96 * 96];
        let to_picture = Similarity { a: 1500.0, b: 300.0, tx: 350.0, ty: 60.0 };
        Crop::new(96, warp, PLAIN).fill_from_photo(&pyramid, &to_picture, &mut input);
        for (x, y) in [(2, 2), (48, 48), (90, 30)] {
            let f = |i: usize| warp.to_frame((i as f64 + 0.5) / 96.0);
            let (px, py) = to_picture.apply(f(x), f(y));
            // The ramp rises by one in eight pixels, and its steps are centred at 3.5.
            let expected = ((px - 3.5) / 8.0, (py - 3.5) / 8.0);
            let seen = (f64::from(input[y * 96 + x]), f64::from(input[9216 + y * 96 + x]));
            assert!((seen.0 - expected.0).abs() < 0.3 && (seen.1 - expected.1).abs() < 0.3, "{seen:?} {expected:?}");
        }
    }

    #[test]
    fn a_fine_pattern_in_a_large_face_does_not_alias() {
        let bytes = (0..1024 * 1024).flat_map(|i| [if (i + i / 1024) % 2 == 0 { 255u8 } else { 0 }; 3]).collect();
        let picture = Picture::from_rgb(1024, 1024, bytes).expect("three bytes a pixel");
        let mut input = vec![0.0; 3 * 96 * 96];
        let to_picture = Similarity { a: 1000.0, b: 0.0, tx: 12.0, ty: 12.0 };
        let warp = Warp::new(0.5).expect("allowed");
        Crop::new(96, warp, PLAIN).fill_from_photo(&Pyramid::new(&picture), &to_picture, &mut input);
        let worst = input.iter().map(|v| (v - 127.5).abs()).fold(0.0, f32::max);
        assert!(worst < 20.0, "{worst}");
    }

    #[test]
    fn a_network_that_was_trained_on_single_samples_gets_them() {
        let picture = ramp(256, 256, 1);
        let stripes = (0..256 * 256).flat_map(|i| [if i % 2 == 0 { 255u8 } else { 0 }; 3]).collect();
        let stripes = Picture::from_rgb(256, 256, stripes).expect("three bytes a pixel");
        let to_picture = Similarity { a: 192.0, b: 0.0, tx: 0.5, ty: 0.5 };
        let crop = || Crop::new(16, Warp::NONE, PLAIN).sampled_once();
        let mut input = vec![0.0; 3 * 256];
        crop().fill(&picture, &to_picture, &mut input);
        // Pixel 3 of 16 lies at (3 + 0.5) * 12 + 0.5.
        assert_eq!((input[3], input[256 + 3 * 16]), (42.5, 42.5));
        crop().fill(&stripes, &Similarity { tx: 0.0, ..to_picture }, &mut input);
        assert!(input[..16].iter().all(|v| *v == 255.0 || *v == 0.0), "{:?}", &input[..16]);
    }

    #[test]
    fn outside_the_picture_its_edge_goes_on() {
        let mut input = vec![0.0; 3 * 16];
        let to_picture = Similarity { a: 400.0, b: 0.0, tx: -200.0, ty: -200.0 };
        let warp = Warp::new(1.0).expect("allowed");
        Crop::new(4, warp, PLAIN).fill(&ramp(10, 10, 1), &to_picture, &mut input);
        assert_eq!((input[0], input[3], input[12 + 16]), (0.0, 9.0, 9.0));
    }

    #[test]
    fn beyond_the_picture_it_may_be_black_and_grey_is_luma() {
        let mut input = vec![9.0; 16];
        let to_picture = Similarity { a: 8.0, b: 0.0, tx: -4.5, ty: -4.5 };
        let picture = Picture::filled(10, 10, [100, 200, 50]);
        let warp = Warp::new(1.0).expect("allowed");
        Crop::new(4, warp, PLAIN).grey(100.0, 2.0).black_beyond().fill(&picture, &to_picture, &mut input);
        // Columns at x = -3.5, -1.5, 0.5 and 2.5.
        let luma = (29.9 + 117.4 + 5.7 - 100.0) / 2.0;
        assert_eq!(input[..4], [-50.0; 4]);
        assert_eq!(input[8..10], [-50.0; 2]);
        assert!(input[10..12].iter().all(|v| (v - luma).abs() < 0.5), "{input:?}");
        // Half a pixel outside the edge, half of its value is left.
        let to_picture = Similarity { a: 4.0, b: 0.0, tx: -1.0, ty: 3.0 };
        Crop::new(4, warp, PLAIN).grey(0.0, 1.0).black_beyond().fill(&picture, &to_picture, &mut input);
        assert!((input[0] - 153.0 / 2.0).abs() < 1.5, "{input:?}");
    }
}
