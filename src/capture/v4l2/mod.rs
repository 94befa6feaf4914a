//! Cameras: V4L2 on Linux, with recovery from everything that a camera does on a board.
//!
//! ```text
//! inventory   which nodes there are, and which is the camera that went away
//! node        an open node and its ioctls
//! mode        the format, size and rate to run it at
//! stream      our queue of mapped buffers          } behind the traits in `kernel`,
//! v4l2        opening: node, mode, stream          } for which the tests have a model
//! event       what a camera tells beside its frames
//! clock    the driver's counts and times -> Stamp
//! recovery    what to do when something fails
//! ```
//!
//! [`Camera`] ties them together as a [`Source`]: every grab drains the queue, keeps the newest frame and gives the
//! others back. The frame is read where the driver put it; its buffer is given back with the next grab.

mod backend;
mod device;
pub mod discovery;
mod event;
#[cfg(test)]
mod fake_backend;
mod frame_clock;
pub mod mode;
pub mod node;
mod recovery;
mod stream;
#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::{Result, anyhow};

pub use crate::capture::v4l2::device::{V4l2, advice, survey};
pub use crate::capture::v4l2::discovery::nodes;
pub use crate::capture::v4l2::mode::{Choice, Coding, Interval, Mode, ModeError, Rates, Sizes};
pub use crate::capture::v4l2::node::{FormatEntry, Identity, Node};

use backend::{Backend, Filled, Stream};
use frame_clock::FrameClock;
use recovery::{Recovery, Trouble, Verdict};

use crate::capture::jpeg::FrameDecoder;
use crate::capture::source::{Poll, Source, SourceCounters, SourceError, SourceRequest, Stamp};
use faceptor::stages::{ImageView, ShortFrame};

/// The most buffers that a driver may have in the queue.
const MAX_BUFFERS: usize = 32;

/// A camera that is opened, watched and, when it is lost, opened again.
pub struct Camera<K: Backend = V4l2> {
    kernel: K,
    stream: Option<K::Stream>,
    /// The frame that `view` shows, when it is shown where the driver put it.
    held: Option<Filled>,
    /// Buffers that the driver would not take back; it is asked again.
    unreturned: heapless::Vec<Filled, MAX_BUFFERS>,
    mode: Mode,
    decoder: FrameDecoder,
    clock: FrameClock,
    recovery: Recovery,
    counters: SourceCounters,
    ended: Option<String>,
}

/// What came out of the queue.
enum Drained {
    Newest(Filled, Stamp),
    Nothing,
}

impl Camera {
    /// Opens a node, or a link to one.
    ///
    /// # Errors
    /// When there is no camera, it may not be used, or offers nothing that can be read; the message says what to do.
    pub fn open(path: &Path, request: &SourceRequest) -> Result<Camera> {
        Camera::with(V4l2::new(path, request), request.exit_on_lost)
    }
}

impl<K: Backend> Camera<K> {
    fn with(mut kernel: K, exit_on_lost: bool) -> Result<Camera<K>> {
        let stream = kernel.open().map_err(|error| error.context(format!("camera {}", kernel.name())))?;
        let recovery = Recovery::new(kernel.name(), exit_on_lost, kernel.now_us());
        Ok(Camera {
            mode: *stream.mode(),
            stream: Some(stream),
            kernel,
            held: None,
            unreturned: heapless::Vec::new(),
            decoder: FrameDecoder::default(),
            clock: FrameClock::default(),
            recovery,
            counters: SourceCounters::default(),
            ended: None,
        })
    }

    /// The format, size and rate at which it runs.
    pub fn mode(&self) -> &Mode {
        &self.mode
    }

    /// Gives the shown frame's buffer back, and those that were not taken before.
    fn give_back(&mut self) -> Result<(), Trouble> {
        let held = self.held.take();
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let mut refused = None;
        for filled in std::mem::take(&mut self.unreturned).into_iter().chain(held) {
            match stream.requeue(filled) {
                Ok(()) => self.recovery.taken(),
                Err((filled, error)) => {
                    // There are never more than MAX_BUFFERS of them.
                    let _ = self.unreturned.push(filled);
                    refused = Some(error);
                }
            }
        }
        refused.map_or(Ok(()), |error| Err(Trouble::NotTaken(error)))
    }

