//! Outputs of a run: JSON lines and text, annotated pictures and masks, recordings, a display, a preview page, snapshots,
//! and notifications of the service manager.
//!
//! [`fan_out::Outputs`] copies each result to the sinks; every sink has a thread of its own.

pub(crate) mod buses;
pub mod draw;
pub mod fan_out;
pub mod format;
pub mod http;
pub mod output_paths;
pub mod publisher;
pub mod shared_frame;
pub mod sinks;
