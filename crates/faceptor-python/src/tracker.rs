//! The faces of a video, for Python.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use faceptor::stages::MAX_TRACKS;
use faceptor_results::json::{Origin, OuterTiming};
use faceptor_results::video::TrackedVideo;
use pyo3::prelude::*;

use crate::failure::{Failure, Outcome, contained};
use crate::image::{Image, elapsed_us};
use crate::interpreter_exit::unlocked;
use crate::record::{Decoders, Record};
use crate::session::Session;

/// Tracks faces from frame to frame.
#[pyclass(frozen, module = "faceptor._native")]
pub struct Tracker {
    decoders: Decoders,
    state: Mutex<State>,
}

struct State {
    /// `None` after a defect, or in a fork of the process that made it.
    video: Option<TrackedVideo>,
    process: u32,
    threads: usize,
}

impl State {
    fn leave_threads_of_parent(&mut self) {
        if self.threads > 1 && self.process != std::process::id() {
            std::mem::forget(self.video.take());
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.leave_threads_of_parent();
    }
}

#[pymethods]
impl Tracker {
    /// Makes a tracker with the network, the tasks and the options of a session.
    #[new]
    fn new(python: Python<'_>, session: &Session, max_faces: usize) -> PyResult<Tracker> {
        if !(1..=MAX_TRACKS).contains(&max_faces) {
            let text = format!("max_faces={max_faces}: 1 to {MAX_TRACKS} faces are tracked");
            return Err(Failure::argument(text).into());
        }
        let make = || {
            let mut pipeline = session.new_pipeline()?;
            pipeline.enable_masks(session.options().fine_masks());
            Ok(TrackedVideo::new(pipeline, max_faces))
        };
        let video = Some(unlocked(python, || contained(make))?);
        let (process, threads) = (std::process::id(), session.options().threads);
        let state = State { video, process, threads };
        Ok(Tracker { decoders: session.decoders().clone(), state: Mutex::new(state) })
    }

    /// Processes the next frame, taken `elapsed` seconds after the last one.
    fn update(&self, python: Python<'_>, image: &Image, elapsed: f64) -> PyResult<Record> {
        if !TrackedVideo::is_time(elapsed) {
            let longest = TrackedVideo::LONGEST_S;
            let text = format!("elapsed={elapsed}: seconds since the last frame, 0 to {longest}, are needed");
            return Err(Failure::argument(text).into());
        }
        Ok(unlocked(python, || contained(|| self.process(image, elapsed)))?)
    }

    /// Declares that the next frame shows another scene.
    fn cut(&self, python: Python<'_>) -> PyResult<()> {
        let cut = || {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.leave_threads_of_parent();
            if let Some(video) = &mut state.video {
                video.cut();
            }
            Ok(())
        };
        Ok(unlocked(python, || contained(cut))?)
    }
}

impl Tracker {
    fn process(&self, image: &Image, elapsed: f64) -> Outcome<Record> {
        let start = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.leave_threads_of_parent();
        let gone = || Failure::argument("this tracker was stopped by a defect or by a fork: make another one");
        let mut video = state.video.take().ok_or_else(gone)?;
        // A tracker that panicked is not put back.
        let (outcome, video) = contained(|| {
            let outcome = video.process(&image.view(), elapsed);
            Ok((outcome, video))
        })?;
        state.video = Some(video);
        let (analysis, frame) = outcome?;
        let frame = Some(frame);
        let [width, height] = image.size();
        let (path, warnings) = (image.path.clone(), image.warnings.clone());
        let capture_us = image.capture_us;
        let outer_timing =
            OuterTiming { capture_us, total_us: capture_us + elapsed_us(start), ..OuterTiming::default() };
        let origin = Origin { path, width, height, frame, warnings };
        Ok(Record { analysis, decoders: self.decoders.clone(), origin, outer_timing, identities: Vec::new() })
    }
}
