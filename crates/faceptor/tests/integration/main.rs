//! Tests of the library: with the embedded network, and of its picture decoders.

#[cfg(feature = "photo")]
mod damaged_pictures;
#[cfg(feature = "photo")]
mod jpeg;
#[cfg(feature = "embedded")]
mod kernels;
#[cfg(all(feature = "embedded", feature = "photo"))]
mod library;
