//! One picture's way: find the faces, look at each through the fovea, encode it once, decode the chosen tasks.

use std::sync::Arc;

use crate::align::appearance::AppearanceTemplate;
use crate::align::face_window::{FaceWindow, WindowTransforms};
use crate::align::light::Light;
use crate::analysis::{Analysis, Face, Faces, Timing};
use crate::augmentation::{self, Aspect, Augmentation, Mean};
use crate::detect::detection::{Detection, Detections, MAX_FACES};
use crate::detect::detector::{Detector, Purpose};
use crate::error::{Error, ErrorKind, OrError, Result, bail, ensure};
use crate::geometry::{Point, Similarity};
use crate::image::downscaled::Downscaled;
use crate::image::picture::{Picture, Pixels, Pyramid};
use crate::image::view::ImageView;
use crate::image::view::each_format;
use crate::stopwatch::Stopwatch;
use crate::tasks::decoder::{Prediction, TaskDecoder};
use crate::tasks::selection::{self, MAX_TASKS, SharedPart, TaskList};
use faceptor_nn::bundle::Bundle;
use faceptor_nn::cpu::Kernel;
use faceptor_nn::engine::Engine;
use faceptor_nn::thread_pool::Threads;

/// How the faces of a picture are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locate {
    /// By the finder, at most so many.
    Find { purpose: Purpose, limit: usize },
    /// The whole picture is one aligned frame.
    Aligned,
}

/// The engine with everything between pixels and answers.
pub struct Pipeline {
    engine: Engine,
    finder: Option<Detector>,
    looks: Vec<FaceWindow>,
    template: [Point; 5],
    decoders: Arc<[TaskDecoder]>,
    /// The look of each decoder.
    look_of: Vec<usize>,
    /// On the face that was looked at last.
    light: Option<Light>,
    /// The task that faces are followed by, chosen or not.
    guide: Option<u8>,
    /// The last face, as that task sees it.
    glance: AppearanceTemplate,
    /// Large faces of a camera's frame.
    shrunk: Downscaled,
    shared: Vec<SharedPart>,
    tasks: TaskList,
    masks: bool,
    /// How often faces of photos are looked at.
    times: Augmentation,
    /// What the looks at a photo's face say, by tasks.
    means: Vec<Mean>,
}

impl Pipeline {
    /// Ready for every task of the bundle; `tasks` are chosen. Fails when the bundle contradicts itself or has no
    /// tasks, or more than [`MAX_TASKS`].
    pub fn new(bundle: Arc<Bundle>, tasks: &TaskList) -> Result<Pipeline> {
        Pipeline::with_threads(bundle, tasks, &Threads::default())
    }

    /// The same with more threads than the caller's for the network.
    pub fn with_threads(bundle: Arc<Bundle>, tasks: &TaskList, threads: &Threads) -> Result<Pipeline> {
        let engine = Kernel::choose().and_then(|kernel| Engine::with_threads(bundle.clone(), kernel, threads));
        let engine =
            engine.map_err(|reason| Error::new(ErrorKind::Bundle, format!("the bundle cannot be run: {reason:#}")))?;
        let manifest = bundle.manifest();
        let (looks, template) = FaceWindow::all(manifest, &engine)?;
        let finder = manifest.finder.as_ref();
        let finder = finder.map(|spec| Detector::new(spec, &engine)).transpose()?;
        let count = manifest.tasks.len();
        ensure!(count <= MAX_TASKS, Bundle, "this bundle has {count} tasks, the most are {MAX_TASKS}");
        let (mut decoders, mut look_of) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for task in &manifest.tasks {
            let group = manifest.group_of(task).map(|group| group.tensor.as_str());
            let look = group.and_then(|tensor| looks.iter().position(|look| look.tensor == tensor)).unwrap_or(0);
            look_of.push(look);
            let shape =
                engine.shape(&task.output).or_error(ErrorKind::Bundle, || format!("no output {}", task.output))?;
            let decoder = TaskDecoder::new(task, shape)?.with_tensors_of(&engine)?;
            decoders.push(decoder.seen_through(look, looks[look].geometry.clone()));
        }
        // A frame that is turned has corners farther out.
        let side = looks.iter().map(|look| look.crop.largest_side()).max().unwrap_or(0);
        let mut pipeline = Pipeline {
            guide: None,
            glance: AppearanceTemplate::default(),
            shrunk: Downscaled::with_capacity(3 * side, 3 * side),
            looks,
            template,
            look_of,
            light: None,
            shared: selection::shared_parts(manifest),
            tasks: TaskList::new(),
            masks: true,
            times: Augmentation::Off,
            means: (0..count).map(|_| Mean::default()).collect(),
            engine,
            finder,
            decoders: decoders.into(),
        };
        pipeline.choose(tasks);
        Ok(pipeline)
    }

