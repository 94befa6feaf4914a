//! QoS: which frames come too late to be analyzed, by what the sink reports of earlier ones.

use gstreamer::ClockTime;
use gstreamer::event::Qos;

/// What the last QoS event said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lateness {
    /// A frame of this running time or an earlier one is late at the sink.
    until: Option<ClockTime>,
    proportion: f64,
}

/// How late a frame is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Late {
    pub jitter_ns: i64,
    pub proportion: f64,
}

impl Lateness {
    /// Takes notice of an event: the frame of `timestamp` was so many nanoseconds late, or early when they are negative.
    pub fn record(&mut self, event: &Qos) {
        let (_, proportion, difference, timestamp) = event.get();
        self.update(proportion, difference, timestamp);
    }

    fn update(&mut self, proportion: f64, difference: i64, timestamp: Option<ClockTime>) {
        let until = timestamp.and_then(|time| time.nseconds().checked_add_signed(difference));
        // The greatest number stands for no time in GStreamer.
        self.until = until.filter(|ns| *ns < u64::MAX).map(ClockTime::from_nseconds);
        self.proportion = proportion;
    }

    /// Forgets what was said: after a flush times begin anew.
    pub fn reset(&mut self) {
        *self = Lateness::default();
    }

    /// Judges a frame by its running time. A frame without one is never late.
    pub fn judge(&self, running_time: Option<ClockTime>) -> Option<Late> {
        let (until, time) = (self.until?, running_time?);
        let late = until.nseconds().checked_sub(time.nseconds())?;
        Some(Late { jitter_ns: i64::try_from(late).unwrap_or(i64::MAX), proportion: self.proportion })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Option<ClockTime> {
        Some(ClockTime::from_mseconds(ms))
    }

    #[test]
    fn frames_before_the_reported_time_are_late() {
        let mut lateness = Lateness::default();
        assert_eq!(lateness.judge(at(0)), None);
        lateness.update(1.5, 50_000_000, at(100));
        assert_eq!(lateness.judge(at(140)), Some(Late { jitter_ns: 10_000_000, proportion: 1.5 }));
        assert_eq!(lateness.judge(at(150)), Some(Late { jitter_ns: 0, proportion: 1.5 }));
        assert_eq!((lateness.judge(at(151)), lateness.judge(None)), (None, None));
        lateness.reset();
        assert_eq!(lateness.judge(at(140)), None);
    }

    #[test]
    fn times_out_of_range_make_no_frame_late() {
        let mut lateness = Lateness::default();
        for (difference, timestamp) in [(-200_000_000, at(100)), (i64::MIN, at(100)), (5, None)] {
            lateness.update(1.0, difference, timestamp);
            assert_eq!(lateness.judge(at(0)), None, "{difference} {timestamp:?}");
        }
        lateness.update(1.0, i64::MAX, Some(ClockTime::from_nseconds(u64::MAX - 1)));
        assert_eq!(lateness.judge(at(0)), None);
        lateness.update(1.0, i64::MAX, at(0));
        assert_eq!(lateness.judge(at(0)), Some(Late { jitter_ns: i64::MAX, proportion: 1.0 }));
    }
}
