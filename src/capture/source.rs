//! What the live loop reads frames from.

use std::path::Path;

use anyhow::Error;
use v4l::FourCC;

use faceptor::stages::ImageView;

/// How a source is to be opened; what is not said is chosen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceRequest {
    /// Frames a second: what a camera is asked for, and the pace at which anything else is played. Without it files and
    /// the demo clip come as fast as they are taken.
    pub fps: Option<f64>,
    /// Width and height in pixels that a camera is asked for.
    pub size: Option<[u32; 2]>,
    /// The four characters of a V4L2 pixel format that a camera is asked for, `YUYV`.
    pub fourcc: Option<FourCC>,
    /// A camera that is lost ends the run; otherwise it is waited for.
    pub exit_on_lost: bool,
}

/// When a frame was taken, and what was passed over for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The source's own count; a gap tells of frames that were lost.
    pub sequence: u64,
    /// When it was taken, on the clock of [`crate::platform::clock::now_us`].
    pub captured_us: u64,
    /// Older frames that were ready too and were passed over for this one.
    pub stale_dropped: u32,
}

/// What a grab brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// A frame: `Source::view` shows it.
    Frame(Stamp),
    /// No frame until the time was up; a camera may be away.
    Nothing,
    /// Everything has been shown.
    Ended,
}

/// Why a grab brought no frame.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// One frame could not be read; the next one may.
    #[error("{name}: {reason:#}")]
    Frame { name: String, reason: Error },
    /// No frame will come any more.
    #[error("{name}: {reason:#}")]
    Lost { name: String, reason: Error },
}

/// What has happened to a source since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SourceCounters {
    /// Frames that were handed out.
    pub frames: u64,
    /// Frames that the camera counted and that never arrived.
    pub sequence_gaps: u64,
    /// Frames that were passed over because a newer one was ready.
    pub stale_dropped: u64,
    /// Times that a camera gave nothing for longer than it may.
    pub timeouts: u64,
    /// Buffers that the driver flagged as damaged.
    pub flagged: u64,
    /// Buffers that the driver would not take back.
    pub requeue_errors: u64,
    /// Streams that failed with an input/output error.
    pub io_errors: u64,
    /// Times that a camera went away.
    pub lost: u64,
    /// Times that a camera was opened anew.
    pub reopened: u64,
    /// Times that a camera came back with another size or format.
    pub format_changes: u64,
    /// Frames that could not be decoded, or were shorter than their size asks for.
    pub decode_errors: u64,
}

/// A source of frames. The loop owns it and grabs one frame after another; the newest wins where the source is live.
pub trait Source: Send {
    /// The next frame, waiting for it until `until_us` of the monotonic clock where the source is live. Files and the
    /// demo clip give theirs at once.
    ///
    /// # Errors
    /// [`SourceError::Frame`] when one frame is bad (grab again), [`SourceError::Lost`] when the source is gone for good.
    fn poll(&mut self, until_us: u64) -> Result<Poll, SourceError>;

    /// The frame of the last grab that gave one, until the next grab; one black pixel before that.
    fn view(&self) -> ImageView<'_>;

    /// What has happened since the source was opened.
    fn counters(&self) -> SourceCounters;

    /// Time from one frame to the next, where the source has a rate of its own.
    fn period_us(&self) -> Option<u64> {
        None
    }

    /// The source, and what it gives, in a few words for the log: `/dev/video0: YUYV 640 x 480, 30 frames/s`.
    fn describe(&self) -> String;

    /// The file of the last frame, where each frame has one.
    fn path(&self) -> Option<&Path> {
        None
    }

    /// Passes one frame over without reading it where that is cheaper. `false` at the end.
    ///
    /// # Errors
    /// As for `grab`.
    fn skip(&mut self) -> Result<bool, SourceError> {
        Ok(matches!(self.poll(u64::MAX)?, Poll::Frame(_)))
    }

    /// After `Poll::Ended`: begins again. `false` when it cannot, or has nothing to show. The count of frames goes on.
    fn rewind(&mut self) -> bool {
        false
    }
}

impl<F: Source + ?Sized> Source for Box<F> {
    fn poll(&mut self, until_us: u64) -> Result<Poll, SourceError> {
        (**self).poll(until_us)
    }

    fn view(&self) -> ImageView<'_> {
        (**self).view()
    }

    fn counters(&self) -> SourceCounters {
        (**self).counters()
    }

    fn period_us(&self) -> Option<u64> {
        (**self).period_us()
    }

    fn describe(&self) -> String {
        (**self).describe()
    }

    fn path(&self) -> Option<&Path> {
        (**self).path()
    }

    fn skip(&mut self) -> Result<bool, SourceError> {
        (**self).skip()
    }

    fn rewind(&mut self) -> bool {
        (**self).rewind()
    }
}
