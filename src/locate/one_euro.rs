//! The One-Euro filter (Casiez, Roussel and Vogel 2012) for the points of a face: a low-pass filter whose cutoff rises
//! with speed, so that a face at rest does not tremble and a moving one does not lag.
//!
//! Speed is measured in sides of the face's crop per second, so that the same motion is filtered alike near the camera
//! and far from it.

use std::f32::consts::TAU;

use super::alignment::Point;

/// The most points that are filtered; a face's further points pass unchanged.
pub const MAX_POINTS: usize = 68;
/// Cutoff at rest. At 30 frames/s a third of the trembling is left.
const MIN_CUTOFF_HZ: f32 = 1.5;
/// How the cutoff rises: at half a side per second it is 20 Hz, and a point lags by less than a hundredth of the side.
const CUTOFF_HZ_PER_SPEED: f32 = 40.0;
/// Cutoff for the speed itself.
const SPEED_CUTOFF_HZ: f32 = 1.0;

#[derive(Clone, Copy, Debug)]
struct Trace {
    at: Point,
    /// Sides per second.
    speed: Point,
}

/// The filter of one face.
#[derive(Clone, Debug, Default)]
pub struct Smoother {
    traces: heapless::Vec<Trace, MAX_POINTS>,
}

/// The share of the new value in a low-pass filter's output.
fn share(cutoff_hz: f32, elapsed_s: f32) -> f32 {
    let periods = TAU * cutoff_hz * elapsed_s;
    periods / (periods + 1.0)
}

impl Smoother {
    /// Forgets the past: the next points pass unchanged.
    pub fn reset(&mut self) {
        self.traces.clear();
    }

    /// Filters the points (pixels) in place; `side` is that of the face's crop (pixels), `elapsed_s` the time since the
    /// last call. A face with another number of points begins anew.
    pub fn smooth(&mut self, points: &mut [Point], side: f32, elapsed_s: f32) {
        let count = points.len().min(MAX_POINTS);
        if self.traces.len() != count || !(side > 0.0 && elapsed_s > 0.0) {
            // It has room for so many.
            self.traces = points.iter().take(count).map(|&at| Trace { at, speed: [0.0; 2] }).collect();
            return;
        }
        let settled = share(SPEED_CUTOFF_HZ, elapsed_s);
        for (point, trace) in points.iter_mut().zip(&mut self.traces) {
            let moved = [point[0] - trace.at[0], point[1] - trace.at[1]];
            for (speed, moved) in trace.speed.iter_mut().zip(moved) {
                *speed += settled * (moved / (side * elapsed_s) - *speed);
            }
            let cutoff = MIN_CUTOFF_HZ + CUTOFF_HZ_PER_SPEED * trace.speed[0].hypot(trace.speed[1]);
            let new = share(cutoff, elapsed_s);
            trace.at = [trace.at[0] + new * moved[0], trace.at[1] + new * moved[1]];
            if !(trace.at[0].is_finite() && trace.at[1].is_finite()) {
                *trace = Trace { at: *point, speed: [0.0; 2] };
            }
            *point = trace.at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME_S: f32 = 1.0 / 30.0;

    /// Numbers between -1 and 1 that look like noise.
    fn noise(seed: u32) -> f32 {
        let mixed = (seed.wrapping_mul(2_654_435_761) ^ 0x9e37_79b9).wrapping_mul(2_246_822_519);
        (mixed >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    #[test]
    fn a_face_at_rest_trembles_a_third_as_much() {
        let mut smoother = Smoother::default();
        let (mut raw, mut smoothed) = (0.0f32, 0.0f32);
        let mut last = [[0.0f32; 2]; 2];
        for frame in 0..300u32 {
            let seen = [100.0 + noise(2 * frame), 50.0 + noise(2 * frame + 1)];
            let mut points = [seen];
            smoother.smooth(&mut points, 200.0, FRAME_S);
            if frame > 30 {
                raw += (seen[0] - last[0][0]).abs();
                smoothed += (points[0][0] - last[1][0]).abs();
            }
            last = [seen, points[0]];
        }
        assert!(smoothed < 0.36 * raw, "{smoothed} of {raw}");
    }

    #[test]
    fn a_moving_face_does_not_lag() {
        let mut smoother = Smoother::default();
        // Half a side per second.
        for frame in 0..60 {
            let x = 100.0 * frame as f32 * FRAME_S;
            let mut points = [[x, 7.0]];
            smoother.smooth(&mut points, 200.0, FRAME_S);
            if frame > 30 {
                assert!((points[0][0] - x).abs() < 2.0 && points[0][1] == 7.0, "{frame}: {points:?} at {x}");
            }
        }
    }

    #[test]
    fn what_is_no_number_is_forgotten_again() {
        let mut smoother = Smoother::default();
        let mut pass = |x: f32| {
            let mut points = [[x, 0.0]];
            smoother.smooth(&mut points, 100.0, FRAME_S);
            points[0][0]
        };
        assert_eq!(pass(5.0), 5.0);
        assert!(pass(f32::NAN).is_nan());
        assert_eq!([pass(6.0), pass(6.0)], [6.0, 6.0]);
        // Another number of points begins anew; more than there is room for pass.
        let mut many = [[3.0, 4.0]; MAX_POINTS + 5];
        smoother.smooth(&mut many, 100.0, FRAME_S);
        assert_eq!(many, [[3.0, 4.0]; MAX_POINTS + 5]);
    }
}
