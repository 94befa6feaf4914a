//! The network of an `Analyzer`.

use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Instant;

use faceptor::stages::{
    Augmentation, Locate, MAX_FACES, PhotoSearch, Picture, Pipeline, Purpose, TaskList, embedded_bundle,
    embedded_network, select_tasks,
};
use faceptor_nn::bundle::Bundle;
use faceptor_nn::manifest::TaskKind;
use faceptor_nn::thread_pool::{MAX_THREADS, Threads};
use faceptor_results::json::{Origin, OuterTiming};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::failure::{Failure, Outcome, contained};
use crate::image::{Image, elapsed_us};
use crate::interpreter_exit::unlocked;
use crate::record::{Decoders, Record};

/// Settings of the analysis of each image.
#[derive(Clone)]
pub struct Options {
    pub threads: usize,
    looks: Augmentation,
    max_faces: usize,
    search: PhotoSearch,
    fine_masks: bool,
}

/// A network with its memory. Calls from several threads run one after the other.
#[pyclass(frozen, module = "faceptor._native")]
pub struct Session {
    bundle: Arc<Bundle>,
    tasks: TaskList,
    options: Options,
    decoders: Decoders,
    process: u32,
    state: Mutex<State>,
}

struct State {
    /// `None` after a defect: it is made again.
    pipeline: Option<Pipeline>,
    /// Memory for images that are not RGB.
    picture: Picture,
    /// The process that made the pipeline: the threads of a pipeline do not exist in a fork of it.
    process: u32,
    threads: usize,
}

impl State {
    /// Forgets a pipeline whose threads are not of this process: it cannot wait for their end.
    fn leave_threads_of_parent(&mut self) {
        if self.threads > 1 && self.process != std::process::id() {
            mem::forget(self.pipeline.take());
            self.process = std::process::id();
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.leave_threads_of_parent();
    }
}

impl Session {
    fn with(bundle: Arc<Bundle>, tasks: TaskList, options: Options) -> Outcome<Session> {
        let pipeline = pipeline(&bundle, &tasks, &options)?;
        let decoders = pipeline.decoders().into();
        let process = std::process::id();
        let state = State { pipeline: Some(pipeline), picture: Picture::default(), process, threads: options.threads };
        Ok(Session { bundle, tasks, options, decoders, process, state: Mutex::new(state) })
    }

    /// Makes a pipeline of its own, for a tracker.
    pub(crate) fn new_pipeline(&self) -> Outcome<Pipeline> {
        pipeline(&self.bundle, &self.tasks, &self.options)
    }

    pub(crate) fn decoders(&self) -> &Decoders {
        &self.decoders
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    fn run(&self, image: &Image, locate: Locate) -> Outcome<Record> {
        let start = Instant::now();
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // The thread that holds the lock does not exist in a fork.
            Err(TryLockError::WouldBlock) if self.process != std::process::id() => {
                let text = "this analyzer was at work when the process was forked: make one in the new process";
                return Err(Failure::argument(text));
            }
            Err(TryLockError::WouldBlock) => self.state.lock().unwrap_or_else(PoisonError::into_inner),
        };
        state.leave_threads_of_parent();
        let State { pipeline: slot, picture, .. } = &mut *state;
        let mut pipeline = match slot.take() {
            Some(pipeline) => pipeline,
            None => pipeline(&self.bundle, &self.tasks, &self.options)?,
        };
        // A pipeline that panicked is not put back.
        let analysis = contained(|| {
            let analysis = image.with_picture(picture, |picture| pipeline.analyze(picture, locate));
            Ok((analysis, pipeline))
        });
        let (analysis, pipeline) = analysis?;
        *slot = Some(pipeline);
        let [width, height] = image.size();
        let capture_us = image.capture_us;
        let outer_timing =
            OuterTiming { capture_us, total_us: capture_us + elapsed_us(start), ..OuterTiming::default() };
        let (path, warnings) = (image.path.clone(), image.warnings.clone());
        let origin = Origin { path, width, height, frame: None, warnings };
        Ok(Record {
            analysis: analysis?,
            decoders: self.decoders.clone(),
            origin,
            outer_timing,
            identities: Vec::new(),
        })
    }
}

#[pymethods]
impl Session {
    /// Opens a network: `model` is a path or the content of a bundle.
    #[new]
    #[expect(clippy::too_many_arguments, reason = "the options of faceptor.Analyzer, one by one")]
    fn new(
        python: Python<'_>,
        tasks: Option<String>,
        model_path: Option<PathBuf>,
        model_content: Option<PyBackedBytes>,
        threads: usize,
        looks: u32,
        max_faces: usize,
        min_face: f32,
        upright: bool,
        fine_masks: bool,
    ) -> PyResult<Session> {
        let wrong = |text: String| PyErr::from(Failure::argument(text));
        if !(1..=MAX_THREADS).contains(&threads) {
            return Err(wrong(format!("{threads} threads: 1 to {MAX_THREADS} run the network")));
        }
        if !(1..=MAX_FACES).contains(&max_faces) {
            return Err(wrong(format!("max_faces={max_faces}: 1 to {MAX_FACES} faces of an image are reported")));
        }
        if !(16.0..=10_000.0).contains(&min_face) {
            return Err(wrong(format!("min_face={min_face}: 16 to 10000 pixels are needed")));
        }
        let looks = match looks {
            1 => Augmentation::Off,
            2 => Augmentation::Mirror,
            6 => Augmentation::Six,
            10 => Augmentation::Ten,
            other => return Err(wrong(format!("looks={other}: 1, 2, 6 or 10 is needed"))),
        };
        let search = PhotoSearch { min_face_px: min_face, upright_only: upright };
        let options = Options { threads, looks, max_faces, search, fine_masks };
        let open = || {
            let bundle = open(model_path.as_deref(), model_content.as_deref())?;
            let tasks = select_tasks(bundle.manifest(), tasks.as_deref());
            let tasks = tasks.map_err(|reason| Failure::task(reason.to_string()))?;
            Session::with(bundle, tasks, options)
        };
        Ok(unlocked(python, || contained(open))?)
    }

