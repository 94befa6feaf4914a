//! The foveal warp: maps network coordinates to coordinates of the aligned frame, and back.
//!
//! Along one axis there are three coordinates: `n`, the network's, 0..1 over its input (pixel i of N has its centre at
//! (i + 0.5) / N); `f`, the frame's, 0..1 over the aligned crop; and the centred `u = 2n - 1` and `v = 2f - 1` with v
//! = a u + (1 - a) u^3. With a = 0.5 the centre of the face is sampled twice as densely as by a uniform grid.
//! `models/faceptor_models/common/geometry.py` implements the same in Python, and the tests hold values from it.

/// The warp of one input, the same on both axes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Warp {
    /// `v = a u + (1 - a) u^3`; `linear` is `a`, and 1 is the identity.
    Cubic { linear: f64 },
    /// RoI tanh-warping (Lin et al. 2019): `v = u` up to `1 - rim` from the centre, then `v = rim atanh(..) + 1 -
    /// rim`. In the official code `u` belongs to a pixel's corner, not to its centre: `half` is half a network pixel,
    /// 0..1.
    Tanh { rim: f64, half: f64 },
}

/// Limit of the argument of atanh in the official code.
const TANH_LIMIT: f64 = 0.999;

impl Warp {
    /// The identity: network and frame coordinates are equal.
    pub const NONE: Warp = Warp::Cubic { linear: 1.0 };

    /// Creates the cubic warp; `None` unless `linear` is above 0 and at most 1.
    pub fn new(linear: f64) -> Option<Warp> {
        (linear > 0.0 && linear <= 1.0).then_some(Warp::Cubic { linear })
    }

    /// Creates the tanh warp for an input of `size` pixels; `None` unless `rim` is above 0 and at most 1.
    pub fn tanh(rim: f64, size: usize) -> Option<Warp> {
        (rim > 0.0 && rim <= 1.0 && size > 0).then_some(Warp::Tanh { rim, half: 0.5 / size as f64 })
    }

    /// Maps a network coordinate to a frame coordinate.
    #[inline]
    pub fn to_frame(self, n: f64) -> f64 {
        match self {
            Warp::Cubic { linear } => {
                let u = 2.0 * n - 1.0;
                let v = linear * u + (1.0 - linear) * u * u * u;
                (v + 1.0) / 2.0
            }
            Warp::Tanh { rim, half } => {
                let u = 2.0 * (n - half) - 1.0;
                let beyond = ((u.abs() - 1.0 + rim) / rim).clamp(0.0, TANH_LIMIT);
                let v = if u.abs() <= 1.0 - rim { u } else { (rim * beyond.atanh() + 1.0 - rim).copysign(u) };
                (v + 1.0) / 2.0 + half
            }
        }
    }

    /// Maps a frame coordinate to a network coordinate. The cubic is monotone: Cardano's formula gives its one real
    /// root.
    #[inline]
    pub fn to_network(self, f: f64) -> f64 {
        match self {
            Warp::Cubic { linear } => {
                let v = 2.0 * f - 1.0;
                if linear == 1.0 {
                    return f;
                }
                let p = linear / (1.0 - linear);
                let half = v / (1.0 - linear) / 2.0;
                let root = (half * half + p * p * p / 27.0).sqrt();
                // The two cube roots have the product -p / 3: taking the larger one and dividing keeps every digit.
                let large = (half.abs() + root).cbrt();
                let u = (large - p / (3.0 * large)).copysign(v);
                (u + 1.0) / 2.0
            }
            Warp::Tanh { rim, half } => {
                let v = 2.0 * (f - half) - 1.0;
                let beyond = (v.abs() - 1.0 + rim) / rim;
                let u = if beyond <= 0.0 { v } else { (rim * beyond.tanh() + 1.0 - rim).copysign(v) };
                (u + 1.0) / 2.0 + half
            }
        }
    }

