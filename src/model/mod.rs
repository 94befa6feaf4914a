//! The network: manifest, bundle, compiler, executor and kernels.
//!
//! An export folder becomes a [`Bundle`] by [`compile_folder`] (feature `compiler`); an [`Engine`] runs a bundle, part by
//! part and only as far as it is asked.

pub mod bundle;
mod check;
#[cfg(feature = "compiler")]
mod compiler;
mod engine;
mod finder_parts;
pub mod group;
pub mod kernels;
pub mod manifest;
mod ops;
mod plan;
pub mod pool;
mod prepared;
mod runner;
mod storage;

pub use bundle::{Bundle, BundleError, PartInfo, TensorInfo};
#[cfg(feature = "compiler")]
pub use compiler::{Form, compile_folder, tract_model};
pub use engine::{Counter, Engine, StepCost};
pub use kernels::{Kernel, Memory, PACKINGS, Packing};
pub use manifest::{Manifest, ManifestError};
pub use pool::Threads;
