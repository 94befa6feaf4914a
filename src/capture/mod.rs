//! Where pictures come from: cameras, photos, folders, video streams and the embedded demo clip.
//!
//! The live loop reads any of them as a [`source::Source`], which [`open`](open::open) makes from a name.

pub mod demo_clip;
pub mod demo_source;
mod jpeg;
pub mod mjpeg;
pub mod open;
pub mod paced;
pub mod photo_files;
pub mod photo_source;
pub mod source;
mod timed_reader;
pub mod v4l2;
pub mod y4m;
