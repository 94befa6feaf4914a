//! Results as text: JSON lines, plain lines, captions.

pub mod caption;
pub mod json;
pub mod text;
