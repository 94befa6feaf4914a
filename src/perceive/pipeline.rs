//! One picture's way: find the faces, look at each through the fovea, encode it once, decode the chosen tasks.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::analysis::{Analysis, Face, Faces, Timing};
use super::answer::{Answer, Reader};
use super::look::Look;
use super::tasks::{self, MAX_TASKS, SharedPart, TaskList};
use crate::capture::{Picture, Pixels, Pyramid};
use crate::locate::{Detection, Detections, Finder, MAX_FACES, Point, Purpose, Similarity};
use crate::model::manifest::TaskKind;
use crate::model::{Bundle, Engine};
use crate::pace::clock::Stopwatch;

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
    finder: Option<Finder>,
    looks: Vec<Look>,
    template: [Point; 5],
    readers: Vec<Reader>,
    /// The look of each reader.
    look_of: Vec<usize>,
    shared: Vec<SharedPart>,
    tasks: TaskList,
}

impl Pipeline {
    /// Ready for every task of the bundle; `tasks` are chosen. Fails when the bundle contradicts itself or has no
    /// tasks, or more than [`MAX_TASKS`].
    pub fn new(bundle: Arc<Bundle>, tasks: &TaskList) -> Result<Pipeline> {
        let engine = Engine::new(bundle.clone()).context("the bundle cannot be run")?;
        let manifest = bundle.manifest();
        let (looks, template) = Look::all(manifest, &engine)?;
        let finder = manifest.finder.as_ref();
        let finder = finder.map(|spec| Finder::new(spec, &engine)).transpose()?;
        let count = manifest.tasks.len();
        ensure!(count <= MAX_TASKS, "this bundle has {count} tasks, the most are {MAX_TASKS}");
        let (mut readers, mut look_of) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for task in &manifest.tasks {
            let group = manifest.group_of(task).map(|group| group.tensor.as_str());
            let look = group.and_then(|tensor| looks.iter().position(|look| look.tensor == tensor)).unwrap_or(0);
            look_of.push(look);
            let shape = engine.shape(&task.output).with_context(|| format!("no output {}", task.output))?;
            readers.push(Reader::new(task, shape)?.seen_through(looks[look].gaze.clone()));
        }
        let mut pipeline = Pipeline {
            looks,
            template,
            look_of,
            shared: tasks::shared_parts(manifest),
            tasks: TaskList::new(),
            engine,
            finder,
            readers,
        };
        pipeline.choose(tasks);
        Ok(pipeline)
    }

    /// Changes the tasks of [`Pipeline::analyse`]; nothing is compiled, optimized or allocated for it. Indices beyond
    /// the manifest's tasks are left out.
    pub fn choose(&mut self, tasks: &TaskList) {
        let known = |task: &u8| usize::from(*task) < self.readers.len();
        self.tasks = tasks.iter().copied().filter(known).collect();
    }

    /// The chosen tasks.
    pub fn tasks(&self) -> &TaskList {
        &self.tasks
    }

