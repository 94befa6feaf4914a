//! Landmarks: points in network coordinates, mapped to the picture.

use crate::align::warp::Warp;
use crate::error::Result;
use crate::geometry::{Point, Similarity};
use crate::tasks::shape::{check_count, unfit};
use faceptor_nn::manifest::Task;

/// Points of a face.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Landmarks {
    /// x, y in pixels of the image, in the order of the data set (the embedded network: 68 points in iBUG order).
    pub points: Vec<Point>,
}

/// Checks for `[1, points, 2]`.
pub(super) fn check(task: &Task, shape: &[usize]) -> Result<()> {
    match shape {
        &[1, count, 2] => check_count(task, count, None),
        _ => Err(unfit(task, shape, "[1, points, 2]")),
    }
}

impl Landmarks {
    /// Decodes x, y pairs in network coordinates, 0..1 (the soft-argmax is part of the network).
    pub(super) fn read(&mut self, output: &[f32], warp: &Warp, to_picture: &Similarity) {
        self.points.clear();
        self.points.extend(output.as_chunks::<2>().0.iter().map(|pair| {
            let (fx, fy) = (warp.to_frame(f64::from(pair[0])), warp.to_frame(f64::from(pair[1])));
            let (x, y) = to_picture.apply(fx, fy);
            [x as f32, y as f32]
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_go_through_the_warp_and_the_alignment() {
        let warp = Warp::new(0.5).expect("allowed");
        let to_picture = Similarity { a: 0.0, b: 100.0, tx: 300.0, ty: 50.0 };
        let mut landmarks = Landmarks::default();
        landmarks.read(&[0.5, 0.5, 0.75, 0.5, 1.0, 0.0], &warp, &to_picture);
        // The frame is turned by a right angle: its x goes down the picture, its y to the left.
        assert_eq!(landmarks.points, [[250.0, 100.0], [250.0, 115.625], [300.0, 150.0]]);
    }
}
