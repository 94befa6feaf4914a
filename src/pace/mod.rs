//! Time: clocks, latency statistics, and the count of allocations.

pub mod allocations;
pub mod clock;
pub mod live;
pub mod statistics;
