//! The network with the single steps between pixels and predictions. `analyze` puts them into their sequence.

use std::sync::Arc;

use crate::align::appearance::AppearanceTemplate;
use crate::align::face_window::{FaceWindow, WindowTransforms};
use crate::align::light::Light;
use crate::augmentation::{self, Augmentation, AugmentedView, OutputMean};
use crate::detect::detection::{Detection, Detections, MAX_FACES};
use crate::detect::detector::{Detector, Purpose};
use crate::detect::search::{PhotoFaces, PhotoSearch};
use crate::detect::sighting::FrameSightings;
use crate::error::{Error, ErrorKind, OrError, Result, ensure};
use crate::face_check::FaceCheck;
use crate::geometry::{Point, Similarity};
use crate::image::downscaled::Downscaled;
use crate::image::picture::Pyramid;
use crate::image::view::{ImageView, each_format};
use crate::tasks::decoder::TaskDecoder;
use crate::tasks::prediction::Prediction;
use crate::tasks::selection::{self, MAX_TASKS, SharedPart, TaskList};
use faceptor_nn::bundle::Bundle;
use faceptor_nn::cpu::Kernel;
use faceptor_nn::engine::{Engine, TensorId};
use faceptor_nn::thread_pool::Threads;

/// Source of the pixels of the network's input for a face.
#[derive(Clone, Copy)]
pub enum FaceImage<'a> {
    /// A camera's frame. The part of it with a large face is downscaled first, so that detail does not alias and the
    /// time has a bound.
    Frame(&'a ImageView<'a>),
    /// A photo with its downscaled copies, under a view of test-time augmentation.
    Photo(&'a Pyramid<'a>, AugmentedView),
    /// Plain grey, for measurements: the time of the network does not depend on the pixels.
    Grey,
}

/// The network with everything between pixels and predictions.
///
/// For each face it is [sampled](Pipeline::sample) into the network's input; then parts are [encoded](Pipeline::encode)
/// and tasks [decoded](Pipeline::decode). [`Pipeline::run_face`] is that sequence.
pub struct Pipeline {
    engine: Engine,
    detector: Option<Detector>,
    windows: Vec<FaceWindow>,
    template: [Point; 5],
    decoders: Arc<[TaskDecoder]>,
    /// The window of each decoder.
    window_of: Vec<usize>,
    /// On the face that was sampled last.
    light: Option<Light>,
    sharpness: Option<f32>,
    face_check: Option<FaceCheck>,
    /// Probability that the face which was run last is one.
    likeness: Option<f32>,
    /// The task whose landmarks tracking uses, chosen or not.
    tracking_task: Option<u8>,
    /// Appearance of the face that was sampled last, in the window of that task.
    appearance: AppearanceTemplate,
    /// Memory for the part of a frame with a large face.
    downscaled: Downscaled,
    shared: Vec<SharedPart>,
    /// The tensor of each shared part in the engine.
    shared_tensors: Vec<TensorId>,
    tasks: TaskList,
    masks: bool,
    augmentation: Augmentation,
    photo_search: PhotoSearch,
    /// The mean output over the views of a photo's face, for each task.
    means: Vec<OutputMean>,
}

impl Pipeline {
    /// Prepares every task of the bundle and chooses `tasks`; the network runs on the caller's thread.
    ///
    /// # Errors
    /// When the bundle contradicts itself, cannot be run on this CPU, or has no tasks or more than [`MAX_TASKS`].
    pub fn new(bundle: Arc<Bundle>, tasks: &TaskList) -> Result<Pipeline, Error> {
        Pipeline::with_threads(bundle, tasks, &Threads::default())
    }

