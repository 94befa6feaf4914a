//! Time: clocks, latency statistics, the live loop's channels; and what the machine grants: priority, memory, heat.

pub mod allocations;
pub mod budget;
pub mod clock;
pub mod degradation;
pub mod heat;
pub mod live;
pub mod memory;
pub mod realtime;
pub mod schedule;
pub mod sensors;
pub mod statistics;
pub mod wakeup;
