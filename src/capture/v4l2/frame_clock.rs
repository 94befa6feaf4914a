//! A driver's counts and times, made into ours: 64 bits that only grow, on the monotonic clock, over every restart.

use crate::capture::source::Stamp;
use crate::capture::v4l2::backend::Filled;

/// A frame that claims to be older than this is not believed.
const OLDEST_US: u64 = 5_000_000;

/// Follows the frames of one camera.
#[derive(Debug, Default)]
pub struct FrameClock {
    /// The driver's count of the last frame since the start of the stream.
    last: Option<u32>,
    next: u64,
    /// How long a frame takes from the sensor to us, when we waited for it.
    delay_us: Option<u64>,
}

impl FrameClock {
    /// The stream was started anew: the driver counts from somewhere else.
    pub fn restart(&mut self) {
        self.last = None;
    }

    /// The stamp of the next frame out of the queue, and how many were lost before it. Without a time of the driver
    /// that can be true (monotonic, not ahead, not older than seconds) a frame's time is that of its arrival.
    pub fn stamp(&mut self, filled: &Filled, now_us: u64) -> (Stamp, u64) {
        let step = match self.last {
            None => 1,
            // Drivers that count wrongly, or not at all, lose nothing.
            Some(last) => match filled.sequence.wrapping_sub(last) {
                0 => 1,
                step if step > u32::MAX / 2 => 1,
                step => u64::from(step),
            },
        };
        self.last = Some(filled.sequence);
        let sequence = self.next + step - 1;
        self.next = sequence + 1;
        let plausible = |&taken: &u64| taken <= now_us && now_us - taken <= OLDEST_US;
        let captured_us = filled.taken_us.filter(plausible).unwrap_or(now_us);
        (Stamp { sequence, captured_us, stale_dropped: 0 }, step - 1)
    }

    /// A frame was waited for and has arrived.
    pub fn arrived(&mut self, stamp: &Stamp, now_us: u64) {
        let delay = now_us - stamp.captured_us;
        self.delay_us = Some(self.delay_us.map_or(delay, |mean| (7 * mean + delay) / 8));
    }

    /// All buffers were full, so the driver had to stop: whether the newest frame is too old to be the camera's view
    /// of now, the next one being due.
    pub fn outdated(&self, stamp: &Stamp, now_us: u64, period_us: u64) -> bool {
        let usual = self.delay_us.unwrap_or(period_us) + period_us * 3 / 2;
        now_us - stamp.captured_us > usual
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(sequence: u32, taken_us: Option<u64>) -> Filled {
        Filled { index: 0, used: 0, damaged: false, sequence, taken_us }
    }

    #[test]
    fn gaps_are_counted_over_the_wrap_and_not_over_a_restart() {
        let mut clock = FrameClock::default();
        let take = |clock: &mut FrameClock, sequence| {
            let (stamp, lost) = clock.stamp(&filled(sequence, None), 9);
            (stamp.sequence, lost)
        };
        assert_eq!(take(&mut clock, u32::MAX - 1), (0, 0));
        assert_eq!(take(&mut clock, u32::MAX), (1, 0));
        assert_eq!(take(&mut clock, 2), (4, 2));
        clock.restart();
        assert_eq!(take(&mut clock, 700), (5, 0));
        assert_eq!(take(&mut clock, 700), (6, 0), "a driver that does not count");
        assert_eq!(take(&mut clock, 3), (7, 0), "a driver that counts backwards");
        assert_eq!(take(&mut clock, 5), (9, 1));
    }

    #[test]
    fn a_time_is_believed_when_it_can_be_true() {
        let mut clock = FrameClock::default();
        let now = 60_000_000;
        for (given, taken) in
            [(None, now), (Some(now - 40_000), now - 40_000), (Some(now + 1), now), (Some(now - OLDEST_US - 1), now)]
        {
            assert_eq!(clock.stamp(&filled(0, given), now).0.captured_us, taken, "{given:?}");
        }
    }

    #[test]
    fn a_frame_is_outdated_beyond_the_usual_delay() {
        let mut clock = FrameClock::default();
        let taken = |captured_us| Stamp { captured_us, ..Stamp::default() };
        clock.arrived(&taken(1_000_000), 1_040_000);
        assert!(!clock.outdated(&taken(1_000_000), 1_089_000, 33_333));
        assert!(clock.outdated(&taken(1_000_000), 1_091_000, 33_333));
    }
}
