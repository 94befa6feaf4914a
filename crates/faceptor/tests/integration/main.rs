//! Tests of the library with the embedded network.

#[cfg(feature = "embedded")]
mod kernels;
