//! What is shown of the answers: JSON lines, plain text, annotated pictures and masks; and the outlets of a running
//! loop: standard output, recordings, a display, a preview page, the service manager.

pub mod canvas;
pub mod caption;
pub mod display;
pub mod framebuffer;
pub mod json;
pub mod junit;
pub mod lettering;
pub mod lines;
pub mod mask;
pub mod names;
pub mod notify;
pub mod outlet;
pub mod overlay;
pub mod png;
pub mod presenters;
pub mod preview;
pub mod record;
pub mod resize;
pub mod scene;
pub mod snapshot;
mod tail;
pub mod text;

pub use presenters::{Facts, PresentOptions, Presenters, Shown};
pub use scene::Stills;
pub use snapshot::Watch;
