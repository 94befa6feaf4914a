//! A camera as a source: drains the queue of buffers, shows the newest frame, and recovers from failures.

#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::{Result, anyhow};

use crate::capture::jpeg::FrameDecoder;
use crate::capture::source::{Poll, Source, SourceCounters, SourceError, SourceRequest, Stamp};
use crate::capture::v4l2::backend::{Backend, Filled, Stream};
use crate::capture::v4l2::coding::Coding;
use crate::capture::v4l2::device::V4l2Backend;
use crate::capture::v4l2::frame_clock::FrameClock;
use crate::capture::v4l2::mode::Mode;
use crate::capture::v4l2::offer::Interval;
use crate::capture::v4l2::recovery::{Recovery, Trouble, Verdict};
use faceptor::stages::{ImageView, ShortFrame};

/// Largest number of buffers in the queue of a driver.
const MAX_BUFFERS: usize = 32;

/// A camera. When it fails or disappears it is opened again.
pub(crate) struct Camera<B: Backend = V4l2Backend> {
    backend: B,
    stream: Option<B::Stream>,
    /// The buffer of the frame that `view` shows, for formats that are shown without decoding.
    held: Option<Filled>,
    /// Buffers that the driver has refused to take back; they are offered again.
    unreturned: heapless::Vec<Filled, MAX_BUFFERS>,
    mode: Mode,
    decoder: FrameDecoder,
    clock: FrameClock,
    recovery: Recovery,
    counters: SourceCounters,
    ended: Option<String>,
}

/// Result of draining the queue.
enum Drained {
    Newest(Filled, Stamp),
    Nothing,
}

impl Camera {
    /// Opens a node, or a link to one.
    ///
    /// # Errors
    /// When there is no camera, permission is denied, or no format is supported; the message contains a remedy.
    pub(crate) fn open(path: &Path, request: &SourceRequest) -> Result<Camera> {
        Camera::with(V4l2Backend::new(path, request), request.exit_on_lost)
    }
}

impl<B: Backend> Camera<B> {
    fn with(mut backend: B, exit_on_lost: bool) -> Result<Camera<B>> {
        let stream = backend.open().map_err(|error| error.context(format!("camera {}", backend.name())))?;
        let recovery = Recovery::new(backend.name(), exit_on_lost, backend.now_us());
        Ok(Camera {
            mode: *stream.mode(),
            stream: Some(stream),
            backend,
            held: None,
            unreturned: heapless::Vec::new(),
            decoder: FrameDecoder::default(),
            clock: FrameClock::default(),
            recovery,
            counters: SourceCounters::default(),
            ended: None,
        })
    }

    /// Gives back the buffer of the shown frame, and those that the driver refused before.
    fn give_back(&mut self) -> Result<(), Trouble> {
        let held = self.held.take();
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let mut refused = None;
        for filled in std::mem::take(&mut self.unreturned).into_iter().chain(held) {
            match stream.requeue(filled) {
                Ok(()) => self.recovery.taken(),
                Err((filled, error)) => {
                    // There are never more than MAX_BUFFERS buffers.
                    let _ = self.unreturned.push(filled);
                    refused = Some(error);
                }
            }
        }
        refused.map_or(Ok(()), |error| Err(Trouble::NotTaken(error)))
    }

    /// Gives one buffer back at once. If the driver refuses it, the next poll offers it again.
    fn discard(&mut self, filled: Filled) {
        let Some(stream) = &mut self.stream else { return };
        if let Err((filled, _)) = stream.requeue(filled) {
            let _ = self.unreturned.push(filled);
        }
    }

