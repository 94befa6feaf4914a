//! The live loop: budget, schedule, fixed latency, publisher.

pub mod budget;
pub mod degradation;
pub mod frame;
pub mod frame_pool;
pub mod frame_result;
pub mod latency;
pub mod live_loop;
pub mod ring;
pub mod run_stats;
pub mod schedule;
pub mod statistics;
pub mod virtual_clock;
