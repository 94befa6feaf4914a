//! Where the live loop takes its frames from: one source, or several that share it.

use crate::capture::source::{Poll, Source, SourceCounters, SourceError};

/// What came from a source.
#[derive(Debug)]
pub enum Arrival {
    /// A poll of the source has ended, usually with a frame.
    Polled(Result<Poll, SourceError>),
    /// The source could not be opened. With `is_final` no further attempt is made.
    Unopened { reason: String, is_final: bool },
}

/// Gives the loop frames of sources, which have places from 0 on.
pub trait Feed {
    /// Waits for what comes next, at most until `until_us` of the monotonic clock. Returns the source's place with it, or `None`
    /// if nothing came. The source is the loop's until the next call.
    fn next(&mut self, until_us: u64) -> Option<(usize, Arrival)>;

    /// Returns the source of the last arrival, if that is open and the loop's.
    fn source(&mut self, place: usize) -> Option<&mut dyn Source>;

    /// Returns the counts of the source of the last arrival.
    fn counters(&self, place: usize) -> SourceCounters;

    /// Closes a source from which nothing more is wanted.
    fn retire(&mut self, place: usize);
}

/// One source, which the loop polls itself.
pub struct OneSource<'a>(pub &'a mut dyn Source);

impl Feed for OneSource<'_> {
    fn next(&mut self, until_us: u64) -> Option<(usize, Arrival)> {
        Some((0, Arrival::Polled(self.0.poll(until_us))))
    }

    fn source(&mut self, _place: usize) -> Option<&mut dyn Source> {
        Some(self.0)
    }

    fn counters(&self, _place: usize) -> SourceCounters {
        self.0.counters()
    }

    fn retire(&mut self, _place: usize) {}
}
