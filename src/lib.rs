//! Faceptor Edge: one small quantized network that reads a face on a CPU.

pub mod model;
