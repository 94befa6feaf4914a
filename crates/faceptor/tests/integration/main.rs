//! Tests of the library with the embedded network.

#[cfg(feature = "embedded")]
mod kernels;
#[cfg(all(feature = "embedded", feature = "photo"))]
mod library;