    /// Gives one buffer back at once; one that is not taken is tried again with the next grab.
    fn discard(&mut self, filled: Filled) {
        let Some(stream) = &mut self.stream else { return };
        if let Err((filled, _)) = stream.requeue(filled) {
            let _ = self.unreturned.push(filled);
        }
    }

    /// Takes every filled buffer out of the queue and keeps the newest frame that is whole.
    fn drain(&mut self) -> Result<Drained, Trouble> {
        let mut newest: Option<(Filled, Stamp)> = None;
        let (mut stale, mut taken) = (0, 0);
        let now_us = self.kernel.now_us();
        let Some(buffers) = self.stream.as_ref().map(Stream::buffers) else { return Ok(Drained::Nothing) };
        // A camera that is faster than this loop does not hold it for ever.
        while taken < buffers {
            let next = match &mut self.stream {
                Some(stream) => stream.dequeue().map_err(Trouble::Failed)?,
                None => None,
            };
            let Some(filled) = next else { break };
            taken += 1;
            let (stamp, lost) = self.clock.stamp(&filled, now_us);
            self.counters.sequence_gaps += lost;
            if filled.damaged {
                self.counters.flagged += 1;
                self.discard(filled);
            } else if let Some((older, _)) = newest.replace((filled, stamp)) {
                stale += 1;
                self.discard(older);
            }
        }
        let starved = taken + 1 + self.unreturned.len() >= buffers;
        if let (true, Some(interval), Some((_, stamp))) = (starved, self.mode.interval, &newest)
            && self.clock.outdated(stamp, now_us, interval.period_us())
            && let Some((filled, _)) = newest.take()
        {
            // The queue was full long ago: the camera's view of now comes within a period.
            stale += 1;
            self.discard(filled);
        }
        self.counters.stale_dropped += u64::from(stale);
        Ok(match newest {
            Some((filled, stamp)) => Drained::Newest(filled, Stamp { stale_dropped: stale, ..stamp }),
            None => Drained::Nothing,
        })
    }

    /// Makes the frame ready to be shown. `false` when it is damaged.
    fn prepare(&mut self, filled: Filled) -> Result<bool, Trouble> {
        let Some(stream) = &self.stream else { return Ok(false) };
        let bytes = stream.bytes(&filled);
        let failure = match self.mode.coding {
            Coding::Raw(_) => raw_view(&self.mode, bytes).err().map(|short| short.to_string()),
            Coding::Jpeg => self.decoder.decode(bytes).err().map(|error| error.to_string()),
        };
        let Some(failure) = failure else {
            match self.mode.coding {
                Coding::Raw(_) => self.held = Some(filled),
                // Decoded: the driver may have its buffer.
                Coding::Jpeg => self.discard(filled),
            }
            return Ok(true);
        };
        self.counters.decode_errors += 1;
        if self.counters.decode_errors.is_power_of_two() {
            let (name, count) = (self.kernel.name(), self.counters.decode_errors);
            log::warn!("{name}: damaged frame passed over: {failure} ({count} so far)");
        }
        let changed = stream.format_changed();
        self.discard(filled);
        if changed { Err(Trouble::OtherFormat) } else { Ok(false) }
    }

