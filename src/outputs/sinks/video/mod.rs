//! Annotated video: a film file through ffmpeg, or YUV4MPEG2 on standard output.
//!
//! ```text
//! frames       draws a frame and writes it as YUV4MPEG2, always of the size of the first
//! film_sink    --record-video FILE: into ffmpeg
//! film_file    the file, by the rules of this program's outputs
//! pipe_sink    --video -: on standard output
//! ```

pub(crate) mod film_file;
pub(crate) mod film_sink;
pub(crate) mod frames;
pub(crate) mod pipe_sink;

/// Frame rate of a film whose source has none.
pub(crate) const USUAL_FPS: f64 = 25.0;
