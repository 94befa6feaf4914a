//! Measures the loop's stages: frame after frame through the same steps, as fast as the source gives them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use sha2::{Digest, Sha256};

use crate::capture::source::{Poll, Source, SourceError};
use crate::lab::cold::{self, Cold, OtherMemory};
use crate::lab::report::{
    Allocations, BenchReport, Build, Gain, Marginal, Memory, Named, Network, PageFaults, per_frame, too_short,
};
use crate::lab::task_cost::SinceSampled;
use crate::live::frame::{Allowance, Faces};
use crate::live::statistics::{Deadlines, StageRow, StageTable, Summary};
use crate::platform::allocations::{self, Count};
use crate::platform::clock::{Stopwatch, now_us};
use crate::platform::machine::{self, MachineMonitor};
use crate::platform::page_faults;
use faceptor::stages::{
    Analysis, Face, FaceImage, ImageView, OwnedFrame, Pipeline, Similarity, TaskList, TrackerOptions, WindowTransforms,
};
use faceptor_nn::bundle::Bundle;
use faceptor_nn::bundle::hexadecimal;
use faceptor_nn::thread_pool::Threads;

/// A source that gives nothing for this long is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time between frames of a source without a rate, as the loop has it.
const NOMINAL_PERIOD_S: f32 = 1.0 / 30.0;
/// Between two looks at the CPU's clock.
const SAMPLE_US: u64 = 500_000;
/// Pairs of frames from which the cost of a task is taken: as many as are measured, within these.
const MARGINAL_PAIRS: [u64; 2] = [20, 200];
/// Runs of the engine alone, to count its allocations.
const ENGINE_RUNS: u64 = 10;

/// Settings of a measurement.
#[derive(Clone)]
pub struct BenchSettings {
    pub tasks: TaskList,
    pub max_faces: usize,
    pub warm_up: u64,
    pub frames: u64,
    /// Budget of a frame; 0 for no deadline.
    pub budget_us: u64,
    /// Also measures frames with cold caches. The inner number is the bytes that pass through before each; `None`: twice the
    /// last-level cache.
    pub cold: Option<Option<u64>>,
    pub threads: Threads,
    /// Commit that the program was built from.
    pub git: Option<&'static str>,
}

/// Loads the network with `open` and measures it on the frames of `source`.
///
/// # Errors
/// When the network cannot be run, or the source gives no frame for ten seconds.
pub fn measure(
    open: impl FnOnce() -> Result<Arc<Bundle>>,
    choose: impl FnOnce(&Bundle) -> Result<BenchSettings>,
    source: &mut dyn Source,
) -> Result<BenchReport> {
    let init = machine::resident_bytes().map_or(0, |(now, _)| now);
    let mut watch = Stopwatch::start();
    let bundle = open()?;
    let settings = choose(&bundle)?;
    // Refused before minutes are spent.
    let cold_bytes = settings.cold.map(OtherMemory::choose_bytes).transpose()?;
    let pipeline = undrawn(bundle.clone(), &settings.tasks, &settings.threads)?;
    let load_us = watch.lap_us();
    let mut bench = Bench::new(pipeline, source, &settings);
    let mut machine = MachineMonitor::start();

    bench.run(settings.warm_up.max(1), &mut machine)?;
    let first_us = bench.first_us;
    let warm_up_us = watch.lap_us();
    bench.forget();
    machine.restart();
    bench.run(settings.frames, &mut machine)?;
    let (machine, mut troubles) = machine.finish();
    let (steady, peak) = machine::resident_bytes().unwrap_or_default();
    troubles.extend(too_short(settings.warm_up, warm_up_us, settings.frames));

    let names: Vec<String> = bench.names();
    let task_marginal_us = marginals(&bundle, &settings, &bench.kept)?;
    let threads_gain = gain(&bundle, &settings, &bench.kept)?;
    let (stages, frame) = bench.summaries();
    let histograms = bench.histograms();
    let allocations_per_frame = match allocations::are_counted() {
        true => {
            let engine = engine_allocations(&bundle, &settings.tasks)? * bench.seen as f64 / settings.frames as f64;
            Allocations::per_frame(bench.allocated, bench.allocated_by_source, engine, settings.frames)
        }
        false => Allocations::default(),
    };
    let (faces, deadline, page_faults_per_frame) =
        (per_frame(bench.seen, settings.frames), bench.deadlines, bench.faults.per_frame(settings.frames));
    // Last, so that this memory is not counted as the program's.
    let cold = match cold_bytes {
        Some(bytes) => Some(bench.run_cold(bytes, settings.frames, &frame, &mut troubles)?),
        None => None,
    };
    let manifest = bundle.manifest();
    Ok(BenchReport {
        machine,
        build: build(settings.git),
        model: Network {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            sha256: bundle.sha256().to_owned(),
        },
        kernel: bench.faces.pipeline().engine().kernel().name(),
        source: bench.source.describe(),
        tasks: names,
        threads: settings.threads.count,
        threads_gain,
        max_faces: settings.max_faces,
        warm_up: settings.warm_up,
        frames: settings.frames,
        faces,
        stages,
        frame,
        histograms,
        task_marginal_us,
        cold,
        deadline,
        load_us,
        first_us,
        rss_bytes: Memory { init, steady, peak },
        allocations_per_frame,
        page_faults_per_frame,
        valid: troubles.is_empty(),
        invalid_because: (!troubles.is_empty()).then(|| troubles.join("; ")),
    })
}

