//! What the machine grants: clocks, memory, priority, sensors.

pub mod allocations;
pub mod clock;
pub mod machine;
pub mod memory_lock;
pub mod mmap;
pub mod network_threads;
pub mod scheduling;
pub mod sensors;
pub mod shutdown;
pub mod thermal;
