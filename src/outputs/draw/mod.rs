//! Annotated pictures and parsing masks.

pub mod png;

pub use faceptor_results::{mask, overlay, resize};
