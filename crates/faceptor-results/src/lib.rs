#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod canvas;
pub mod caption;
pub mod cover;
pub mod cover_memory;
pub mod identity;
pub mod json;
pub mod mask;
pub mod overlay;
pub mod resize;
mod result_files;
pub mod terminal;
mod text_layout;
pub mod video;

pub use result_files::ResultFiles;
