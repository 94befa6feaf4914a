//! Points and the similarity transform between an aligned frame and a picture.

/// A point, x then y, in pixels or in 0..1 of a frame.
pub type Point = [f32; 2];

/// Number of landmarks by which faces can be tracked (68 points in iBUG order).
pub const TRACKING_LANDMARKS: usize = 68;

/// A rotation, uniform scaling and translation without reflection: `x' = a x - b y + tx`, `y' = b x + a y + ty`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Similarity {
    pub a: f64,
    pub b: f64,
    pub tx: f64,
    pub ty: f64,
}

impl Similarity {
    /// Returns the scaling about the origin that maps the aligned frame (0..1) to a picture of `factor` pixels a side.
    pub fn scaling(factor: f64) -> Similarity {
        Similarity { a: factor, b: 0.0, tx: 0.0, ty: 0.0 }
    }

    /// Returns the least-squares similarity from `source` to `target` (Umeyama 1991, without the reflection case,
    /// which this parametrization cannot express). Returns `None` when the source points coincide or a coordinate is
    /// not finite.
    pub fn fit(source: &[Point], target: &[Point]) -> Option<Similarity> {
        let count = source.len().min(target.len());
        if count < 2 {
            return None;
        }
        let mean = |points: &[Point], axis: usize| {
            points.iter().take(count).map(|p| f64::from(p[axis])).sum::<f64>() / count as f64
        };
        let (sx, sy, dx, dy) = (mean(source, 0), mean(source, 1), mean(target, 0), mean(target, 1));
        let (mut norm, mut re, mut im) = (0.0, 0.0, 0.0);
        for (from, to) in source.iter().zip(target) {
            let (x, y) = (f64::from(from[0]) - sx, f64::from(from[1]) - sy);
            let (u, v) = (f64::from(to[0]) - dx, f64::from(to[1]) - dy);
            norm += x * x + y * y;
            re += x * u + y * v;
            im += x * v - y * u;
        }
        let (a, b) = (re / norm, im / norm);
        let fitted = Similarity { a, b, tx: dx - a * sx + b * sy, ty: dy - b * sx - a * sy };
        (fitted.scale() > 0.0 && fitted.scale().is_finite() && (fitted.tx + fitted.ty).is_finite()).then_some(fitted)
    }

    /// Returns the length of the image of a unit vector.
    pub fn scale(&self) -> f64 {
        self.a.hypot(self.b)
    }

    /// Returns the inverse transform. The scale of a fitted transform is never zero.
    pub fn inverse(&self) -> Similarity {
        let square = self.a * self.a + self.b * self.b;
        let (a, b) = (self.a / square, -self.b / square);
        Similarity { a, b, tx: -a * self.tx + b * self.ty, ty: -b * self.tx - a * self.ty }
    }

    /// Returns the transform that applies this one first, then `next`.
    pub fn then(&self, next: &Similarity) -> Similarity {
        let (tx, ty) = next.apply(self.tx, self.ty);
        Similarity { a: next.a * self.a - next.b * self.b, b: next.b * self.a + next.a * self.b, tx, ty }
    }

    /// Returns the image of a point.
    #[inline]
    pub fn apply(&self, x: f64, y: f64) -> (f64, f64) {
        (self.a * x - self.b * y + self.tx, self.b * x + self.a * y + self.ty)
    }

    /// Returns the image of a point.
    #[inline]
    pub fn apply_point(&self, point: Point) -> Point {
        let (x, y) = self.apply(f64::from(point[0]), f64::from(point[1]));
        [x as f32, y as f32]
    }
}

/// Returns eye centres, nose tip and mouth corners, left to right in the picture, of 68 landmarks in iBUG order.
pub fn keypoints_of_landmarks(points: &[Point]) -> Option<[Point; 5]> {
    if points.len() != TRACKING_LANDMARKS {
        return None;
    }
    let mean = |range: std::ops::Range<usize>| {
        let count = range.len() as f32;
        let sum = points[range].iter().fold([0.0f32; 2], |sum, p| [sum[0] + p[0], sum[1] + p[1]]);
        sum.map(|v| v / count)
    };
    Some([mean(36..42), mean(42..48), points[30], points[48], points[54]])
}

