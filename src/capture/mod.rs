//! Where frames come from: cameras, video streams, photos and the embedded demo clip.
//!
//! The live loop reads each of them as a [`source::Source`]. `open` makes one from its name on the command line:
//!
//! ```text
//! open           name -> source
//!   v4l2           cameras
//!   y4m, mjpeg     video files and pipes      read through timed_reader; part_start for multipart streams
//!   child          addresses, films, pipelines: read by another program
//!   photo_source   photos                     listed by photo_files
//!   demo_source    the demo clip              drawn by demo_clip
//!   paced          plays any of them but cameras at a fixed rate
//! feed           what the loop takes frames from: one source, or
//!   several_sources  those of a run; each has a thread, source_reader, and a name, source_names
//! jpeg           decoder of JPEG frames, for v4l2 and mjpeg
//! ```
//!
//! `docs/adding-a-source.md` describes how to add a source or a camera's pixel format.

pub(crate) mod child;
pub mod demo_clip;
pub mod demo_source;
pub mod feed;
pub(crate) mod jpeg;
mod mjpeg;
pub(crate) mod open;
mod paced;
mod part_start;
pub(crate) mod photo_files;
mod photo_source;
pub(crate) mod several_sources;
pub mod source;
pub(crate) mod source_names;
pub(crate) mod source_reader;
pub(crate) mod timed_reader;
pub(crate) mod v4l2;
mod y4m;
mod y4m_header;
