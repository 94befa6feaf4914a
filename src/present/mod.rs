//! What is shown of the answers: JSON lines, plain text, annotated pictures and masks.

pub mod canvas;
pub mod caption;
pub mod json;
pub mod lettering;
pub mod mask;
pub mod names;
pub mod overlay;
pub mod png;
pub mod text;