    /// Changes the tasks of [`Pipeline::analyze`]; nothing is compiled, optimized or allocated for it. Indices beyond
    /// the manifest's tasks are left out.
    pub fn choose(&mut self, tasks: &TaskList) {
        let known = |task: &u8| usize::from(*task) < self.decoders.len();
        self.tasks = tasks.iter().copied().filter(known).collect();
    }

    /// The task by which faces are followed, also when it is not chosen: [`Pipeline::look_at`] samples for it too.
    pub fn follow_by(&mut self, task: Option<u8>) {
        self.guide = task.filter(|task| usize::from(*task) < self.decoders.len());
    }

    /// The chosen tasks.
    pub fn tasks(&self) -> &TaskList {
        &self.tasks
    }

    /// One for each task of the manifest, in its order.
    pub fn decoders(&self) -> &[TaskDecoder] {
        &self.decoders
    }

    /// Returns the decoders, for results that outlive the pipeline.
    pub(crate) fn shared_decoders(&self) -> &Arc<[TaskDecoder]> {
        &self.decoders
    }

    /// Reports whether the bundle can find faces.
    pub fn has_finder(&self) -> bool {
        self.finder.is_some()
    }

    /// Parts that tasks have in common, producers first.
    pub fn shared(&self) -> &[SharedPart] {
        &self.shared
    }

    /// The engine, for its counters.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The engine, to be asked for tensors of the face that was looked at.
    pub fn engine_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// Where the five keypoints lie in the aligned frame.
    pub fn template(&self) -> &[Point; 5] {
        &self.template
    }

    /// The aligned frame of a face, as a transform to the picture. `None` when the keypoints are not distinct.
    pub fn frame_of(&self, keypoints: &[Point; 5]) -> Option<Similarity> {
        Similarity::fit(keypoints, &self.template).map(|to_frame| to_frame.inverse())
    }

    /// The views of a face whose aligned frame lies at `to_picture`: of one that was found, or else where such a face
    /// has them.
    pub fn views(&self, to_picture: &Similarity, found: Option<&Detection>) -> WindowTransforms {
        WindowTransforms::at(&self.looks, to_picture, found)
    }

    /// Step 1: the faces of a picture, best first, at most `limit`.
    pub fn find(&mut self, picture: &impl Pixels, purpose: Purpose, limit: usize) -> Result<Detections> {
        match &mut self.finder {
            Some(finder) => finder.find(&mut self.engine, picture, purpose, limit.min(MAX_FACES)),
            None => bail!(Unsupported, "this bundle has no face finder: give aligned crops with --aligned"),
        }
    }

    /// Prepares one of `parts` parts of [`Pipeline::find_swept`], of several frames one after the other.
    pub fn sweep(&mut self, view: &ImageView, part: usize, parts: usize) {
        if let Some(finder) = &mut self.finder {
            each_format!(view, pixels => finder.sweep(pixels, part, parts));
        }
    }

    /// Step 1 in what was swept.
    pub fn find_swept(&mut self, view: &ImageView, limit: usize) -> Result<Detections> {
        let finder =
            self.finder.as_mut().or_error(ErrorKind::Unsupported, || "this bundle has no face finder".to_owned())?;
        each_format!(view, pixels => finder.find_swept(&mut self.engine, pixels, limit.min(MAX_FACES)))
    }

    /// Step 2: samples one face into the network's input, or into all inputs that the chosen tasks need where there are
    /// several. What was encoded of the last face is forgotten.
    pub fn look(&mut self, picture: &impl Pixels, views: &WindowTransforms) -> Result<()> {
        self.light = None;
        for index in 0..self.looks.len() {
            if self.is_needed(index) {
                let look = &mut self.looks[index];
                let input = self.engine.input(&look.tensor).map_err(Error::network)?;
                look.crop.fill(picture, views.of(index), input);
                self.light = self.light.or_else(|| look.light(input));
            }
        }
        Ok(())
    }

    /// The light on the face that was looked at last.
    pub fn light(&self) -> Option<Light> {
        self.light
    }

