//! Faces of photos with their embeddings.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};

use faceptor::stages::{
    Analysis, Augmentation, Face, ImageView, Locate, MAX_FACES, Picture, Pipeline, Pixels, Prediction, Purpose,
    TaskDecoder, TaskList, read_photo,
};
use faceptor_gallery::{ImpostorScores, Network};
use faceptor_nn::bundle::Bundle;
use faceptor_nn::manifest::TaskKind;
use faceptor_nn::thread_pool::Threads;

use crate::recognizer::Recognizer;

/// A network's recognition, ready for photos.
pub struct Embedder {
    pipeline: Pipeline,
    task: usize,
    network: Network,
    impostors: Option<ImpostorScores>,
    locate: Locate,
}

/// The faces of a photo.
pub struct PhotoFaces {
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// The faces, with their embeddings.
    pub analysis: Analysis,
    /// Faults of a file that could be read.
    pub warnings: Vec<String>,
}

impl Embedder {
    /// Prepares the recognition of a bundle; `aligned` photos are crops of one face.
    ///
    /// # Errors
    /// When the bundle has no recognition, or cannot be run.
    pub fn new(bundle: &Arc<Bundle>, threads: &Threads, aligned: bool) -> Result<Embedder> {
        let Recognizer { task, network, impostors } = Recognizer::of(bundle)?;
        let tasks = TaskList::from_iter([task as u8]);
        let mut pipeline = Pipeline::with_threads(bundle.clone(), &tasks, threads)?;
        pipeline.enable_masks(false);
        // As `faceptor image` by default, and as the table of impostor scores was measured.
        pipeline.set_augmentation(Augmentation::Six);
        let locate = match aligned {
            true => Locate::Aligned,
            false => Locate::Find { purpose: Purpose::Photo, limit: MAX_FACES },
        };
        Ok(Embedder { pipeline, task, network, impostors, locate })
    }

    /// Also measures the pose of each head, where the network has landmarks for it.
    pub fn measure_pose(&mut self) {
        let is_landmarks = |decoder: &TaskDecoder| decoder.task().kind == TaskKind::Landmarks;
        let landmarks = self.pipeline.decoders().iter().position(is_landmarks);
        let tasks = landmarks.into_iter().chain([self.task]).map(|task| task as u8);
        self.pipeline.choose(&tasks.collect());
    }

    /// Measures no pose any more.
    pub fn leave_pose(&mut self) {
        self.pipeline.choose(&TaskList::from_iter([self.task as u8]));
    }

    /// Returns the network that the embeddings are of.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Returns the scores of impostors, where they were measured.
    pub fn impostors(&self) -> Option<&ImpostorScores> {
        self.impostors.as_ref()
    }

    /// Returns the decoders of the results.
    pub fn decoders(&self) -> &[TaskDecoder] {
        self.pipeline.decoders()
    }

    /// Finds the faces of a photo and embeds each of them.
    ///
    /// # Errors
    /// When the photo cannot be read.
    pub fn faces(&mut self, path: &Path) -> Result<PhotoFaces> {
        let photo = read_photo(path)?;
        let warnings = photo.warnings().to_vec();
        for warning in &warnings {
            log::warn!("{}: {warning}", path.display());
        }
        self.faces_of(&photo.into_picture(), warnings)
    }

    /// Finds the faces of a picture and embeds each of them; `warnings` are those of its file.
    ///
    /// # Errors
    /// When the network fails.
    pub fn faces_of(&mut self, picture: &Picture, warnings: Vec<String>) -> Result<PhotoFaces> {
        let analysis = self.pipeline.analyze(picture, self.locate).context("the network failed")?;
        Ok(PhotoFaces { width: picture.width(), height: picture.height(), analysis, warnings })
    }

    /// Finds the faces of a frame and embeds each of them.
    ///
    /// # Errors
    /// When the network fails.
    pub fn faces_in(&mut self, view: &ImageView) -> Result<PhotoFaces> {
        let mut picture = Picture::default();
        view.to_picture(&mut picture);
        let locate = Locate::Find { purpose: Purpose::Live, limit: MAX_FACES };
        let analysis = self.pipeline.analyze(&picture, locate).context("the network failed")?;
        Ok(PhotoFaces { width: picture.width(), height: picture.height(), analysis, warnings: Vec::new() })
    }

    /// Returns the embedding of a face.
    pub fn embedding<'a>(&self, face: &'a Face) -> &'a [f32] {
        match face.results.get(self.task).map(|result| &result.prediction) {
            Some(Prediction::Recognition(numbers)) => numbers,
            _ => &[],
        }
    }
}