    /// Creates a pipeline as [`Pipeline::new`] does, with more threads for the network.
    ///
    /// # Errors
    /// Fails as [`Pipeline::new`] does, and when the threads cannot be started.
    pub fn with_threads(bundle: Arc<Bundle>, tasks: &TaskList, threads: &Threads) -> Result<Pipeline, Error> {
        let engine = Kernel::choose().and_then(|kernel| Engine::with_threads(bundle.clone(), kernel, threads));
        let engine =
            engine.map_err(|reason| Error::new(ErrorKind::Bundle, format!("the bundle cannot be run: {reason:#}")))?;
        let manifest = bundle.manifest();
        let (windows, template) = FaceWindow::all(manifest, &engine)?;
        let detector = manifest.finder.as_ref().map(|spec| Detector::new(spec, &engine)).transpose()?;
        let count = manifest.tasks.len();
        ensure!(count <= MAX_TASKS, Bundle, "this bundle has {count} tasks, the most are {MAX_TASKS}");
        let (mut decoders, mut window_of) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for task in &manifest.tasks {
            let group = manifest.group_of(task).map(|group| group.tensor.as_str());
            let window = group.and_then(|tensor| windows.iter().position(|window| window.tensor == tensor));
            let window = window.unwrap_or(0);
            window_of.push(window);
            let shape =
                engine.shape(&task.output).or_error(ErrorKind::Bundle, || format!("no output {}", task.output))?;
            let decoder = TaskDecoder::new(task, shape)?.with_tensors_of(&engine)?;
            decoders.push(decoder.in_window(window, windows[window].geometry.clone()));
        }
        // The corners of a rotated frame lie farther out.
        let side = windows.iter().map(|window| window.crop.largest_side()).max().unwrap_or(0);
        let shared = selection::shared_parts(manifest);
        let ids = shared.iter().map(|part| engine.tensor_id(&part.tensor));
        let shared_tensors = ids.collect::<Result<Vec<_>, _>>().map_err(Error::network)?;
        let mut pipeline = Pipeline {
            tracking_task: None,
            appearance: AppearanceTemplate::default(),
            downscaled: Downscaled::with_capacity(3 * side, 3 * side),
            windows,
            template,
            window_of,
            light: None,
            sharpness: None,
            face_check: manifest.face_check.as_ref().map(|spec| FaceCheck::new(spec, &engine)).transpose()?,
            likeness: None,
            shared,
            shared_tensors,
            tasks: TaskList::new(),
            masks: true,
            augmentation: Augmentation::Off,
            photo_search: PhotoSearch::default(),
            means: (0..count).map(|_| OutputMean::default()).collect(),
            engine,
            detector,
            decoders: decoders.into(),
        };
        pipeline.choose(tasks);
        Ok(pipeline)
    }

    /// Chooses the tasks of [`Pipeline::analyze`], without compiling or allocating anything. Indices beyond the manifest's
    /// tasks are ignored.
    pub fn choose(&mut self, tasks: &TaskList) {
        let known = |task: &u8| usize::from(*task) < self.decoders.len();
        self.tasks = tasks.iter().copied().filter(known).collect();
    }

    /// Sets the task whose landmarks tracking uses, chosen or not: [`Pipeline::sample`] fills its input too.
    pub fn track_by(&mut self, task: Option<u8>) {
        self.tracking_task = task.filter(|task| usize::from(*task) < self.decoders.len());
    }

    /// Sets whether parsing keeps its scores, from which masks are interpolated; on at first. Without them parsing is
    /// faster; its shares are the same.
    pub fn enable_masks(&mut self, on: bool) {
        self.masks = on;
    }

    /// Sets the views of each face whose mean [`Pipeline::analyze`] gives; [`Augmentation::Off`] at first. A task whose
    /// manifest entry lacks `mirror` has one view in any case.
    pub fn set_augmentation(&mut self, augmentation: Augmentation) {
        self.augmentation = augmentation;
    }

    /// Sets what [`Pipeline::analyze`] searches photos for: faces from 24 pixels on at every roll at first.
    pub fn set_photo_search(&mut self, search: PhotoSearch) {
        self.photo_search = search;
    }

