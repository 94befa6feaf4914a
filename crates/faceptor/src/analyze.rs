//! The driver: the only place where the steps of a face follow each other.
//!
//! Every face goes through [`Pipeline::run_face`]: photos ([`Pipeline::analyze`]), the live loop and
//! [`Tracker`](crate::Tracker) (`video`), `faceptor bench`, `profile` and `reference`. They differ in the [`Observer`],
//! which measures the steps and may leave tasks out, and in what they do with a task's output.

use crate::align::face_window::WindowTransforms;
use crate::analysis::{Analysis, Face, Faces, Timing};
use crate::augmentation::AugmentedView;
use crate::detect::detection::{Detection, Detections};
use crate::detect::detector::Purpose;
use crate::detect::search::PhotoFaces;
use crate::error::{Error, Result, ensure};
use crate::geometry::Similarity;
use crate::image::picture::{Picture, Pixels, Pyramid};
use crate::pipeline::{FaceImage, Pipeline};
use crate::stopwatch::Stopwatch;

/// A step that takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The face detector ran on a whole image.
    Find,
    /// The face detector prepared a part of an image, or ran on one that was prepared.
    FindPart,
    /// A face was sampled into the network's inputs.
    Sample,
    /// A shared part of the network ran; an index into [`Pipeline::shared`].
    Part(usize),
    /// A task of the manifest ran and its output was decoded.
    Task(usize),
}

/// Measures the steps and decides which tasks still run. `()` measures nothing and runs them all.
pub trait Observer {
    /// Takes notice that the next step begins now.
    fn begin(&mut self) {}

    /// Takes notice that a step has ended, and the next one begins.
    fn ended(&mut self, _step: Step) {}

    /// Decides whether a task runs for this face, of which the shared parts `computed` (a bit each) are there.
    fn admits(&mut self, _task: u8, _computed: u32) -> bool {
        true
    }
}

impl Observer for () {}

impl Pipeline {
    /// Samples a face, then for each of `tasks` runs the shared parts that are missing and calls `task`, which runs the
    /// task and takes its output. Returns the tasks that ran, a bit each.
    ///
    /// # Errors
    /// When the network fails, and those of `task`.
    pub fn run_face(
        &mut self,
        image: FaceImage<'_>,
        windows: &WindowTransforms,
        tasks: impl IntoIterator<Item = u8>,
        observer: &mut impl Observer,
        mut task: impl FnMut(&mut Pipeline, usize) -> Result<(), Error>,
    ) -> Result<u32, Error> {
        observer.begin();
        self.sample(image, windows)?;
        observer.ended(Step::Sample);
        let (mut ran, mut computed) = (0, 0);
        for index in tasks {
            if !observer.admits(index, computed) {
                continue;
            }
            let missing = self.parts_of(index) & !computed;
            for part in (0..self.shared().len()).filter(|part| missing >> part & 1 == 1) {
                self.encode(part)?;
                observer.ended(Step::Part(part));
            }
            computed |= missing;
            task(self, usize::from(index))?;
            observer.ended(Step::Task(usize::from(index)));
            ran |= 1 << index;
        }
        if ran != 0 {
            self.check_face()?;
        }
        Ok(ran)
    }

    /// Analyzes a photo: locates its faces and runs the chosen tasks on each.
    ///
    /// # Errors
    /// When the bundle has no face detector, or the picture of an aligned crop is not square.
    pub fn analyze(&mut self, picture: &Picture, locate: Locate) -> Result<Analysis, Error> {
        let mut watch = Stopwatch::start();
        let pyramid = Pyramid::new(picture);
        let PhotoFaces { faces: detections, left_out, searched_from_px } = self.locate(picture, &pyramid, locate)?;
        let timing = Timing { find_us: watch.lap_us(), ..Timing::new(self.decoders().len()) };
        let mut observer = TimingObserver { watch, timing };
        let mut faces = Faces::default();
        for detection in &detections {
            let to_picture = match locate {
                // Frame coordinate f is pixel f * side: models/faceptor_models/common/geometry.py.
                Locate::Aligned => Some(Similarity::scaling(picture.width() as f64)),
                Locate::Find { .. } => self.aligned_frame(&detection.keypoints),
            };
            let Some(to_picture) = to_picture else {
                log::debug!("a detection without distinct keypoints is left out");
                continue;
            };
            let mut face = Face::blank(self.decoders());
            (face.id, face.detection, face.to_picture) = (faces.len() as u32 + 1, *detection, to_picture);
            face.picture = Some([picture.width(), picture.height()]);
            face.windows = self.windows(&to_picture, (locate != Locate::Aligned).then_some(detection));
            self.analyze_face(&pyramid, &mut face, &mut observer)?;
            face.detection = face.detection.clipped([picture.width(), picture.height()]);
            faces.push(face);
        }
        let tasks = self.tasks().clone();
        let timing = observer.timing;
        Ok(Analysis { tasks, faces, faces_left_out: left_out, searched_from_px, timing, deadline: None })
    }

