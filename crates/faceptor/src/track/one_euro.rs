//! Smooths landmarks by the One-Euro filter (Casiez, Roussel and Vogel 2012), a low-pass filter whose cutoff rises
//! with speed: a face at rest does not jitter, and a moving face does not lag.
//!
//! The motion of the whole face is the mean over all points. It has little noise, so its cutoff may rise steeply. The
//! remaining motion of each point has a filter of its own with a gentler slope. Speed is measured in sides of the
//! face's crop per second, so that the filter is independent of the distance to the camera.

use std::f32::consts::TAU;

use crate::geometry::{Point, Similarity};

/// Maximum number of filtered points; further points pass unchanged.
pub const MAX_POINTS: usize = 68;
/// Cutoff at rest. At 30 frames/s a third of the jitter remains.
const MIN_CUTOFF_HZ: f32 = 1.5;
/// Slope of the cutoff for the whole face: half a side per second gives 75 Hz.
const WHOLE_HZ_PER_SPEED: f32 = 150.0;
/// Slope of the cutoff for a point within the face.
const POINT_HZ_PER_SPEED: f32 = 40.0;
/// Cutoff for the speeds themselves.
const SPEED_CUTOFF_HZ: f32 = 1.5;

/// The motion of a filtered value.
#[derive(Clone, Copy, Debug, Default)]
struct Motion {
    /// Sides per second.
    speed: Point,
}

impl Motion {
    /// Takes the newest step (sides per second) and returns the weight of the newest value in the filter's output.
    fn share(&mut self, step: Point, hz_per_speed: f32, elapsed_s: f32) -> f32 {
        let settled = share(SPEED_CUTOFF_HZ, elapsed_s);
        for (speed, step) in self.speed.iter_mut().zip(step) {
            *speed += settled * (step - *speed);
        }
        share(MIN_CUTOFF_HZ + hz_per_speed * self.speed[0].hypot(self.speed[1]), elapsed_s)
    }
}

/// The filter of one face.
#[derive(Clone, Debug, Default)]
pub struct Smoother {
    points: heapless::Vec<Point, MAX_POINTS>,
    motions: heapless::Vec<Motion, MAX_POINTS>,
    whole: Motion,
}

/// Returns the weight of the new value in a low-pass filter.
fn share(cutoff_hz: f32, elapsed_s: f32) -> f32 {
    let periods = TAU * cutoff_hz * elapsed_s;
    periods / (periods + 1.0)
}

fn middle(points: &[Point]) -> Point {
    let sum = points.iter().fold([0.0f32; 2], |sum, p| [sum[0] + p[0], sum[1] + p[1]]);
    sum.map(|v| v / points.len().max(1) as f32)
}

impl Smoother {
    /// Forgets the past: the next points pass unchanged.
    pub fn reset(&mut self) {
        self.points.clear();
    }

    /// Filters the points (pixels) in place. `side` is the side of the face's crop (pixels), `elapsed_s` the time
    /// since the last call. A different number of points restarts the filter.
    pub fn smooth(&mut self, points: &mut [Point], side: f32, elapsed_s: f32) {
        let count = points.len().min(MAX_POINTS);
        let points = &mut points[..count];
        let (from, to) = (middle(&self.points), middle(points));
        let moves = Similarity::fit(&self.points, points);
        let Some(moves) = moves.filter(|_| self.points.len() == count && side > 0.0 && elapsed_s > 0.0) else {
            self.begin(points);
            return;
        };
        let per_second = 1.0 / (side * elapsed_s);
        let step = [(to[0] - from[0]) * per_second, (to[1] - from[1]) * per_second];
        let whole = self.whole.share(step, WHOLE_HZ_PER_SPEED, elapsed_s);
        for ((point, known), motion) in points.iter_mut().zip(&mut self.points).zip(&mut self.motions) {
            let moved = moves.apply_point(*known);
            let rest = [point[0] - moved[0], point[1] - moved[1]];
            let own = motion.share(rest.map(|v| v * per_second), POINT_HZ_PER_SPEED, elapsed_s);
            for axis in [0, 1] {
                known[axis] += whole * (moved[axis] - known[axis]) + own * rest[axis];
            }
            *point = *known;
        }
    }

