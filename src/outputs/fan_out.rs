//! The outputs of a running loop, started and ended together.
//!
//! The publisher passes each result once to [`Outputs::publish`], which copies it to every sink's queue. It never waits,
//! unless the source can wait too: then no line is lost. Each sink has its own thread.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::files::output_file::OutputRules;
use crate::live::run_stats::RunStats;
use crate::live::still::Still;
use crate::outputs::buses::metrics::FrameMetrics;
use crate::outputs::buses::metrics_page::{self, MetricsSources};
use crate::outputs::buses::mqtt_sink::{Broker, MqttSink};
use crate::outputs::buses::webhook::WebhookSink;
use crate::outputs::draw::overlay::{Annotator, Legend};
use crate::outputs::http::address::Address;
use crate::outputs::http::server::HttpServer;
use crate::outputs::shared_frame::SharedFrame;
use crate::outputs::sinks::display::DisplaySink;
use crate::outputs::sinks::framebuffer::Framebuffer;
use crate::outputs::sinks::pixel_demand::{PixelDemand, SnapshotRequest};
use crate::outputs::sinks::preview::PreviewSink;
use crate::outputs::sinks::preview::broadcast::Broadcast;
use crate::outputs::sinks::preview::routes::{Routes, SetTasks};
use crate::outputs::sinks::preview::server::PreviewServer;
use crate::outputs::sinks::recording::{RecordingOptions, RecordingSink};
use crate::outputs::sinks::service_manager::ServiceManager;
use crate::outputs::sinks::sink::{Loss, SinkCounters, SinkThread};
use crate::outputs::sinks::snapshot::{SnapshotFrame, SnapshotSink};
use crate::outputs::sinks::stdout_sink::{StdoutEnd, StdoutSink};
use crate::outputs::sinks::video::USUAL_FPS;
use crate::outputs::sinks::video::film_sink::{COMPLETION, FilmOptions, FilmSink};
use crate::outputs::sinks::video::pipe_sink::VideoPipe;
use crate::platform::shutdown::Shutdown;
use crate::platform::thermal::HeatMonitor;
use crate::recognition::identities::Identities;
use faceptor::stages::Analysis;

/// Lines that wait for the reader of standard output: about two seconds of a camera.
const STDOUT_DEPTH: usize = 64;
/// Lines that wait while the disk is busy: about eight seconds of a camera.
const RECORDING_DEPTH: usize = 256;
/// Frames that wait for an encoder or the next program of a pipe. Each holds one of the loop's pixel buffers.
const VIDEO_DEPTH: usize = 3;
/// Lines that wait for the thread of a bus, which reads them at once.
const BUS_DEPTH: usize = 16;
/// Time limit at the end for standard output, for a recording, and for all other sinks together.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// Which outputs a run has.
#[derive(Clone, Debug, Default)]
pub struct OutputOptions {
    /// Lines on standard output.
    pub print: bool,
    pub record: Option<RecordingOptions>,
    /// A framebuffer device.
    pub display: Option<PathBuf>,
    pub preview: Option<SocketAddr>,
    /// A film of the annotated frames.
    pub film: Option<PathBuf>,
    /// Annotated frames as YUV4MPEG2 on standard output, in place of lines.
    pub video_pipe: bool,
    /// Address of the page of metrics.
    pub metrics: Option<SocketAddr>,
    pub buses: BusOptions,
    /// The source waits until its results are taken (photos and files without a rate), so no line is lost.
    pub source_waits: bool,
    /// Files that the outputs may replace, and the inputs, which none replaces.
    pub rules: OutputRules,
}

/// Other systems that get results.
#[derive(Clone, Debug, Default)]
pub struct BusOptions {
    pub(crate) webhook: Option<Address>,
    pub(crate) mqtt: Option<Broker>,
}

impl BusOptions {
    /// Leaves expressions out of what the run announces, because its network does not infer them.
    pub(crate) fn leave_expression_out(&mut self) {
        if let Some(broker) = &mut self.mqtt {
            broker.leave_expression_out();
        }
    }
}

