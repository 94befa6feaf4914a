//! Runs a compiled, quantized network on a CPU.
//!
//! A [`Bundle`] is a compiled network in one file; an [`Engine`] runs it part by part, and computes only what is requested.

#![deny(unsafe_code)]
#![warn(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

pub mod bundle;
#[allow(unsafe_code, reason = "calls functions compiled for CPU features, and reads operands through pointers")]
pub mod cpu;
pub mod engine;
mod error;
pub mod manifest;
pub mod memory_plan;
pub mod ops;
pub mod part;
pub mod plan;
pub mod plan_check;
pub mod step;
#[allow(unsafe_code, reason = "lends work on the caller's stack to the helpers")]
pub mod thread_pool;

pub use bundle::BundleError;
pub use bundle::reader::{Bundle, PartInfo, TensorInfo};
pub use cpu::{Kernel, Memory, PACKINGS, Packing};
pub use engine::{Counter, Engine, StepCost};
pub use error::{Error, ErrorKind};
pub use manifest::{Manifest, ManifestError};
pub use thread_pool::Threads;
