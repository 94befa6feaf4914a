//! Everything that a running loop shows its results on, started and ended together.
//!
//! The publisher hands over each result once, by [`Presenters::publish`], which waits for nobody (unless the source can
//! wait: then lines are not lost). Each outlet has its own thread behind a queue.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::outputs::draw::overlay::{Artist, Legend};
use crate::outputs::shared_frame::Scene;
use crate::outputs::sinks::display::Display;
use crate::outputs::sinks::framebuffer::Framebuffer;
use crate::outputs::sinks::preview::Preview;
use crate::outputs::sinks::preview::broadcast::Hub;
use crate::outputs::sinks::preview::routes::{SetTasks, Site};
use crate::outputs::sinks::preview::server::Server;
use crate::outputs::sinks::recording::{RecordOptions, Recorder};
use crate::outputs::sinks::service_manager::Notifier;
use crate::outputs::sinks::sink::{Loss, Outlet, Tally};
use crate::outputs::sinks::snapshot::{Request, Snapshot, Snapshots, Watch};
use crate::outputs::sinks::stdout_sink::{End, Lines};
use faceptor::stages::{Analysis, OwnedFrame};

/// Lines that wait for a reader: about two seconds of a camera.
const LINES_DEPTH: usize = 64;
/// Lines that wait while the disk is busy: about eight seconds of a camera.
const RECORD_DEPTH: usize = 256;
/// How long lines, a recording, and everything else together may take at the end.
const FAREWELL: Duration = Duration::from_secs(3);

/// What is shown where.
#[derive(Clone, Debug, Default)]
pub struct PresentOptions {
    /// Lines on standard output.
    pub print: bool,
    pub record: Option<RecordOptions>,
    /// A framebuffer device.
    pub display: Option<PathBuf>,
    pub preview: Option<SocketAddr>,
    /// The source waits until its results are taken (photos and files without a rate): no line is lost then.
    pub source_waits: bool,
}

/// What the outlets have to know of the run.
pub struct Facts {
    pub legend: Arc<Legend>,
    /// What is being looked at, in a few words.
    pub source: String,
    /// Chooses tasks by name; returns at once.
    pub set_tasks: Arc<SetTasks>,
}

/// One published frame.
pub struct Shown<'a> {
    /// What goes to standard output, with its line feed: JSON or text for people.
    pub printed: &'a [u8],
    /// The JSON line with its line feed; may be empty when [`Presenters::needs_json`] says no.
    pub json: &'a [u8],
    pub analysis: &'a Analysis,
    /// The frame's pixels, when [`Watch::wants_pixels`] said yes.
    pub still: Option<&'a Arc<OwnedFrame>>,
    pub captured_us: u64,
    pub published_us: u64,
}

/// All outlets of a run.
#[derive(Default)]
pub struct Presenters {
    lines: Option<Outlet<Vec<u8>>>,
    lines_end: Arc<OnceLock<End>>,
    record: Option<Outlet<Vec<u8>>>,
    display: Option<Outlet<Scene>>,
    preview: Option<Outlet<Scene>>,
    server: Option<Server>,
    snapshots: Option<Outlet<Snapshot>>,
    watch: Option<(Arc<Watch>, Receiver<Request>)>,
    notifier: Option<Notifier>,
    source_waits: bool,
    hurry: Arc<AtomicBool>,
    frames: u64,
}

impl Presenters {
    /// Opens files, devices and sockets and starts the threads. They inherit scheduling and affinity of the caller:
    /// start them before those are made special for the loop.
    ///
    /// # Errors
    /// When something that was asked for cannot be opened; the message names it.
    pub fn start(options: PresentOptions, facts: Facts) -> Result<Presenters> {
        let legend = facts.legend;
        let hub = Arc::new(Hub::default());
        let watching = hub.clone();
        let watch = Watch::new(options.display.is_some(), Box::new(move || watching.viewers()));
        let mut presenters = Presenters { source_waits: options.source_waits, ..Presenters::default() };
        presenters.notifier = Notifier::from_environment()?;
        if let Some(options) = options.record {
            let recorder = Recorder::open(options)?;
            presenters.record = Some(Outlet::start("record", RECORD_DEPTH, Loss::Matters, Vec::new, recorder)?);
        }
        if let Some(path) = options.display {
            let display = Display::new(Framebuffer::open(&path)?, Artist::new(legend.clone()));
            presenters.display = Some(Outlet::start("display", 1, Loss::Expected, Scene::default, display)?);
        }
        if let Some(address) = options.preview {
            let preview = Preview::new(hub.clone(), legend.clone());
            presenters.preview = Some(Outlet::start("preview", 1, Loss::Expected, Scene::default, preview)?);
            let site = Site { source: facts.source, legend: legend.clone(), set_tasks: facts.set_tasks };
            let server = Server::start(address, hub, site)?;
            if !server.address().ip().is_loopback() {
                log::warn!(
                    "the preview at {} can be seen and steered by everybody on the network: there is no password",
                    server.address()
                );
            }
            log::info!("preview: http://{}/", server.address());
            presenters.server = Some(server);
        }
        let snapshots = Snapshots::new(Artist::new(legend));
        presenters.snapshots = Some(Outlet::start("snapshot", 2, Loss::Expected, Snapshot::default, snapshots)?);
        presenters.watch = Some(watch);
        if options.print {
            let lines = Lines::on_stdout()?;
            presenters.lines_end = lines.end();
            presenters.lines = Some(Outlet::start("standard output", LINES_DEPTH, Loss::Matters, Vec::new, lines)?);
        }
        Ok(presenters)
    }