/// The facts of the run that the outputs need.
pub struct RunFacts {
    pub legend: Arc<Legend>,
    /// The source in a few words, such as a camera's name; empty for several.
    pub source: String,
    /// The names of the sources, if there are several.
    pub names: Vec<String>,
    /// Chooses tasks by name; returns at once.
    pub set_tasks: Arc<SetTasks>,
    /// Frames per second of the source, if it has a rate.
    pub fps: Option<f64>,
    /// The latest statistics of each source.
    pub run_stats: Vec<Arc<RunStats>>,
    /// Temperatures, for a live source.
    pub heat: Option<Arc<HeatMonitor>>,
    /// Requests to end bound the waits for slow readers.
    pub shutdown: Shutdown,
}

/// One result to be given out.
pub struct PublishedFrame<'a> {
    /// The place of the source among those of the run.
    pub source: usize,
    /// The text for standard output, with its line feed: JSON or plain text.
    pub printed: &'a [u8],
    /// The JSON line with its line feed; may be empty when [`Outputs::needs_json`] is false.
    pub json: &'a [u8],
    pub analysis: &'a Analysis,
    pub identities: &'a Identities,
    /// The frame's pixels, when [`PixelDemand::wants_pixels`] was true.
    pub still: Option<&'a Still>,
    pub captured_us: u64,
    pub published_us: u64,
}

/// How the outputs ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputsEnd {
    /// The reader of standard output took everything.
    pub stdout_complete: bool,
    /// Every line that was to be recorded is on the disk, and a film is complete; true without them.
    pub recording_complete: bool,
}

/// All sinks of a run.
#[derive(Default)]
pub struct Outputs {
    stdout: Option<SinkThread<Vec<u8>>>,
    stdout_end: Arc<OnceLock<StdoutEnd>>,
    recording: Option<SinkThread<Vec<u8>>>,
    recording_incomplete: Arc<AtomicBool>,
    display: Option<SinkThread<SharedFrame>>,
    /// Each source has a thread that draws, one for its events, and one for its state.
    preview: Vec<SinkThread<SharedFrame>>,
    film: Option<SinkThread<SharedFrame>>,
    film_incomplete: Arc<AtomicBool>,
    video_pipe: Option<SinkThread<SharedFrame>>,
    preview_server: Option<PreviewServer>,
    webhook: Vec<SinkThread<Vec<u8>>>,
    mqtt: Vec<SinkThread<Vec<u8>>>,
    metrics: Option<(Vec<Arc<FrameMetrics>>, HttpServer)>,
    snapshots: Option<SinkThread<SnapshotFrame>>,
    /// One for each source.
    pixel_demands: Vec<(Arc<PixelDemand>, Receiver<SnapshotRequest>)>,
    service_manager: Option<ServiceManager>,
    source_waits: bool,
    shutdown: Shutdown,
    frames: u64,
}

