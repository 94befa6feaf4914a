//! The loop on a clock that a script makes: a machine that gets slower, far too slow, and fast again.
//!
//! The network runs as ever, but each stage takes as long as the script says, and frames arrive every 33.3 ms of that
//! time. So the outcome is the same wherever the test runs.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

use anyhow::Result;
use faceptor::stages::{ImageView, Picture, Pipeline, TrackerOptions, select_tasks};
use faceptor_edge::capture::demo_clip::DemoClip;
use faceptor_edge::capture::source::{Poll, Source, SourceCounters, SourceError, Stamp};
use faceptor_edge::live::frame::Faces;
use faceptor_edge::live::frame_pool::FramePool;
use faceptor_edge::live::frame_result::FrameResult;
use faceptor_edge::live::live_loop::{LiveLoop, LoopLinks, LoopSettings};
use faceptor_edge::live::ring::{Ring, RingReader};
use faceptor_edge::live::schedule::{FORCED_EVERY, PATIENCE};
use faceptor_edge::live::virtual_clock::{LoopClock, Stage, VirtualClock};
use faceptor_edge::platform::shutdown::Shutdown;

const PERIOD_US: u64 = 33_333;
/// Script time begins here; then the machine is fast for two seconds, slow for eight, far too slow for five.
const BEGIN_US: u64 = 1_000_000;
const SLOW_US: u64 = BEGIN_US + 2_000_000;
const TOO_SLOW_US: u64 = SLOW_US + 8_000_000;
const FAST_AGAIN_US: u64 = TOO_SLOW_US + 5_000_000;
/// Five levels are left after 90 calm frames each, some of them later: the wait doubles when a level comes back.
const END_US: u64 = FAST_AGAIN_US + 20_000_000;

/// Returns how many times slower the machine is.
fn slowness(now_us: u64) -> u64 {
    match now_us {
        ..SLOW_US => 1,
        SLOW_US..TOO_SLOW_US => 12,
        TOO_SLOW_US..FAST_AGAIN_US => 30,
        _ => 1,
    }
}

/// Returns the cost of a frame: six tasks of a face take 3.3 ms on the fast machine, following it 1.3 ms.
fn cost_us(stage: Stage, now_us: u64) -> u64 {
    let fast = match stage {
        Stage::Find => 660,
        Stage::FindPart => 100,
        Stage::Align => 300,
        Stage::Part(_) => 250,
        Stage::Task(task) => 350 - 20 * task as u64,
        Stage::Identify => 5,
        Stage::HandOver => 10,
    };
    fast * slowness(now_us)
}

/// The results of a frame.
#[derive(Clone, Debug)]
struct Seen {
    captured_us: u64,
    grabbed_us: u64,
    used_us: u64,
    level: u8,
    missed: bool,
    deferred: usize,
    finder_runs: u64,
    skipped: u64,
    /// Age of each task's answer, in frames.
    ages: Vec<u32>,
}

/// A camera that shows one face, and the reader of the results.
struct Stage30<'a> {
    script: Arc<VirtualClock>,
    picture: Picture,
    counters: SourceCounters,
    last: u64,
    published: RingReader<'a, FrameResult>,
    seen: Vec<Seen>,
}

impl Stage30<'_> {
    fn read(&mut self) {
        while let Some(outcome) = self.published.take() {
            let deadline = outcome.analysis.deadline.as_ref().expect("a live source has a budget");
            let face = outcome.analysis.faces.first();
            self.seen.push(Seen {
                captured_us: outcome.stamp.captured_us,
                grabbed_us: outcome.grabbed_us,
                used_us: outcome.handed_over_us - outcome.grabbed_us,
                level: outcome.counters.level,
                missed: deadline.missed,
                deferred: deadline.deferred.len(),
                finder_runs: outcome.counters.finder_runs,
                skipped: outcome.counters.skipped_frames,
                ages: face.map(|face| face.results.iter().map(|held| held.stale_frames).collect()).unwrap_or_default(),
            });
            self.published.put(outcome);
        }
    }
}

impl Source for Stage30<'_> {
    fn poll(&mut self, until_us: u64) -> Result<Poll, SourceError> {
        self.read();
        // The newest frame that was not given yet, or else the next one.
        let newest = (self.script.now_us() - BEGIN_US) / PERIOD_US;
        let number = newest.max(self.last + 1);
        let captured_us = BEGIN_US + number * PERIOD_US;
        if captured_us >= END_US {
            return Ok(Poll::Ended);
        }
        if captured_us > until_us {
            self.script.wait_until_us(until_us);
            return Ok(Poll::Nothing);
        }
        self.script.wait_until_us(captured_us);
        let stale_dropped = (number - self.last - 1) as u32;
        self.last = number;
        self.counters.frames += 1;
        self.counters.stale_dropped += u64::from(stale_dropped);
        Ok(Poll::Frame(Stamp { sequence: number, captured_us, stale_dropped }))
    }

    fn view(&self) -> ImageView<'_> {
        self.picture.view()
    }

    fn counters(&self) -> SourceCounters {
        self.counters
    }

    fn period_us(&self) -> Option<u64> {
        Some(PERIOD_US)
    }

    fn describe(&self) -> String {
        "a face on the stage".to_owned()
    }
}

