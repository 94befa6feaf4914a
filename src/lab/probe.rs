//! The network's raw tensors for golden faces: what a reference stores and a verification computes again.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use crate::lab::reference::{ReferenceFace, StoredTensor};
use faceptor::stages::{Detection, FaceImage, MAX_TASKS, Picture, Pipeline, Purpose, TaskList};
use faceptor_nn::bundle::Bundle;
use faceptor_nn::manifest::Task;

/// The most faces of a golden picture.
const MAX_FACES: usize = 4;

/// A pipeline that is asked for tensors instead of answers.
pub struct Probe {
    bundle: Arc<Bundle>,
    pipeline: Pipeline,
    /// The network inputs sampled from a picture: one tensor, or one for each group of the manifest.
    inputs: Vec<StoredTensor>,
}

impl Probe {
    /// Prepares every task of a bundle, which has tasks and a finder.
    pub fn new(bundle: Arc<Bundle>) -> Result<Probe> {
        // All tasks, so that every input is written.
        let every: TaskList = (0..bundle.manifest().tasks.len().min(MAX_TASKS) as u8).collect();
        let pipeline = Pipeline::new(bundle.clone(), &every)?;
        let mut probe = Probe { bundle: bundle.clone(), pipeline, inputs: Vec::new() };
        let tensors = bundle.manifest().image_tensors();
        probe.inputs = tensors.map(|tensor| probe.describe("input", tensor, tensor)).collect();
        Ok(probe)
    }

    /// Returns the name of the kernels that run.
    pub fn kernel(&self) -> &'static str {
        self.pipeline.engine().kernel().name()
    }

    /// Returns the network's inputs.
    pub fn inputs(&self) -> &[StoredTensor] {
        &self.inputs
    }

    /// Returns the side of a task's input, pixels.
    pub fn size(&self, task: &Task) -> usize {
        let manifest = self.bundle.manifest();
        let tensor = manifest.group_of(task).map(|group| &group.tensor);
        let tensor = tensor.or(manifest.input.as_ref().map(|input| &input.tensor));
        let shape = tensor.and_then(|tensor| self.pipeline.engine().shape(tensor));
        shape.and_then(|shape| shape.last().copied()).unwrap_or(1)
    }

    /// Returns the grey levels of one unit of an input.
    pub fn levels(&self, input: &str) -> f32 {
        let manifest = self.bundle.manifest();
        let groups = manifest.groups.iter().map(|group| (&group.tensor, group.std.as_slice()));
        let alone = manifest.input.iter().map(|input| (&input.tensor, input.std.as_slice()));
        let std = groups.chain(alone).find(|(tensor, _)| *tensor == input);
        std.and_then(|(_, std)| std.first().copied()).unwrap_or(1.0)
    }

    /// Returns the outputs of all tasks, with the tasks' entries in the manifest.
    pub fn tasks(&self) -> impl Iterator<Item = (&Task, StoredTensor)> {
        self.bundle.manifest().tasks.iter().map(|task| (task, self.describe("task", &task.name, &task.output)))
    }

    /// Returns an output of each part that tasks share.
    pub fn parts(&self) -> impl Iterator<Item = StoredTensor> {
        self.pipeline.shared().iter().map(|part| self.describe("part", &part.name, &part.tensor))
    }

    fn describe(&self, kind: &str, name: &str, tensor: &str) -> StoredTensor {
        StoredTensor {
            name: name.to_owned(),
            tensor: tensor.to_owned(),
            shape: self.pipeline.engine().shape(tensor).unwrap_or_default().to_vec(),
            // Names come from a manifest: none may lead out of the folder.
            file: format!("{kind}.{}.f32", name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '_', "-")),
        }
    }

    /// Returns the faces of a picture, found as in the live loop.
    pub fn find(&mut self, picture: &Picture) -> Result<Vec<ReferenceFace>> {
        let found = self.pipeline.find(&picture.view(), Purpose::Live, MAX_FACES)?;
        let distinct = found.iter().filter(|face| self.pipeline.aligned_frame(&face.keypoints).is_some());
        Ok(distinct.map(ReferenceFace::from).collect())
    }

    /// Samples a face into the network's inputs; they can be asked for as outputs.
    pub fn look(&mut self, picture: &Picture, face: &ReferenceFace) -> Result<()> {
        let at = self.pipeline.aligned_frame(&face.keypoints).context("the keypoints of a face are not distinct")?;
        let found = Detection { score: face.score, edges: face.edges, keypoints: face.keypoints };
        let windows = self.pipeline.windows(&at, Some(&found));
        Ok(self.pipeline.sample(FaceImage::Frame(&picture.view()), &windows)?)
    }

    /// Puts a stored input into the network.
    pub fn feed(&mut self, tensor: &str, stored: &[f32]) -> Result<()> {
        let input = self.pipeline.engine_mut().input(tensor)?;
        ensure!(input.len() == stored.len(), "input {tensor} has {} numbers, not {}", input.len(), stored.len());
        input.copy_from_slice(stored);
        Ok(())
    }

    /// Computes a tensor for the face that was sampled or fed.
    pub fn output(&mut self, tensor: &str) -> Result<&[f32]> {
        Ok(self.pipeline.engine_mut().output(tensor)?)
    }
}
