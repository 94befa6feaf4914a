//! Sinks of a run, each on a thread of its own.

pub mod display;
pub mod framebuffer;
pub mod pixel_demand;
pub mod preview;
pub mod recording;
mod recording_file;
mod recording_recovery;
pub mod service_manager;
pub mod sink;
pub mod snapshot;
pub mod stdout_sink;
pub(crate) mod video;