impl Outputs {
    /// Opens files, devices and sockets and starts the threads. The threads inherit scheduling and affinity of the
    /// caller: call this before those are changed for the loop.
    ///
    /// # Errors
    /// When an output cannot be opened; the message names it.
    pub fn start(options: OutputOptions, facts: RunFacts) -> Result<Outputs> {
        let legend = facts.legend;
        let sources = facts.names.len().max(1);
        let broadcasts: Vec<Arc<Broadcast>> = (0..sources).map(|_| Arc::default()).collect();
        let always = options.display.is_some() || options.film.is_some() || options.video_pipe;
        let mut outputs =
            Outputs { source_waits: options.source_waits, shutdown: facts.shutdown, ..Outputs::default() };
        outputs.pixel_demands = (broadcasts.iter().cloned())
            .map(|viewers| PixelDemand::new(always, Box::new(move || viewers.viewers())))
            .collect();
        outputs.service_manager = ServiceManager::from_environment()?;
        if let Some(options) = options.record {
            let sink = RecordingSink::open(options)?;
            outputs.recording_incomplete = sink.incomplete();
            let depth = RECORDING_DEPTH * sources;
            outputs.recording = Some(SinkThread::start("record", depth, Loss::Matters, Vec::new, sink)?);
        }
        if let Some(path) = options.display {
            let sink = DisplaySink::new(Framebuffer::open(&path)?, Annotator::new(legend.clone()));
            outputs.display = Some(SinkThread::start("display", 1, Loss::Expected, SharedFrame::default, sink)?);
        }
        if let Some(address) = options.preview {
            for broadcast in &broadcasts {
                let sink = PreviewSink::new(broadcast.clone(), legend.clone());
                outputs.preview.push(SinkThread::start("preview", 1, Loss::Expected, SharedFrame::default, sink)?);
            }
            let routes = Routes {
                source: facts.source.clone(),
                names: facts.names.clone(),
                legend: legend.clone(),
                set_tasks: facts.set_tasks,
            };
            let server = PreviewServer::start(address, broadcasts, routes)?;
            if !server.address().ip().is_loopback() {
                log::warn!(
                    "the preview at {} can be seen and controlled by everyone on the network: there is no password",
                    server.address()
                );
            }
            log::info!("preview: http://{}/", server.address());
            outputs.preview_server = Some(server);
        }
        let fps = facts.fps.unwrap_or(USUAL_FPS);
        if let Some(path) = options.film {
            let film = FilmOptions { path, rules: options.rules.clone(), fps, is_live: !options.source_waits };
            let sink = FilmSink::open(&film, legend.clone())?;
            outputs.film_incomplete = sink.incomplete();
            outputs.film = Some(SinkThread::start("film", VIDEO_DEPTH, Loss::Matters, SharedFrame::default, sink)?);
        }
        if options.video_pipe {
            let sink = VideoPipe::on_stdout(legend.clone(), fps)?;
            outputs.stdout_end = sink.end();
            let name = "video on standard output";
            outputs.video_pipe = Some(SinkThread::start(name, VIDEO_DEPTH, Loss::Matters, SharedFrame::default, sink)?);
        }
        for place in 0..sources {
            let name = facts.names.get(place);
            if let Some(address) = options.buses.webhook.clone() {
                let sink = WebhookSink::start(address, name.unwrap_or(&facts.source).clone())?;
                outputs.webhook.push(SinkThread::start("webhook", BUS_DEPTH, Loss::Expected, Vec::new, sink)?);
            }
            if let Some(broker) = &options.buses.mqtt {
                let sink = MqttSink::start(broker.of_source(name.map(String::as_str)))?;
                outputs.mqtt.push(SinkThread::start("mqtt", BUS_DEPTH, Loss::Expected, Vec::new, sink)?);
            }
        }
        let snapshots = SnapshotSink::new(Annotator::new(legend), options.rules.inputs);
        outputs.snapshots = Some(SinkThread::start("snapshot", 2, Loss::Expected, SnapshotFrame::default, snapshots)?);
        if options.print {
            let sink = StdoutSink::on_stdout()?;
            outputs.stdout_end = sink.end();
            let depth = STDOUT_DEPTH * sources;
            outputs.stdout = Some(SinkThread::start("standard output", depth, Loss::Matters, Vec::new, sink)?);
        }
        if let Some(address) = options.metrics {
            let frames: Vec<Arc<FrameMetrics>> = (0..sources).map(|_| Arc::default()).collect();
            let counted = outputs.counters().map(|(name, counters)| (name, counters.clone())).collect();
            let (names, run_stats, heat) = (facts.names, facts.run_stats, facts.heat);
            let sources = MetricsSources { names, frames: frames.clone(), run_stats, heat, outputs: counted };
            outputs.metrics = Some((frames, metrics_page::start(address, sources)?));
        }
        Ok(outputs)
    }