    /// One for each task of the manifest, in its order.
    pub fn readers(&self) -> &[Reader] {
        &self.readers
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

    /// Step 1: the faces of a picture, best first, at most `limit`.
    pub fn find(&mut self, picture: &impl Pixels, purpose: Purpose, limit: usize) -> Result<Detections> {
        match &mut self.finder {
            Some(finder) => finder.find(&mut self.engine, picture, purpose, limit.min(MAX_FACES)),
            None => bail!("this bundle has no face finder: give aligned crops with --aligned"),
        }
    }

    /// Step 2: samples one face into the network's input, or into all inputs that the chosen tasks need where there are
    /// several. What was encoded of the last face is forgotten.
    pub fn look(&mut self, picture: &impl Pixels, to_picture: &Similarity) -> Result<()> {
        for index in 0..self.looks.len() {
            if self.is_needed(index) {
                let look = &mut self.looks[index];
                let to_picture = look.gaze.to_picture(to_picture);
                look.crop.fill(picture, &to_picture, self.engine.input(&look.tensor)?);
            }
        }
        Ok(())
    }

    /// Whether a chosen task, or the points that faces are followed by, need a look; a single one always is.
    fn is_needed(&self, look: usize) -> bool {
        let followed = |task: usize| self.readers[task].task().kind == TaskKind::Landmarks;
        let wants = |task: usize| self.look_of[task] == look && (followed(task) || self.tasks.contains(&(task as u8)));
        self.looks.len() == 1 || (0..self.readers.len()).any(wants)
    }

    /// Step 3: computes one shared part (an index into [`Pipeline::shared`]) and what it needs, unless that is done.
    pub fn encode(&mut self, part: usize) -> Result<()> {
        if let Some(part) = self.shared.get(part) {
            self.engine.output(&part.tensor)?;
        }
        Ok(())
    }

    /// Step 4: answers one task for the face that was looked at, into memory of [`Reader::blank`]. Shared parts that
    /// were not encoded yet are computed now.
    pub fn decode(&mut self, task: usize, to_picture: &Similarity, answer: &mut Answer) -> Result<()> {
        let reader = self.readers.get(task).with_context(|| format!("the bundle has no task number {task}"))?;
        let output = self.engine.output(&reader.task().output)?;
        reader.read_into(output, to_picture, answer);
        Ok(())
    }

    /// Everything about one picture.
    pub fn analyse(&mut self, picture: &Picture, locate: Locate) -> Result<Analysis> {
        let mut watch = Stopwatch::start();
        let detections = self.locate(picture, locate)?;
        let mut timing = Timing { find_us: watch.lap_us(), ..Timing::new(self.readers.len()) };
        let pyramid = Pyramid::new(picture);
        let mut faces = Faces::default();
        for detection in &detections {
            let to_picture = match locate {
                // Frame coordinate f is pixel f * side: models/student/geometry.py.
                Locate::Aligned => Some(Similarity::scaling(picture.width() as f64)),
                Locate::Find { .. } => self.frame_of(&detection.keypoints),
            };
            let Some(to_picture) = to_picture else {
                log::debug!("a detection without distinct keypoints is left out");
                continue;
            };
            let mut face = Face::blank(&self.readers);
            (face.id, face.detection, face.to_picture) = (faces.len() as u32 + 1, *detection, to_picture);
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
                ensure!(width == height, "an aligned crop is square, this picture has {width} x {height} pixels");
                let side = width as f32;
                let keypoints = self.template.map(|[x, y]| [x * side, y * side]);
                let whole = Detection { score: 1.0, edges: [0.0, 0.0, side, side], keypoints };
                Ok(Detections::from_iter([whole]))
            }
        }
    }

    /// Looks at one face and decodes the chosen tasks, adding to `timing`.
    fn perceive(&mut self, photo: &Pyramid, face: &mut Face, timing: &mut Timing) -> Result<()> {
        if self.tasks.is_empty() {
            return Ok(());
        }
        let mut watch = Stopwatch::start();
        for index in 0..self.looks.len() {
            if self.is_needed(index) {
                let look = &mut self.looks[index];
                let to_picture = look.gaze.to_picture(&face.to_picture);
                look.crop.fill_from_photo(photo, &to_picture, self.engine.input(&look.tensor)?);
            }
        }
        timing.align_us += watch.lap_us();
        let chosen = self.tasks.iter().fold(0u32, |mask, task| mask | 1 << task);
        for part in 0..self.shared.len() {
            if self.shared[part].needed_by & chosen != 0 {
                self.encode(part)?;
            }
        }
        timing.encode_us += watch.lap_us();
        for place in 0..self.tasks.len() {
            let task = usize::from(self.tasks[place]);
            let held = &mut face.answers[task];
            self.decode(task, &face.to_picture, &mut held.answer)?;
            held.known = true;
            timing.decode_us[task] += watch.lap_us();
        }
        Ok(())
    }
}
