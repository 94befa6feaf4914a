//! Scales a picture into the detector's input: each small pixel is the mean of the area it covers.
//!
//! Without averaging, a face of 20 px would fall between the samples. The picture goes to the top-left corner; the
//! rest is filled with zero, the manifest's mean colour.
//!
//! In the live loop a mean takes at least [`ENOUGH`] evenly spread pixels along each side: a frame of 1080p or 4k
//! costs hardly more than one of VGA.

use crate::image::normalization::Normalization;
use crate::image::picture::Pixels;

/// Pixels along each side that make a good mean.
const ENOUGH: usize = 4;

/// The source pixels of one target pixel along an axis: `count` pixels from `first` on, `Axis::stride` apart, and the
/// index of their weights.
#[derive(Clone, Copy, Debug)]
struct Tap {
    first: usize,
    count: usize,
    weights: usize,
}

/// Resampling along one axis.
#[derive(Clone, Debug, Default)]
struct Axis {
    taps: Vec<Tap>,
    weights: Vec<f32>,
    stride: usize,
}

impl Axis {
    /// Prepares `target` pixels out of `source`, each `step` source pixels wide: the mean of the covered area when
    /// scaling down, linear between the two nearest when scaling up. `sparse`: large areas are represented by
    /// [`ENOUGH`] pixels or a few more.
    fn prepare(&mut self, source: usize, target: usize, step: f64, sparse: bool) {
        self.stride = if sparse { (step as usize / ENOUGH).max(1) } else { 1 };
        self.taps.clear();
        self.weights.clear();
        let last = source - 1;
        for index in 0..target {
            let weights = self.weights.len();
            let first;
            if step >= 1.0 {
                let (start, end) = (index as f64 * step, ((index + 1) as f64 * step).min(source as f64));
                first = ((start + (self.stride - 1) as f64 / 2.0) as usize).min(last);
                let end_pixel = (end.ceil() as usize).clamp(first + 1, source);
                for pixel in (first..end_pixel).step_by(self.stride) {
                    let cover = (end.min((pixel + 1) as f64) - start.max(pixel as f64)).max(1e-6);
                    self.weights.push(cover as f32);
                }
            } else {
                let centre = ((index as f64 + 0.5) * step - 0.5).clamp(0.0, last as f64);
                first = centre as usize;
                let part = (centre - first as f64) as f32;
                self.weights.push(1.0 - part);
                if first < last {
                    self.weights.push(part);
                }
            }
            let row = &mut self.weights[weights..];
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|weight| *weight /= sum);
            self.taps.push(Tap { first, count: row.len(), weights });
        }
    }

    fn weights(&self, tap: Tap) -> &[f32] {
        &self.weights[tap.weights..tap.weights + tap.count]
    }
}

/// Scales pictures to one input size; reuses its buffers from frame to frame.
#[derive(Clone, Debug)]
pub struct Letterbox {
    width: usize,
    height: usize,
    source: (usize, usize),
    target: (usize, usize),
    scale: f64,
    sparse: bool,
    across: Axis,
    down: Axis,
    row: Vec<f32>,
    sum: Vec<f32>,
}

impl Letterbox {
    /// Creates a letterbox for a network input of `width` x `height` pixels.
    pub fn new(width: usize, height: usize) -> Letterbox {
        Letterbox {
            width,
            height,
            source: (0, 0),
            target: (0, 0),
            scale: 1.0,
            sparse: false,
            across: Axis::default(),
            down: Axis::default(),
            row: Vec::new(),
            sum: Vec::new(),
        }
    }

    /// Returns network pixels per picture pixel of the last picture.
    #[cfg(test)]
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Maps a point of the network's input to pixels of the last picture; pixel centres are integers in both.
    pub fn to_picture(&self, x: f32, y: f32) -> [f32; 2] {
        let back = |v: f32| ((f64::from(v) + 0.5) / self.scale - 0.5) as f32;
        [back(x), back(y)]
    }

