//! Sources that another program reads: network cameras and films by ffmpeg, GStreamer pipelines, cameras of libcamera.
//!
//! ```text
//! commands     name of a source -> the program and its arguments
//!   pipeline     words of `gst:PIPELINE`
//! live_stream  newest frame of a program that is started again when it fails: URLs, pipelines, libcamera
//!   supervisor   its thread: starts, reads, watches and restarts the program
//!   slot         the newest frame, between that thread and the loop
//! film         every frame of a film, in its own order
//! ```
//!
//! Each program writes YUV4MPEG2 or raw frames to a pipe, which `y4m` reads. No name becomes part of a shell command.

pub(crate) mod commands;
pub(crate) mod film;
pub(crate) mod live_stream;
mod pipeline;
mod slot;
mod supervisor;
