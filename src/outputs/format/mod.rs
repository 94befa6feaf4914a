//! Results as text: JSON lines, plain lines, captions.

pub mod text;

pub use faceptor_results::{ResultFiles, caption, identity, json, terminal};