    /// Returns the slope df/dn: for the cubic `a` in the centre and 3 - 2a at the rim.
    #[inline]
    pub fn stretch(&self, n: f64) -> f64 {
        match *self {
            Warp::Cubic { linear } => {
                let u = 2.0 * n - 1.0;
                linear + 3.0 * (1.0 - linear) * u * u
            }
            Warp::Tanh { rim, half } => {
                let u = 2.0 * (n - half) - 1.0;
                let beyond = ((u.abs() - 1.0 + rim) / rim).clamp(0.0, TANH_LIMIT);
                1.0 / (1.0 - beyond * beyond)
            }
        }
    }

    /// Returns the first and last frame coordinate in the network's input.
    pub fn view(&self) -> [f64; 2] {
        [self.to_frame(0.0), self.to_frame(1.0)]
    }
}

/// A table of `Warp::to_network` with linear interpolation, with an error below a hundredth of a pixel.
#[derive(Clone, Debug)]
pub struct Unwarp {
    table: Vec<f32>,
    low: f32,
    high: f32,
}

const INTERVALS: usize = 4096;

impl Unwarp {
    /// Tabulates the inverse of `warp` over the frame coordinates in the network's input.
    pub fn new(warp: &Warp) -> Unwarp {
        let [low, high] = warp.view();
        let at = |index: usize| warp.to_network(low + (high - low) * index as f64 / INTERVALS as f64) as f32;
        Unwarp { table: (0..=INTERVALS).map(at).collect(), low: low as f32, high: high as f32 }
    }

    /// Returns the first and last frame coordinate of the table.
    pub fn view(&self) -> [f32; 2] {
        [self.low, self.high]
    }

    /// Returns the network coordinate of a frame coordinate within the table.
    #[inline]
    pub fn at(&self, f: f32) -> f32 {
        let position = ((f - self.low) / (self.high - self.low)).clamp(0.0, 1.0) * INTERVALS as f32;
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
        // models/faceptor_models/common/geometry.py: warp((2 * i + 1) / 96 - 1) and unwarp, a = 0.5, as frame coordinates.
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
    fn tanh_is_the_official_formula_and_comes_back() {
        let warp = Warp::tanh(0.8, 512).expect("allowed");
        // The official formula for pixels 256, 100 and 500 of 512: u = 2 i / 512 - 1, and back to a pixel of the
        // frame.
        for (pixel, u) in [(256.0, 0.0f64), (100.0, -0.609_375), (500.0, 0.953_125)] {
            let v = if u.abs() <= 0.2 { u } else { (0.8 * ((u.abs() - 0.2) / 0.8f64).atanh() + 0.2).copysign(u) };
            let expected = (v + 1.0) * 256.0;
            let found = warp.to_frame((pixel + 0.5) / 512.0) * 512.0 - 0.5;
            assert!((found - expected).abs() < 1e-9, "{pixel}: {found} {expected}");
            let back = warp.to_network(warp.to_frame((pixel + 0.5) / 512.0)) * 512.0 - 0.5;
            assert!((back - pixel).abs() < 1e-6, "{pixel}: {back}");
            let slope =
                (warp.to_frame((pixel + 0.5) / 512.0 + 1e-7) - warp.to_frame((pixel + 0.5) / 512.0 - 1e-7)) / 2e-7;
            assert!((slope / warp.stretch((pixel + 0.5) / 512.0) - 1.0).abs() < 1e-4, "{pixel}: {slope}");
        }
        assert!(warp.view()[0] < -0.9 && warp.view()[1] > 1.9, "{:?}", warp.view());
        assert!(Warp::tanh(0.0, 512).is_none() && Warp::tanh(1.1, 512).is_none() && Warp::tanh(0.8, 0).is_none());
        let table = Unwarp::new(&warp);
        for f in [-0.5, 0.1, 0.5, 1.4] {
            assert!((f64::from(table.at(f as f32)) - warp.to_network(f)).abs() < 1e-4, "{f}");
        }
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
