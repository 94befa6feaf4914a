//! The operating system below the runtime: clocks, memory, priorities, sensors and files.
//!
//! Each system call is made in one place, here or in `capture::v4l2`; no other folder has unsafe code.
#![allow(unsafe_code)]

pub mod allocations;
pub(crate) mod child_process;
pub mod clock;
pub mod cpu_cache;
pub(crate) mod device_nodes;
pub(crate) mod limits;
pub mod machine;
pub(crate) mod machine_facts;
pub mod memory_lock;
pub(crate) mod mmap;
pub mod network_threads;
pub mod page_faults;
pub(crate) mod passphrase;
pub(crate) mod poll;
pub(crate) mod redaction;
pub mod scheduling;
pub(crate) mod screen_info;
pub mod sensors;
pub mod shutdown;
pub mod thermal;

pub(crate) use faceptor_identity::{account, key_file};
