//! Finds the faces of photos and embeds them.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

use faceptor::stages::{
    Analysis, Augmentation, Face, ImageView, Locate, MAX_FACES, Picture, Pipeline, Pixels, Prediction, Purpose,
    TaskDecoder, TaskList, aligned_crop, decode_photo, read_photo,
};
use faceptor_gallery::{Crop, ImpostorScores, Network, Template};
use faceptor_nn::bundle::Bundle;
use faceptor_nn::manifest::TaskKind;
use faceptor_nn::thread_pool::Threads;

use crate::recognizer::Recognizer;

/// Runs the recognition of a network on photos.
pub struct Embedder {
    pipeline: Pipeline,
    task: usize,
    network: Network,
    impostors: Option<ImpostorScores>,
    locate: Locate,
    keeps_crops: bool,
}

/// Side of a stored crop, pixels: larger than the input of any recognition network.
const CROP_SIDE: usize = 224;
/// JPEG quality of a stored crop.
const CROP_QUALITY: u8 = 95;

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
    /// The crop of each face; empty if crops are not kept.
    crops: Vec<Crop>,
}

impl PhotoFaces {
    /// Returns the crop of a face by place, if crops are kept.
    pub fn crop(&self, face: usize) -> Option<&Crop> {
        self.crops.get(face)
    }
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
        Ok(Embedder { pipeline, task, network, impostors, locate, keeps_crops: false })
    }

    /// Makes later calls keep the aligned crop of each face, for [`PhotoFaces::crop`].
    pub fn keep_crops(&mut self) {
        self.keeps_crops = true;
    }

    fn crops(&self, picture: &Picture, analysis: &Analysis) -> Result<Vec<Crop>> {
        let crop = |face: &Face| -> Result<Crop> {
            let crop = aligned_crop(picture, &face.to_picture, CROP_SIDE).context("the crop cannot be made")?;
            let mut jpeg = Vec::new();
            let mut encoder = JpegEncoder::new_with_quality(&mut jpeg, CROP_QUALITY);
            let side = CROP_SIDE as u32;
            encoder.encode(crop.bytes(), side, side, ExtendedColorType::Rgb8).context("the crop cannot be encoded")?;
            Ok(Crop::new(jpeg))
        };
        if self.keeps_crops { analysis.faces.iter().map(crop).collect() } else { Ok(Vec::new()) }
    }

    /// Embeds the face of a stored crop.
    ///
    /// # Errors
    /// When the crop is not a picture, or its face has no embedding.
    pub fn embed_crop(&mut self, crop: &Crop) -> Result<Template> {
        let picture: Picture = decode_photo(crop.bytes())?.into_picture();
        let analysis = self.pipeline.analyze(&picture, Locate::Aligned).context("the network failed")?;
        let face = analysis.faces.first().context("the crop shows no face")?;
        Ok(Template::of(self.embedding(face), self.network.dimension)?)
    }

    /// Makes later calls measure the pose of each head, if the network has landmarks.
    pub fn measure_pose(&mut self) {
        let is_landmarks = |decoder: &TaskDecoder| decoder.task().kind == TaskKind::Landmarks;
        let landmarks = self.pipeline.decoders().iter().position(is_landmarks);
        let tasks = landmarks.into_iter().chain([self.task]).map(|task| task as u8);
        self.pipeline.choose(&tasks.collect());
    }

    /// Stops measuring poses.
    pub fn leave_pose(&mut self) {
        self.pipeline.choose(&TaskList::from_iter([self.task as u8]));
    }

    /// Returns the network that the embeddings are of.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Returns the scores of impostors, if they were measured.
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
        let crops = self.crops(picture, &analysis)?;
        Ok(PhotoFaces { width: picture.width(), height: picture.height(), analysis, warnings, crops })
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
        let crops = self.crops(&picture, &analysis)?;
        Ok(PhotoFaces { width: picture.width(), height: picture.height(), analysis, warnings: Vec::new(), crops })
    }

    /// Returns the embedding of a face.
    pub fn embedding<'a>(&self, face: &'a Face) -> &'a [f32] {
        match face.results.get(self.task).map(|result| &result.prediction) {
            Some(Prediction::Recognition(numbers)) => numbers,
            _ => &[],
        }
    }
}