    /// Returns the chosen tasks.
    pub fn tasks(&self) -> &TaskList {
        &self.tasks
    }

    /// Returns the views of each photo's face.
    pub(crate) fn augmentation(&self) -> Augmentation {
        self.augmentation
    }

    /// Returns a decoder for each task of the manifest, in its order.
    pub fn decoders(&self) -> &[TaskDecoder] {
        &self.decoders
    }

    /// Returns the decoders, for results that outlive the pipeline.
    pub(crate) fn shared_decoders(&self) -> &Arc<[TaskDecoder]> {
        &self.decoders
    }

    /// Reports whether the bundle can find faces.
    pub fn has_finder(&self) -> bool {
        self.detector.is_some()
    }

    /// Returns the parts that tasks have in common, producers first.
    pub fn shared(&self) -> &[SharedPart] {
        &self.shared
    }

    /// Returns the shared parts that a task needs, a bit each.
    pub fn parts_of(&self, task: u8) -> u32 {
        let needed = self.shared.iter().enumerate().filter(|(_, part)| part.needed_by >> task & 1 == 1);
        needed.fold(0, |parts, (part, _)| parts | 1 << part)
    }

    /// Returns the engine, for its counters.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Returns the engine, for tensors of the face that was sampled.
    pub fn engine_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// Returns where the five keypoints lie in the aligned frame, 0..1.
    pub fn template(&self) -> &[Point; 5] {
        &self.template
    }

    /// Fits the aligned frame (0..1) to keypoints of a picture; `None` when these are not distinct.
    pub fn aligned_frame(&self, keypoints: &[Point; 5]) -> Option<Similarity> {
        Similarity::fit(keypoints, &self.template).map(|to_frame| to_frame.inverse())
    }

    /// Places the windows of a face whose aligned frame lies at `to_picture`: by the detection, or else by that frame.
    pub fn windows(&self, to_picture: &Similarity, found: Option<&Detection>) -> WindowTransforms {
        WindowTransforms::at(&self.windows, to_picture, found)
    }

    /// Finds the upright faces of a whole picture, best score first, at most `limit`.
    ///
    /// # Errors
    /// When the bundle has no face detector.
    pub fn find(&mut self, view: &ImageView, purpose: Purpose, limit: usize) -> Result<Detections, Error> {
        let missing = || "this bundle has no face detector: give aligned crops with --aligned".to_owned();
        let detector = self.detector.as_mut().or_error(ErrorKind::Unsupported, missing)?;
        each_format!(view, pixels => detector.find(&mut self.engine, pixels, purpose, limit.min(MAX_FACES)))
    }

    /// Finds the upright faces of a frame and the places that may be faces.
    ///
    /// # Errors
    /// When the bundle has no face detector.
    pub(crate) fn sight_frame(&mut self, view: &ImageView) -> Result<FrameSightings, Error> {
        let missing = || "this bundle has no face detector".to_owned();
        let detector = self.detector.as_mut().or_error(ErrorKind::Unsupported, missing)?;
        each_format!(view, pixels => detector.sight_frame(&mut self.engine, pixels))
    }

    /// Finds the places of a photo that may be faces, and reports whether there was room for all.
    ///
    /// # Errors
    /// When the bundle has no face detector.
    pub(crate) fn sight_photo(&mut self, photo: &Pyramid) -> Result<(Vec<Detection>, bool), Error> {
        let missing = || "this bundle has no face detector".to_owned();
        let detector = self.detector.as_mut().or_error(ErrorKind::Unsupported, missing)?;
        detector.sight_photo(&mut self.engine, photo, &self.photo_search)
    }

    /// Returns how many faces the last [`Pipeline::find`] left out because of its limit: at least as many, in a crowd.
    pub fn left_out(&self) -> usize {
        self.detector.as_ref().map_or(0, Detector::left_out)
    }

