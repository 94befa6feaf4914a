//! Measurements: bench, profile, reference, verification.

pub mod assertion;
pub mod bench;
pub mod compare;
pub mod junit;
pub mod probe;
pub mod profile;
pub mod reference;
pub mod report;
pub mod task_cost;
pub mod timer_latency;
pub mod verify;
