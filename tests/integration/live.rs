//! The live loop with scripted sources: what it allocates, how it switches tasks, what it does when frames do not come.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use faceptor::stages::{ImageView, Picture, Pipeline, TaskList, TrackerOptions, select_tasks};
use faceptor_edge::capture::demo_clip::{HEIGHT, WIDTH};
use faceptor_edge::capture::demo_source::DemoSource;
use faceptor_edge::capture::feed::{Arrival, Feed, OneSource};
use faceptor_edge::capture::source::{Poll, Source, SourceCounters, SourceError, Stamp};
use faceptor_edge::live::frame::Faces;
use faceptor_edge::live::frame_pool::FramePool;
use faceptor_edge::live::frame_result::{Counters, FrameResult};
use faceptor_edge::live::live_loop::{Command, LiveLoop, LoopLinks, LoopSettings, SourceEnd};
use faceptor_edge::live::ring::Ring;
use faceptor_edge::live::shield::{Blur, Whom};
use faceptor_edge::live::virtual_clock::{LoopClock, Stage, VirtualClock};
use faceptor_edge::platform::allocations;
use faceptor_edge::platform::allocations::Count;
use faceptor_edge::platform::clock;
use faceptor_edge::platform::shutdown::Shutdown;
use faceptor_edge::recognition::track_names::TrackNames;
use faceptor_gallery::Roster;
use faceptor_results::cover::Style;

use crate::names::roster;

/// The results that the publisher would have received.
#[derive(Debug, Default)]
struct Seen {
    number: Option<u64>,
    sequence: u64,
    ids: Vec<u32>,
    tasks: TaskList,
    known: usize,
    /// Faces that the gallery gave an answer for.
    answers: usize,
    /// The frame was handed over with its pixels.
    is_shown: bool,
    deferred: usize,
    /// From the source's frame to the copied result.
    used_us: u64,
    counters: Counters,
}

impl From<&FrameResult> for Seen {
    fn from(outcome: &FrameResult) -> Seen {
        let faces = &outcome.analysis.faces;
        Seen {
            number: outcome.number,
            sequence: outcome.stamp.sequence,
            ids: faces.iter().map(|face| face.id).collect(),
            tasks: outcome.analysis.tasks.clone(),
            known: faces.iter().flat_map(|face| &face.results).filter(|held| held.known).count(),
            answers: (0..faces.len()).filter(|&face| outcome.identities.answer(face).is_some()).count(),
            is_shown: outcome.still.is_some(),
            deferred: outcome.analysis.deadline.as_ref().map_or(0, |deadline| deadline.deferred.len()),
            used_us: outcome.handed_over_us - outcome.grabbed_us,
            counters: outcome.counters,
        }
    }
}

struct Setup {
    tasks: &'static str,
    settings: LoopSettings,
    heat: u8,
    time: LoopClock,
    commands: Receiver<Command>,
    names: Option<TrackNames>,
    /// The frames are shown, with heads covered.
    blur: Option<Blur>,
}

impl Setup {
    fn new(tasks: &'static str, frames: Option<u64>) -> (Setup, SyncSender<Command>) {
        let (sender, commands) = sync_channel(16);
        let settings = LoopSettings { frames, ..LoopSettings::default() };
        (Setup { tasks, settings, heat: 0, time: LoopClock::Machine, commands, names: None, blur: None }, sender)
    }
}

/// Runs the loop on this thread, and a reader of its results on another one.
fn run(source: &mut dyn Source, setup: Setup) -> (Result<Counters>, Vec<Seen>) {
    let period_us = source.period_us();
    let (ends, seen) = run_feed(&mut OneSource(source), 1, period_us, setup);
    (ends.map(|ends| ends[0].counters), seen)
}

