//! The trait of everything that delivers frames, and its types.

use std::path::Path;

use anyhow::Error;
use v4l::FourCC;

use faceptor::stages::ImageView;

/// Options for opening a source. A camera chooses what is not requested.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceRequest {
    /// Frames per second: the rate requested of a camera, and the rate at which other sources are played. `None` plays
    /// files and the demo clip as fast as their frames are taken.
    pub fps: Option<f64>,
    /// Width and height requested of a camera, pixels.
    pub size: Option<[u32; 2]>,
    /// The V4L2 pixel format requested of a camera, `YUYV`.
    pub fourcc: Option<FourCC>,
    /// True to end the run when the camera is lost, instead of waiting for it.
    pub exit_on_lost: bool,
}

/// Number and time of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The source's frame count, from 0. A gap means lost or skipped frames.
    pub sequence: u64,
    /// When the frame was taken, on the clock of [`crate::platform::clock::now_us`].
    pub captured_us: u64,
    /// Number of older frames that were ready too and were dropped for this one.
    pub stale_dropped: u32,
}

/// Result of [`Source::poll`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// A new frame, which [`Source::view`] returns.
    Frame(Stamp),
    /// No frame arrived in time. A camera may be disconnected.
    Nothing,
    /// The source has no more frames.
    Ended,
}

/// Reason why a poll failed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// One frame could not be read; the next may be readable.
    #[error("{name}: {reason:#}")]
    Frame { name: String, reason: Error },
    /// The source has ended.
    #[error("{name}: {reason:#}")]
    Lost { name: String, reason: Error },
}

/// Counts of events since a source was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SourceCounters {
    /// Frames that were delivered.
    pub frames: u64,
    /// Frames that the camera counted but that never arrived.
    pub sequence_gaps: u64,
    /// Frames that were dropped because a newer one was ready.
    pub stale_dropped: u64,
    /// Times that a camera was silent for longer than its patience.
    pub timeouts: u64,
    /// Buffers that the driver flagged as damaged.
    pub flagged: u64,
    /// Buffers that the driver refused to take back.
    pub requeue_errors: u64,
    /// Streams that failed with an input/output error.
    pub io_errors: u64,
    /// Times that a camera was disconnected.
    pub lost: u64,
    /// Times that a camera was reopened.
    pub reopened: u64,
    /// Times that a camera was reopened with another size or format.
    pub format_changes: u64,
    /// Frames that could not be decoded, or were shorter than their size requires.
    pub decode_errors: u64,
}

/// A source of frames. The live loop polls it for one frame after another; a live source delivers its newest.
pub trait Source: Send {
    /// Fetches the next frame. A live source waits for it until `until_us` of the monotonic clock; files and the demo clip
    /// deliver at once.
    ///
    /// # Errors
    /// [`SourceError::Frame`] when one frame is bad (poll again), [`SourceError::Lost`] when the source is gone for good.
    fn poll(&mut self, until_us: u64) -> Result<Poll, SourceError>;

    /// Returns the last frame that was polled; one black pixel before the first.
    fn view(&self) -> ImageView<'_>;

    /// Returns the counts since the source was opened.
    fn counters(&self) -> SourceCounters;

    /// Returns the time from frame to frame; `None` for sources without a rate of their own, which are not live.
    fn period_us(&self) -> Option<u64> {
        None
    }

    /// Describes the source and its frames for the log: `/dev/video0: YUYV 640 x 480, 30 frames/s`.
    fn describe(&self) -> String;

    /// Returns the file of the last frame; `None` for sources whose frames are not files.
    fn path(&self) -> Option<&Path> {
        None
    }

    /// Skips one frame, without decoding it where possible. Returns false at the end.
    ///
    /// # Errors
    /// As for [`Source::poll`].
    fn skip(&mut self) -> Result<bool, SourceError> {
        Ok(matches!(self.poll(u64::MAX)?, Poll::Frame(_)))
    }

    /// Starts again after [`Poll::Ended`]; the frame count continues. Returns false when that is not possible, or when the
    /// source has no readable frame.
    fn rewind(&mut self) -> bool {
        false
    }

    /// Returns the number of the scene that the last frame belongs to. It changes where the source knows of a cut: a film
    /// has started over, another film or photo begins, a camera was opened again. The demo clip continues without a cut.
    fn scene(&self) -> u64 {
        0
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

    fn scene(&self) -> u64 {
        (**self).scene()
    }
}
