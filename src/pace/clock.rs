//! Time in microseconds.

use std::sync::OnceLock;
use std::time::Instant;

static START: OnceLock<Instant> = OnceLock::new();

/// Microseconds of the monotonic clock since this was first called in the process.
pub fn now_us() -> u64 {
    START.get_or_init(Instant::now).elapsed().as_micros() as u64
}

/// Measures one stage after another.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    since: Instant,
}

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Stopwatch {
        Stopwatch { since: Instant::now() }
    }

    /// Microseconds since the start or the last lap.
    pub fn lap_us(&mut self) -> u64 {
        let now = Instant::now();
        let lap = now.duration_since(self.since).as_micros() as u64;
        self.since = now;
        lap
    }
}
