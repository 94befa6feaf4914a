//! `faceptor run`: runs the live loop between a source and its outputs.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::json;

use crate::capture::feed::OneSource;
use crate::capture::several_sources::SeveralSources;
use crate::capture::source_reader::Opening;
pub use crate::cli::run_arguments::RunArguments;
use crate::cli::run_control::RunControl;
use crate::cli::run_sources::RunSources;
use crate::cli::{Outcome, UsageError, output};
use crate::control::server::ControlServer;
use crate::control::signals::Signals;
use crate::files::output_file::{self, OutputRules};
use crate::files::result_kind::ResultKind;
use crate::live::frame::Faces;
use crate::live::frame_pool::FramePool;
use crate::live::frame_result;
use crate::live::live_loop::{self, Command, LiveLoop, SourceEnd};
use crate::live::ring::{self, Ring};
use crate::live::run_stats::{RunReport, RunStats};
use crate::live::shield::Blur;
use crate::outputs::draw::overlay::{Annotator, Legend, own_size};
use crate::outputs::draw::png;
use crate::outputs::fan_out::{OutputOptions, Outputs, RunFacts};
use crate::outputs::format::terminal;
use crate::outputs::publisher::{self, Ending, FrameObserver, Printing, Publisher};
use crate::platform::scheduling::{RealtimeGrants, ThreadRole};
use crate::platform::sensors::Sensors;
use crate::platform::shutdown::Shutdown;
use crate::platform::thermal;
use crate::recognition::track_names::TrackNames;
use faceptor::stages::{Pipeline, TrackerOptions};
use faceptor_nn::manifest::TaskKind;

/// Most commands that wait for the next frame.
const COMMANDS: usize = 16;
/// Pixel buffers that sinks may hold, besides one in each result.
const SHARED_FRAMES: usize = 12;

/// Stack of the publisher's thread, which formats lines. Its first 256 KiB are touched in advance.
const PUBLISHER_STACK_BYTES: usize = 768 << 10;

/// Calls a function when it is dropped, also when a thread panics.
struct AtEnd<F: Fn()>(F);

impl<F: Fn()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

