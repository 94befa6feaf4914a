//! The fixed latency: results are published at capture + L, whatever time a frame needed.
//!
//! L is chosen once after the first frames, from measurements: the age of frames when the loop gets them, the cost of the
//! detector and of the faces, and a margin. It covers a whole budget only if the faces that may be tracked could take that
//! long; a result that is later is published at once and counted.

use crate::live::budget::{Costs, RollingQuantile};

/// Live frames after which L is chosen; their results are published at once.
pub const SETTLING_FRAMES: u64 = 15;
/// Time for the publisher to write the line and to wake up, in microseconds.
const MARGIN_US: u64 = 1500;
/// The estimates cover nine of ten frames; the tenth may take this many 16ths of them.
const SLOW_SIXTEENTHS: u64 = 24;

/// The latency L, and the measurements that it is chosen from.
#[derive(Clone, Debug)]
pub struct Latency {
    chosen_us: Option<u64>,
    frames: u64,
    /// Age of frames when the loop gets them.
    age: RollingQuantile,
}

impl Latency {
    /// Starts with the user's latency `fixed_us`, or without one.
    pub fn new(fixed_us: Option<u64>) -> Latency {
        Latency { chosen_us: fixed_us, frames: 0, age: RollingQuantile::default() }
    }

    /// Returns L in microseconds, once it is chosen.
    pub fn us(&self) -> Option<u64> {
        self.chosen_us
    }

    /// Records the age of a frame. Returns L at the frame that chooses it, for up to `faces` faces with these tasks.
    pub fn settle(&mut self, age_us: u64, costs: &Costs, faces: usize, tasks: &[u8], budget_us: u64) -> Option<u64> {
        if self.chosen_us.is_some() {
            return None;
        }
        self.age.record(age_us);
        self.frames += 1;
        if self.frames < SETTLING_FRAMES {
            return None;
        }
        let work = costs.find.us() + faces as u64 * costs.face_us(tasks) + costs.hand_over.us();
        let work = (work * SLOW_SIXTEENTHS / 16).min(budget_us);
        // Rounded up to whole milliseconds.
        self.chosen_us = Some((self.age.us() + work + MARGIN_US).next_multiple_of(1000));
        self.chosen_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::budget::tests::costs;

    #[test]
    fn latency_covers_age_and_work_and_is_chosen_once() {
        let mut costs = costs(100, &[(0b11, 1000)], &[400, 500]);
        costs.find.record(2000);
        let mut latency = Latency::new(None);
        for frame in 1..SETTLING_FRAMES {
            assert_eq!(latency.settle(3000, &costs, 2, &[0, 1], 33_333), None, "{frame}");
        }
        // 3 ms old, (2 + 2 * 2) * 1.5 ms of work, 1.5 ms margin.
        assert_eq!(latency.settle(3000, &costs, 2, &[0, 1], 33_333), Some(14_000));
        assert_eq!((latency.settle(9000, &costs, 2, &[0, 1], 33_333), latency.us()), (None, Some(14_000)));
        let mut short = Latency::new(None);
        let chosen = (0..SETTLING_FRAMES).filter_map(|_| short.settle(0, &costs, 16, &[0, 1], 10_000)).last();
        assert_eq!(chosen, Some(12_000), "the work is cut at the budget");
        assert_eq!(Latency::new(Some(5)).us(), Some(5));
    }
}