    /// Finds the faces of a photo at every roll and of every size that [`Pipeline::set_photo_search`] asks for.
    ///
    /// # Errors
    /// When the bundle has no face finder.
    pub(crate) fn search_photo(&mut self, photo: &Pyramid, limit: usize) -> Result<PhotoFaces, Error> {
        let missing = || "this bundle has no face finder: give aligned crops with --aligned".to_owned();
        let detector = self.detector.as_mut().or_error(ErrorKind::Unsupported, missing)?;
        detector.search(&mut self.engine, photo, &self.photo_search, limit)
    }

    /// Finds the faces of a frame that are turned by about `roll` degrees clockwise. Faces in the corners are left out.
    ///
    /// # Errors
    /// When the bundle has no face detector.
    pub(crate) fn find_rolled(&mut self, view: &ImageView, roll: f32, limit: usize) -> Result<Detections, Error> {
        let missing = || "this bundle has no face detector".to_owned();
        let detector = self.detector.as_mut().or_error(ErrorKind::Unsupported, missing)?;
        each_format!(view, pixels => detector.find_rolled(&mut self.engine, pixels, roll, limit.min(MAX_FACES)))
    }

    /// Prepares one of `parts` parts of [`Pipeline::find_swept`], in a frame each.
    pub fn sweep(&mut self, view: &ImageView, part: usize, parts: usize) {
        if let Some(detector) = &mut self.detector {
            each_format!(view, pixels => detector.sweep(pixels, part, parts));
        }
    }

    /// Finds the faces in the picture that was prepared over the last frames.
    ///
    /// # Errors
    /// When the bundle has no face detector.
    pub fn find_swept(&mut self, view: &ImageView, limit: usize) -> Result<Detections, Error> {
        let missing = || "this bundle has no face detector".to_owned();
        let detector = self.detector.as_mut().or_error(ErrorKind::Unsupported, missing)?;
        each_format!(view, pixels => detector.find_swept(&mut self.engine, pixels, limit.min(MAX_FACES)))
    }

    /// Fills the network's inputs that the chosen tasks need with a face; what was computed for the last face is dropped.
    ///
    /// # Errors
    /// When the bundle contradicts itself.
    pub fn sample(&mut self, image: FaceImage<'_>, windows: &WindowTransforms) -> Result<(), Error> {
        (self.light, self.sharpness, self.likeness) = (None, None, None);
        for index in 0..self.windows.len() {
            if !self.is_needed(index) {
                continue;
            }
            let window = &mut self.windows[index];
            let to_picture = windows.of(index);
            let input = self.engine.input(window.input).map_err(Error::network)?;
            match image {
                FaceImage::Frame(view) => match window.crop.halvings(to_picture) {
                    0 => each_format!(view, pixels => window.crop.fill(pixels, to_picture, input)),
                    // A frame is halved three times at most.
                    halvings => {
                        self.downscaled.fill(view, window.crop.region(to_picture), halvings);
                        let (a, [tx, ty]) = self.downscaled.place();
                        let smaller = to_picture.then(&Similarity { a, b: 0.0, tx, ty });
                        window.crop.fill(&self.downscaled, &smaller, input);
                    }
                },
                FaceImage::Photo(photo, view) => window.crop.fill_from_photo(photo, &view.of(to_picture), input),
                FaceImage::Grey => input.fill(0.0),
            }
            self.light = self.light.or_else(|| window.light(input));
            self.sharpness = self.sharpness.or_else(|| window.sharpness(input));
            if self.tracking_task.is_some_and(|task| self.window_of[usize::from(task)] == index) {
                self.appearance = window.glance(input);
            }
            if let FaceImage::Photo(_, view) = image
                && view.mirrored
            {
                augmentation::mirror_rows(input, window.size());
            }
        }
        Ok(())
    }