pub fn run(arguments: RunArguments) -> Result<Outcome> {
    if arguments.outputs.writes_video() && arguments.outputs.json {
        let text =
            "--video - fills standard output with frames, so --json cannot go there: use --record FILE for the lines";
        return Err(UsageError(text.to_owned()).into());
    }
    if arguments.outputs.writes_video() && std::io::stdout().is_terminal() {
        let text = "--video - needs a program that reads the frames: faceptor run --video - | ffplay -i -";
        return Err(UsageError(text.to_owned()).into());
    }
    let mut buses = arguments.outputs.buses()?;
    let blur = arguments.blur.blur(arguments.naming.gallery.is_named())?;
    if arguments.sources.len() > 1 {
        arguments.outputs.check_for_several()?;
    }
    let sources = RunSources::open(&arguments.sources, &arguments.request())?;
    let (live, count, names) = (sources.is_live, sources.named.len(), sources.names());
    let shown: Vec<String> = (0..count).map(|place| sources.shown(place)).collect();
    let rules = arguments.rules(&sources.named);
    for place in 0..count {
        if let Some(path) = arguments.outputs.last_frame(names.get(place).map(String::as_str)) {
            output_file::check(&path, ResultKind::Picture, &rules)?;
        }
    }
    let bundle = arguments.network.open()?;
    if !bundle.manifest().tasks.iter().any(|task| task.kind == TaskKind::Expression) {
        buses.leave_expression_out();
    }
    let threads = if live { arguments.threads.live(&arguments.realtime) } else { arguments.threads.threads() }?;
    let tasks = arguments.naming.tasks(&arguments.tasks, &bundle)?;
    let pipeline = Pipeline::with_threads(bundle.clone(), &tasks, &threads)?;
    let legend = Arc::new(Legend::of(&pipeline));
    // Files and photos have no deadline, so priority would not help.
    let mut obtained = if live { arguments.realtime.process() } else { RealtimeGrants::default() };

    let (sender, commands) = sync_channel(COMMANDS);
    let (track_names, gallery) = arguments.naming.open(&bundle, count, sender.clone())?.unzip();
    let mut control = RunControl {
        commands: sender,
        sources: sources.named.iter().map(|source| source.name.clone()).collect(),
        places: shown.iter().take(names.len()).cloned().collect(),
        run_stats: (0..count).map(|_| Arc::default()).collect(),
        chosen: Arc::new(Mutex::new(pipeline.tasks().clone())),
        budget_us: Arc::default(),
        shutdown: Shutdown::default(),
        pixel_demands: Vec::new(),
        gallery,
        heat: None,
        granted: Arc::default(),
        facts: json!({ "network": bundle.manifest().name, "sha256": bundle.sha256() }),
        bundle,
    };
    if !sources.are_several() {
        control.facts["source"] = json!(sources.description());
    }
    let settings = arguments.settings();
    control.budget_us.store(settings.budget_us.or(sources.period_us()).unwrap_or(0), Ordering::Relaxed);
    control.heat = live.then(|| Arc::new(thermal::HeatMonitor::start(Sensors::of_this_machine())));
    let chooser = control.clone();
    let facts = RunFacts {
        legend: legend.clone(),
        source: sources.description(),
        names: names.clone(),
        run_stats: control.run_stats.clone(),
        heat: control.heat.clone(),
        fps: sources.period_us().filter(|period_us| *period_us > 0).map(|period_us| 1e6 / period_us as f64),
        set_tasks: Arc::new(move |names| chooser.choose(names).map(drop).map_err(|refusal| refusal.to_string())),
        shutdown: control.shutdown.clone(),
    };
    let outputs = Outputs::start(OutputOptions { buses, ..arguments.outputs.options(live, &rules) }, facts)?;
    control.pixel_demands = outputs.pixel_demands();
    let run_stats = control.run_stats.clone();
    let _signals =
        Signals::start(&control.shutdown, move || print_report(&names, &run_stats)).context("signal handlers")?;
    let server = arguments.outputs.socket()?.map(|path| ControlServer::start(&path, control.clone())).transpose()?;
    if let Some(server) = &server {
        log::info!("control socket: {}", server.path().display());
    }

    let heat_level = control.heat.as_ref().map(|watch| watch.level()).unwrap_or_default();
    let run = Run { arguments: &arguments, control, outputs, legend: legend.clone(), heat: heat_level, blur };
    let (ends, ending, asked) = run.through(pipeline, track_names, settings, sources, commands, &mut obtained)?;
    drop(server);
    let reported = report(&arguments, &rules, &legend, &ending);
    // The recording has said what it lost. A reader of standard output that has left does not excuse it.
    if !ending.outputs.recording_complete && reported.as_ref().is_err_and(|error| error.is::<output::Closed>()) {
        return Ok(Outcome::SomeFailed);
    }
    reported?;
    let mut has_failed = !ending.outputs.recording_complete;
    for (place, end) in ends.iter().enumerate() {
        has_failed |= end.counters.bad_frames > 0 || end.failure.is_some();
        let published = ending.sources.get(place).map_or(0, |source| source.report.published);
        let Some(shortfall) = shortfall(end, published, arguments.frames).filter(|_| !asked) else { continue };
        let message = format!("source {} {shortfall}", shown[place]);
        if count == 1 {
            bail!(message);
        }
        log::error!("{message}");
        has_failed = true;
    }
    Ok(if has_failed { Outcome::SomeFailed } else { Outcome::Done })
}

