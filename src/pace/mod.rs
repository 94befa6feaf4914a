//! Time: clocks and latency statistics.

pub mod clock;
pub mod statistics;
