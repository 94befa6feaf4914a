//! Where pictures come from: photos, folders and the embedded demo clip.

pub mod demo;
pub mod folder;
mod jpeg_end;
pub mod photo;
pub mod picture;
pub mod source;

pub use picture::{Picture, Pixels, Pyramid};
pub use source::{Frame, Source, SourceError};
