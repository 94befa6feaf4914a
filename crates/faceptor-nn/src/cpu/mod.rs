//! Inner loops of the products, one family for each kind of CPU; a [`Kernel`] is chosen once, when an engine is made.
//!
//! `unsafe` code lives here and in [`crate::thread_pool`] only. Here it calls functions that are compiled for CPU features,
//! and reads operands through pointers. Two values prove that both are sound: a [`Kernel`] exists only if this CPU has its
//! instructions, and a `PackedInt8` or `PackedFloat` only with as many weights as its shape needs. What is left to check
//! on each call is the length of the activations and of the results.
//!
//! Integer sums are equal on every family. Float sums differ by rounding.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod amx_permission;
#[cfg(target_arch = "x86_64")]
mod amx_tiles;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_float;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_finishing;
#[cfg(target_arch = "x86_64")]
mod avxvnni;
mod dispatch;
mod finishing;
mod float;
#[cfg(target_arch = "aarch64")]
mod i8mm;
mod kernel;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_float;
#[cfg(target_arch = "aarch64")]
mod neon_tiles;
pub(crate) mod packed;
mod packing;
mod peak;
mod quantizer;
mod rows;
mod scalar;
#[cfg(target_arch = "aarch64")]
mod sdot;
#[cfg(test)]
mod tests;
mod windows;

pub(crate) use crate::cpu::finishing::{Finishing, ResidualRows};
pub(crate) use crate::cpu::float::{Strided, pack as pack_float};
pub use crate::cpu::kernel::{Kernel, OVERRIDE};
pub(crate) use crate::cpu::packed::{PackedFloat, PackedInt8};
pub use crate::cpu::packing::{Memory, PACKINGS, Packing};
pub(crate) use crate::cpu::packing::{column_sums, padded_columns};
pub(crate) use crate::cpu::quantizer::{Quantizer, ROUND};
pub(crate) use crate::cpu::windows::Windows;

/// Depth that the dot product instructions of x86 take at once.
const DEPTH_GROUP: usize = 4;