/// Returns the mean of five keypoints.
pub fn middle(points: &[Point; 5]) -> Point {
    let sum = points.iter().fold([0.0f32; 2], |sum, p| [sum[0] + p[0], sum[1] + p[1]]);
    sum.map(|v| v / 5.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: [Point; 5] =
        [[0.3958, 0.4277], [0.6042, 0.4265], [0.5007, 0.5461], [0.4151, 0.6681], [0.5876, 0.6671]];

    fn close(one: Point, other: Point) -> bool {
        (one[0] - other[0]).abs() < 1e-4 && (one[1] - other[1]).abs() < 1e-4
    }

    #[test]
    fn a_known_transform_is_recovered() {
        let known = Similarity { a: 180.0, b: 60.0, tx: 33.0, ty: -12.0 };
        let image = TEMPLATE.map(|p| known.apply_point(p));
        let fitted = Similarity::fit(&image, &TEMPLATE).expect("five distinct points");
        let back = fitted.inverse();
        for (a, b) in [(back.a, known.a), (back.b, known.b), (back.tx, known.tx), (back.ty, known.ty)] {
            assert!((a - b).abs() < 1e-2, "{back:?}");
        }
        let both = known.then(&fitted);
        assert!(TEMPLATE.iter().all(|&p| close(both.apply_point(p), p)));
    }

    #[test]
    fn the_fit_equals_the_training_code_s() {
        // models/faceptor_models/common/geometry.py: similarity(keypoints, TEMPLATE).
        let keypoints = [[120.3, 88.1], [171.2, 95.4], [143.9, 121.7], [118.8, 140.2], [162.0, 147.9]];
        let template = [
            [0.395_833_93, 0.427_651_33],
            [0.604_164_7, 0.426_499_03],
            [0.500_661_5, 0.546_134_38],
            [0.415_076_5, 0.668_097_4],
            [0.587_599_2, 0.667_143_15],
        ];
        let fitted = Similarity::fit(&keypoints, &template).expect("five distinct points");
        let golden = [0.004_266_16, -0.000_559_64, -0.176_824_83, 0.121_045_92];
        for (value, golden) in [fitted.a, fitted.b, fitted.tx, fitted.ty].into_iter().zip(golden) {
            assert!((value - golden).abs() < 2e-7, "{fitted:?}");
        }
    }

    #[test]
    fn the_fit_minimizes_the_residual() {
        let mut image = TEMPLATE.map(|p| [p[0] * 200.0, p[1] * 200.0]);
        image[2][0] += 9.0;
        image[4][1] -= 5.0;
        let fitted = Similarity::fit(&image, &TEMPLATE).expect("five distinct points");
        let residual = |s: &Similarity| -> f64 {
            let error = |(p, t): (&Point, &Point)| {
                let (x, y) = s.apply(f64::from(p[0]), f64::from(p[1]));
                (x - f64::from(t[0])).powi(2) + (y - f64::from(t[1])).powi(2)
            };
            image.iter().zip(&TEMPLATE).map(error).sum()
        };
        let best = residual(&fitted);
        for step in [-1e-5, 1e-5] {
            assert!(residual(&Similarity { a: fitted.a + step, ..fitted }) > best);
            assert!(residual(&Similarity { b: fitted.b + step, ..fitted }) > best);
            assert!(residual(&Similarity { tx: fitted.tx + 10.0 * step, ..fitted }) > best);
            assert!(residual(&Similarity { ty: fitted.ty + 10.0 * step, ..fitted }) > best);
        }
    }

    #[test]
    fn a_mirrored_face_is_not_reflected() {
        let mirrored = TEMPLATE.map(|p| [1.0 - p[0], p[1]]);
        let fitted = Similarity::fit(&mirrored, &TEMPLATE).expect("five distinct points");
        let (x, _) = fitted.apply(1.0, 0.0);
        let (origin, _) = fitted.apply(0.0, 0.0);
        assert!(x > origin || fitted.a.abs() < 0.5, "right stays right: {fitted:?}");
    }

    #[test]
    fn coincident_or_non_finite_points_have_no_transform() {
        assert_eq!(Similarity::fit(&[[3.0, 3.0]; 5], &TEMPLATE), None);
        assert_eq!(Similarity::fit(&[[f32::NAN, 3.0]; 5], &TEMPLATE), None);
        assert_eq!(Similarity::fit(&[], &[]), None);
    }
}
