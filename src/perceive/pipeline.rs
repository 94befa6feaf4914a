//! One picture's way: find the faces, look at each through the fovea, encode it once, decode the chosen tasks.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::answer::{Answer, Reader};
use super::crop::Crop;
use super::tasks;
use super::warp::{Unwarp, Warp};
use crate::capture::{Picture, Pixels, Pyramid};
use crate::locate::{Detection, Detections, Finder, MAX_FACES, Normalization, Point, Purpose, Similarity};
use crate::model::{Bundle, Engine, manifest};
use crate::pace::clock::Stopwatch;

/// How the faces of a picture are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locate {
    /// By the finder, at most so many.
    Find { purpose: Purpose, limit: usize },
    /// The whole picture is one aligned frame.
    Aligned,
}

/// A face and what the tasks say of it, the answers in the order of `Pipeline::readers`.
#[derive(Clone, Debug)]
pub struct Face {
    /// From 1 on, in the order of the finder's score.
    pub id: u32,
    pub detection: Detection,
    /// The aligned frame (0..1) to picture pixels.
    pub to_picture: Similarity,
    pub answers: Vec<Answer>,
}

/// Time spent on one picture, all faces together, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    pub find_us: u64,
    pub align_us: u64,
    pub encode_us: u64,
    /// One for each reader.
    pub decode_us: Vec<u64>,
}

/// The faces of one picture.
#[derive(Clone, Debug, Default)]
pub struct Analysis {
    pub faces: Vec<Face>,
    pub timing: Timing,
}

/// The engine with everything between pixels and answers.
pub struct Pipeline {
    engine: Engine,
    finder: Option<Finder>,
    input: String,
    crop: Crop,
    warp: Warp,
    unwarp: Unwarp,
    template: [Point; 5],
    readers: Vec<Reader>,
    shared: Vec<String>,
}

impl Pipeline {
    /// For the tasks `chosen` (indices into the manifest). Fails when the bundle contradicts itself or has no tasks.
    pub fn new(bundle: Arc<Bundle>, chosen: &[usize]) -> Result<Pipeline> {
        let engine = Engine::new(bundle.clone()).context("the bundle cannot be run")?;
        let manifest = bundle.manifest();
        let input = manifest.input.as_ref().context("this bundle answers no tasks: its manifest has no [input]")?;
        let frame = manifest.frame.as_ref().context("this bundle answers no tasks: its manifest has no [frame]")?;
        let shape = [1, 3, input.size, input.size];
        let found = engine.shape(&input.tensor).with_context(|| format!("no part reads {}", input.tensor))?;
        ensure!(found == shape, "input {} has shape {found:?} instead of {shape:?}", input.tensor);
        let linear = match frame.warp {
            manifest::Warp::None => 1.0,
            manifest::Warp::Cubic => f64::from(frame.warp_linear),
        };
        let warp = Warp::new(linear).with_context(|| format!("frame: warp_linear {linear} is not in 0..=1"))?;
        let bgr = input.colour == manifest::Colour::Bgr;
        let normalization = Normalization { mean: input.mean, std: input.std, bgr };
        let finder = manifest.finder.as_ref();
        let finder = finder.map(|spec| Finder::new(spec, &engine)).transpose()?;
        let mut pipeline = Pipeline {
            input: input.tensor.clone(),
            crop: Crop::new(input.size, warp, normalization),
            unwarp: Unwarp::new(&warp),
            template: frame.template,
            engine,
            finder,
            warp,
            readers: Vec::new(),
            shared: Vec::new(),
        };
        pipeline.choose(&bundle, chosen)?;
        Ok(pipeline)
    }

    /// Changes the tasks; it takes effect with the next picture. Nothing is compiled or optimized for it.
    pub fn choose(&mut self, bundle: &Bundle, chosen: &[usize]) -> Result<()> {
        let manifest = bundle.manifest();
        let mut readers = Vec::with_capacity(chosen.len());
        for task in chosen.iter().filter_map(|&index| manifest.tasks.get(index)) {
            let shape = self.engine.shape(&task.output).with_context(|| format!("no output {}", task.output))?;
            readers.push(Reader::new(task, shape)?);
        }
        self.readers = readers;
        self.shared = tasks::shared_tensors(manifest, chosen);
        Ok(())
    }

    /// One for each chosen task.
    pub fn readers(&self) -> &[Reader] {
        &self.readers
    }

    /// The engine, for its counters.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Frame coordinates to network coordinates, for painting masks.
    pub fn unwarp(&self) -> &Unwarp {
        &self.unwarp
    }

    /// Everything about one picture.
    pub fn analyse(&mut self, picture: &Picture, locate: Locate) -> Result<Analysis> {
        let mut watch = Stopwatch::start();
        let detections = self.locate(picture, locate)?;
        let mut timing = Timing { find_us: watch.lap_us(), ..Timing::default() };
        timing.decode_us.resize(self.readers.len(), 0);
        let pyramid = Pyramid::new(picture);
        let mut faces = Vec::with_capacity(detections.len());
        for detection in &detections {
            let to_picture = match locate {
                // Frame coordinate f is pixel f * side: models/student/geometry.py.
                Locate::Aligned => Some(Similarity::scaling(picture.width() as f64)),
                Locate::Find { .. } => {
                    Similarity::fit(&detection.keypoints, &self.template).map(|to_frame| to_frame.inverse())
                }
            };
            let Some(to_picture) = to_picture else {
                log::debug!("a detection without distinct keypoints is left out");
                continue;
            };
            let answers = self.perceive(&pyramid, &to_picture, &mut timing)?;
            faces.push(Face { id: faces.len() as u32 + 1, detection: *detection, to_picture, answers });
        }
        Ok(Analysis { faces, timing })
    }

    fn locate(&mut self, picture: &Picture, locate: Locate) -> Result<Detections> {
        match locate {
            Locate::Find { purpose, limit } => match &mut self.finder {
                Some(finder) => finder.find(&mut self.engine, picture, purpose, limit.min(MAX_FACES)),
                None => bail!("this bundle has no face finder: give aligned crops with --aligned"),
            },
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
    fn perceive(&mut self, photo: &Pyramid, to_picture: &Similarity, timing: &mut Timing) -> Result<Vec<Answer>> {
        if self.readers.is_empty() {
            return Ok(Vec::new());
        }
        let mut watch = Stopwatch::start();
        self.crop.fill_from_photo(photo, to_picture, self.engine.input(&self.input)?);
        timing.align_us += watch.lap_us();
        for tensor in &self.shared {
            self.engine.output(tensor)?;
        }
        timing.encode_us += watch.lap_us();
        let mut answers = Vec::with_capacity(self.readers.len());
        for (reader, spent_us) in self.readers.iter().zip(&mut timing.decode_us) {
            let output = self.engine.output(&reader.task().output)?;
            answers.push(reader.read(output, &self.warp, to_picture));
            *spent_us += watch.lap_us();
        }
        Ok(answers)
    }
}
