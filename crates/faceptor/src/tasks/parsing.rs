//! Parsing: the class of each pixel, on the network's grid and at the size of the picture.

use crate::align::warp::{Unwarp, Warp};
use crate::error::{Result, ensure};
use crate::geometry::Similarity;
use crate::tasks::shape::{check_count, unfit};
use faceptor_nn::manifest::Task;

/// Mask value of pixels outside the crop.
pub const OUTSIDE: u8 = 255;

/// Checks for `[1, classes, height, width]` with a label for each class.
pub(super) fn check(task: &Task, shape: &[usize]) -> Result<()> {
    let &[1, classes, _, _] = shape else { return Err(unfit(task, shape, "[1, classes, height, width]")) };
    let name = &task.name;
    ensure!(classes < usize::from(OUTSIDE), Bundle, "task {name}: {classes} classes do not fit a mask");
    check_count(task, classes, Some(task.labels.len()))
}

/// Returns classes, height and width of an output; zeros for any other shape.
pub(super) fn grid(shape: &[usize]) -> [usize; 3] {
    match shape {
        &[_, classes, height, width] => [classes, height, width],
        _ => [0; 3],
    }
}

/// The best class of each pixel of the network's grid, and the share of each class.
#[derive(Debug, Default, PartialEq)]
pub struct Parsing {
    /// Share of the face's window for each class; sums to 1.
    pub share: Vec<f32>,
    /// Classes by row, column.
    labels: Vec<u8>,
    /// Scores by row, column, class, from which masks are interpolated; empty where masks are not enabled.
    scores: Vec<f32>,
    height: usize,
    width: usize,
    /// Share of the window's width that each column covers.
    extents: Vec<f32>,
}

impl Clone for Parsing {
    fn clone(&self) -> Parsing {
        let mut copy = Parsing::default();
        copy.clone_from(self);
        copy
    }

    fn clone_from(&mut self, other: &Parsing) {
        self.share.clone_from(&other.share);
        self.labels.clone_from(&other.labels);
        self.scores.clone_from(&other.scores);
        self.extents.clone_from(&other.extents);
        (self.height, self.width) = (other.height, other.width);
    }
}

