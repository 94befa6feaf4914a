//! The live loop: one thread that takes each frame from the source and hands its result over.
//!
//! The newest frame wins: the source skips and counts a camera's older frames, so latency does not add up. After the first
//! frames the loop allocates no memory, holds no lock and writes no log line unless something fails; its only system calls
//! are those of the source, the clock, and one that wakes the publisher.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::{self, Thread};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::capture::feed::{Arrival, Feed, OneSource};
use crate::capture::source::{Poll, Source, SourceError, Stamp};
use crate::live::degradation;
use crate::live::frame::{Allowance, Faces};
use crate::live::frame_pool::FramePool;
use crate::live::frame_result::{Counters, FrameResult};
use crate::live::ring::{self, RingWriter};
use crate::live::seat::{self, Seat};
use crate::live::still::Still;
use crate::live::virtual_clock::{LoopClock, Stage};
use crate::platform::shutdown::Shutdown;
use faceptor::stages::{Picture, TaskList};
use faceptor_gallery::Roster;

/// How long the loop waits for a frame before it takes commands again.
const PATIENCE_US: u64 = 100_000;
/// Without frames, the counters are handed over at this interval.
const COUNTERS_US: u64 = 500_000;
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
    /// A source ends after this number of frames; it begins again if it ends before. `None`: when it ends.
    pub frames: Option<u64>,
    /// Budget of a frame; `None`: the period of a live source, the mean time between two frames of several, no limit for others.
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
    /// Returns whether the next frame of the source in this place will be shown, so that its pixels are kept with its result.
    /// Called for each frame.
    pub wants_pixels: Box<dyn Fn(usize) -> bool + 'a>,
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
    /// The sources have a rate: frames are dropped instead of queued, and results are published at their time.
    live: bool,
    /// The budget that was set; `None` is that of the sources' rates.
    budget_us: Option<u64>,
    seats: Vec<Seat>,
    /// The source of the present frame.
    turn: usize,
}

/// How the run of a source ended.
#[derive(Clone, Debug, Default)]
pub struct SourceEnd {
    pub counters: Counters,
    /// The reason why it ended before its time.
    pub failure: Option<String>,
}