/// Returns what a source has given too little of; `wanted` is the number of its frames.
fn shortfall(end: &SourceEnd, published: u64, wanted: Option<u64>) -> Option<String> {
    let frames = end.counters.frames + end.counters.bad_frames;
    if published == 0 && end.counters.frames == 0 {
        return Some("gave no frame".to_owned());
    }
    let wanted = wanted.filter(|wanted| frames < *wanted && end.failure.is_none())?;
    Some(format!("ended after {frames} of {wanted} frames and cannot start over (a pipe cannot; save it as a file)"))
}

/// Parts of a run, moved to its threads.
struct Run<'a> {
    arguments: &'a RunArguments,
    control: RunControl,
    outputs: Outputs,
    legend: Arc<Legend>,
    heat: Arc<AtomicU8>,
    blur: Option<Blur>,
}

impl Run<'_> {
    /// Returns how several sources are opened.
    fn opening(&self, is_live: bool) -> Opening {
        let realtime = self.arguments.realtime.clone();
        Opening {
            request: self.arguments.request(),
            prepare: Arc::new(move || {
                if is_live {
                    realtime.thread(ThreadRole::Reader, &mut RealtimeGrants::default());
                }
            }),
        }
    }

    /// Starts the publisher, and runs the loop on this thread to its end. Also returns whether the end was requested.
    fn through(
        self,
        pipeline: Pipeline,
        track_names: Option<TrackNames>,
        settings: live_loop::LoopSettings,
        mut sources: RunSources,
        commands: Receiver<Command>,
        obtained: &mut RealtimeGrants,
    ) -> Result<(Vec<SourceEnd>, Ending, bool)> {
        let (arguments, period_us, count) = (self.arguments, sources.period_us(), sources.named.len());
        let limit = usize::from(arguments.following.max_faces);
        let (realtime, is_live) = (&arguments.realtime, sources.is_live);
        let depth = ring::depth_for(count);
        let mut ring = Ring::with_depth(depth, || frame_result::FrameResult::with_room(limit, pipeline.decoders()));
        let (results, published) = ring.split();
        let ended = Arc::new(AtomicBool::new(false));
        let links = publisher::PublisherLinks {
            results: published,
            waiting: thread::current(),
            ended: ended.clone(),
            shutdown: self.control.shutdown.clone(),
            run_stats: self.control.run_stats.clone(),
            observer: self.control.gallery.clone().map(|gallery| -> FrameObserver {
                Box::new(move |source, analysis| gallery.observe(source, analysis))
            }),
        };
        let printing = match arguments.outputs.json {
            _ if arguments.outputs.writes_video() => Printing::Nothing,
            true => Printing::Json,
            false => Printing::Text,
        };
        let keep_last = arguments.outputs.out.is_some();
        let (names, opening) = (sources.names(), self.opening(is_live));
        let publisher = Publisher::new(links, self.legend, self.outputs, printing, &names, period_us, keep_last);
        thread::scope(|scope| {
            let shutdown = self.control.shutdown.clone();
            let builder = thread::Builder::new().name("publisher".to_owned()).stack_size(PUBLISHER_STACK_BYTES);
            let publishing = builder.spawn_scoped(scope, move || {
                // Without a publisher the loop has to end too.
                let _drained = AtEnd(|| shutdown.drain());
                let mut obtained = RealtimeGrants::default();
                if is_live {
                    realtime.thread(ThreadRole::Publisher, &mut obtained);
                }
                publisher.run()
            })?;
            let looped = {
                let _ended = AtEnd(|| ended.store(true, Ordering::Release));
                // The reading threads start before this one gets its priority.
                let several = match sources.alone {
                    Some(_) => None,
                    None => Some(SeveralSources::start(&sources.named, &opening)?),
                };
                if is_live {
                    realtime.thread(ThreadRole::Loop, obtained);
                    // Set only here.
                    let _ = self.control.granted.set(obtained.clone());
                    if let Some(source) = &sources.alone {
                        log::info!("{}", source.describe());
                    }
                    log::info!("{}", obtained.summary());
                    obtained.missing.iter().for_each(|missing| log::warn!("{missing}"));
                }
                let pixel_demands = self.control.pixel_demands.clone();
                let links = live_loop::LoopLinks {
                    commands,
                    shutdown: self.control.shutdown.clone(),
                    wants_pixels: Box::new(move |source| {
                        keep_last || pixel_demands.get(source).is_some_and(|demand| demand.wants_pixels())
                    }),
                    heat: self.heat,
                    results,
                    publisher: publishing.thread().clone(),
                    frame_pool: FramePool::new(depth + SHARED_FRAMES * count, 0),
                };
                let options = TrackerOptions { limit, smoothing: !arguments.following.no_smoothing };
                let faces = Faces::of_several(pipeline, options, count).smoothed(arguments.following.steady_s());
                let faces = faces.named(track_names).blurred(self.blur);
                match (several, sources.alone.as_deref_mut()) {
                    (None, Some(source)) => LiveLoop::new(faces, settings, period_us, links)
                        .and_then(|live| live.run_several(&mut OneSource(source))),
                    (Some(mut several), _) => LiveLoop::of_several(faces, settings, count, is_live, links)
                        .and_then(|live| live.run_several(&mut several)),
                    (None, None) => Err(anyhow!("there is no source")),
                }
            };
            let asked = self.control.shutdown.is_requested();
            publishing.thread().unpark();
            let ending = publishing.join().map_err(|_| anyhow!("the publisher's thread failed"));
            Ok((looped?, ending??, asked))
        })
    }
}