    /// [`Pipeline::look`] for a camera's frame: the part of it with a large face is made smaller first, so that its detail
    /// does not alias and its sampling has a bound. See also [`Pipeline::glance`].
    pub fn look_at(&mut self, view: &ImageView, views: &WindowTransforms) -> Result<()> {
        self.light = None;
        for index in 0..self.looks.len() {
            if !self.is_needed(index) {
                continue;
            }
            let look = &mut self.looks[index];
            let to_picture = views.of(index);
            let input = self.engine.input(&look.tensor).map_err(Error::network)?;
            match look.crop.halvings(to_picture) {
                0 => each_format!(view, pixels => look.crop.fill(pixels, to_picture, input)),
                // A frame is halved three times at most.
                halvings => {
                    self.shrunk.fill(view, look.crop.region(to_picture), halvings);
                    let (a, [tx, ty]) = self.shrunk.place();
                    look.crop.fill(&self.shrunk, &to_picture.then(&Similarity { a, b: 0.0, tx, ty }), input);
                }
            }
            self.light = self.light.or_else(|| look.light(input));
            if self.guide.is_some_and(|guide| self.look_of[usize::from(guide)] == index) {
                self.glance = look.glance(input);
            }
        }
        Ok(())
    }

    /// How the face of the last [`Pipeline::look_at`] looks.
    pub fn glance(&self) -> &AppearanceTemplate {
        &self.glance
    }

    /// Whether a chosen task, or the one that faces are followed by, needs a look; a single one always is.
    fn is_needed(&self, look: usize) -> bool {
        let mut wanted = self.tasks.iter().chain(&self.guide);
        self.looks.len() == 1 || wanted.any(|&task| self.look_of[usize::from(task)] == look)
    }

    /// Step 3: computes one shared part (an index into [`Pipeline::shared`]) and what it needs, unless that is done.
    pub fn encode(&mut self, part: usize) -> Result<()> {
        if let Some(part) = self.shared.get(part) {
            self.engine.prepare(&part.tensor).map_err(Error::network)?;
        }
        Ok(())
    }

    /// Step 4: answers one task for the face that was looked at, into memory of [`TaskDecoder::blank`]. Shared parts that
    /// were not encoded yet are computed now.
    pub fn decode(&mut self, task: usize, views: &WindowTransforms, answer: &mut Prediction) -> Result<()> {
        let decoder =
            self.decoders.get(task).or_error(ErrorKind::Task, || format!("the bundle has no task number {task}"))?;
        decoder.ask(&mut self.engine, self.masks, views.of(decoder.look()), answer)
    }

    /// Whether masks may be drawn of the answers that are decoded from now on, which is so at first. Without them, parsing
    /// costs less; its shares are the same.
    pub fn for_masks(&mut self, wanted: bool) {
        self.masks = wanted;
    }

    /// How often [`Pipeline::analyze`] looks at each face, giving out the mean (see [`aspect`]); once at first. Tasks of which
    /// the manifest does not say that they know mirrored faces are asked once all the same.
    pub fn set_augmentation(&mut self, augmentation: Augmentation) {
        self.times = augmentation;
    }

    /// Everything about one picture.
    pub fn analyze(&mut self, picture: &Picture, locate: Locate) -> Result<Analysis> {
        let mut watch = Stopwatch::start();
        let detections = self.locate(picture, locate)?;
        let mut timing = Timing { find_us: watch.lap_us(), ..Timing::new(self.decoders.len()) };
        let pyramid = Pyramid::new(picture);
        let mut faces = Faces::default();
        for detection in &detections {
            let to_picture = match locate {
                // Frame coordinate f is pixel f * side: models/faceptor_models/common/geometry.py.
                Locate::Aligned => Some(Similarity::scaling(picture.width() as f64)),
                Locate::Find { .. } => self.frame_of(&detection.keypoints),
            };
            let Some(to_picture) = to_picture else {
                log::debug!("a detection without distinct keypoints is left out");
                continue;
            };
            let mut face = Face::blank(&self.decoders);
            (face.id, face.detection, face.to_picture) = (faces.len() as u32 + 1, *detection, to_picture);
            face.views = self.views(&to_picture, Some(detection).filter(|_| locate != Locate::Aligned));
            self.perceive(&pyramid, &mut face, &mut timing)?;
            faces.push(face);
        }
        Ok(Analysis { tasks: self.tasks.clone(), faces, timing, deadline: None })
    }