    /// Sets whether a few pixels represent a large area, from the next picture on.
    pub fn set_sparse(&mut self, sparse: bool) {
        if self.sparse != sparse {
            (self.sparse, self.source) = (sparse, (0, 0));
        }
    }

    fn prepare(&mut self, width: usize, height: usize) {
        if self.source == (width, height) {
            return;
        }
        let fit = (self.width as f64 / width as f64).min(self.height as f64 / height as f64);
        let target = |side: usize, limit: usize| ((side as f64 * fit).round() as usize).clamp(1, limit);
        self.source = (width, height);
        self.scale = fit;
        self.target = (target(width, self.width), target(height, self.height));
        self.across.prepare(width, self.target.0, 1.0 / fit, self.sparse);
        self.down.prepare(height, self.target.1, 1.0 / fit, self.sparse);
        self.row.resize(self.target.0 * 3, 0.0);
        self.sum.resize(self.target.0 * 3, 0.0);
    }

    /// Scales `picture` into `input`, three planes of `height * width` values.
    pub fn fill(&mut self, picture: &impl Pixels, normalization: &Normalization, input: &mut [f32]) {
        self.fill_part(picture, normalization, input, 0, 1);
    }

    /// Scales one of `parts` equal parts, from the top down; part 0 clears `input`.
    pub fn fill_part(
        &mut self,
        picture: &impl Pixels,
        normalization: &Normalization,
        input: &mut [f32],
        part: usize,
        parts: usize,
    ) {
        self.prepare(picture.width(), picture.height());
        if part == 0 {
            input.fill(0.0);
        }
        let plane = self.width * self.height;
        for y in self.target.1 * part / parts..self.target.1 * (part + 1) / parts {
            let tap = self.down.taps[y];
            self.sum.fill(0.0);
            for (offset, &weight) in self.down.weights(tap).iter().enumerate() {
                shrink_row(picture, tap.first + offset * self.down.stride, &self.across, &mut self.row);
                self.sum.iter_mut().zip(&self.row).for_each(|(sum, value)| *sum += weight * value);
            }
            for (x, pixel) in self.sum.as_chunks::<3>().0.iter().enumerate() {
                let rgb = picture.mean_rgb([pixel[0], pixel[1], pixel[2]]);
                for (channel, value) in rgb.into_iter().enumerate() {
                    let (to, value) = normalization.apply(channel, value);
                    input[to * plane + y * self.width + x] = value;
                }
            }
        }
    }
}

