//! Measures the stages of an analysis.

use std::time::Instant;

/// Measures consecutive laps.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    since: Instant,
}

impl Stopwatch {
    /// Starts the first lap.
    pub fn start() -> Stopwatch {
        Stopwatch { since: Instant::now() }
    }

    /// Ends a lap and starts the next one; returns its length in microseconds.
    pub fn lap_us(&mut self) -> u64 {
        let now = Instant::now();
        let lap = now.duration_since(self.since);
        self.since = now;
        lap.as_micros() as u64
    }
}