    /// Reports whether a chosen task, the one that tracking uses, or the face check needs a window; a single window is always
    /// needed.
    fn is_needed(&self, window: usize) -> bool {
        let mut tasks = self.tasks.iter().chain(&self.tracking_task);
        // The check reads the features of the shared input, which has the first window.
        let is_alone = self.windows.len() == 1 || (window == 0 && self.face_check.is_some());
        is_alone || tasks.any(|&task| self.window_of[usize::from(task)] == window)
    }

    /// Returns the light on the face that was sampled last.
    pub fn light(&self) -> Option<Light> {
        self.light
    }

    /// Returns the sharpness of the face that was sampled last: about 1 when it is sharp; `None` where it was not measured.
    pub fn sharpness(&self) -> Option<f32> {
        self.sharpness
    }

    /// Checks whether the face that was sampled last is one, by features that a task has needed.
    ///
    /// # Errors
    /// When the network's input was not filled.
    pub(crate) fn check_face(&mut self) -> Result<()> {
        if let Some(check) = &self.face_check {
            self.likeness = Some(check.probability(&mut self.engine)?);
        }
        Ok(())
    }

    /// Returns the probability, 0..=1, that the face which was run last is one; `None` where no task has run, or the bundle
    /// cannot say.
    pub fn likeness(&self) -> Option<f32> {
        self.likeness
    }

    /// Returns how the face that was sampled last looks, for tracking.
    pub fn appearance(&self) -> &AppearanceTemplate {
        &self.appearance
    }

    /// Computes a shared part (an index into [`Pipeline::shared`]) and what it needs, unless that is done.
    ///
    /// # Errors
    /// When the network's input was not filled.
    pub fn encode(&mut self, part: usize) -> Result<(), Error> {
        match self.shared_tensors.get(part) {
            Some(tensor) => self.engine.prepare(tensor).map_err(Error::network),
            None => Ok(()),
        }
    }

    /// Runs a task's own part, without decoding its output.
    ///
    /// # Errors
    /// When the bundle has no such task, or the network's input was not filled.
    pub fn compute(&mut self, task: usize) -> Result<(), Error> {
        let decoder = self.decoders.get(task).or_error(ErrorKind::Task, || no_task(task))?;
        decoder.run_only(&mut self.engine, self.masks)
    }

    /// Runs a task for the face that was sampled and decodes its output into memory of [`TaskDecoder::blank`]. Shared
    /// parts that were not encoded are computed first.
    ///
    /// # Errors
    /// Fails as [`Pipeline::compute`] does.
    pub fn decode(
        &mut self,
        task: usize,
        windows: &WindowTransforms,
        prediction: &mut Prediction,
    ) -> Result<(), Error> {
        let decoder = self.decoders.get(task).or_error(ErrorKind::Task, || no_task(task))?;
        decoder.run(&mut self.engine, self.masks, windows.of(decoder.window()), prediction)
    }

    /// Runs a task for the first view of a photo's face and begins the mean of its output.
    pub(crate) fn begin_mean(&mut self, task: usize) -> Result<()> {
        let decoder = &self.decoders[task];
        let output = decoder.compute(&mut self.engine)?;
        self.means[task].begin(decoder.task(), decoder.grid(), &decoder.geometry().warp, output);
        Ok(())
    }

    /// Runs a task for a further view of the face and adds its output, mapped back, to the mean.
    pub(crate) fn add_to_mean(&mut self, task: usize, view: AugmentedView) -> Result<()> {
        let decoder = &self.decoders[task];
        let output = decoder.compute(&mut self.engine)?;
        self.means[task].add(decoder.task(), decoder.grid(), &decoder.geometry().warp, view, output);
        Ok(())
    }

    /// Decodes the mean of a task's outputs.
    pub(crate) fn decode_mean(&self, task: usize, windows: &WindowTransforms, prediction: &mut Prediction) {
        let decoder = &self.decoders[task];
        let mean = &self.means[task];
        decoder.read_mean(mean.output(), mean.grid(), windows.of(decoder.window()), prediction);
    }
}

fn no_task(task: usize) -> String {
    format!("the bundle has no task number {task}")
}
