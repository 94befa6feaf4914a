//! What is shown of the answers: JSON lines, plain text, annotated pictures and masks; and the outlets of a running
//! loop: standard output, recordings, a display, a preview page, the service manager.

pub mod canvas;
pub mod caption;
pub mod json;
pub mod lettering;
pub mod lines;
pub mod mask;
pub mod names;
pub mod notify;
pub mod outlet;
pub mod overlay;
pub mod png;
pub mod record;
pub mod resize;
mod tail;
pub mod text;