    /// Takes every filled buffer out of the queue and keeps the newest undamaged frame.
    fn drain(&mut self) -> Result<Drained, Trouble> {
        let mut newest: Option<(Filled, Stamp)> = None;
        let (mut stale, mut taken) = (0, 0);
        let now_us = self.backend.now_us();
        let Some(buffers) = self.stream.as_ref().map(Stream::buffers) else { return Ok(Drained::Nothing) };
        // The limit ends the loop even for a camera that fills buffers faster than they are taken.
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
            // The queue has been full for long, so this frame is old. A fresh one arrives within a period.
            stale += 1;
            self.discard(filled);
        }
        self.counters.stale_dropped += u64::from(stale);
        Ok(match newest {
            Some((filled, stamp)) => Drained::Newest(filled, Stamp { stale_dropped: stale, ..stamp }),
            None => Drained::Nothing,
        })
    }

    /// Prepares the frame for `view`. Returns false when the frame is damaged.
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
                // The frame is decoded, so its buffer is free.
                Coding::Jpeg => self.discard(filled),
            }
            return Ok(true);
        };
        self.counters.decode_errors += 1;
        if self.counters.decode_errors.is_power_of_two() {
            let (name, count) = (self.backend.name(), self.counters.decode_errors);
            log::warn!("{name}: damaged frame skipped: {failure} ({count} so far)");
        }
        let changed = stream.format_changed();
        self.discard(filled);
        if changed { Err(Trouble::OtherFormat) } else { Ok(false) }
    }

    /// Waits for one frame. Returns `None` when there was none; the caller then checks the time.
    fn attempt(&mut self, until_us: u64) -> Result<Option<Stamp>, Trouble> {
        let refused = self.give_back();
        if let Err(trouble) = refused {
            self.settle(trouble);
        }
        let Some(stream) = &mut self.stream else { return Ok(None) };
        let begun_us = self.backend.now_us();
        let patience_end_us = self.recovery.patience_end_us();
        if !stream.wait(until_us.min(patience_end_us)).map_err(Trouble::Failed)? {
            if self.backend.now_us() < patience_end_us {
                return Ok(None);
            }
            return Err(if stream.format_changed() { Trouble::OtherFormat } else { Trouble::Silence });
        }
        if stream.source_changed() {
            return Err(Trouble::OtherFormat);
        }
        let waited = self.backend.now_us() > begun_us + 1000;
        let Drained::Newest(filled, stamp) = self.drain()? else { return self.without_frame() };
        let now_us = self.backend.now_us();
        if waited && stamp.stale_dropped == 0 {
            self.clock.arrived(&stamp, now_us);
        }
        if !self.prepare(filled)? {
            return self.without_frame();
        }
        self.recovery.frame(self.period_us(), now_us);
        self.counters.frames += 1;
        Ok(Some(stamp))
    }

    /// Handles buffers without a usable frame. A camera that gives only these until its patience ends is silent.
    fn without_frame(&self) -> Result<Option<Stamp>, Trouble> {
        match self.backend.now_us() >= self.recovery.patience_end_us() {
            true => Err(Trouble::Silence),
            false => Ok(None),
        }
    }

    /// Acts on a failure of the stream as `Recovery` decides.
    fn settle(&mut self, trouble: Trouble) {
        let now_us = self.backend.now_us();
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
        match self.backend.open() {
            Ok(stream) => {
                let mode = *stream.mode();
                if mode != self.mode {
                    self.counters.format_changes += 1;
                    log::warn!("{}: its mode is now {mode}", self.backend.name());
                }
                self.mode = mode;
                self.stream = Some(stream);
                self.counters.reopened += 1;
                self.clock.restart();
                self.recovery.opened(self.backend.name(), self.backend.now_us());
            }
            Err(error) => self.recovery.not_opened(&format!("{error:#}"), self.backend.now_us()),
        }
    }
}

fn raw_view<'a>(mode: &Mode, bytes: &'a [u8]) -> Result<ImageView<'a>, ShortFrame> {
    match mode.coding {
        Coding::Raw(format) => ImageView::new(format, mode.colour, [mode.width, mode.height], mode.stride, bytes),
        Coding::Jpeg => Ok(ImageView::blank()),
    }
}

impl<B: Backend> Source for Camera<B> {
    fn poll(&mut self, until_us: u64) -> Result<Poll, SourceError> {
        loop {
            if let Some(reason) = &self.ended {
                return Err(SourceError::Lost { name: self.backend.name(), reason: anyhow!("{reason}") });
            }
            if self.stream.is_none() {
                let retry_us = self.recovery.retry_us();
                self.backend.sleep_until_us(until_us.min(retry_us));
                if self.backend.now_us() >= retry_us {
                    self.reopen();
                }
            } else {
                match self.attempt(until_us) {
                    Ok(Some(stamp)) => return Ok(Poll::Frame(stamp)),
                    Ok(None) => {}
                    Err(trouble) => self.settle(trouble),
                }
            }
            if self.ended.is_none() && self.backend.now_us() >= until_us {
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
        format!("{}: {}", self.backend.name(), self.mode)
    }

    fn scene(&self) -> u64 {
        self.counters.reopened
    }
}
