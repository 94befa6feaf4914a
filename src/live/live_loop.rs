//! The live loop: one thread that takes each frame from the source and hands its result over.
//!
//! The newest frame wins: the source skips and counts a camera's older frames, so latency does not add up. After the first
//! frames the loop allocates no memory, holds no lock and writes no log line unless something fails; its only system calls
//! are those of the source, the clock, and one that wakes the publisher.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::{self, Thread};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::capture::source::{Poll, Source, SourceError, Stamp};
use crate::live::degradation::{self, Degradation};
use crate::live::frame::{Allowance, Faces};
use crate::live::frame_pool::FramePool;
use crate::live::frame_result::{Counters, FrameResult};
use crate::live::latency::Latency;
use crate::live::ring::{self, RingWriter};
use crate::live::still::Still;
use crate::live::virtual_clock::{LoopClock, Stage};
use crate::platform::shutdown::Shutdown;
use faceptor::stages::{Picture, TaskList};
use faceptor_gallery::Roster;

/// How long the loop waits for a frame before it takes commands again.
const PATIENCE_US: u64 = 100_000;
/// Without frames, the counters are handed over at this interval.
const COUNTERS_US: u64 = 500_000;
/// Time between frames of a source without a rate, for smoothing and speeds.
const NOMINAL_PERIOD_S: f32 = 1.0 / 30.0;
/// Longer pauses between frames count as this time, because they do not show how a face moves.
const LONGEST_PAUSE_S: f32 = 0.5;
/// Runs of the network before the first frame.
const WARM_UP_ROUNDS: u32 = 5;

/// A command to the loop. Commands come through a bounded channel, and the loop takes them at the start of a frame.
#[derive(Clone, Debug)]
pub enum Command {
    /// Selects the tasks from the next frame on, in this order of priority.
    SetTasks(TaskList),
    /// Sets the budget of a frame in microseconds.
    SetBudgetUs(u64),
    /// Takes another state of the gallery. Its sender keeps the former one until no frame refers to it, because the loop frees
    /// no memory.
    SetRoster(Arc<Roster>),
}

/// The settings of a run.
#[derive(Clone, Debug, Default)]
pub struct LoopSettings {
    /// The loop ends after this number of frames; the source begins again if it ends before. `None`: when it ends.
    pub frames: Option<u64>,
    /// Budget of a frame; `None`: the period of a live source, and no limit for others.
    pub budget_us: Option<u64>,
    /// The fixed latency; `None`: chosen from measurements.
    pub latency_us: Option<u64>,
    /// The loop ends when the camera is gone.
    pub exit_on_lost: bool,
}

/// The connections of the loop to the rest of the program.
pub struct LoopLinks<'a> {
    /// Commands from the control socket and the preview page.
    pub commands: Receiver<Command>,
    /// The loop ends when this leaves the state `Running`.
    pub shutdown: Shutdown,
    /// Returns whether the next frame will be shown, so that its pixels are kept with its result. Called for each frame.
    pub wants_pixels: Box<dyn Fn() -> bool + 'a>,
    /// The heat level: a minimum for the degradation level.
    pub heat: Arc<AtomicU8>,
    /// The results, to the publisher.
    pub results: RingWriter<'a, FrameResult>,
    /// The publisher's thread, which the loop wakes.
    pub publisher: Thread,
    /// Memory for pixels that are shown.
    pub frame_pool: FramePool,
}

/// The loop with its state.
pub struct LiveLoop<'a> {
    faces: Faces,
    clock: LoopClock,
    settings: LoopSettings,
    links: LoopLinks<'a>,
    period_us: Option<u64>,
    /// The source has a rate: frames are dropped instead of queued, and results are published at their time.
    live: bool,
    budget_us: Option<u64>,
    latency: Latency,
    degradation: Degradation,
    counters: Counters,
    number: u64,
    last: Option<Stamp>,
    /// The scene and the file of the last frame.
    last_scene: u64,
    last_path: Option<PathBuf>,
    source_ended: bool,
    counters_us: u64,
}