    fn locate(&mut self, picture: &Picture, locate: Locate) -> Result<Detections> {
        match locate {
            Locate::Find { purpose, limit } => self.find(picture, purpose, limit),
            Locate::Aligned => {
                let (width, height) = (picture.width(), picture.height());
                ensure!(
                    width == height,
                    Image,
                    "an aligned crop is square, this picture has {width} x {height} pixels"
                );
                let side = width as f32;
                let keypoints = self.template.map(|[x, y]| [x * side, y * side]);
                let whole = Detection { score: 1.0, edges: [0.0, 0.0, side, side], keypoints };
                Ok(Detections::from_iter([whole]))
            }
        }
    }

    /// Looks at one face, once or more often, and decodes the chosen tasks, adding to `timing`.
    fn perceive(&mut self, photo: &Pyramid, face: &mut Face, timing: &mut Timing) -> Result<()> {
        if self.tasks.is_empty() {
            return Ok(());
        }
        // Bits of the tasks that are asked, and of those that are asked again under the further aspects.
        let further = self.times.further();
        let (mut chosen, mut again) = (0u32, 0u32);
        for &task in &self.tasks {
            chosen |= 1 << task;
            again |= u32::from(!further.is_empty() && self.decoders[usize::from(task)].task().mirror) << task;
        }
        let mut watch = Stopwatch::start();
        self.look_at_photo(photo, face, augmentation::PLAIN)?;
        timing.align_us += watch.lap_us();
        self.encode_for(chosen)?;
        timing.encode_us += watch.lap_us();
        for place in 0..self.tasks.len() {
            let task = usize::from(self.tasks[place]);
            let (result, decoder) = (&mut face.results[task], &self.decoders[task]);
            if again & 1 << task == 0 {
                decoder.ask(&mut self.engine, self.masks, face.views.of(decoder.look()), &mut result.prediction)?;
                result.known = true;
            } else {
                let output = self.engine.output(&decoder.task().output).map_err(Error::network)?;
                self.means[task].begin(decoder.task(), decoder.grid(), &decoder.gaze().warp, output);
            }
            timing.decode_us[task] += watch.lap_us();
        }
        if again == 0 {
            return Ok(());
        }
        for &aspect in further {
            let is_asked = |task: &usize| again & 1 << task != 0 && aspect.serves(self.decoders[*task].task().kind);
            let asked = (0..self.decoders.len()).filter(is_asked).fold(0u32, |bits, task| bits | 1 << task);
            if asked == 0 {
                continue;
            }
            self.look_at_photo(photo, face, aspect)?;
            timing.align_us += watch.lap_us();
            self.encode_for(asked)?;
            timing.encode_us += watch.lap_us();
            for task in (0..self.decoders.len()).filter(|task| asked & 1 << task != 0) {
                let decoder = &self.decoders[task];
                let output = self.engine.output(&decoder.task().output).map_err(Error::network)?;
                self.means[task].add(decoder.task(), decoder.grid(), &decoder.gaze().warp, aspect, output);
                timing.decode_us[task] += watch.lap_us();
            }
        }
        for task in (0..self.decoders.len()).filter(|task| again & 1 << task != 0) {
            let (result, decoder) = (&mut face.results[task], &self.decoders[task]);
            decoder.read_mean(&self.means[task], face.views.of(decoder.look()), &mut result.prediction);
            result.known = true;
            timing.decode_us[task] += watch.lap_us();
        }
        Ok(())
    }

    /// Samples a photo's face under an aspect.
    fn look_at_photo(&mut self, photo: &Pyramid, face: &mut Face, aspect: Aspect) -> Result<()> {
        for index in 0..self.looks.len() {
            if self.is_needed(index) {
                let look = &mut self.looks[index];
                let input = self.engine.input(&look.tensor).map_err(Error::network)?;
                look.crop.fill_from_photo(photo, &aspect.of(face.views.of(index)), input);
                // The first look tells of the light.
                face.light = face.light.or_else(|| look.light(input));
                if aspect.mirrored {
                    augmentation::turn(input, look.size());
                }
            }
        }
        Ok(())
    }

    /// Computes what the tasks of a bit mask have in common.
    fn encode_for(&mut self, tasks: u32) -> Result<()> {
        for part in 0..self.shared.len() {
            if self.shared[part].needed_by & tasks != 0 {
                self.encode(part)?;
            }
        }
        Ok(())
    }
}
