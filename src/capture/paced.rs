//! Plays a file or the demo clip at a fixed rate.

use std::path::Path;

use crate::capture::source::{Poll, Source, SourceCounters, SourceError, Stamp};
use crate::platform::clock;
use faceptor::stages::ImageView;

/// Delivers the frames of a source as a camera would: frame `k` is due at start + k periods, and a frame that was not
/// polled before the next was due is dropped and counted. A frame is read before it is due, so that reading does not add
/// to its latency.
pub(crate) struct Paced<S> {
    source: S,
    period_us: f64,
    /// When frame 0 was due: the time of the first poll.
    start_us: Option<u64>,
    /// Number of frames that were read or dropped.
    next: u64,
    /// Stamp of a frame that has been read but is not due yet.
    waiting: Option<Stamp>,
    stale_dropped: u64,
}

impl<S: Source> Paced<S> {
    /// Plays `source` at `fps` frames per second, more than 0.
    pub(crate) fn new(source: S, fps: f64) -> Paced<S> {
        let period_us = 1e6 / fps.max(1e-3);
        Paced { source, period_us, start_us: None, next: 0, waiting: None, stale_dropped: 0 }
    }

    fn due_us(&self, start_us: u64, frame: u64) -> u64 {
        start_us + (frame as f64 * self.period_us) as u64
    }

    /// Reads the newest frame that is due, or the next one when none is due.
    fn read(&mut self, start_us: u64, until_us: u64) -> Result<Poll, SourceError> {
        let current = ((clock::now_us() - start_us) as f64 / self.period_us) as u64;
        let mut dropped = 0;
        while self.next < current {
            self.next += 1;
            if !self.source.skip()? {
                return Ok(Poll::Ended);
            }
            dropped += 1;
        }
        self.stale_dropped += u64::from(dropped);
        let stamp = match self.source.poll(until_us)? {
            Poll::Frame(stamp) => stamp,
            other => return Ok(other),
        };
        let captured_us = self.due_us(start_us, self.next);
        self.next += 1;
        Ok(Poll::Frame(Stamp { captured_us, stale_dropped: stamp.stale_dropped + dropped, ..stamp }))
    }
}

impl<S: Source> Source for Paced<S> {
    fn poll(&mut self, until_us: u64) -> Result<Poll, SourceError> {
        let start_us = *self.start_us.get_or_insert_with(clock::now_us);
        let stamp = match self.waiting.take() {
            Some(stamp) => stamp,
            None => match self.read(start_us, until_us)? {
                Poll::Frame(stamp) => stamp,
                other => return Ok(other),
            },
        };
        if stamp.captured_us > until_us {
            clock::sleep_until_us(until_us);
            self.waiting = Some(stamp);
            return Ok(Poll::Nothing);
        }
        clock::sleep_until_us(stamp.captured_us);
        Ok(Poll::Frame(stamp))
    }

    fn view(&self) -> ImageView<'_> {
        self.source.view()
    }

    fn counters(&self) -> SourceCounters {
        let inner = self.source.counters();
        SourceCounters { stale_dropped: inner.stale_dropped + self.stale_dropped, ..inner }
    }

    fn period_us(&self) -> Option<u64> {
        Some(self.period_us as u64)
    }

    fn describe(&self) -> String {
        format!("{} at {} frames/s", self.source.describe(), (1e9 / self.period_us).round() / 1e3)
    }

    fn path(&self) -> Option<&Path> {
        self.source.path()
    }

    fn rewind(&mut self) -> bool {
        self.source.rewind()
    }

    fn scene(&self) -> u64 {
        self.source.scene()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source of ten frames of one pixel.
    #[derive(Default)]
    struct Ten(u64);

    impl Source for Ten {
        fn poll(&mut self, _until_us: u64) -> Result<Poll, SourceError> {
            self.0 += 1;
            let stamp = Stamp { sequence: self.0 - 1, captured_us: 0, stale_dropped: 0 };
            Ok(if self.0 > 10 { Poll::Ended } else { Poll::Frame(stamp) })
        }

        fn view(&self) -> ImageView<'_> {
            ImageView::blank()
        }

        fn counters(&self) -> SourceCounters {
            SourceCounters::default()
        }

        fn describe(&self) -> String {
            "ten".to_owned()
        }
    }

    fn frame(poll: Poll) -> Stamp {
        let Poll::Frame(stamp) = poll else { panic!("{poll:?}") };
        stamp
    }

    #[test]
    fn frames_are_due_at_equal_distances() -> Result<(), SourceError> {
        let mut source = Paced::new(Ten::default(), 100.0);
        let first = frame(source.poll(u64::MAX)?);
        // Under load the thread may wake so late that frames are dropped; distances are whole periods then.
        let mut last = first;
        while let Poll::Frame(stamp) = source.poll(u64::MAX)? {
            assert!(clock::now_us() >= stamp.captured_us);
            assert_eq!(stamp.captured_us, first.captured_us + stamp.sequence * 10_000);
            assert_eq!(stamp.sequence, last.sequence + 1 + u64::from(stamp.stale_dropped));
            last = stamp;
        }
        assert_eq!((source.period_us(), source.describe().as_str()), (Some(10_000), "ten at 100 frames/s"));
        Ok(())
    }

    #[test]
    fn slow_readers_get_the_newest_frame() -> Result<(), SourceError> {
        let mut source = Paced::new(Ten::default(), 100.0);
        let first = frame(source.poll(u64::MAX)?);
        clock::sleep_until_us(first.captured_us + 35_000);
        let later = frame(source.poll(u64::MAX)?);
        assert!(later.sequence >= 3 && u64::from(later.stale_dropped) == later.sequence - 1, "{later:?}");
        assert_eq!(source.counters().stale_dropped, later.sequence - 1);
        clock::sleep_until_us(first.captured_us + 200_000);
        assert_eq!(source.poll(u64::MAX)?, Poll::Ended);
        Ok(())
    }

    #[test]
    fn frames_that_are_not_due_are_kept() -> Result<(), SourceError> {
        let mut source = Paced::new(Ten::default(), 5.0);
        let first = frame(source.poll(u64::MAX)?);
        assert_eq!(source.poll(first.captured_us + 20_000)?, Poll::Nothing);
        let second = frame(source.poll(u64::MAX)?);
        assert_eq!(second.captured_us - first.captured_us, 200_000 * second.sequence);
        Ok(())
    }
}