/// Scales one source row along x: `row` holds triples as the picture stores them, converted once at the end.
fn shrink_row(picture: &impl Pixels, y: usize, across: &Axis, row: &mut [f32]) {
    for (&tap, pixel) in across.taps.iter().zip(row.as_chunks_mut::<3>().0.iter_mut()) {
        let mut sum = [0.0f32; 3];
        for (offset, &weight) in across.weights(tap).iter().enumerate() {
            let stored = picture.stored(tap.first + offset * across.stride, y);
            for channel in 0..3 {
                sum[channel] += weight * f32::from(stored[channel]);
            }
        }
        pixel.copy_from_slice(&sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::picture::Picture;

    const PLAIN: Normalization = Normalization { mean: [0.0; 3], std: [1.0; 3], bgr: false };

    #[test]
    fn shrinking_takes_the_mean_of_the_area() {
        let picture = Picture::ramp(120, 60);
        let mut small = Letterbox::new(40, 40);
        let mut input = vec![9.0; 3 * 1600];
        small.fill(&picture, &PLAIN, &mut input);
        assert_eq!(small.scale(), 1.0 / 3.0);
        // Columns 3x..3x+2 have the mean 3x + 1, and so do rows.
        assert!((input[5] - 16.0).abs() < 1e-3);
        assert!((input[1600 + 40 * 7] - 22.0).abs() < 1e-3);
        // Below the picture lies the padding.
        assert_eq!(input[40 * 20], 0.0);
        assert!((input[40 * 19 + 3200] - 200.0).abs() < 1e-3);
    }

    #[test]
    fn a_fine_pattern_becomes_grey_and_does_not_alias() {
        let bytes = (0..200 * 100).flat_map(|i| [if i % 2 == 0 { 255u8 } else { 0 }; 3]).collect();
        let picture = Picture::from_rgb(200, 100, bytes).expect("three bytes a pixel");
        let mut input = vec![0.0; 3 * 32 * 32];
        Letterbox::new(32, 32).fill(&picture, &PLAIN, &mut input);
        for x in 0..32 {
            assert!((input[32 * 4 + x] - 127.5).abs() < 22.0, "column {x}: {}", input[32 * 4 + x]);
        }
    }

    #[test]
    fn parts_make_the_whole() {
        let picture = Picture::ramp(120, 90);
        let mut small = Letterbox::new(40, 40);
        let (mut whole, mut parts) = (vec![9.0; 4800], vec![9.0; 4800]);
        small.fill(&picture, &PLAIN, &mut whole);
        (0..7).for_each(|part| small.fill_part(&picture, &PLAIN, &mut parts, part, 7));
        assert_eq!(whole, parts);
    }

    #[test]
    fn a_few_pixels_stand_for_a_large_area_when_told_to() {
        let picture = Picture::ramp(256, 256);
        let mut small = Letterbox::new(16, 16);
        let (mut whole, mut sparse) = (vec![0.0; 768], vec![0.0; 768]);
        small.fill(&picture, &PLAIN, &mut whole);
        small.set_sparse(true);
        small.fill(&picture, &PLAIN, &mut sparse);
        assert_eq!((small.across.stride, small.across.taps[3].count, small.down.taps[0].first), (4, 4, 1));
        // Four of 16 columns are read, beginning with the second: half a pixel to the left of the centre.
        assert!(whole.iter().zip(&sparse).all(|(a, b)| (a - b).abs() <= 0.51), "{whole:?} {sparse:?}");
        small.set_sparse(false);
        small.fill(&picture, &PLAIN, &mut sparse);
        assert_eq!(whole, sparse);
        // Areas of few pixels are read in full.
        small.set_sparse(true);
        small.fill(&Picture::ramp(100, 100), &PLAIN, &mut sparse);
        assert_eq!(small.across.stride, 1);
    }

    #[test]
    fn points_come_back_at_pixel_centres() {
        let mut small = Letterbox::new(40, 40);
        small.fill(&Picture::ramp(120, 60), &PLAIN, &mut vec![0.0; 4800]);
        assert_eq!(small.to_picture(0.0, 5.0), [1.0, 16.0]);
    }

    #[test]
    fn growing_is_linear_and_a_single_pixel_fills_a_square() {
        let mut large = Letterbox::new(8, 8);
        let mut input = vec![0.0; 192];
        large.fill(&Picture::ramp(4, 4), &PLAIN, &mut input);
        assert!((input[3] - 1.25).abs() < 1e-5, "{}", input[3]);
        large.fill(&Picture::filled(1, 1, [10, 20, 30]), &PLAIN, &mut input);
        assert_eq!((input[63], input[64], input[191]), (10.0, 20.0, 30.0));
    }

    #[test]
    fn channels_are_swapped_and_scaled() {
        let to = Normalization { mean: [10.0, 20.0, 30.0], std: [2.0, 2.0, 2.0], bgr: true };
        let mut input = vec![0.0; 3];
        Letterbox::new(1, 1).fill(&Picture::filled(1, 1, [100, 50, 40]), &to, &mut input);
        assert_eq!(input, [15.0, 15.0, 35.0]);
    }

    #[test]
    fn a_very_wide_picture_keeps_at_least_one_row() {
        let mut small = Letterbox::new(32, 32);
        let mut input = vec![0.0; 3 * 1024];
        small.fill(&Picture::filled(20_000, 3, [90, 90, 90]), &PLAIN, &mut input);
        assert!((input[0] - 90.0).abs() < 0.01 && (input[31] - 90.0).abs() < 0.01 && input[32] == 0.0);
    }
}