/// As [`run`], for so many sources.
fn run_feed(
    feed: &mut dyn Feed,
    sources: usize,
    period_us: Option<u64>,
    setup: Setup,
) -> (Result<Vec<SourceEnd>>, Vec<Seen>) {
    let bundle = faceptor::stages::embedded_bundle().expect("the embedded network");
    let chosen = select_tasks(bundle.manifest(), Some(setup.tasks)).expect("known tasks");
    let pipeline = Pipeline::new(bundle, &chosen).expect("the network runs");
    let mut ring = Ring::new(|| FrameResult::with_room(4, pipeline.decoders()));
    let (results, mut published) = ring.split();
    let ended = AtomicBool::new(false);
    let waiting = thread::current();
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = Vec::new();
            loop {
                let is_last = ended.load(Ordering::Acquire);
                match published.take() {
                    Some(mut outcome) => {
                        seen.push(Seen::from(&*outcome));
                        outcome.still = None;
                        published.put(outcome);
                        waiting.unpark();
                    }
                    None if is_last => return seen,
                    None => thread::park_timeout(Duration::from_millis(20)),
                }
            }
        });
        let links = LoopLinks {
            commands: setup.commands,
            shutdown: Shutdown::default(),
            wants_pixels: Box::new(|_| setup.blur.is_some()),
            heat: Arc::new(AtomicU8::new(setup.heat)),
            results,
            publisher: reader.thread().clone(),
            frame_pool: FramePool::new(16, WIDTH * HEIGHT * 4),
        };
        let options = TrackerOptions { limit: 4, smoothing: true };
        let faces = Faces::of_several(pipeline, options, sources).in_time(setup.time);
        let faces = faces.named(setup.names).blurred(setup.blur);
        let live = match sources {
            1 => LiveLoop::new(faces, setup.settings, period_us, links),
            _ => LiveLoop::of_several(faces, setup.settings, sources, period_us.is_some(), links),
        };
        let ends = live.and_then(|live| live.run_several(feed));
        ended.store(true, Ordering::Release);
        (ends, reader.join().expect("it reads"))
    })
}

/// The demo clip; counts the allocations of the loop's thread at each poll.
struct Probe {
    clip: DemoSource,
    wall: Picture,
    /// Frames in which there is no face.
    empty: std::ops::Range<u64>,
    frame: u64,
    /// Allocations of the thread at each poll.
    counts: Vec<Count>,
    time: LoopClock,
    /// Called at each poll with the number of the frame.
    steer: Box<dyn FnMut(u64) + Send>,
}

impl Probe {
    fn new(empty: std::ops::Range<u64>, steer: impl FnMut(u64) + Send + 'static) -> Probe {
        Probe {
            clip: DemoSource::new().expect("the clip"),
            wall: Picture::filled(640, 480, [128, 134, 140]),
            empty,
            frame: 0,
            counts: Vec::with_capacity(10_000),
            time: LoopClock::Machine,
            steer: Box::new(steer),
        }
    }
}

impl Source for Probe {
    fn poll(&mut self, until_us: u64) -> Result<Poll, SourceError> {
        self.counts.push(allocations::of_this_thread());
        (self.steer)(self.counts.len() as u64 - 1);
        if self.clip.poll(until_us)? == Poll::Ended {
            self.clip.rewind();
            self.clip.poll(until_us)?;
        }
        let stamp = Stamp { sequence: self.frame, captured_us: self.time.now_us(), stale_dropped: 0 };
        self.frame += 1;
        Ok(Poll::Frame(stamp))
    }

    fn view(&self) -> ImageView<'_> {
        if self.empty.contains(&(self.frame - 1)) { self.wall.view() } else { self.clip.view() }
    }

    fn counters(&self) -> SourceCounters {
        self.clip.counters()
    }

    fn describe(&self) -> String {
        "probe".to_owned()
    }
}

/// Two sources that take turns.
struct Pair {
    probes: [Probe; 2],
    turn: usize,
}

impl Feed for Pair {
    fn next(&mut self, until_us: u64) -> Option<(usize, Arrival)> {
        self.turn = 1 - self.turn;
        Some((self.turn, Arrival::Polled(self.probes[self.turn].poll(until_us))))
    }

    fn source(&mut self, place: usize) -> Option<&mut dyn Source> {
        Some(&mut self.probes[place])
    }

    fn counters(&self, place: usize) -> SourceCounters {
        self.probes[place].counters()
    }