impl<'a> LiveLoop<'a> {
    /// Makes the loop and runs the network a few times, so that its code and data are in memory.
    ///
    /// # Errors
    /// When the network cannot be run.
    pub fn new(
        mut faces: Faces,
        settings: LoopSettings,
        period_us: Option<u64>,
        links: LoopLinks<'a>,
    ) -> Result<LiveLoop<'a>> {
        faces.enable_masks((links.wants_pixels)());
        faces.warm_up(&Picture::filled(640, 480, [128; 3]).view(), WARM_UP_ROUNDS)?;
        let clock = faces.time().clone();
        Ok(LiveLoop {
            counters_us: clock.now_us(),
            clock,
            faces,
            period_us,
            live: period_us.is_some(),
            budget_us: settings.budget_us.or(period_us),
            latency: Latency::new(settings.latency_us),
            settings,
            links,
            degradation: Degradation::default(),
            counters: Counters::default(),
            number: 0,
            last: None,
            last_scene: 0,
            last_path: None,
            source_ended: false,
        })
    }

    /// Runs until the source ends, the number of frames is reached, or a shutdown is requested.
    ///
    /// # Errors
    /// When the source is gone for good, or the network fails.
    pub fn run(mut self, source: &mut dyn Source) -> Result<Counters> {
        while !self.is_over() {
            let grabbed = self.next_frame(source)?;
            // After the wait for the frame, so that commands that came meanwhile apply to it.
            self.take_commands();
            let Some((stamp, began_us)) = grabbed else { continue };
            let grabbed_us = self.clock.now_us();
            let allowance = self.allowance(grabbed_us);
            let elapsed_s = self.elapsed_s(&stamp);
            self.notice_cut(source);
            let watched = (self.links.wants_pixels)();
            self.faces.enable_masks(watched);
            self.faces.watch_closely(watched);
            let done = self.faces.process(&source.view(), elapsed_s, &allowance)?;
            self.counters.frames += 1;
            self.counters.finder_runs += u64::from(done.finder_ran);
            self.counters.stale_answers += done.stale_answers;
            self.counters.faces = self.faces.count() as u8;
            let capture_us = grabbed_us.saturating_sub(if self.live { stamp.captured_us } else { began_us });
            let used_us = self.hand_over(source, &stamp, capture_us, watched, &allowance);
            self.adapt(capture_us, used_us);
        }
        Ok(self.counters)
    }

    fn is_over(&self) -> bool {
        let enough = self.settings.frames.is_some_and(|frames| self.number >= frames);
        enough || self.source_ended || !self.links.shutdown.is_running()
    }

    fn take_commands(&mut self) {
        while let Ok(command) = self.links.commands.try_recv() {
            match command {
                Command::SetTasks(tasks) => self.faces.choose(&tasks),
                Command::SetBudgetUs(us) => self.budget_us = Some(us),
                Command::SetRoster(roster) => self.faces.set_roster(roster),
            }
        }
    }

    /// Waits for the next frame. Returns its stamp and when the wait began, or `None` if no frame came.
    fn next_frame(&mut self, source: &mut dyn Source) -> Result<Option<(Stamp, u64)>> {
        let began_us = self.clock.now_us();
        let polled = source.poll(began_us + PATIENCE_US);
        self.counters.source = source.counters();
        if self.settings.exit_on_lost && self.counters.source.lost > 0 {
            bail!("{}: the camera is gone (--exit-on-lost)", source.describe());
        }
        match polled {
            Ok(Poll::Frame(_)) if !self.links.shutdown.is_running() => Ok(None),
            Ok(Poll::Frame(_)) if self.degradation_level() >= 5 && self.counters.source.frames % 2 == 1 => {
                self.counters.skipped_frames += 1;
                Ok(None)
            }
            Ok(Poll::Frame(stamp)) => Ok(Some((stamp, began_us))),
            Ok(Poll::Nothing) => {
                self.send_counters();
                Ok(None)
            }
            Ok(Poll::Ended) => {
                self.source_ended = self.settings.frames.is_none() || !source.rewind();
                Ok(None)
            }
            Err(error @ SourceError::Frame { .. }) => {
                log::error!("{error}");
                self.counters.bad_frames += 1;
                self.number += 1;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the degradation level. The level that skips frames is for live sources only: others must lose none.
    fn degradation_level(&self) -> u8 {
        let most = if self.live { degradation::MAX_LEVEL } else { degradation::MAX_LEVEL - 1 };
        self.degradation.level(self.links.heat.load(Ordering::Relaxed)).min(most)
    }

    fn allowance(&mut self, started_us: u64) -> Allowance {
        self.counters.level = self.degradation_level();
        Allowance { started_us, budget_us: self.budget_us, level: self.counters.level }
    }

    /// Returns the seconds since the last frame: by the clock for a live source, by the frame count for others, so that a
    /// file gives the same results on every machine.
    fn elapsed_s(&mut self, stamp: &Stamp) -> f32 {
        let elapsed_s = match self.last.replace(*stamp) {
            Some(last) if self.live => stamp.captured_us.saturating_sub(last.captured_us) as f32 / 1e6,
            Some(last) => stamp.sequence.saturating_sub(last.sequence).max(1) as f32 * NOMINAL_PERIOD_S,
            None => NOMINAL_PERIOD_S,
        };
        elapsed_s.clamp(1e-4, LONGEST_PAUSE_S)
    }

    /// Ends the tracks where the source knows of a cut: between photos, where a film starts over, after a camera was lost.
    fn notice_cut(&mut self, source: &dyn Source) {
        let scene = source.scene();
        let another_file = source.path().filter(|path| self.last_path.as_deref() != Some(*path));
        if another_file.is_some() || scene != self.last_scene {
            self.faces.cut();
        }
        self.last_scene = scene;
        if let Some(path) = another_file {
            self.last_path = Some(path.to_owned());
        }
    }

    /// Fills a result and sends it to the publisher, with the pixels if they are `watched`. Returns how long the frame took.
    fn hand_over(
        &mut self,
        source: &dyn Source,
        stamp: &Stamp,
        capture_us: u64,
        watched: bool,
        allowance: &Allowance,
    ) -> u64 {
        let mut copied_from_us = self.clock.now_us();
        let number = self.number;
        self.number += 1;
        let Some(mut result) = self.spare() else {
            self.counters.dropped_results += 1;
            return copied_from_us - allowance.started_us;
        };
        let view = source.view();
        result.number = Some(number);
        result.stamp = *stamp;
        (result.width, result.height) = (view.width(), view.height());
        match source.path() {
            Some(path) => result.path = Some(path.to_string_lossy().into_owned()),
            None => result.path = None,
        }
        result.capture_us = capture_us;
        result.publish_at_us = self.latency.us().filter(|_| self.live).map(|latency| stamp.captured_us + latency);
        self.faces.copy_to(&mut result.analysis, allowance);
        if let Some(identities) = self.faces.identities() {
            result.identities.clone_from(identities);
        }
        let pixels = if watched { self.links.frame_pool.keep(&view) } else { None };
        result.still = pixels.map(|pixels| Still::new(pixels, self.faces.covers().cloned()));
        result.counters = self.counters;
        result.grabbed_us = allowance.started_us;
        let copied_us = self.clock.lap_us(&mut copied_from_us, Stage::HandOver);
        let now_us = copied_from_us;
        result.handed_over_us = now_us;
        self.send(result);
        self.faces.record_hand_over(copied_us);
        self.counters_us = now_us;
        now_us - allowance.started_us
    }

    /// Updates degradation and latency with the frame's times.
    fn adapt(&mut self, capture_us: u64, used_us: u64) {
        let Some(budget_us) = self.budget_us else { return };
        self.degradation.record(used_us, budget_us);
        if self.live {
            let faces = self.faces.limit();
            // Results that wait for their time must not fill more than half the ring, however large the budget is.
            let longest_us = self.period_us.map_or(budget_us, |period_us| period_us * (ring::DEPTH as u64 / 2));
            let work_us = budget_us.min(longest_us);
            self.latency.settle(capture_us, self.faces.costs(), faces, self.faces.run_tasks(), work_us);
        }
    }

    /// Takes memory for a result. Without any, a live loop drops the result and others wait.
    fn spare(&mut self) -> Option<Box<FrameResult>> {
        loop {
            let spare = self.links.results.take();
            if spare.is_some() || self.live || !self.links.shutdown.is_running() {
                return spare;
            }
            // The publisher unparks this thread when it returns a result; the time limit also notices a shutdown.
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    fn send(&mut self, result: Box<FrameResult>) {
        self.links.results.put(result);
        self.links.publisher.unpark();
    }

    /// Hands the counters over while there are no frames, so that the state of the source stays visible.
    fn send_counters(&mut self) {
        let now_us = self.clock.now_us();
        if now_us < self.counters_us + COUNTERS_US {
            return;
        }
        self.counters_us = now_us;
        if let Some(mut result) = self.links.results.take() {
            (result.number, result.counters) = (None, self.counters);
            (result.still, result.publish_at_us) = (None, None);
            self.send(result);
        }
    }
}