const FRAME: &str = "frame";

struct BenchRows {
    capture: StageRow,
    find: StageRow,
    align: StageRow,
    encode: StageRow,
    /// One for each chosen task.
    decode: Vec<StageRow>,
    frame: StageRow,
    /// Where the source has a rate of its own: from the capture to the answers.
    since_capture: Option<StageRow>,
}

struct Bench<'a> {
    /// Does the live loop's work on a frame, without a limit on its time.
    faces: Faces,
    source: &'a mut dyn Source,
    analysis: Analysis,
    table: StageTable,
    rows: BenchRows,
    deadlines: Deadlines,
    first_us: u64,
    seen: u64,
    allocated: Count,
    allocated_by_source: Count,
    faults: Faults,
    /// Passes through the caches before each frame.
    other_memory: Option<OtherMemory>,
    sampled_us: u64,
    period_s: f32,
    last_scene: u64,
    last_path: Option<PathBuf>,
    /// A frame with a face, and where that is.
    kept: Option<(OwnedFrame, WindowTransforms)>,
}

impl<'a> Bench<'a> {
    fn new(pipeline: Pipeline, source: &'a mut dyn Source, settings: &BenchSettings) -> Bench<'a> {
        let mut table = StageTable::default();
        let period_us = source.period_us();
        let [capture, find, align, encode] =
            ["capture", "find", "align", "encode"].map(|name| table.register(name, None));
        let decoders = pipeline.decoders();
        let task = |&task: &u8| format!("decode_{}", decoders[usize::from(task)].task().name);
        let decode = pipeline.tasks().iter().map(|index| table.register(&task(index), None)).collect();
        let since_capture = period_us.map(|_| table.register("since_capture", period_us));
        let rows =
            BenchRows { capture, find, align, encode, decode, frame: table.register(FRAME, period_us), since_capture };
        Bench {
            analysis: Analysis::with_room(settings.max_faces, decoders),
            faces: Faces::new(pipeline, TrackerOptions { limit: settings.max_faces, smoothing: true }),
            source,
            table,
            rows,
            deadlines: Deadlines::new(settings.budget_us),
            first_us: 0,
            seen: 0,
            allocated: Count::default(),
            allocated_by_source: Count::default(),
            faults: Faults::default(),
            other_memory: None,
            sampled_us: 0,
            period_s: period_us.map_or(NOMINAL_PERIOD_S, |us| us as f32 / 1e6),
            last_scene: 0,
            last_path: None,
            kept: None,
        }
    }

    /// Names of the chosen tasks.
    fn names(&self) -> Vec<String> {
        let decoders = self.faces.pipeline().decoders();
        self.faces.tasks().iter().map(|&task| decoders[usize::from(task)].task().name.clone()).collect()
    }

    /// Forgets what the warm-up measured.
    fn forget(&mut self) {
        self.table.reset();
        self.deadlines = Deadlines::new(self.deadlines.budget_us);
        (self.seen, self.allocated, self.allocated_by_source) = (0, Count::default(), Count::default());
        self.faults = Faults::default();
    }

    /// Returns the times of the stages that ran, and of the whole frame.
    fn summaries(&self) -> (Named<Summary>, Summary) {
        let mut stages = Named::default();
        let mut frame = Summary::default();
        for (name, statistics) in self.table.rows() {
            match name {
                FRAME => frame = statistics.summary(),
                _ if statistics.count() > 0 => stages.0.push((name.to_owned(), statistics.summary())),
                _ => {}
            }
        }
        (stages, frame)
    }

    /// Returns the durations of the stages that ran and of the whole frame, by buckets.
    fn histograms(&self) -> Named<Vec<(u64, u64)>> {
        let rows = self.table.rows().filter(|(_, statistics)| statistics.count() > 0);
        Named(rows.map(|(name, statistics)| (name.to_owned(), statistics.filled())).collect())
    }

    /// Measures as many frames again with cold caches.
    fn run_cold(&mut self, bytes: u64, frames: u64, warm: &Summary, troubles: &mut Vec<String>) -> Result<Cold> {
        let memory = OtherMemory::allocate(bytes);
        let (passed_bytes, last_level_cache_bytes) = (memory.bytes(), memory.last_level_cache_bytes());
        self.other_memory = Some(memory);
        self.forget();
        let mut machine = MachineMonitor::start();
        self.run(frames, &mut machine)?;
        self.other_memory = None;
        troubles.extend(machine.finish().1.into_iter().map(|trouble| format!("cold: {trouble}")));
        let (stages, frame) = self.summaries();
        let p99_to_warm_p50 = cold::ratio(frame.p99_us, warm.p50_us);
        let page_faults_per_frame = self.faults.per_frame(frames);
        Ok(Cold { passed_bytes, last_level_cache_bytes, stages, frame, p99_to_warm_p50, page_faults_per_frame })
    }

    fn run(&mut self, frames: u64, machine: &mut MachineMonitor) -> Result<()> {
        for _ in 0..frames {
            if let Some(memory) = &mut self.other_memory {
                memory.pass_through();
            }
            self.frame()?;
            let now = now_us();
            if now - self.sampled_us > SAMPLE_US {
                self.sampled_us = now;
                machine.sample();
            }
        }
        Ok(())
    }

    /// Waits for a frame; a file begins again at its end.
    fn next_frame(&mut self) -> Result<u64> {
        let give_up_us = now_us() + PATIENCE.as_micros() as u64;
        loop {
            match self.source.poll(give_up_us) {
                Ok(Poll::Frame(stamp)) => return Ok(stamp.captured_us),
                Ok(Poll::Ended) if self.source.rewind() => {}
                Ok(Poll::Ended) => bail!(no_more_frames(&*self.source)),
                Ok(Poll::Nothing) => {}
                Err(error @ SourceError::Frame { .. }) => log::warn!("{error}"),
                Err(error) => return Err(error.into()),
            }
            if now_us() >= give_up_us {
                bail!("{}: no frame within {} s", self.source.describe(), PATIENCE.as_secs());
            }
        }
    }

    /// Measures one frame.
    fn frame(&mut self) -> Result<()> {
        let (before, faults_before) = (allocations::of_this_thread(), page_faults::of_this_thread());
        let mut stage = Stopwatch::start();
        let captured_us = self.next_frame()?;
        let capture_us = stage.lap_us();
        self.notice_cut();
        let (grabbed, faults_grabbed) = (allocations::of_this_thread(), page_faults::of_this_thread());
        stage.lap_us();
        let allowance = Allowance { started_us: now_us(), budget_us: None, level: 0 };
        let done = self.faces.process(&self.source.view(), self.period_s, &allowance)?;
        self.faces.copy_to(&mut self.analysis, &allowance);
        let frame_us = stage.lap_us();
        let finished = allocations::of_this_thread();
        self.faults.ours += page_faults::of_this_thread().saturating_sub(faults_grabbed);
        self.faults.capture += faults_grabbed.saturating_sub(faults_before);
        let add = |sum: &mut Count, more: Count| {
            (sum.calls, sum.bytes) = (sum.calls + more.calls, sum.bytes + more.bytes);
        };
        add(&mut self.allocated_by_source, grabbed.since(before));
        add(&mut self.allocated, finished.since(grabbed));
        self.table.record(self.rows.capture, capture_us);
        if done.finder_ran {
            self.table.record(self.rows.find, self.analysis.timing.find_us);
        }
        self.record(captured_us, frame_us);
        Ok(())
    }

    /// Ends the tracks where the source knows of a cut, as the live loop does.
    fn notice_cut(&mut self) {
        let another_file = self.source.path() != self.last_path.as_deref();
        if another_file || self.source.scene() != self.last_scene {
            self.faces.cut();
        }
        self.last_scene = self.source.scene();
        if another_file {
            self.last_path = self.source.path().map(Path::to_owned);
        }
    }

    fn record(&mut self, captured_us: u64, frame_us: u64) {
        if self.first_us == 0 {
            self.first_us = frame_us;
        }
        let (timing, rows, table) = (&self.analysis.timing, &self.rows, &mut self.table);
        // Stages that a frame without a face does not have are not counted as free.
        if let Some(face) = self.analysis.faces.first()
            && !rows.decode.is_empty()
        {
            table.record(rows.align, timing.align_us);
            table.record(rows.encode, timing.encode_us);
            for (&row, &task) in rows.decode.iter().zip(self.faces.tasks()) {
                table.record(row, timing.decode_us[usize::from(task)]);
            }
            if self.kept.is_none() {
                let mut still = OwnedFrame::default();
                still.copy_from(&self.source.view());
                self.kept = Some((still, face.windows));
            }
        }
        table.record(rows.frame, frame_us);
        if let Some(row) = rows.since_capture {
            table.record(row, now_us().saturating_sub(captured_us));
        }
        self.deadlines.record(frame_us);
        self.seen += self.analysis.faces.len() as u64;
    }
}

/// Page faults of the loop's thread.
#[derive(Clone, Copy, Default)]
struct Faults {
    /// From a frame's arrival to its results.
    ours: u64,
    capture: u64,
}

impl Faults {
    fn per_frame(self, frames: u64) -> PageFaults {
        PageFaults { ours: per_frame(self.ours, frames), capture: per_frame(self.capture, frames) }
    }
}

/// Returns the message for a source that ended and does not start over.
pub fn no_more_frames(source: &dyn Source) -> String {
    match source.counters().frames {
        0 => format!("{}: no frame", source.describe()),
        frames => format!(
            "{}: it ended after {frames} frames and cannot start over (a pipe cannot; save it as a file)",
            source.describe()
        ),
    }
}

/// Measures what each chosen task adds: one face with all tasks, and with all but this one, in turns.
fn marginals(
    bundle: &Arc<Bundle>,
    settings: &BenchSettings,
    kept: &Option<(OwnedFrame, WindowTransforms)>,
) -> Result<Named<Marginal>> {
    let tasks = &settings.tasks;
    let mut found = Named::default();
    let Some((still, at)) = kept else { return Ok(found) };
    let mut pipeline = undrawn(bundle.clone(), tasks, &settings.threads)?;
    let mut face = Face::blank(pipeline.decoders());
    face.windows = *at;
    let pairs = settings.frames.clamp(MARGINAL_PAIRS[0], MARGINAL_PAIRS[1]);
    for left_out in tasks {
        let others: TaskList = tasks.iter().copied().filter(|task| task != left_out).collect();
        let mut differences = Vec::with_capacity(pairs as usize);
        for pair in 0..pairs {
            // Whichever comes first has the colder caches, so they take turns in that too.
            let mut time = |tasks: &TaskList| time_face(&mut pipeline, &still.view(), tasks, &mut face);
            let difference = match pair % 2 {
                0 => time(tasks)? - time(&others)?,
                _ => -(time(&others)? - time(tasks)?),
            };
            differences.push(difference);
        }
        let name = pipeline.decoders()[usize::from(*left_out)].task().name.clone();
        found.0.push((name, Marginal::of(&mut differences)));
    }
    Ok(found)
}

/// Makes a pipeline without masks, as in a run that only prints results.
pub fn undrawn(bundle: Arc<Bundle>, tasks: &TaskList, threads: &Threads) -> Result<Pipeline> {
    let mut pipeline = Pipeline::with_threads(bundle, tasks, threads)?;
    pipeline.enable_masks(false);
    Ok(pipeline)
}

/// Measures what the threads gain: one face with all of them, and with one alone, in turns; `None` if there is only one.
fn gain(
    bundle: &Arc<Bundle>,
    settings: &BenchSettings,
    kept: &Option<(OwnedFrame, WindowTransforms)>,
) -> Result<Option<Gain>> {
    let Some((still, at)) = kept.as_ref().filter(|_| settings.threads.count > 1) else { return Ok(None) };
    let tasks = &settings.tasks;
    let mut alone = undrawn(bundle.clone(), tasks, &Threads::default())?;
    let mut shared = undrawn(bundle.clone(), tasks, &settings.threads)?;
    let mut face = Face::blank(alone.decoders());
    face.windows = *at;
    let (mut one, mut all) = (Vec::new(), Vec::new());
    for _ in 0..settings.frames.clamp(MARGINAL_PAIRS[0], MARGINAL_PAIRS[1]) {
        one.push(time_face(&mut alone, &still.view(), tasks, &mut face)?);
        all.push(time_face(&mut shared, &still.view(), tasks, &mut face)?);
    }
    Ok(Some(Gain::of(&mut one, &mut all)))
}

/// Returns microseconds from one face in the network's input to the results of `tasks`.
fn time_face(pipeline: &mut Pipeline, view: &ImageView, tasks: &TaskList, face: &mut Face) -> Result<i64> {
    let Face { windows, results, .. } = face;
    let mut timer = SinceSampled::default();
    pipeline.run_face(FaceImage::Frame(view), windows, tasks.clone(), &mut timer, |pipeline, task| {
        pipeline.decode(task, windows, &mut results[task].prediction)
    })?;
    Ok(timer.lap_us() as i64)
}

/// Returns how often the engine allocates for one face.
fn engine_allocations(bundle: &Arc<Bundle>, tasks: &TaskList) -> Result<f64> {
    let mut pipeline = undrawn(bundle.clone(), tasks, &Threads::default())?;
    let windows = WindowTransforms::same(Similarity::scaling(1.0));
    let mut calls = 0;
    for run in 0..=ENGINE_RUNS {
        let before = allocations::of_this_thread();
        pipeline.run_face(FaceImage::Grey, &windows, tasks.clone(), &mut (), Pipeline::compute)?;
        // The first run may still make room.
        calls += if run > 0 { allocations::of_this_thread().since(before).calls } else { 0 };
    }
    Ok(per_frame(calls, ENGINE_RUNS))
}

/// Describes this program.
pub fn build(git: Option<&'static str>) -> Build {
    let features = [("compiler", cfg!(feature = "compiler")), ("embedded", cfg!(feature = "embedded"))];
    let features = features.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect();
    let program = std::env::current_exe().and_then(std::fs::read).ok();
    let program_sha256 = program.map(|bytes| hexadecimal(&Sha256::digest(bytes)));
    Build { version: env!("CARGO_PKG_VERSION"), git, features, program_sha256 }
}