/// Writes the last frame and prints the table, also when the frame cannot be written.
fn report(arguments: &RunArguments, rules: &OutputRules, legend: &Arc<Legend>, ending: &Ending) -> Result<()> {
    let written = write_last(arguments, rules, legend, ending);
    print_table(arguments, ending).and(written)
}

fn write_last(arguments: &RunArguments, rules: &OutputRules, legend: &Arc<Legend>, ending: &Ending) -> Result<()> {
    for source in &ending.sources {
        let Some((path, last)) = arguments.outputs.last_frame(source.name.as_deref()).zip(source.last.as_ref()) else {
            continue;
        };
        match &last.still {
            Some(still) => {
                let mut annotator = Annotator::new(legend.clone());
                let picture = still.draw(&mut annotator, &last.analysis, &last.identities.list(), own_size);
                output_file::write(&path, ResultKind::Picture, rules, |file| png::encode_picture(file, picture, None))?;
            }
            None => bail!("the last frame was not kept, so {} is not written", path.display()),
        }
    }
    Ok(())
}

fn print_table(arguments: &RunArguments, ending: &Ending) -> Result<()> {
    if !ending.outputs.stdout_complete {
        return Err(output::Closed.into());
    }
    for source in ending.sources.iter().filter(|source| source.report.published > 0) {
        let table = table_of(source.name.as_deref(), &source.report);
        match arguments.outputs.json || arguments.outputs.writes_video() {
            // Standard output holds JSON only, or frames only.
            true => print_on_stderr(&table),
            false => output::print(&table)?,
        }
    }
    Ok(())
}

/// Returns the table of a source, below its name where there are several.
fn table_of(name: Option<&str>, report: &RunReport) -> String {
    match name {
        Some(name) => format!("{name}: {}", report.table()),
        None => report.table(),
    }
}

/// Prints the tables on standard error, for SIGUSR1.
fn print_report(names: &[String], run_stats: &[Arc<RunStats>]) {
    for (place, run_stats) in run_stats.iter().enumerate() {
        print_on_stderr(&table_of(names.get(place).map(String::as_str), &run_stats.read()));
    }
}

/// Prints lines on standard error. A closed standard error is no failure.
fn print_on_stderr(text: &str) {
    drop(std::io::stderr().write_all(terminal::lines(text).as_bytes()));
}