/// Forms of the network's output.
#[derive(Clone, Copy, Debug)]
pub enum Output<'a> {
    /// Scores of the whole grid, class by class.
    Planes(&'a [f32]),
    /// Scores by row and column of cells, row and column within a cell (of this many rows and columns), and class.
    Cells(&'a [f32], [usize; 2]),
    /// The best class of each pixel.
    Labels(&'a [u8]),
}

impl Parsing {
    /// Makes an empty parsing with memory for `classes` scores at each of `height` x `width` pixels of the network's grid.
    pub fn with_grid([classes, height, width]: [usize; 3]) -> Parsing {
        Parsing {
            share: Vec::with_capacity(classes),
            labels: Vec::with_capacity(height * width),
            scores: Vec::with_capacity(classes * height * width),
            height: 0,
            width: 0,
            extents: Vec::with_capacity(width),
        }
    }

    /// Decodes an output of `height` x `width` pixels; keeps the scores if it has them and `drawn`. The shares are the same
    /// for every form.
    pub fn read(&mut self, output: Output<'_>, [classes, height, width]: [usize; 3], warp: &Warp, drawn: bool) {
        (self.height, self.width) = (height, width);
        self.scores.clear();
        self.labels.clear();
        match output {
            Output::Labels(labels) => self.labels.extend_from_slice(&labels[..height * width]),
            Output::Planes(planes) => {
                let plane = height * width;
                self.labels.resize(plane, 0);
                best_in_planes(planes, &mut self.labels);
                for pixel in 0..if drawn { plane } else { 0 } {
                    self.scores.extend((0..classes).map(|class| planes[class * plane + pixel]));
                }
            }
            Output::Cells(cells, [rows, columns]) => {
                for y in 0..height {
                    let row = y / rows * (width / columns);
                    for x in 0..width {
                        let pixel = (row + x / columns) * rows * columns + y % rows * columns + x % columns;
                        let scores = &cells[pixel * classes..][..classes];
                        self.labels.push(best_class(scores) as u8);
                        if drawn {
                            self.scores.extend_from_slice(scores);
                        }
                    }
                }
            }
        }
        self.measure(classes, warp);
    }

    /// Computes the shares from the labels.
    fn measure(&mut self, classes: usize, warp: &Warp) {
        let (height, width) = (self.height, self.width);
        self.share.clear();
        self.share.resize(classes, 0.0);
        // Share of the window that a cell covers: the warp makes the cells at the rim larger.
        let [first, last] = warp.view();
        let extent = |index: usize, count: usize| {
            let edge = |i: usize| warp.to_frame(i as f64 / count as f64);
            ((edge(index + 1) - edge(index)) / (last - first)) as f32
        };
        self.extents.clear();
        self.extents.extend((0..width).map(|x| extent(x, width)));
        for (y, labels) in self.labels.chunks_exact(width).enumerate() {
            let tall = extent(y, height);
            // Cells of one class in a row are added up first: thousands of single cells would lose digits.
            let (mut class, mut wide) = (0, 0.0);
            for (best, extent) in labels.iter().zip(&self.extents) {
                if usize::from(*best) != class {
                    self.share[class] += tall * wide;
                    (class, wide) = (usize::from(*best), 0.0);
                }
                wide += extent;
            }
            self.share[class] += tall * wide;
        }
    }

    /// Writes the class of every picture pixel inside the crop into `mask` (`width` x `height` bytes): scores are
    /// interpolated at the pixel, then the best class is taken; where only classes were read, the nearest one. Other pixels
    /// are left as they are.
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
                    let (nx, ny) = (unwarp.at(fx as f32), unwarp.at(fy as f32));
                    mask[y * width + x] = if self.scores.is_empty() {
                        self.nearest(nx, ny)
                    } else {
                        self.interpolate(nx, ny, &mut scores);
                        best_class(&scores) as u8
                    };
                }
            }
        }
    }

    /// Returns the class at a point of the network's input (0..1).
    fn nearest(&self, nx: f32, ny: f32) -> u8 {
        let place = |n: f32, count: usize| ((n * count as f32) as usize).min(count - 1);
        self.labels[place(ny, self.height) * self.width + place(nx, self.width)]
    }

    /// Interpolates the scores at a point of the network's input (0..1), bilinearly between cell centres.
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

/// Returns the index of the highest score, the first of equals.
fn best_class(scores: &[f32]) -> usize {
    let mut best = 0;
    for (class, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = class;
        }
    }
    best
}

/// Pixels that are compared at once.
const LANES: usize = 16;

/// Returns the class with the largest score for each pixel of planes of scores, one plane for each class.
fn best_in_planes(planes: &[f32], labels: &mut [u8]) {
    let plane = labels.len();
    for (number, labels) in labels.chunks_mut(LANES).enumerate() {
        let start = number * LANES;
        let mut top = [0.0; LANES];
        let mut best = [0u32; LANES];
        for (class, plane) in planes.chunks_exact(plane).enumerate() {
            let scores = &plane[start..start + labels.len()];
            if class == 0 {
                top[..scores.len()].copy_from_slice(scores);
            }
            for ((top, best), score) in top.iter_mut().zip(&mut best).zip(scores) {
                let larger = *score > *top;
                *top = if larger { *score } else { *top };
                *best = if larger { class as u32 } else { *best };
            }
        }
        labels.iter_mut().zip(best).for_each(|(label, best)| *label = best as u8);
    }
}