    fn retire(&mut self, _place: usize) {}
}

fn list(names: &str) -> TaskList {
    select_tasks(faceptor::stages::embedded_bundle().expect("the network").manifest(), Some(names))
        .expect("known tasks")
}

#[test]
fn frames_take_no_memory_whatever_comes_and_whatever_is_asked() {
    assert!(allocations::are_counted());
    let (mut setup, sender) = Setup::new("all", Some(400));
    setup.settings.budget_us = Some(4000);
    let lists = [list("all"), list("none"), list("age,parsing"), list("landmarks")];
    let mut source = Probe::new(150..200, move |frame| {
        if frame % 25 == 24 {
            let next = lists[(frame / 25) as usize % lists.len()].clone();
            sender.try_send(Command::SetTasks(next)).expect("there is room");
        }
    });
    let (counters, seen) = run(&mut source, setup);
    assert_eq!(counters.expect("it runs").frames, 400);
    assert!(seen[140].ids == [1] && seen[190].ids.is_empty() && seen[230].ids == [2], "a face goes, another comes");
    // The first frame sizes the finder's tables for the picture.
    let steady = source.counts[399].since(source.counts[2]);
    assert_eq!(steady, Count::default(), "ours and the engine's together");
}

#[test]
fn two_sources_have_faces_of_their_own_and_take_no_memory() {
    let (mut setup, _sender) = Setup::new("all", Some(300));
    setup.names = Some(TrackNames::new(usize::from(list("recognition")[0]), Arc::new(roster(3))));
    let mut pair = Pair { probes: [Probe::new(0..0, |_| ()), Probe::new(150..200, |_| ())], turn: 1 };
    let (ends, seen) = run_feed(&mut pair, 2, None, setup);
    let ends = ends.expect("it runs");
    assert!(ends.iter().all(|end| end.counters.frames == 300 && end.failure.is_none()));
    // The face of the one is there all the time, that of the other goes, and another comes.
    let of = |place: usize, frame: usize| seen[2 * frame + place].ids.clone();
    assert_eq!([of(0, 140), of(0, 190), of(0, 290)], [[1], [1], [1]]);
    assert_eq!([of(1, 140), of(1, 190), of(1, 290)], [vec![1], vec![], vec![2]]);
    assert_eq!((seen[2 * 140].answers, seen[2 * 190 + 1].answers), (1, 0));
    let counts = &pair.probes[1].counts;
    assert_eq!(counts[299].since(counts[2]), Count::default(), "both together");
}

#[test]
fn names_take_no_memory_also_when_the_gallery_changes() {
    let manifest_task = list("recognition")[0];
    let (mut setup, sender) = Setup::new("landmarks,recognition", Some(300));
    let rosters: [Arc<Roster>; 2] = [roster(3), roster(200)].map(Arc::new);
    setup.names = Some(TrackNames::new(usize::from(manifest_task), rosters[0].clone()));
    let kept = rosters.clone();
    let mut source = Probe::new(150..200, move |frame| {
        if frame % 20 == 19 {
            let next = kept[(frame / 20) as usize % 2].clone();
            sender.try_send(Command::SetRoster(next)).expect("there is room");
        }
    });
    let (counters, seen) = run(&mut source, setup);
    assert_eq!(counters.expect("it runs").frames, 300);
    assert!(seen[140].answers == 1 && seen[190].answers == 0 && seen[230].answers == 1, "one a face");
    let steady = source.counts[299].since(source.counts[2]);
    assert_eq!(steady, Count::default(), "ours and the engine's together");
    // The states of the gallery are still there: the loop freed neither.
    assert!(rosters.iter().all(|roster| Arc::strong_count(roster) >= 1));
}