    fn locate(&mut self, picture: &Picture, pyramid: &Pyramid, locate: Locate) -> Result<PhotoFaces> {
        match locate {
            Locate::Find { purpose: Purpose::Photo, limit } => self.search_photo(pyramid, limit),
            Locate::Find { purpose, limit } => {
                let faces = self.find(&picture.view(), purpose, limit)?;
                Ok(PhotoFaces { faces, left_out: self.left_out(), searched_from_px: None })
            }
            Locate::Aligned => {
                let (width, height) = (picture.width(), picture.height());
                ensure!(
                    width == height,
                    Image,
                    "an aligned crop is square, this picture has {width} x {height} pixels"
                );
                let side = width as f32;
                let keypoints = self.template().map(|[x, y]| [x * side, y * side]);
                let whole = Detection { score: 1.0, edges: [0.0, 0.0, side, side], keypoints };
                Ok(PhotoFaces { faces: Detections::from_iter([whole]), left_out: 0, searched_from_px: None })
            }
        }
    }

    /// Runs the chosen tasks on a face, under one view or more.
    fn analyze_face(&mut self, photo: &Pyramid, face: &mut Face, observer: &mut TimingObserver) -> Result<()> {
        if self.tasks().is_empty() {
            return Ok(());
        }
        // Tasks whose outputs are averaged over several views, a bit each.
        let further = self.augmentation().further();
        let has_views = |pipeline: &Pipeline, task: usize| pipeline.decoders()[task].task().mirror;
        let averages = |pipeline: &Pipeline, task: usize| !further.is_empty() && has_views(pipeline, task);
        let averaged = self.tasks().iter().filter(|&&task| averages(self, usize::from(task)));
        let averaged = averaged.fold(0u32, |bits, task| bits | 1 << task);
        let Face { windows, results, light, sharpness, likeness, .. } = face;
        let tasks = self.tasks().clone();
        self.run_face(FaceImage::Photo(photo, AugmentedView::PLAIN), windows, tasks, observer, |pipeline, task| {
            if averaged >> task & 1 == 1 {
                return pipeline.begin_mean(task);
            }
            results[task].known = true;
            pipeline.decode(task, windows, &mut results[task].prediction)
        })?;
        (*light, *sharpness, *likeness) = (self.light(), self.sharpness(), self.likeness());
        if averaged == 0 {
            return Ok(());
        }
        for &view in further {
            let serves = |task: usize| averaged >> task & 1 == 1 && view.serves(self.decoders()[task].task().kind);
            let served =
                (0..self.decoders().len()).filter(|&task| serves(task)).fold(0u32, |bits, task| bits | 1 << task);
            let tasks = (0..u32::BITS as u8).filter(|task| served >> task & 1 == 1);
            if served != 0 {
                let image = FaceImage::Photo(photo, view);
                self.run_face(image, windows, tasks, observer, |pipeline, task| pipeline.add_to_mean(task, view))?;
            }
        }
        for task in (0..self.decoders().len()).filter(|task| averaged >> task & 1 == 1) {
            self.decode_mean(task, windows, &mut results[task].prediction);
            results[task].known = true;
            observer.ended(Step::Task(task));
        }
        Ok(())
    }
}

/// How the faces of a picture are located.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locate {
    /// The face detector finds them.
    Find {
        /// The sizes of faces that it looks for.
        purpose: Purpose,
        /// The most faces, best score first.
        limit: usize,
    },
    /// The whole picture is one aligned frame.
    Aligned,
}

/// Adds the time of each step to that of its kind.
struct TimingObserver {
    watch: Stopwatch,
    timing: Timing,
}

impl Observer for TimingObserver {
    fn begin(&mut self) {
        self.watch.lap_us();
    }

    fn ended(&mut self, step: Step) {
        let us = self.watch.lap_us();
        match step {
            Step::Find | Step::FindPart => self.timing.find_us += us,
            Step::Sample => self.timing.align_us += us,
            Step::Part(_) => self.timing.encode_us += us,
            Step::Task(task) => self.timing.decode_us[task] += us,
        }
    }
}
