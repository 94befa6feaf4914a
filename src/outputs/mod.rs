//! Where results go: JSON lines and text, annotated pictures and masks, recordings, a display, a preview page, the service
//! manager.

pub mod draw;
pub mod fan_out;
pub mod format;
pub mod output_paths;
pub mod publisher;
pub mod shared_frame;
pub mod sinks;