#[test]
fn covers_take_no_memory() {
    let (mut setup, _sender) = Setup::new("landmarks", Some(300));
    setup.blur = Some(Blur { whom: Whom::All, style: Style::Pixelated });
    let mut source = Probe::new(150..200, |_| ());
    let (counters, seen) = run(&mut source, setup);
    let counters = counters.expect("it runs");
    assert_eq!((counters.frames, counters.finder_runs), (300, 300), "each frame is searched");
    assert!(seen[140].ids == [1] && seen[190].ids.is_empty() && seen.iter().all(|seen| seen.is_shown));
    assert_eq!(source.counts[299].since(source.counts[2]), Count::default(), "ours and the engine's together");
}

#[test]
fn a_thousand_switches_cost_no_memory_and_no_time() {
    let (mut setup, sender) = Setup::new("landmarks", Some(4000));
    let lists = [list("landmarks"), list("landmarks,age,expression")];
    let switched = lists.clone();
    // Each stage has a cost of its own, so frames that take equally long have run the same stages.
    let clock = VirtualClock::new(|stage, _| match stage {
        Stage::Find => 100_000,
        Stage::FindPart => 10_000,
        Stage::Align => 300,
        Stage::Part(part) => 1000 + 7 * part as u64,
        Stage::Task(task) => 500 + 11 * task as u64,
        Stage::Identify => 5,
        Stage::HandOver => 10,
    });
    setup.time = LoopClock::Virtual(clock);
    let time = setup.time.clone();
    // Every fourth frame begins with another choice.
    let mut source = Probe::new(0..0, move |frame| {
        if frame % 4 == 0 {
            let next = switched[(frame / 4) as usize % 2].clone();
            sender.try_send(Command::SetTasks(next)).expect("there is room");
        }
    });
    source.time = time;
    let (counters, seen) = run(&mut source, setup);
    assert_eq!(counters.expect("it runs").frames, 4000);
    for (number, seen) in seen.iter().enumerate() {
        // Sent while the frame was waited for, so it holds for that very frame.
        assert_eq!(seen.tasks, lists[number / 4 % 2], "frame {number}");
        assert_eq!(seen.known, seen.tasks.len(), "all answered at once, none left over: frame {number}");
    }
    assert_eq!(source.counts[3999].since(source.counts[2]), Count::default());
    // The first frame after a switch against the third one, for each of the choices.
    for choice in 0..2 {
        let median = |offset: usize| {
            let frames = (100..3990).filter(|frame| frame / 4 % 2 == choice && frame % 4 == offset);
            let mut times: Vec<u64> = frames.map(|frame| seen[frame].used_us).collect();
            times.sort_unstable();
            times[times.len() / 2]
        };
        assert_eq!(median(0), median(2), "a frame after a switch runs what a later one runs");
    }
}

/// A source that takes a list of steps.
struct ScriptedSource {
    steps: VecDeque<Step>,
    wall: Picture,
    sequence: u64,
    lost: bool,
    rewinds: usize,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Frame,
    /// So many frames never arrive.
    Gap(u64),
    Nothing,
    Bad,
    Unplugged,
    Gone,
}

impl ScriptedSource {
    fn new(steps: &[Step]) -> ScriptedSource {
        let steps = steps.iter().copied().collect();
        ScriptedSource { steps, wall: Picture::filled(160, 120, [90; 3]), sequence: 0, lost: false, rewinds: 0 }
    }
}

impl Source for ScriptedSource {
    fn poll(&mut self, _until_us: u64) -> Result<Poll, SourceError> {
        let name = "script".to_owned();
        match self.steps.pop_front() {
            None => return Ok(Poll::Ended),
            Some(Step::Frame) => {}
            Some(Step::Gap(frames)) => self.sequence += frames,
            Some(Step::Nothing) => {
                thread::sleep(Duration::from_millis(30));
                return Ok(Poll::Nothing);
            }
            Some(Step::Bad) => return Err(SourceError::Frame { name, reason: anyhow!("torn") }),
            Some(Step::Unplugged) => {
                self.lost = true;
                return Ok(Poll::Nothing);
            }
            Some(Step::Gone) => return Err(SourceError::Lost { name, reason: anyhow!("for good") }),
        }
        self.sequence += 1;
        Ok(Poll::Frame(Stamp { sequence: self.sequence - 1, captured_us: clock::now_us(), stale_dropped: 0 }))
    }

