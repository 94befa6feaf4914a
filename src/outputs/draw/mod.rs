//! Annotated pictures and parsing masks.

pub mod canvas;
pub mod mask;
pub mod overlay;
pub mod png;
pub mod resize;
pub mod text_layout;
