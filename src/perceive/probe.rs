//! The network's raw tensors for golden faces: what a reference stores and a verification computes again.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::golden::{GoldenFace, Output};
use super::pipeline::Pipeline;
use super::tasks::TaskList;
use crate::capture::Picture;
use crate::locate::{Point, Purpose};
use crate::model::Bundle;
use crate::model::manifest::Task;

/// The most faces of a golden picture.
const MAX_FACES: usize = 4;

/// A pipeline that is asked for tensors instead of answers.
pub struct Probe {
    bundle: Arc<Bundle>,
    pipeline: Pipeline,
    input: String,
    /// Of one face.
    shape: Vec<usize>,
}

impl Probe {
    /// For every task of a bundle that has tasks and a finder.
    pub fn new(bundle: Arc<Bundle>) -> Result<Probe> {
        let pipeline = Pipeline::new(bundle.clone(), &TaskList::new())?;
        let input = bundle.manifest().input.as_ref().context("this bundle answers no tasks")?.tensor.clone();
        let shape = pipeline.engine().shape(&input).context("no part reads the input")?.to_vec();
        Ok(Probe { bundle, pipeline, input, shape })
    }

    /// Name of the kernels that run.
    pub fn kernel(&self) -> &'static str {
        self.pipeline.engine().kernel().name()
    }

    /// Side of the network's input, pixels.
    pub fn size(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Numbers of the network's input.
    pub fn input_len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Grey levels for one unit of the network's input.
    pub fn levels(&self) -> f32 {
        self.bundle.manifest().input.as_ref().map_or(1.0, |input| input.std[0])
    }

    /// The outputs of all tasks, with what the manifest says of them.
    pub fn tasks(&self) -> impl Iterator<Item = (&Task, Output)> {
        self.bundle.manifest().tasks.iter().map(|task| (task, self.describe("task", &task.name, &task.output)))
    }

    /// An output of each part that tasks share.
    pub fn parts(&self) -> impl Iterator<Item = Output> {
        self.pipeline.shared().iter().map(|part| self.describe("part", &part.name, &part.tensor))
    }

    fn describe(&self, kind: &str, name: &str, tensor: &str) -> Output {
        Output {
            name: name.to_owned(),
            tensor: tensor.to_owned(),
            shape: self.pipeline.engine().shape(tensor).unwrap_or_default().to_vec(),
            // Names come from a manifest: none may lead out of the folder.
            file: format!("{kind}.{}.f32", name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '_', "-")),
        }
    }

    /// The faces of a picture, as the live loop's finder sees them.
    pub fn find(&mut self, picture: &Picture) -> Result<Vec<GoldenFace>> {
        let found = self.pipeline.find(picture, Purpose::Live, MAX_FACES)?;
        let distinct = found.iter().filter(|face| self.pipeline.frame_of(&face.keypoints).is_some());
        Ok(distinct.map(GoldenFace::from).collect())
    }

    /// Samples the face with these keypoints into the network's input, and gives that.
    pub fn look(&mut self, picture: &Picture, keypoints: &[Point; 5]) -> Result<&[f32]> {
        let at = self.pipeline.frame_of(keypoints).context("the keypoints of a face are not distinct")?;
        self.pipeline.look(picture, &at)?;
        self.pipeline.engine_mut().output(&self.input)
    }

    /// Puts a stored input into the network.
    pub fn feed(&mut self, stored: &[f32]) -> Result<()> {
        let input = self.pipeline.engine_mut().input(&self.input)?;
        ensure!(input.len() == stored.len(), "the network's input has {} numbers, not {}", input.len(), stored.len());
        input.copy_from_slice(stored);
        Ok(())
    }

    /// A tensor for the face that was looked at or fed.
    pub fn output(&mut self, tensor: &str) -> Result<&[f32]> {
        self.pipeline.engine_mut().output(tensor)
    }
}
