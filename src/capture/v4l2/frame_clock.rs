//! Converts a driver's frame counts and times to stamps: 64-bit counts that never fall, and times on the monotonic clock.

use crate::capture::source::Stamp;
use crate::capture::v4l2::backend::Filled;

/// Largest plausible age of a frame.
const OLDEST_US: u64 = 5_000_000;

/// Counts and dates the frames of one camera, across restarts of its stream.
#[derive(Debug, Default)]
pub(crate) struct FrameClock {
    /// The driver's count at the last frame; `None` at the start of a stream.
    last: Option<u32>,
    next: u64,
    /// Mean time from the sensor to this program, of frames for which the camera was waited for.
    delay_us: Option<u64>,
}

impl FrameClock {
    /// Notes that the stream was started again and the driver counts from another number.
    pub(crate) fn restart(&mut self) {
        self.last = None;
    }

    /// Returns the stamp of the next frame from the queue, and the number of frames lost before it. If the driver gives no
    /// plausible time (monotonic, not in the future, at most 5 s old), the time is that of the frame's arrival.
    pub(crate) fn stamp(&mut self, filled: &Filled, now_us: u64) -> (Stamp, u64) {
        let step = match self.last {
            None => 1,
            // The driver counts backwards or not at all: no loss is assumed.
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

    /// Notes the arrival of a frame for which the camera was waited for.
    pub(crate) fn arrived(&mut self, stamp: &Stamp, now_us: u64) {
        let delay = now_us - stamp.captured_us;
        self.delay_us = Some(self.delay_us.map_or(delay, |mean| (7 * mean + delay) / 8));
    }

    /// Returns true when the newest frame is older than usual and the next one is due. Called when all buffers were full,
    /// so that the driver had to stop.
    pub(crate) fn outdated(&self, stamp: &Stamp, now_us: u64, period_us: u64) -> bool {
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
    fn gaps_are_counted_across_the_wrap_but_not_across_a_restart() {
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
    fn implausible_times_are_replaced_by_the_arrival() {
        let mut clock = FrameClock::default();
        let now = 60_000_000;
        for (given, taken) in
            [(None, now), (Some(now - 40_000), now - 40_000), (Some(now + 1), now), (Some(now - OLDEST_US - 1), now)]
        {
            assert_eq!(clock.stamp(&filled(0, given), now).0.captured_us, taken, "{given:?}");
        }
    }

    #[test]
    fn frames_older_than_usual_are_outdated() {
        let mut clock = FrameClock::default();
        let taken = |captured_us| Stamp { captured_us, ..Stamp::default() };
        clock.arrived(&taken(1_000_000), 1_040_000);
        assert!(!clock.outdated(&taken(1_000_000), 1_089_000, 33_333));
        assert!(clock.outdated(&taken(1_000_000), 1_091_000, 33_333));
    }
}