impl<'a> LiveLoop<'a> {
    /// Makes the loop for one source and runs the network a few times, so that its code and data are in memory.
    ///
    /// # Errors
    /// When the network cannot be run.
    pub fn new(
        faces: Faces,
        settings: LoopSettings,
        period_us: Option<u64>,
        links: LoopLinks<'a>,
    ) -> Result<LiveLoop<'a>> {
        let mut live = LiveLoop::of_several(faces, settings, 1, period_us.is_some(), links)?;
        live.seats[0].period_us = period_us;
        Ok(live)
    }

    /// Makes the loop for so many sources, all of them live or none. `faces` are made for as many.
    ///
    /// # Errors
    /// When the network cannot be run.
    pub fn of_several(
        mut faces: Faces,
        settings: LoopSettings,
        sources: usize,
        live: bool,
        links: LoopLinks<'a>,
    ) -> Result<LiveLoop<'a>> {
        faces.enable_masks((links.wants_pixels)(0));
        faces.warm_up(&Picture::filled(640, 480, [128; 3]).view(), WARM_UP_ROUNDS)?;
        let clock = faces.time().clone();
        let now_us = clock.now_us();
        Ok(LiveLoop {
            seats: (0..sources.max(1)).map(|_| Seat::new(None, settings.latency_us, now_us)).collect(),
            turn: 0,
            clock,
            faces,
            live,
            budget_us: settings.budget_us,
            settings,
            links,
        })
    }

    /// Runs until the source ends, the number of frames is reached, or a shutdown is requested.
    ///
    /// # Errors
    /// When the source is gone for good, or the network fails.
    pub fn run(self, source: &mut dyn Source) -> Result<Counters> {
        let ends = self.run_several(&mut OneSource(source))?;
        Ok(ends.first().map(|end| end.counters).unwrap_or_default())
    }

    /// Runs until every source has ended or given its number of frames, or a shutdown is requested. One of several sources that
    /// fails does not end the others.
    ///
    /// # Errors
    /// When a source is gone that must not be, none could be opened, or the network fails.
    pub fn run_several(mut self, feed: &mut dyn Feed) -> Result<Vec<SourceEnd>> {
        while !self.is_over() {
            let began_us = self.clock.now_us();
            let arrived = self.next_frame(feed, began_us + PATIENCE_US)?;
            // After the wait for the frame, so that commands that came meanwhile apply to it.
            self.take_commands();
            let Some(stamp) = arrived else { continue };
            let Some(source) = feed.source(self.turn) else { continue };
            let grabbed_us = self.clock.now_us();
            let allowance = self.allowance(grabbed_us);
            let seat = &mut self.seats[self.turn];
            let elapsed_s = seat.elapsed_s(&stamp, self.live);
            if seat.is_cut(source) {
                self.faces.cut();
            }
            let watched = (self.links.wants_pixels)(self.turn);
            self.faces.enable_masks(watched);
            self.faces.watch_closely(watched);
            let done = self.faces.process(&source.view(), elapsed_s, &allowance)?;
            seat.counters.frames += 1;
            seat.counters.finder_runs += u64::from(done.finder_ran);
            seat.counters.stale_answers += done.stale_answers;
            seat.counters.faces = self.faces.count() as u8;
            let capture_us = grabbed_us.saturating_sub(if self.live { stamp.captured_us } else { began_us });
            let used_us = self.hand_over(source, &stamp, capture_us, watched, &allowance);
            self.adapt(capture_us, used_us, &allowance);
            self.note_end(feed);
        }
        // A source that is still awaited when the end is asked for has not failed.
        let is_running = self.links.shutdown.is_running();
        let end = |seat: Seat| SourceEnd {
            failure: seat.failure.filter(|_| seat.is_over || is_running),
            counters: seat.counters,
        };
        Ok(self.seats.into_iter().map(end).collect())
    }

    fn is_over(&self) -> bool {
        // A source that has never been there is not waited for alone.
        self.seats.iter().all(|seat| seat.is_over || !seat.is_openable) || !self.links.shutdown.is_running()
    }

    /// Closes the present source when it has given its number of frames.
    fn note_end(&mut self, feed: &mut dyn Feed) {
        let seat = &mut self.seats[self.turn];
        if !seat.is_over && self.settings.frames.is_some_and(|frames| seat.number >= frames) {
            seat.is_over = true;
            feed.retire(self.turn);
        }
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

    /// Waits for the next frame, and gives its source the turn. Returns its stamp, or `None` if no frame came.
    fn next_frame(&mut self, feed: &mut dyn Feed, until_us: u64) -> Result<Option<Stamp>> {
        let Some((place, arrival)) = feed.next(until_us) else { return Ok(None) };
        self.turn = place;
        self.faces.turn_to(place);
        let is_alone = self.seats.len() == 1;
        let polled = match arrival {
            Arrival::Polled(polled) => polled,
            Arrival::Unopened { reason, is_final } => return self.note_unopened(reason, is_final),
        };
        let is_skipping = self.degradation_level() >= 5;
        let seat = &mut self.seats[place];
        if !std::mem::replace(&mut seat.is_openable, true) {
            seat.failure = None;
        }
        seat.counters.source = feed.counters(place);
        let source = feed.source(place);
        if let (false, Some(source)) = (is_alone, &source) {
            seat.period_us = source.period_us();
        }
        if self.settings.exit_on_lost && seat.counters.source.lost > 0 {
            bail!(
                "{}: the camera is gone (--exit-on-lost)",
                source.map(|source| source.describe()).unwrap_or_default()
            );
        }
        match polled {
            Ok(Poll::Frame(_)) if !self.links.shutdown.is_running() => Ok(None),
            Ok(Poll::Frame(_)) if is_skipping && seat.counters.source.frames % 2 == 1 => {
                seat.counters.skipped_frames += 1;
                seat.seen_us = self.clock.now_us();
                Ok(None)
            }
            Ok(Poll::Frame(stamp)) => {
                seat.seen_us = self.clock.now_us();
                Ok(Some(stamp))
            }
            Ok(Poll::Nothing) => {
                self.send_counters();
                Ok(None)
            }
            Ok(Poll::Ended) => {
                seat.is_over = self.settings.frames.is_none() || !source.is_some_and(|source| source.rewind());
                if seat.is_over {
                    feed.retire(place);
                }
                Ok(None)
            }
            Err(error @ SourceError::Frame { .. }) => {
                log::error!("{error}");
                seat.counters.bad_frames += 1;
                seat.number += 1;
                self.note_end(feed);
                Ok(None)
            }
            Err(error) if is_alone || self.settings.exit_on_lost => Err(error.into()),
            Err(error) => {
                log::error!("{error}");
                (seat.is_over, seat.failure) = (true, Some(error.to_string()));
                Ok(None)
            }
        }
    }

    /// Notes that the present source could not be opened. The run ends when none of its sources could.
    fn note_unopened(&mut self, reason: String, is_final: bool) -> Result<Option<Stamp>> {
        self.seats[self.turn].is_openable = false;
        if self.settings.exit_on_lost || self.seats.iter().all(|seat| !seat.is_openable) {
            bail!(reason);
        }
        let seat = &mut self.seats[self.turn];
        match is_final {
            true => log::error!("{reason}"),
            false => log::warn!("{reason}; trying again"),
        }
        (seat.is_over, seat.failure) = (is_final, Some(reason));
        Ok(None)
    }

    /// Returns the degradation level. The level that skips frames is for live sources only: others must lose none.
    fn degradation_level(&self) -> u8 {
        let most = if self.live { degradation::MAX_LEVEL } else { degradation::MAX_LEVEL - 1 };
        self.seats[self.turn].degradation.level(self.links.heat.load(Ordering::Relaxed)).min(most)
    }

    fn allowance(&mut self, started_us: u64) -> Allowance {
        let level = self.degradation_level();
        self.seats[self.turn].counters.level = level;
        let budget_us = self.budget_us.or_else(|| seat::shared_period_us(&self.seats, started_us));
        Allowance { started_us, budget_us, level }
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
        let number = self.seats[self.turn].number;
        self.seats[self.turn].number += 1;
        let Some(mut result) = self.spare() else {
            self.seats[self.turn].counters.dropped_results += 1;
            return copied_from_us - allowance.started_us;
        };
        let view = source.view();
        let seat = &mut self.seats[self.turn];
        result.source = self.turn;
        result.number = Some(number);
        result.stamp = *stamp;
        (result.width, result.height) = (view.width(), view.height());
        match source.path() {
            Some(path) => result.path = Some(path.to_string_lossy().into_owned()),
            None => result.path = None,
        }
        result.capture_us = capture_us;
        result.publish_at_us = seat.latency.us().filter(|_| self.live).map(|latency| stamp.captured_us + latency);
        self.faces.copy_to(&mut result.analysis, allowance);
        if let Some(identities) = self.faces.identities() {
            result.identities.clone_from(identities);
        }
        let pixels = if watched { self.links.frame_pool.keep(&view) } else { None };
        result.still = pixels.map(|pixels| Still::new(pixels, self.faces.covers().cloned()));
        result.counters = seat.counters;
        result.grabbed_us = allowance.started_us;
        let copied_us = self.clock.lap_us(&mut copied_from_us, Stage::HandOver);
        let now_us = copied_from_us;
        result.handed_over_us = now_us;
        self.send(result);
        self.faces.record_hand_over(copied_us);
        self.seats[self.turn].counters_us = now_us;
        now_us - allowance.started_us
    }

    /// Updates degradation and latency with the frame's times.
    fn adapt(&mut self, capture_us: u64, used_us: u64, allowance: &Allowance) {
        let Some(budget_us) = allowance.budget_us else { return };
        let shared_us = seat::shared_period_us(&self.seats, allowance.started_us);
        let seat = &mut self.seats[self.turn];
        seat.degradation.record(used_us, budget_us);
        if self.live {
            let faces = self.faces.limit();
            // Results that wait for their time must not fill more than half the ring, however large the budget is.
            let longest_us = shared_us.map_or(budget_us, |period_us| period_us * (ring::DEPTH as u64 / 2));
            let work_us = budget_us.min(longest_us);
            seat.latency.settle(capture_us, self.faces.costs(), faces, self.faces.run_tasks(), work_us);
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
        let seat = &mut self.seats[self.turn];
        if now_us < seat.counters_us + COUNTERS_US {
            return;
        }
        seat.counters_us = now_us;
        if let Some(mut result) = self.links.results.take() {
            (result.source, result.number, result.counters) = (self.turn, None, seat.counters);
            (result.still, result.publish_at_us) = (None, None);
            self.send(result);
        }
    }
}
