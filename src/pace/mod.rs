//! Time: clocks, latency statistics, the live loop's channels, the bench with its report, the profile; and what the machine grants:
//! priority, memory, heat.

pub mod allocations;
pub mod assertion;
pub mod bench;
pub mod board;
pub mod budget;
pub mod clock;
pub mod degradation;
pub mod frame;
pub mod heat;
pub mod latency;
pub mod live;
pub mod machine;
pub mod mapped;
pub mod memory;
pub mod outcome;
pub mod profile;
pub mod publisher;
pub mod realtime;
pub mod report;
pub mod ring;
pub mod schedule;
pub mod sensors;
pub mod statistics;
pub mod threads;
pub mod time;
pub mod wakeup;
