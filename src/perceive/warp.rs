//! The fovea: which point of the aligned frame a network pixel looks at, and back.
//!
//! Three coordinates along one axis. `n`, the network's, 0..1 over its input (pixel i of N has its centre at
//! (i + 0.5) / N); `f`, the frame's, 0..1 over the aligned crop; and in between the centred `u = 2n - 1` and
//! `v = 2f - 1`, where v = a u + (1 - a) u^3. With a = 0.5 the middle of the face gets twice the density of a uniform
//! grid. `models/student/geometry.py` is the same in Python, and `tests/image.rs` holds numbers from it.

/// The warp of one network, the same on both axes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warp {
    linear: f64,
}

impl Warp {
    /// `linear` is the cubic's `a`, above 0 and at most 1, where 1 is no warp at all. `None` for any other.
    pub fn new(linear: f64) -> Option<Warp> {
        (linear > 0.0 && linear <= 1.0).then_some(Warp { linear })
    }

    /// Network to frame coordinate.
    #[inline]
    pub fn to_frame(&self, n: f64) -> f64 {
        let u = 2.0 * n - 1.0;
        let v = self.linear * u + (1.0 - self.linear) * u * u * u;
        (v + 1.0) / 2.0
    }

    /// Frame to network coordinate: Cardano's formula for the one real root, the cubic being monotone.
    #[inline]
    pub fn to_network(&self, f: f64) -> f64 {
        let v = 2.0 * f - 1.0;
        if self.linear == 1.0 {
            return f;
        }
        let p = self.linear / (1.0 - self.linear);
        let half = v / (1.0 - self.linear) / 2.0;
        let root = (half * half + p * p * p / 27.0).sqrt();
        // The two cube roots have the product -p / 3: taking the larger one and dividing keeps every digit.
        let large = (half.abs() + root).cbrt();
        let u = (large - p / (3.0 * large)).copysign(v);
        (u + 1.0) / 2.0
    }

    /// How much of the frame a small step of the network covers, df/dn: `a` in the middle, 3 - 2a at the rim.
    #[inline]
    pub fn stretch(&self, n: f64) -> f64 {
        let u = 2.0 * n - 1.0;
        self.linear + 3.0 * (1.0 - self.linear) * u * u
    }
}

/// `Warp::to_network` for many points: a table with linear interpolation, error below a hundredth of a pixel.
#[derive(Clone, Debug)]
pub struct Unwarp {
    table: Vec<f32>,
}

const INTERVALS: usize = 4096;

impl Unwarp {
    /// Tabulates the inverse of `warp` over the frame.
    pub fn new(warp: &Warp) -> Unwarp {
        let at = |index: usize| warp.to_network(index as f64 / INTERVALS as f64) as f32;
        Unwarp { table: (0..=INTERVALS).map(at).collect() }
    }

    /// Network coordinate of a frame coordinate within 0..=1.
    #[inline]
    pub fn at(&self, f: f32) -> f32 {
        let position = f.clamp(0.0, 1.0) * INTERVALS as f32;
        let index = (position as usize).min(INTERVALS - 1);
        let part = position - index as f32;
        self.table[index] + part * (self.table[index + 1] - self.table[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_training_code() {
        // models/student/geometry.py: warp((2 * i + 1) / 96 - 1) and unwarp, a = 0.5, as frame coordinates.
        let warp = Warp::new(0.5).expect("a half is allowed");
        for (n, f) in [(0.25, 0.34375), (0.5, 0.5), (0.75, 0.65625), (0.0, 0.0), (1.0, 1.0), (0.0625, 0.1137695312)] {
            assert!((warp.to_frame(n) - f).abs() < 1e-9, "{n}: {}", warp.to_frame(n));
            assert!((warp.to_network(f) - n).abs() < 1e-9, "{f}: {}", warp.to_network(f));
        }
    }

    #[test]
    fn there_and_back_for_every_strength_and_beyond_the_rim() {
        for linear in [0.05, 0.3, 0.5, 0.9, 0.999_999, 1.0] {
            let warp = Warp::new(linear).expect("allowed");
            for step in -30..=130 {
                let n = f64::from(step) / 100.0;
                let back = warp.to_network(warp.to_frame(n));
                assert!((back - n).abs() < 1e-7, "a = {linear}, n = {n}: {back}");
            }
        }
        assert!(Warp::new(0.0).is_none() && Warp::new(1.1).is_none() && Warp::new(f64::NAN).is_none());
    }

    #[test]
    fn the_stretch_is_the_slope() {
        let warp = Warp::new(0.5).expect("allowed");
        for n in [0.0, 0.2, 0.5, 0.83] {
            let slope = (warp.to_frame(n + 1e-6) - warp.to_frame(n - 1e-6)) / 2e-6;
            assert!((warp.stretch(n) - slope).abs() < 1e-6);
        }
        assert_eq!((warp.stretch(0.5), warp.stretch(1.0)), (0.5, 2.0));
    }

    #[test]
    fn the_table_is_close_to_the_formula() {
        let warp = Warp::new(0.5).expect("allowed");
        let table = Unwarp::new(&warp);
        for step in 0..=1000 {
            let f = f64::from(step) / 1000.0;
            let apart = (f64::from(table.at(f as f32)) - warp.to_network(f)).abs();
            assert!(apart * 144.0 < 0.01, "{f}: {apart}");
        }
    }
}