    /// Returns what decides when the loop keeps pixels of each source, and takes requests for snapshots.
    pub fn pixel_demands(&self) -> Vec<Arc<PixelDemand>> {
        self.pixel_demands.iter().map(|(demand, _)| demand.clone()).collect()
    }

    /// Returns where the preview listens.
    pub fn preview_address(&self) -> Option<SocketAddr> {
        self.preview_server.as_ref().map(PreviewServer::address)
    }

    /// Returns whether an output needs JSON besides what is printed.
    pub fn needs_json(&self) -> bool {
        self.recording.is_some() || !(self.preview.is_empty() && self.webhook.is_empty() && self.mqtt.is_empty())
    }

    /// Copies a result to all sinks.
    pub fn publish(&mut self, frame: &PublishedFrame) {
        self.frames += 1;
        for (sink, text) in [(&mut self.stdout, frame.printed), (&mut self.recording, frame.json)] {
            let Some(sink) = sink.as_mut().filter(|_| !text.is_empty()) else { continue };
            let fill = |buffer: &mut Vec<u8>| {
                buffer.clear();
                buffer.extend_from_slice(text);
            };
            if self.source_waits {
                sink.push(&self.shutdown, fill)
            } else {
                sink.offer(fill)
            };
        }
        let buses = [&mut self.webhook, &mut self.mqtt].into_iter().filter_map(|sinks| sinks.get_mut(frame.source));
        for sink in buses.filter(|_| !frame.json.is_empty()) {
            sink.offer(|buffer| {
                buffer.clear();
                buffer.extend_from_slice(frame.json);
            });
        }
        if let Some(metrics) = self.metrics.as_ref().and_then(|(metrics, _)| metrics.get(frame.source)) {
            metrics.observe(frame);
        }
        for sink in self.display.iter_mut().chain(self.preview.get_mut(frame.source)) {
            sink.offer(|shared| frame.copy_to(shared));
        }
        for sink in [&mut self.film, &mut self.video_pipe].into_iter().flatten() {
            if self.source_waits {
                sink.push(&self.shutdown, |shared| frame.copy_to(shared))
            } else {
                sink.offer(|shared| frame.copy_to(shared))
            };
        }
        self.take_snapshots(frame);
        if let Some(manager) = &mut self.service_manager {
            manager.advance(frame.published_us, || format!("{} frames", self.frames));
        }
    }

    fn take_snapshots(&mut self, frame: &PublishedFrame) {
        let (Some((demand, requests)), Some(sink)) = (self.pixel_demands.get(frame.source), &mut self.snapshots) else {
            return;
        };
        // Without pixels the requests wait for a later frame.
        if frame.still.is_none() {
            return;
        }
        while let Ok(request) = requests.try_recv() {
            let mut request = Some(request);
            sink.offer(|snapshot| {
                snapshot.request = request.take();
                frame.copy_to(&mut snapshot.frame);
            });
            if let Some(request) = request {
                request.refuse("others are still being written, ask again");
            }
            demand.served();
        }
    }

    /// Returns why standard output takes no more, if so: then the run should end.
    pub fn stdout_end(&self) -> Option<&StdoutEnd> {
        self.stdout_end.get()
    }

