//! Results as text: JSON lines, plain lines, captions.

pub mod caption;
pub mod identity;
pub mod json;
mod result_files;
pub(crate) mod terminal;
pub mod text;

pub use result_files::ResultFiles;
