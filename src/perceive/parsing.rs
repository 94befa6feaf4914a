//! Parsing: which part of the face each pixel is, on the network's grid and at the size of the picture.

use super::warp::{Unwarp, Warp};
use crate::locate::alignment::Similarity;

/// Mask value of pixels outside the crop.
pub const OUTSIDE: u8 = 255;

/// Class scores of one face on the network's grid, and the share of each class.
#[derive(Debug, Default, PartialEq)]
pub struct Parsing {
    /// Share of the area that the network sees for each class; sums to 1.
    pub share: Vec<f32>,
    /// Scores by row, column, class.
    scores: Vec<f32>,
    height: usize,
    width: usize,
}

impl Clone for Parsing {
    fn clone(&self) -> Parsing {
        let (share, scores) = (self.share.clone(), self.scores.clone());
        Parsing { share, scores, height: self.height, width: self.width }
    }

    fn clone_from(&mut self, other: &Parsing) {
        self.share.clone_from(&other.share);
        self.scores.clone_from(&other.scores);
        (self.height, self.width) = (other.height, other.width);
    }
}

impl Parsing {
    /// Nothing read yet, with memory for `classes` planes of `height` x `width` cells.
    pub fn with_grid([classes, height, width]: [usize; 3]) -> Parsing {
        let (share, scores) = (Vec::with_capacity(classes), Vec::with_capacity(classes * height * width));
        Parsing { share, scores, height: 0, width: 0 }
    }

    /// `output` holds logits, `classes` planes of `height` x `width` cells of the network's input.
    pub fn read(&mut self, output: &[f32], [classes, height, width]: [usize; 3], warp: &Warp) {
        (self.height, self.width) = (height, width);
        self.scores.clear();
        self.share.clear();
        self.share.resize(classes, 0.0);
        let plane = height * width;
        // What a cell covers of all that the network sees: the warp makes the cells at the rim larger.
        let [first, last] = warp.view();
        let extent = |index: usize, count: usize| {
            let edge = |i: usize| warp.to_frame(i as f64 / count as f64);
            ((edge(index + 1) - edge(index)) / (last - first)) as f32
        };
        for y in 0..height {
            let tall = extent(y, height);
            // Cells of one class in a row are added up first: thousands of single cells would lose digits.
            let (mut class, mut wide) = (0, 0.0);
            for x in 0..width {
                let cell = self.scores.len();
                self.scores.extend((0..classes).map(|class| output[class * plane + y * width + x]));
                let best = best_class(&self.scores[cell..]);
                if best != class {
                    self.share[class] += tall * wide;
                    (class, wide) = (best, 0.0);
                }
                wide += extent(x, width);
            }
            self.share[class] += tall * wide;
        }
    }

    /// Writes the class of every picture pixel inside the crop into `mask` (`width` x `height` bytes): scores are
    /// interpolated at the pixel, then the best class is taken. Other pixels are left as they are.
    pub fn paint(&self, to_picture: &Similarity, unwarp: &Unwarp, width: usize, height: usize, mask: &mut [u8]) {
        let to_frame = to_picture.inverse();
        let classes = self.share.len();
        let mut scores = vec![0.0f32; classes];
        let view = unwarp.view();
        let (left, right) = bounds(to_picture, view, width, |s, x, y| s.apply(x, y).0);
        let (top, bottom) = bounds(to_picture, view, height, |s, x, y| s.apply(x, y).1);
        let seen = |f: f64| (f64::from(view[0])..=f64::from(view[1])).contains(&f);
        for y in top..bottom {
            for x in left..right {
                let (fx, fy) = to_frame.apply(x as f64, y as f64);
                if seen(fx) && seen(fy) {
                    self.interpolate(unwarp.at(fx as f32), unwarp.at(fy as f32), &mut scores);
                    mask[y * width + x] = best_class(&scores) as u8;
                }
            }
        }
    }