    /// One attempt at a frame: `None` when there was none, so that the caller looks at the time again.
    fn attempt(&mut self, until_us: u64) -> Result<Option<Stamp>, Trouble> {
        let refused = self.give_back();
        if let Err(trouble) = refused {
            self.settle(trouble);
        }
        let Some(stream) = &mut self.stream else { return Ok(None) };
        let begun_us = self.kernel.now_us();
        let patience_end_us = self.recovery.patience_end_us();
        if !stream.wait(until_us.min(patience_end_us)).map_err(Trouble::Failed)? {
            if self.kernel.now_us() < patience_end_us {
                return Ok(None);
            }
            return Err(if stream.format_changed() { Trouble::OtherFormat } else { Trouble::Silence });
        }
        if stream.source_changed() {
            return Err(Trouble::OtherFormat);
        }
        let waited = self.kernel.now_us() > begun_us + 1000;
        let Drained::Newest(filled, stamp) = self.drain()? else { return self.barren() };
        let now_us = self.kernel.now_us();
        if waited && stamp.stale_dropped == 0 {
            self.clock.arrived(&stamp, now_us);
        }
        if !self.prepare(filled)? {
            return self.barren();
        }
        self.recovery.frame(self.period_us(), now_us);
        self.counters.frames += 1;
        Ok(Some(stamp))
    }

    /// No good frame came of what the driver gave: after its patience a camera with nothing but these is silent.
    fn barren(&self) -> Result<Option<Stamp>, Trouble> {
        match self.kernel.now_us() >= self.recovery.patience_end_us() {
            true => Err(Trouble::Silence),
            false => Ok(None),
        }
    }

    /// Acts on what happened to the stream.
    fn settle(&mut self, trouble: Trouble) {
        let now_us = self.kernel.now_us();
        match self.recovery.trouble(&trouble, now_us, &mut self.counters) {
            Verdict::Keep => {}
            Verdict::Close => self.close(),
            Verdict::GiveUp(reason) => {
                self.close();
                self.ended = Some(reason);
            }
        }
    }

    fn close(&mut self) {
        self.held = None;
        self.unreturned.clear();
        self.stream = None;
    }

    fn reopen(&mut self) {
        match self.kernel.open() {
            Ok(stream) => {
                let mode = *stream.mode();
                if mode != self.mode {
                    self.counters.format_changes += 1;
                    log::warn!("{}: it gives {mode} now", self.kernel.name());
                }
                self.mode = mode;
                self.stream = Some(stream);
                self.counters.reopened += 1;
                self.clock.restart();
                self.recovery.opened(self.kernel.name(), self.kernel.now_us());
            }
            Err(error) => self.recovery.not_opened(&format!("{error:#}"), self.kernel.now_us()),
        }
    }
}

fn raw_view<'a>(mode: &Mode, bytes: &'a [u8]) -> Result<ImageView<'a>, ShortFrame> {
    match mode.coding {
        Coding::Raw(format) => ImageView::new(format, mode.colour, [mode.width, mode.height], mode.stride, bytes),
        Coding::Jpeg => Ok(ImageView::blank()),
    }
}

impl<K: Backend> Source for Camera<K> {
    fn poll(&mut self, until_us: u64) -> Result<Poll, SourceError> {
        loop {
            if let Some(reason) = &self.ended {
                return Err(SourceError::Lost { name: self.kernel.name(), reason: anyhow!("{reason}") });
            }
            if self.stream.is_none() {
                let retry_us = self.recovery.retry_us();
                self.kernel.sleep_until_us(until_us.min(retry_us));
                if self.kernel.now_us() >= retry_us {
                    self.reopen();
                }
            } else {
                match self.attempt(until_us) {
                    Ok(Some(stamp)) => return Ok(Poll::Frame(stamp)),
                    Ok(None) => {}
                    Err(trouble) => self.settle(trouble),
                }
            }
            if self.ended.is_none() && self.kernel.now_us() >= until_us {
                return Ok(Poll::Nothing);
            }
        }
    }

    fn view(&self) -> ImageView<'_> {
        match (self.mode.coding, &self.stream, &self.held) {
            (Coding::Jpeg, ..) => self.decoder.view(),
            (_, Some(stream), Some(held)) => raw_view(&self.mode, stream.bytes(held)).unwrap_or(ImageView::blank()),
            _ => ImageView::blank(),
        }
    }

    fn counters(&self) -> SourceCounters {
        self.counters
    }

    fn period_us(&self) -> Option<u64> {
        self.mode.interval.map(Interval::period_us)
    }

    fn describe(&self) -> String {
        format!("{}: {}", self.kernel.name(), self.mode)
    }
}
