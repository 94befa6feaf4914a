//! Writes the annotated frames as YUV4MPEG2 to standard output, for the next program of a pipe.

use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use anyhow::Result;

use crate::outputs::draw::overlay::Legend;
use crate::outputs::shared_frame::SharedFrame;
use crate::outputs::sinks::sink::Sink;
use crate::outputs::sinks::stdout_sink::{StdoutEnd, StdoutSink};
use crate::outputs::sinks::video::frames::VideoFrames;

/// Draws frames and writes them to standard output.
pub(crate) struct VideoPipe {
    frames: VideoFrames,
    out: StdoutSink,
}

impl VideoPipe {
    /// Writes to standard output at a rate that the stream's header names.
    ///
    /// # Errors
    /// When standard output is not open.
    pub(crate) fn on_stdout(legend: Arc<Legend>, fps: f64) -> Result<VideoPipe> {
        Ok(VideoPipe { frames: VideoFrames::new(legend, fps), out: StdoutSink::on_stdout()? })
    }

    /// Returns the cell that gets the reason when no more frames are taken.
    pub(crate) fn end(&self) -> Arc<OnceLock<StdoutEnd>> {
        self.out.end()
    }
}

impl Sink<SharedFrame> for VideoPipe {
    fn take(&mut self, scene: &mut SharedFrame) -> ControlFlow<()> {
        match self.frames.draw(scene) {
            Some(bytes) => self.out.give(bytes),
            None => ControlFlow::Continue(()),
        }
    }
}