    /// Scores at a point of the network's input (0..1), bilinear between cell centres.
    fn interpolate(&self, nx: f32, ny: f32, scores: &mut [f32]) {
        let place = |n: f32, count: usize| {
            let position = (n * count as f32 - 0.5).clamp(0.0, (count - 1) as f32);
            let index = position as usize;
            (index, (index + 1).min(count - 1), position - index as f32)
        };
        let (left, right, fx) = place(nx, self.width);
        let (top, below, fy) = place(ny, self.height);
        let classes = scores.len();
        let cell = |x: usize, y: usize| &self.scores[(y * self.width + x) * classes..][..classes];
        let corners = [cell(left, top), cell(right, top), cell(left, below), cell(right, below)];
        let weights = [(1.0 - fx) * (1.0 - fy), fx * (1.0 - fy), (1.0 - fx) * fy, fx * fy];
        scores.fill(0.0);
        for (corner, weight) in corners.iter().zip(weights) {
            scores.iter_mut().zip(*corner).for_each(|(sum, score)| *sum += weight * score);
        }
    }
}

/// Index of the highest score, the first of equals.
fn best_class(scores: &[f32]) -> usize {
    let mut best = 0;
    for (class, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = class;
        }
    }
    best
}

/// First and past-the-last whole coordinate within `0..limit` that the view's corners enclose on one axis.
fn bounds(
    to_picture: &Similarity,
    view: [f32; 2],
    limit: usize,
    axis: impl Fn(&Similarity, f64, f64) -> f64,
) -> (usize, usize) {
    let [low, high] = view.map(f64::from);
    let corners = [(low, low), (high, low), (low, high), (high, high)].map(|(x, y)| axis(to_picture, x, y));
    let low = corners.iter().copied().fold(f64::INFINITY, f64::min).floor().clamp(0.0, limit as f64);
    let high = corners.iter().copied().fold(f64::NEG_INFINITY, f64::max).ceil().clamp(-1.0, limit as f64 - 1.0);
    (low as usize, (high + 1.0) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two classes, the second one right of the middle.
    fn halves(side: usize) -> Vec<f32> {
        let second = |i: usize| if i % side >= side / 2 { 1.0 } else { -1.0 };
        let plane = side * side;
        (0..2 * plane).map(|i| if i < plane { -second(i) } else { second(i - plane) }).collect()
    }

    #[test]
    fn shares_are_areas_of_the_frame() {
        let warp = Warp::new(0.5).expect("allowed");
        let mut parsing = Parsing::default();
        parsing.read(&halves(24), [2, 24, 24], &warp);
        assert!((parsing.share[0] - 0.5).abs() < 1e-5 && (parsing.share[1] - 0.5).abs() < 1e-5);
        // The outermost column alone covers more than a 24th.
        let column: Vec<f32> = (0..2 * 576).map(|i| if (i % 24 == 23) == (i >= 576) { 1.0 } else { 0.0 }).collect();
        parsing.read(&column, [2, 24, 24], &warp);
        let expected = 1.0 - warp.to_frame(23.0 / 24.0);
        assert!((f64::from(parsing.share[1]) - expected).abs() < 1e-5, "{:?}", parsing.share);
        assert!(expected > 1.5 / 24.0);
    }

    #[test]
    fn the_mask_follows_the_turned_crop() {
        let warp = Warp::new(0.5).expect("allowed");
        let mut parsing = Parsing::default();
        parsing.read(&halves(24), [2, 24, 24], &warp);
        // Frame x points down the picture: the second class is in the lower half.
        let to_picture = Similarity { a: 0.0, b: 40.0, tx: 70.0, ty: 10.0 };
        let mut mask = vec![OUTSIDE; 100 * 60];
        parsing.paint(&to_picture, &Unwarp::new(&warp), 100, 60, &mut mask);
        let at = |x: usize, y: usize| mask[y * 100 + x];
        assert_eq!((at(50, 15), at(50, 45), at(50, 29), at(50, 31)), (0, 1, 0, 1));
        assert_eq!((at(29, 30), at(71, 30), at(50, 9), at(50, 51)), (OUTSIDE, OUTSIDE, OUTSIDE, OUTSIDE));
        let inside = mask.iter().filter(|&&class| class != OUTSIDE).count();
        assert_eq!(inside, 41 * 41);
    }

    #[test]
    fn a_crop_beyond_the_picture_paints_nothing() {
        let warp = Warp::new(1.0).expect("allowed");
        let mut parsing = Parsing::default();
        parsing.read(&halves(8), [2, 8, 8], &warp);
        let mut mask = vec![OUTSIDE; 100];
        for away in [-500.0, 500.0] {
            let to_picture = Similarity { a: 40.0, b: 0.0, tx: away, ty: away };
            parsing.paint(&to_picture, &Unwarp::new(&warp), 10, 10, &mut mask);
        }
        assert!(mask.iter().all(|&class| class == OUTSIDE));
    }
}
