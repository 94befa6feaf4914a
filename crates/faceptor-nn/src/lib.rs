//! Runs a compiled, quantized network on a CPU.
//!
//! A [`Bundle`] is a compiled network in one file; an [`Engine`] runs it part by part, and computes only what is requested.

pub mod bundle;
pub mod cpu;
pub mod engine;
pub mod manifest;
pub mod memory_plan;
pub mod ops;
pub mod part;
pub mod plan;
pub mod plan_check;
pub mod step;
pub mod thread_pool;

pub use bundle::BundleError;
pub use bundle::reader::{Bundle, PartInfo, TensorInfo};
pub use cpu::Kernel;
pub use cpu::packed::{Memory, PACKINGS, Packing};
pub use engine::{Counter, Engine, StepCost};
pub use manifest::{Manifest, ManifestError};
pub use thread_pool::Threads;