    /// Returns the counters of the sinks that take every frame, with their names.
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, &Arc<SinkCounters>)> {
        let lines = [("stdout", &self.stdout), ("record", &self.recording)];
        let buses = [("webhook", &self.webhook), ("mqtt", &self.mqtt)];
        let pictures = [("display", &self.display), ("film", &self.film), ("video", &self.video_pipe)];
        let lines = lines.into_iter().filter_map(|(name, sink)| Some((name, sink.as_ref()?.counters())));
        let pictures = pictures.into_iter().filter_map(|(name, sink)| Some((name, sink.as_ref()?.counters())));
        let buses = buses.into_iter().flat_map(|(name, sinks)| sinks.iter().map(move |sink| (name, sink.counters())));
        let preview = self.preview.iter().map(|sink| ("preview", sink.counters()));
        lines.chain(buses).chain(pictures).chain(preview)
    }

    /// Lets what was published go out and ends everything. If the source waits, slow readers of lines drain their queues
    /// until the end is requested; all other waits last a few seconds at most.
    ///
    /// The shared shutdown state is left as it is: the end of the outputs is not a request to end.
    ///
    /// # Errors
    /// When lines could not be written to standard output. A reader that has closed its end is no error.
    pub fn finish(mut self) -> Result<OutputsEnd> {
        if let Some(manager) = &mut self.service_manager {
            manager.stop();
        }
        let end = |lines: SinkThread<Vec<u8>>| match self.source_waits {
            true => lines.finish(&self.shutdown, FLUSH_LIMIT),
            false => lines.finish_within(FLUSH_LIMIT),
        };
        self.stdout.take().map(end);
        if let Some(video) = self.video_pipe.take() {
            match self.source_waits {
                true => video.finish(&self.shutdown, FLUSH_LIMIT),
                false => video.finish_within(FLUSH_LIMIT),
            };
        }
        let recording = self.recording.take().map(|lines| (lines.counters().clone(), end(lines)));
        let took_all = recording.is_none_or(|(counters, ended)| ended && counters.lost() == 0);
        let film_ended = self.film.take().is_none_or(|film| match self.source_waits {
            true => film.finish(&self.shutdown, COMPLETION + FLUSH_LIMIT),
            false => film.finish_within(COMPLETION + FLUSH_LIMIT),
        });
        let film_complete = film_ended && !self.film_incomplete.load(Ordering::Acquire);
        let recording_complete = took_all && film_complete && !self.recording_incomplete.load(Ordering::Acquire);
        let deadline = Instant::now() + FLUSH_LIMIT;
        let left = || deadline.saturating_duration_since(Instant::now());
        if let Some(snapshots) = self.snapshots.take() {
            snapshots.finish_within(left());
        }
        for pictures in self.display.take().into_iter().chain(self.preview.drain(..)) {
            pictures.finish_within(left());
        }
        for lines in self.webhook.drain(..).chain(self.mqtt.drain(..)) {
            lines.finish_within(left());
        }
        drop((self.preview_server.take(), self.metrics.take()));
        match self.stdout_end.get() {
            None => Ok(OutputsEnd { stdout_complete: true, recording_complete }),
            Some(StdoutEnd::Closed) => Ok(OutputsEnd { stdout_complete: false, recording_complete }),
            Some(StdoutEnd::Failed(error)) => Err(anyhow!("cannot write to standard output: {error}")),
        }
    }
}

impl PublishedFrame<'_> {
    fn copy_to(&self, shared: &mut SharedFrame) {
        shared.still = self.still.cloned();
        shared.analysis.clone_from(self.analysis);
        shared.identities.clone_from(self.identities);
        shared.json.clear();
        shared.json.extend_from_slice(self.json);
        (shared.captured_us, shared.published_us) = (self.captured_us, self.published_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(shutdown: &Shutdown) -> RunFacts {
        RunFacts {
            legend: Arc::new(Legend { decoders: Vec::new() }),
            source: "test".to_owned(),
            names: Vec::new(),
            set_tasks: Arc::new(|_| Ok(())),
            fps: None,
            run_stats: vec![Arc::default()],
            heat: None,
            shutdown: shutdown.clone(),
        }
    }

    #[test]
    fn end_of_the_outputs_is_no_request_to_end() -> Result<()> {
        for source_waits in [false, true] {
            let shutdown = Shutdown::default();
            let outputs = Outputs::start(OutputOptions { source_waits, ..OutputOptions::default() }, facts(&shutdown))?;
            assert_eq!(outputs.finish()?, OutputsEnd { stdout_complete: true, recording_complete: true });
            assert!(shutdown.is_running());
        }
        Ok(())
    }
}
