//! Time: clocks, latency statistics, the live loop's channels, the bench with its report; and what the machine grants:
//! priority, memory, heat.

pub mod allocations;
pub mod assertion;
pub mod bench;
pub mod budget;
pub mod clock;
pub mod degradation;
pub mod heat;
pub mod live;
pub mod machine;
pub mod memory;
pub mod realtime;
pub mod report;
pub mod schedule;
pub mod sensors;
pub mod statistics;
pub mod wakeup;