    fn view(&self) -> ImageView<'_> {
        self.wall.view()
    }

    fn counters(&self) -> SourceCounters {
        SourceCounters { lost: u64::from(self.lost), frames: self.sequence, ..SourceCounters::default() }
    }

    fn period_us(&self) -> Option<u64> {
        Some(1_000_000)
    }

    fn describe(&self) -> String {
        "script".to_owned()
    }

    fn rewind(&mut self) -> bool {
        self.rewinds += 1;
        self.steps.push_back(Step::Frame);
        self.rewinds < 10
    }
}

#[test]
fn gaps_bad_frames_and_pauses_are_passed_over() {
    let mut steps = vec![Step::Frame, Step::Gap(3), Step::Bad, Step::Frame];
    steps.extend([Step::Nothing; 20]);
    steps.push(Step::Frame);
    let (counters, seen) = run(&mut ScriptedSource::new(&steps), Setup::new("none", None).0);
    let frames: Vec<(u64, u64)> = seen.iter().filter_map(|seen| Some((seen.number?, seen.sequence))).collect();
    assert_eq!(frames, [(0, 0), (1, 4), (3, 5), (4, 6)]);
    let counters = counters.expect("it ends well");
    assert_eq!((counters.frames, counters.bad_frames, counters.dropped_results), (4, 1, 0));
    assert_eq!(seen.last().map(|seen| seen.counters), Some(counters), "each result has the counters so far");
    // During the pause of 600 ms the counters were handed over without a frame.
    assert_eq!(seen.iter().filter(|seen| seen.number.is_none()).count(), 1);
}

#[test]
fn a_camera_that_goes_away_is_waited_for_unless_told_otherwise() {
    let steps = [Step::Frame, Step::Unplugged, Step::Nothing, Step::Frame];
    let (counters, _) = run(&mut ScriptedSource::new(&steps), Setup::new("none", None).0);
    assert_eq!(counters.expect("it waits").frames, 2);
    let (mut setup, _sender) = Setup::new("none", None);
    setup.settings.exit_on_lost = true;
    let error = run(&mut ScriptedSource::new(&steps), setup).0.expect_err("it is told to");
    assert!(error.to_string().contains("script") && error.to_string().contains("--exit-on-lost"), "{error}");
    let (counters, seen) = run(&mut ScriptedSource::new(&[Step::Frame, Step::Gone]), Setup::new("none", None).0);
    assert!(counters.expect_err("no frame will come").to_string().contains("for good"));
    assert_eq!(seen.len(), 1, "what there was is published");
}

#[test]
fn a_source_begins_again_until_there_are_enough_frames() {
    let mut script = ScriptedSource::new(&[Step::Frame, Step::Frame]);
    let (counters, _) = run(&mut script, Setup::new("none", Some(5)).0);
    assert_eq!((counters.expect("it ends well").frames, script.rewinds), (5, 3));
    let mut script = ScriptedSource::new(&[]);
    let (counters, _) = run(&mut script, Setup::new("none", Some(50)).0);
    assert_eq!(counters.expect("it ends").frames, 9, "when it cannot begin again, that is the end");
}

#[test]
fn heat_gives_up_frames_and_tasks() {
    let (mut setup, _sender) = Setup::new("none", None);
    setup.heat = 5;
    let (counters, seen) = run(&mut ScriptedSource::new(&[Step::Frame; 10]), setup);
    let counters = counters.expect("it ends well");
    assert_eq!((counters.frames, counters.skipped_frames, counters.level), (5, 5, 5));
    assert_eq!(seen.len(), 5);
    // The demo clip waits: it loses no frame, but answers get older.
    let (mut setup, _sender) = Setup::new("landmarks,age", Some(20));
    setup.heat = 2;
    setup.settings.budget_us = Some(60_000_000);
    let (counters, seen) = run(&mut DemoSource::new().expect("the clip"), setup);
    assert_eq!(counters.expect("it ends well").stale_answers, 10);
    assert_eq!(seen.iter().filter(|seen| seen.deferred == 1).count(), 10);
}
