#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]
#![warn(missing_docs, unreachable_pub, unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod buffers;
pub mod bundle;
#[allow(unsafe_code, reason = "calls functions compiled for CPU features, and reads operands through pointers")]
pub mod cpu;
pub mod engine;
mod error;
pub mod evaluate;
pub mod manifest;
mod memory_plan;
mod ops;
mod part;
pub mod plan;
mod step;
mod tensor;
#[allow(unsafe_code, reason = "lends work on the caller's stack to the helpers")]
pub mod thread_pool;
mod weights;

pub use bundle::{Bundle, BundleError, PartInfo, TensorInfo};
pub use cpu::{Kernel, Memory, PACKINGS, Packing};
pub use engine::{Counter, Engine, StepCost, TensorId, TensorKey};
pub use error::{Error, ErrorKind};
pub use manifest::{Manifest, ManifestError};
pub use thread_pool::Threads;
