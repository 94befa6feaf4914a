//! A live stream that another program reads: network cameras, GStreamer pipelines, libcamera.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};

use crate::capture::child::commands::LiveReading;
use crate::capture::child::slot::{Found, LiveFrame, Slot};
use crate::capture::child::supervisor::Supervisor;
use crate::capture::source::{Poll, Source, SourceCounters, SourceError, SourceRequest};
use faceptor::stages::ImageView;

/// Frame rate of a stream that does not name a likely one.
const USUAL_FPS: f64 = 25.0;
/// Rates that are believed.
const LIKELY_FPS: std::ops::RangeInclusive<f64> = 0.5..=240.0;

/// A live stream. The program that reads it is started again when it fails, and ended with this.
pub(crate) struct LiveStream {
    name: String,
    program: &'static str,
    slot: Arc<Slot>,
    thread: Option<JoinHandle<()>>,
    shown: Option<LiveFrame>,
    fps: f64,
    /// True until the frame that came while the stream was opened has been polled.
    is_first: bool,
}

impl LiveStream {
    /// Starts the program and waits for its first frame. `name` has no credentials.
    ///
    /// # Errors
    /// When the program is absent, or gives no frame; the message contains what it said.
    pub(crate) fn open(name: &str, reading: LiveReading, request: &SourceRequest) -> Result<LiveStream> {
        let slot = Arc::new(Slot::default());
        let program = reading.program.names.first().copied().unwrap_or_default();
        let supervisor =
            Supervisor { name: name.to_owned(), reading, exit_on_lost: request.exit_on_lost, slot: slot.clone() };
        let thread = thread::Builder::new().name("stream".to_owned()).spawn(move || supervisor.work());
        let thread = Some(thread.context("cannot start its thread")?);
        let mut stream =
            LiveStream { name: name.to_owned(), program, slot, thread, shown: None, fps: USUAL_FPS, is_first: true };
        match stream.slot.fetch(&mut stream.shown, u64::MAX) {
            Found::Frame => {}
            Found::Ended(reason) => return Err(anyhow!(reason)),
            Found::Nothing => return Err(anyhow!("no frame")),
        }
        let own = stream.shown.as_ref().and_then(|frame| frame.header.fps).filter(|fps| LIKELY_FPS.contains(fps));
        stream.fps = request.fps.or(own).unwrap_or(USUAL_FPS);
        Ok(stream)
    }
}

impl Source for LiveStream {
    fn poll(&mut self, until_us: u64) -> Result<Poll, SourceError> {
        let kept = if std::mem::take(&mut self.is_first) { self.shown.as_ref().map(|frame| frame.stamp) } else { None };
        // A newer frame than the first may have come since.
        let until_us = if kept.is_some() { 0 } else { until_us };
        match (self.slot.fetch(&mut self.shown, until_us), kept) {
            (Found::Frame, _) => {
                let stamp = self.shown.as_ref().map(|frame| frame.stamp).unwrap_or_default();
                Ok(Poll::Frame(stamp))
            }
            (_, Some(stamp)) => Ok(Poll::Frame(stamp)),
            (Found::Nothing, None) => Ok(Poll::Nothing),
            (Found::Ended(reason), None) => Err(SourceError::Lost { name: self.name.clone(), reason: anyhow!(reason) }),
        }
    }

    fn view(&self) -> ImageView<'_> {
        let Some(LiveFrame { header, bytes, .. }) = &self.shown else { return ImageView::blank() };
        let size = [header.width, header.height];
        ImageView::new(header.format, header.colour, size, header.width, bytes).unwrap_or(ImageView::blank())
    }

    fn counters(&self) -> SourceCounters {
        self.slot.counters()
    }

    fn period_us(&self) -> Option<u64> {
        Some((1e6 / self.fps) as u64)
    }

    fn describe(&self) -> String {
        let size = self.shown.as_ref().map_or([0, 0], |frame| [frame.header.width, frame.header.height]);
        let rate = (self.fps * 100.0).round() / 100.0;
        format!("{}: {} x {} by {}, {rate} frames/s", self.name, size[0], size[1], self.program)
    }

    fn scene(&self) -> u64 {
        self.shown.as_ref().map_or(0, |frame| frame.scene)
    }
}

impl Drop for LiveStream {
    fn drop(&mut self) {
        self.slot.stop();
        if let Some(thread) = self.thread.take() {
            // The panic hook has already printed a panic of that thread.
            let _ = thread.join();
        }
    }
}