    /// Makes another session with the same network, whose weights both share.
    fn sibling(&self, python: Python<'_>) -> PyResult<Session> {
        let make = || Session::with(self.bundle.clone(), self.tasks.clone(), self.options.clone());
        Ok(unlocked(python, || contained(make))?)
    }

    /// Returns the name and version of the network.
    #[getter]
    fn network(&self) -> String {
        let manifest = self.bundle.manifest();
        format!("{} {}", manifest.name, manifest.version)
    }

    /// Returns the names of the bundle's tasks.
    #[getter]
    fn known_tasks(&self) -> Vec<&str> {
        self.bundle.manifest().tasks.iter().map(|task| task.name.as_str()).collect()
    }

    /// Returns the names of the chosen tasks.
    #[getter]
    fn tasks(&self) -> Vec<&str> {
        self.tasks.iter().map(|&task| self.decoders[usize::from(task)].task().name.as_str()).collect()
    }

    /// Returns name, kind and labels of each chosen task.
    fn described(&self) -> Vec<(&str, &'static str, &[String])> {
        let task = |&task: &u8| {
            let task = self.decoders[usize::from(task)].task();
            (task.name.as_str(), kind_name(task.kind), task.labels.as_slice())
        };
        self.tasks.iter().map(task).collect()
    }

    /// Finds the faces of an image, or takes it as an aligned crop, and runs the tasks.
    fn analyze(&self, python: Python<'_>, image: &Image, aligned: bool) -> PyResult<Record> {
        let locate = match aligned {
            true => Locate::Aligned,
            false => Locate::Find { purpose: Purpose::Photo, limit: self.options.max_faces },
        };
        Ok(unlocked(python, || contained(|| self.run(image, locate)))?)
    }
}

impl Options {
    pub fn fine_masks(&self) -> bool {
        self.fine_masks
    }
}

/// Returns the name of the dataclass of a kind of task, in lower case.
fn kind_name(kind: TaskKind) -> &'static str {
    match kind {
        TaskKind::Landmarks => "landmarks",
        TaskKind::Parsing => "parsing",
        TaskKind::Age => "age",
        TaskKind::Expression => "expression",
        TaskKind::Attributes => "attributes",
        TaskKind::Recognition => "recognition",
    }
}

fn pipeline(bundle: &Arc<Bundle>, tasks: &TaskList, options: &Options) -> Outcome<Pipeline> {
    let threads = Threads { count: options.threads, ..Threads::default() };
    let mut pipeline = Pipeline::with_threads(bundle.clone(), tasks, &threads)?;
    pipeline.set_augmentation(options.looks);
    pipeline.set_photo_search(options.search);
    pipeline.enable_masks(options.fine_masks);
    Ok(pipeline)
}

/// Opens a bundle: a file, the content of one, a network inside by its name, or the default one inside.
pub(crate) fn open(path: Option<&Path>, content: Option<&[u8]>) -> Outcome<Arc<Bundle>> {
    let inside = |reason| Failure::bundle(format!("the network inside this package: {reason}"));
    match (path, content) {
        (Some(path), _) => match path.to_str().filter(|_| !path.exists()).and_then(embedded_network) {
            Some(bundle) => bundle.map_err(inside),
            None if path.is_dir() => {
                let text = "a folder, not a bundle: `faceptor compile DIR --out BUNDLE` makes one of an export";
                Err(Failure::bundle(text).within(path.display()))
            }
            None => Bundle::open(path).map_err(|reason| Failure::bundle(reason.to_string()).within(path.display())),
        },
        (None, Some(content)) => Bundle::from_bytes(content).map_err(|reason| Failure::bundle(reason.to_string())),
        (None, None) => embedded_bundle().map_err(inside),
    }
}