/// Returns the first and the past-the-last whole coordinate within `0..limit` that the view's corners enclose on one axis.
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

    /// Returns two classes, the second one right of the middle.
    fn halves(side: usize) -> Vec<f32> {
        let second = |i: usize| if i % side >= side / 2 { 1.0 } else { -1.0 };
        let plane = side * side;
        (0..2 * plane).map(|i| if i < plane { -second(i) } else { second(i - plane) }).collect()
    }

    #[test]
    fn shares_are_areas_of_the_frame() {
        let warp = Warp::new(0.5).expect("allowed");
        let mut parsing = Parsing::default();
        parsing.read(Output::Planes(&halves(24)), [2, 24, 24], &warp, true);
        assert!((parsing.share[0] - 0.5).abs() < 1e-5 && (parsing.share[1] - 0.5).abs() < 1e-5);
        // The outermost column alone covers more than a 24th.
        let column: Vec<f32> = (0..2 * 576).map(|i| if (i % 24 == 23) == (i >= 576) { 1.0 } else { 0.0 }).collect();
        parsing.read(Output::Planes(&column), [2, 24, 24], &warp, true);
        let expected = 1.0 - warp.to_frame(23.0 / 24.0);
        assert!((f64::from(parsing.share[1]) - expected).abs() < 1e-5, "{:?}", parsing.share);
        assert!(expected > 1.5 / 24.0);
    }

    #[test]
    fn the_mask_follows_the_turned_crop() {
        let warp = Warp::new(0.5).expect("allowed");
        let mut parsing = Parsing::default();
        parsing.read(Output::Planes(&halves(24)), [2, 24, 24], &warp, true);
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
        parsing.read(Output::Planes(&halves(8)), [2, 8, 8], &warp, true);
        let mut mask = vec![OUTSIDE; 100];
        for away in [-500.0, 500.0] {
            let to_picture = Similarity { a: 40.0, b: 0.0, tx: away, ty: away };
            parsing.paint(&to_picture, &Unwarp::new(&warp), 10, 10, &mut mask);
        }
        assert!(mask.iter().all(|&class| class == OUTSIDE));
    }

    /// Scores of a grid of 6 x 4 pixels and three classes as planes, by cells of 3 x 2 pixels, and the best classes alone.
    fn same_three_ways() -> (Vec<f32>, Vec<f32>, Vec<u8>) {
        let (height, width, classes) = (6, 4, 3);
        let score = |class: usize, y: usize, x: usize| ((class * 7 + y * 5 + x * 3) % 11) as f32;
        let planes =
            (0..classes * height * width).map(|i| score(i / (height * width), i / width % height, i % width)).collect();
        let cell = |i: usize| {
            let (class, dx, dy, cell) = (i % 3, i / 3 % 2, i / 6 % 3, i / 18);
            score(class, cell / 2 * 3 + dy, cell % 2 * 2 + dx)
        };
        let cells = (0..classes * height * width).map(cell).collect();
        let best = |i: usize| best_class(&[0, 1, 2].map(|class| score(class, i / width, i % width))) as u8;
        (planes, cells, (0..height * width).map(best).collect())
    }

    #[test]
    fn planes_cells_and_labels_give_the_same_shares() {
        let warp = Warp::new(0.5).expect("allowed");
        let (planes, cells, labels) = same_three_ways();
        let outputs = [Output::Planes(&planes), Output::Cells(&cells, [3, 2]), Output::Labels(&labels)];
        let [by_planes, by_cells, by_labels] = outputs.map(|output| {
            let mut parsing = Parsing::with_grid([3, 6, 4]);
            parsing.read(output, [3, 6, 4], &warp, true);
            parsing
        });
        assert_eq!(by_planes, by_cells);
        assert_eq!((&by_planes.share, &by_planes.labels), (&by_labels.share, &by_labels.labels));
        let mut undrawn = Parsing::default();
        undrawn.read(Output::Planes(&planes), [3, 6, 4], &warp, false);
        assert_eq!(undrawn, by_labels);
        assert!(by_labels.share.iter().all(|share| *share > 0.0) && by_labels.scores.is_empty());
    }

    #[test]
    fn classes_alone_paint_the_nearest_one() {
        let warp = Warp::NONE;
        let labels: Vec<u8> = (0..16).map(|i| u8::from(i % 4 >= 2)).collect();
        let mut parsing = Parsing::default();
        parsing.read(Output::Labels(&labels), [2, 4, 4], &warp, true);
        let mut mask = vec![OUTSIDE; 20 * 20];
        parsing.paint(&Similarity::scaling(20.0), &Unwarp::new(&warp), 20, 20, &mut mask);
        assert_eq!((mask[5 * 20 + 9], mask[5 * 20 + 11]), (0, 1));
    }
}
