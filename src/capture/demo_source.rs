//! The demo clip as a source: a fixed number of frames, each available at once.

use anyhow::Result;

use crate::capture::demo_clip::{self, DemoClip};
use crate::capture::source::{Poll, Source, SourceCounters, SourceError, Stamp};
use crate::platform::clock;
use faceptor::stages::{ImageView, Picture};

/// The demo clip, played once.
pub struct DemoSource {
    clip: DemoClip,
    picture: Picture,
    /// Frame count over all rounds.
    next: u64,
    end: u64,
    counters: SourceCounters,
}

impl DemoSource {
    /// Starts at the first frame.
    ///
    /// # Errors
    /// When the embedded portrait cannot be decoded.
    pub fn new() -> Result<DemoSource> {
        let mut picture = Picture::default();
        picture.reshape(demo_clip::WIDTH, demo_clip::HEIGHT);
        Ok(DemoSource {
            clip: DemoClip::new()?,
            picture,
            next: 0,
            end: demo_clip::PERIOD,
            counters: SourceCounters::default(),
        })
    }
}

impl Source for DemoSource {
    fn poll(&mut self, _until_us: u64) -> Result<Poll, SourceError> {
        if self.next == self.end {
            return Ok(Poll::Ended);
        }
        let stamp = Stamp { sequence: self.next, captured_us: clock::now_us(), stale_dropped: 0 };
        self.clip.render(self.next, &mut self.picture);
        self.next += 1;
        self.counters.frames += 1;
        Ok(Poll::Frame(stamp))
    }

    fn view(&self) -> ImageView<'_> {
        self.picture.view()
    }

    fn counters(&self) -> SourceCounters {
        self.counters
    }

    fn describe(&self) -> String {
        format!("demo: {} frames of {} x {}", demo_clip::PERIOD, demo_clip::WIDTH, demo_clip::HEIGHT)
    }

    fn skip(&mut self) -> Result<bool, SourceError> {
        // Not `self.next += u64::from(more)`: LLVM compiles a loop of that to one step too many on arm64 (LLVM issue 205799).
        if self.next == self.end {
            return Ok(false);
        }
        self.next += 1;
        Ok(true)
    }

    fn rewind(&mut self) -> bool {
        self.end = self.next + demo_clip::PERIOD;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(source: &mut impl Source) -> u64 {
        match source.poll(0).expect("readable") {
            Poll::Frame(stamp) => stamp.sequence,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn demo_ends_after_its_period_and_starts_again() -> Result<()> {
        let mut source = DemoSource::new()?;
        assert_eq!(sequence(&mut source), 0);
        let first = source.picture.clone();
        assert!(source.skip()?);
        assert_eq!(sequence(&mut source), 2);
        while source.skip()? {}
        assert_eq!(source.poll(0)?, Poll::Ended);
        assert!(source.rewind());
        assert_eq!(sequence(&mut source), demo_clip::PERIOD);
        assert_eq!(source.picture, first);
        assert_eq!((source.view().width(), source.view().height(), source.counters().frames), (640, 480, 3));
        Ok(())
    }
}