    /// Tells the loop when to keep pixels, and takes snapshots.
    pub fn watch(&self) -> Option<Arc<Watch>> {
        self.watch.as_ref().map(|(watch, _)| watch.clone())
    }

    /// Once this is set (by a signal, say), nobody is waited for any more, also where the source can wait.
    pub fn hurry(&self) -> Arc<AtomicBool> {
        self.hurry.clone()
    }

    /// Where the preview listens.
    pub fn preview_address(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(Server::address)
    }

    /// Whether somebody wants JSON besides what is printed.
    pub fn needs_json(&self) -> bool {
        self.record.is_some() || self.preview.is_some()
    }

    /// Gives a result to all outlets.
    pub fn publish(&mut self, shown: &Shown) {
        self.frames += 1;
        for (outlet, text) in [(&mut self.lines, shown.printed), (&mut self.record, shown.json)] {
            let Some(outlet) = outlet.as_mut().filter(|_| !text.is_empty()) else { continue };
            let fill = |buffer: &mut Vec<u8>| {
                buffer.clear();
                buffer.extend_from_slice(text);
            };
            if self.source_waits {
                outlet.push(&self.hurry, fill)
            } else {
                outlet.offer(fill)
            };
        }
        for outlet in [&mut self.display, &mut self.preview].into_iter().flatten() {
            outlet.offer(|scene| shown.copy_to(scene));
        }
        self.take_snapshots(shown);
        if let Some(notifier) = &mut self.notifier {
            notifier.advance(shown.published_us, || format!("{} frames", self.frames));
        }
    }

    fn take_snapshots(&mut self, shown: &Shown) {
        let (Some((watch, asked)), Some(outlet)) = (&self.watch, &mut self.snapshots) else { return };
        // Without pixels the requests wait for a later frame.
        if shown.still.is_none() {
            return;
        }
        while let Ok(request) = asked.try_recv() {
            let mut request = Some(request);
            outlet.offer(|snapshot| {
                snapshot.request = request.take();
                shown.copy_to(&mut snapshot.scene);
            });
            if let Some(request) = request {
                request.refuse("others are still being written, ask again");
            }
            watch.served();
        }
    }

    /// Why standard output takes no more, if so: then the run should end.
    pub fn lines_end(&self) -> Option<&End> {
        self.lines_end.get()
    }

    /// Frames given out and lost, by outlet.
    pub fn tallies(&self) -> impl Iterator<Item = (&'static str, &Arc<Tally>)> {
        let lines = [("stdout", &self.lines), ("record", &self.record)];
        let scenes = [("display", &self.display), ("preview", &self.preview)];
        let lines = lines.into_iter().filter_map(|(name, outlet)| Some((name, outlet.as_ref()?.tally())));
        lines.chain(scenes.into_iter().filter_map(|(name, outlet)| Some((name, outlet.as_ref()?.tally()))))
    }

    /// Lets what was published go out and ends everything, within a few seconds also when somebody does not take it.
    ///
    /// # Errors
    /// When lines could not be written to standard output; that its reader has gone is `Ok(false)`.
    pub fn finish(mut self) -> Result<bool> {
        if let Some(notifier) = &mut self.notifier {
            notifier.stop();
        }
        // A source that waits has a reader that may take its time.
        if !self.source_waits {
            self.hurry.store(true, Ordering::Relaxed);
        }
        for lines in [self.lines.take(), self.record.take()].into_iter().flatten() {
            lines.finish(&self.hurry, FAREWELL);
        }
        self.hurry.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + FAREWELL;
        let left = || deadline.saturating_duration_since(Instant::now());
        if let Some(snapshots) = self.snapshots.take() {
            snapshots.finish(&self.hurry, left());
        }
        for outlet in [self.display.take(), self.preview.take()].into_iter().flatten() {
            outlet.finish(&self.hurry, left());
        }
        drop(self.server.take());
        match self.lines_end.get() {
            None => Ok(true),
            Some(End::Closed) => Ok(false),
            Some(End::Failed(error)) => Err(anyhow!("cannot write to standard output: {error}")),
        }
    }
}

impl Shown<'_> {
    fn copy_to(&self, scene: &mut Scene) {
        scene.still = self.still.cloned();
        scene.analysis.clone_from(self.analysis);
        scene.json.clear();
        scene.json.extend_from_slice(self.json);
        (scene.captured_us, scene.published_us) = (self.captured_us, self.published_us);
    }
}