fn play() -> Result<Vec<Seen>> {
    let bundle = faceptor::stages::embedded_bundle()?;
    let chosen = select_tasks(bundle.manifest(), Some("all"))?;
    let pipeline = Pipeline::new(bundle, &chosen)?;
    let mut ring = Ring::new(|| FrameResult::with_room(4, pipeline.decoders()));
    let (results, published) = ring.split();
    let script = VirtualClock::new(cost_us);
    let mut picture = Picture::default();
    DemoClip::new()?.render(0, &mut picture);
    let counters = SourceCounters::default();
    let mut source = Stage30 { script: script.clone(), picture, counters, last: 0, published, seen: Vec::new() };
    let (_sender, commands) = sync_channel(1);
    let links = LoopLinks {
        commands,
        shutdown: Shutdown::default(),
        wants_pixels: Box::new(|_| false),
        heat: Arc::default(),
        results,
        publisher: thread::current(),
        frame_pool: FramePool::new(0, 0),
    };
    let faces = Faces::new(pipeline, TrackerOptions { limit: 4, smoothing: true }).in_time(LoopClock::Virtual(script));
    LiveLoop::new(faces, LoopSettings::default(), source.period_us(), links)?.run(&mut source)?;
    source.read();
    Ok(source.seen)
}

#[test]
fn an_overloaded_loop_stays_in_time_gives_up_in_order_and_recovers() -> Result<()> {
    let seen = play()?;
    let between = |from: u64, to: u64| -> Vec<&Seen> {
        seen.iter().filter(|seen| (from..to).contains(&seen.captured_us)).collect()
    };
    let fast = between(BEGIN_US + 500_000, SLOW_US - 2 * PERIOD_US);
    let slow = between(SLOW_US + 1_000_000, TOO_SLOW_US);
    let too_slow = between(TOO_SLOW_US, FAST_AGAIN_US);
    let last = between(END_US - 1_000_000, END_US);
    assert!(fast.len() > 40 && slow.len() > 150 && too_slow.len() > 40 && last.len() > 25, "{}", seen.len());

    let mut levels: Vec<(u8, usize)> = vec![(0, 0)];
    for (frame, now) in seen.iter().enumerate() {
        if now.level != levels[levels.len() - 1].0 {
            levels.push((now.level, frame));
        }
    }
    println!("levels, from which frame on: {levels:?}");

    // Latency never adds up: a frame is never older than a period when the loop takes it.
    let oldest = seen.iter().map(|seen| seen.grabbed_us - seen.captured_us).max();
    assert!(oldest <= Some(PERIOD_US), "a frame was {oldest:?} us old");

    // With time to spare, all is answered in every frame.
    assert!(fast.iter().chain(&last).all(|seen| seen.level == 0 && !seen.missed && seen.deferred == 0));
    assert!(fast.iter().chain(&last).all(|seen| seen.ages.iter().all(|&age| age == 0)));

    // A slow machine has time for the landmarks and one or two tasks. They take turns, and none starves.
    let ages = |task: usize| slow.iter().map(move |seen| seen.ages[task]);
    assert_eq!(ages(0).max(), Some(0), "the face is followed in every frame");
    for task in 1..6 {
        let oldest = ages(task).max().unwrap_or(u32::MAX);
        let fresh = ages(task).filter(|&age| age == 0).count();
        println!("slow: task {task} is answered in {fresh} of {} frames, at most {oldest} frames old", slow.len());
        assert!(oldest <= u32::from(PATIENCE + 5 * FORCED_EVERY) && fresh > slow.len() / 12, "task {task} starves");
    }
    let late = slow.iter().filter(|seen| seen.missed).count();
    assert!(late <= slow.len() / usize::from(FORCED_EVERY), "{late} of {} frames are late", slow.len());

    // Far too slow, one thing after another is given up, and after that one after another comes back.
    for pair in levels.windows(2) {
        assert_eq!(pair[0].0.abs_diff(pair[1].0), 1, "one step at a time: {levels:?}");
        let is_fall = pair[1].0 < pair[0].0;
        let calm = pair[1].1 - pair[0].1;
        // A fall may follow a rise sooner than 90 frames only where frames that were skipped are not seen here.
        assert!(!is_fall || calm >= 85, "a level is left after {calm} frames: {levels:?}");
    }
    let highest = levels.iter().map(|(level, _)| *level).max();
    assert_eq!(highest, Some(5), "{levels:?}");
    let end = &too_slow[too_slow.len() - 10..];
    assert!(end.windows(2).all(|pair| pair[1].skipped == pair[0].skipped + 1), "every second frame is left out");
    assert!(end.windows(2).all(|pair| pair[1].captured_us - pair[0].captured_us <= 4 * PERIOD_US));
    let (first, later) = (end[0], end[end.len() - 1]);
    assert!(later.finder_runs - first.finder_runs <= 1, "the detector runs rarely");
    let longest = end.iter().map(|seen| seen.used_us).max();
    assert!(longest <= Some(3 * PERIOD_US), "{longest:?} us");
    Ok(())
}
