//! The network of a running element: the faces of its stream from frame to frame.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use faceptor::ImageView;
use faceptor::stages::{
    Analysis, Augmentation, FramePolicy, MAX_TRACKS, Observer, Picture, Pipeline, Step, TaskDecoder, TaskList, Timing,
    TrackerOptions, VideoFaces, embedded_bundle, embedded_network, select_tasks,
};
use faceptor_nn::bundle::Bundle;
use faceptor_nn::thread_pool::{MAX_THREADS, Threads};
use faceptor_results::overlay::{Annotator, Legend, own_size};

use crate::options::Options;

/// What was wrong with an option, in words for the user.
#[derive(Debug)]
pub enum Refusal {
    Bundle(String),
    Setting(String),
}

/// Opens the network that the options name: a file, one inside by its name, or the default one inside.
pub fn open_bundle(options: &Options) -> Result<Arc<Bundle>, Refusal> {
    let Some(name) = &options.bundle else {
        return embedded_bundle().map_err(|reason| Refusal::Bundle(format!("the network inside the plugin: {reason}")));
    };
    match Some(name).filter(|name| !Path::new(name).exists()).and_then(|name| embedded_network(name)) {
        Some(bundle) => bundle.map_err(|reason| Refusal::Bundle(format!("the network inside the plugin: {reason}"))),
        None => Bundle::open(Path::new(name)).map_err(|reason| Refusal::Bundle(format!("{name}: {reason}"))),
    }
}

/// Selects the tasks that the options name.
pub fn tasks_of(bundle: &Bundle, names: Option<&str>) -> Result<TaskList, Refusal> {
    select_tasks(bundle.manifest(), names).map_err(|reason| Refusal::Setting(format!("tasks: {reason}")))
}

/// The network, and what is kept from frame to frame.
pub struct Session {
    pipeline: Pipeline,
    faces: VideoFaces,
    policy: Measured,
    /// The faces of the last frame.
    analysis: Analysis,
    annotator: Annotator,
    plain: Picture,
}

impl Session {
    /// Makes the network ready.
    pub fn new(bundle: &Arc<Bundle>, options: &Options) -> Result<Session, Refusal> {
        let tasks = tasks_of(bundle, options.tasks.as_deref())?;
        let threads = Threads { count: (options.threads as usize).clamp(1, MAX_THREADS), ..Threads::default() };
        let pipeline = Pipeline::with_threads(bundle.clone(), &tasks, &threads);
        let mut pipeline = pipeline.map_err(|reason| Refusal::Bundle(reason.to_string()))?;
        if !pipeline.has_finder() {
            let text = "this bundle has no face detector, which a video needs: name another bundle";
            return Err(Refusal::Bundle(text.to_owned()));
        }
        pipeline.set_augmentation(Augmentation::Off);
        pipeline.track_by(None);
        let limit = (options.max_faces as usize).clamp(1, MAX_TRACKS);
        let decoders = pipeline.decoders();
        Ok(Session {
            policy: Measured { since: Instant::now(), timing: Timing::new(decoders.len()) },
            analysis: Analysis::with_room(limit, decoders),
            annotator: Annotator::new(Arc::new(Legend::of(&pipeline))),
            plain: Picture::default(),
            faces: VideoFaces::new(&mut pipeline, TrackerOptions { limit, smoothing: true }),
            pipeline,
        })
    }

    /// Chooses the tasks from the next frame on.
    pub fn choose(&mut self, tasks: &TaskList) {
        self.faces.choose(&mut self.pipeline, tasks, &mut self.policy);
    }

    /// Declares that the next frame shows another scene.
    pub fn cut(&mut self) {
        self.faces.cut();
    }

    /// Analyzes a frame, taken so many seconds after the last one. `drawn`: it will be drawn on.
    ///
    /// # Errors
    /// When the network fails.
    pub fn process(&mut self, view: &ImageView<'_>, elapsed_s: f32, drawn: bool) -> Result<(), faceptor::Error> {
        self.pipeline.enable_masks(drawn);
        self.policy.timing.clear();
        self.faces.process(&mut self.pipeline, view, elapsed_s, &mut self.policy)?;
        self.faces.copy_to(&mut self.analysis);
        self.analysis.timing.clone_from(&self.policy.timing);
        Ok(())
    }

    /// Draws the results on the frame: returns it without and with them.
    pub fn draw(&mut self, view: &ImageView<'_>) -> (&Picture, &Picture) {
        view.to_picture(&mut self.plain);
        (&self.plain, self.annotator.draw(view, &self.analysis, &[], None, own_size))
    }

    /// Returns the results of the last frame.
    pub fn analysis(&self) -> &Analysis {
        &self.analysis
    }

    /// Returns the decoders of the tasks.
    pub fn decoders(&self) -> &[TaskDecoder] {
        self.pipeline.decoders()
    }
}

/// Measures the steps of a frame; every face gets every task.
struct Measured {
    since: Instant,
    timing: Timing,
}

impl Measured {
    fn lap_us(&mut self) -> u64 {
        let now = Instant::now();
        let us = now.duration_since(self.since).as_micros() as u64;
        self.since = now;
        us
    }
}

impl Observer for Measured {
    fn begin(&mut self) {
        self.since = Instant::now();
    }

    fn ended(&mut self, step: Step) {
        let us = self.lap_us();
        match step {
            Step::Find | Step::FindPart => self.timing.find_us = us,
            Step::Sample => self.timing.align_us += us,
            Step::Part(_) => self.timing.encode_us += us,
            Step::Task(task) => {
                if let Some(place) = self.timing.decode_us.get_mut(task) {
                    *place += us;
                }
            }
        }
    }
}

impl FramePolicy for Measured {}