    fn begin(&mut self, points: &[Point]) {
        // The capacity suffices. Values that are not finite must not be remembered.
        let finite = points.iter().flatten().all(|v| v.is_finite());
        self.points = points.iter().filter(|_| finite).copied().collect();
        self.motions = points.iter().map(|_| Motion::default()).collect();
        self.whole = Motion::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME_S: f32 = 1.0 / 30.0;

    /// Returns pseudo-random numbers between -1 and 1.
    fn noise(seed: u32) -> f32 {
        let mixed = (seed.wrapping_mul(2_654_435_761) ^ 0x9e37_79b9).wrapping_mul(2_246_822_519);
        (mixed >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Returns a grid of 64 points, 70 pixels wide.
    fn face(x: f32, y: f32) -> Vec<Point> {
        (0..64u8).map(|i| [x + f32::from(i % 8) * 10.0, y + f32::from(i / 8) * 10.0]).collect()
    }

    #[test]
    fn jitter_at_rest_drops_to_a_third() {
        let mut smoother = Smoother::default();
        let (mut raw, mut smoothed) = (0.0f32, 0.0f32);
        let mut last = [[0.0f32; 2]; 2];
        for frame in 0..300u32 {
            let mut points = face(100.0, 50.0);
            for (index, point) in points.iter_mut().enumerate() {
                let seed = 200 * frame + 2 * index as u32;
                *point = [point[0] + 0.5 * noise(seed), point[1] + 0.5 * noise(seed + 1)];
            }
            let seen = points[20];
            smoother.smooth(&mut points, 200.0, FRAME_S);
            if frame > 30 {
                raw += (seen[0] - last[0][0]).abs();
                smoothed += (points[20][0] - last[1][0]).abs();
            }
            last = [seen, points[20]];
        }
        assert!(smoothed < 0.33 * raw, "{smoothed} of {raw}");
    }

    #[test]
    fn a_moving_face_does_not_lag() {
        let mut smoother = Smoother::default();
        // Half a side per second.
        for frame in 0..60 {
            let x = 100.0 * frame as f32 * FRAME_S;
            let mut points = face(x, 7.0);
            smoother.smooth(&mut points, 200.0, FRAME_S);
            if frame > 20 {
                assert!((points[9][0] - x - 10.0).abs() < 0.4, "{frame}: {points:?} at {x}");
            }
        }
    }

    #[test]
    fn a_point_that_moves_within_the_face_follows() {
        let mut smoother = Smoother::default();
        for frame in 0..20 {
            let mut points = face(0.0, 0.0);
            points[36][1] += if frame < 5 { 0.0 } else { 12.0 };
            smoother.smooth(&mut points, 200.0, FRAME_S);
            if frame == 12 {
                assert!(points[36][1] - 40.0 > 9.0, "{:?}", points[36]);
            }
        }
    }

    #[test]
    fn values_that_are_not_finite_are_forgotten() {
        let mut smoother = Smoother::default();
        let mut pass = |x: f32| {
            let mut points = face(x, 0.0);
            smoother.smooth(&mut points, 100.0, FRAME_S);
            points[0][0]
        };
        assert_eq!(pass(5.0), 5.0);
        assert!(pass(f32::NAN).is_nan());
        assert_eq!([pass(6.0), pass(6.0)], [6.0, 6.0]);
        // A different number of points restarts the filter; points beyond the capacity pass.
        let mut many = [[3.0, 4.0]; MAX_POINTS + 5];
        smoother.smooth(&mut many, 100.0, FRAME_S);
        assert_eq!(many, [[3.0, 4.0]; MAX_POINTS + 5]);
    }
}
