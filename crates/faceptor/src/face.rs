//! The results of an analysis: the faces of an image with the results of the tasks.

use std::sync::Arc;

use crate::align::face_window::WindowTransforms;
use crate::analysis;
use crate::geometry::Point;
use crate::pose::Pose;
use crate::quality::Quality;
use crate::results::{Attributes, Embedding, Expression, Parsing, TaskOutput};
use crate::tasks::age::Age;
use crate::tasks::decoder::TaskDecoder;
use crate::tasks::landmarks::Landmarks;

/// The faces of one image.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Analysis {
    /// Best score first; of a [`Tracker`](crate::Tracker), in the order of their numbers.
    pub faces: Vec<Face>,
    /// Faces of a photo that were found and left out because of the limit: at least as many, in a crowd.
    pub faces_left_out: usize,
    /// Longer side of the smallest faces that an image was searched for, pixels; `None` for aligned crops and videos. See
    /// [`Analyzer::min_face`](crate::Analyzer::min_face).
    pub searched_from_px: Option<f32>,
}

impl Analysis {
    /// Copies a pipeline's record of an image of `size` pixels, into the memory of the faces that are there.
    pub(crate) fn copy_from(&mut self, from: &analysis::Analysis, decoders: &Arc<[TaskDecoder]>, size: [usize; 2]) {
        self.faces_left_out = from.faces_left_out;
        self.searched_from_px = from.searched_from_px;
        self.faces.truncate(from.faces.len());
        for (face, record) in self.faces.iter_mut().zip(&from.faces) {
            face.record.clone_from(record);
            face.size = size;
        }
        let more = from.faces.iter().skip(self.faces.len());
        self.faces.extend(more.map(|record| Face { record: record.clone(), decoders: decoders.clone(), size }));
    }
}

/// A face with the results of the tasks.
///
/// All coordinates are pixels of the image; the centre of its top-left pixel is (0, 0).
#[derive(Clone, Debug)]
pub struct Face {
    record: analysis::Face,
    /// The decoders of the pipeline that made the record.
    decoders: Arc<[TaskDecoder]>,
    /// Size of the image, pixels.
    size: [usize; 2],
}

/// A box around a face, pixels of the image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoundingBox {
    /// Left edge.
    pub x: f32,
    /// Top edge.
    pub y: f32,
    /// From the left to the right edge.
    pub width: f32,
    /// From the top to the bottom edge.
    pub height: f32,
}

impl Face {
    /// Returns the number of the face, from 1 on: in an image by falling score, in a video the same from frame to frame.
    pub fn id(&self) -> u32 {
        self.record.id
    }

    /// Returns the face detector's score, 0..1.
    pub fn score(&self) -> f32 {
        self.record.detection.score
    }

    /// Returns the face detector's box.
    pub fn bounding_box(&self) -> BoundingBox {
        let [x, y, width, height] = self.record.detection.xywh();
        BoundingBox { x, y, width, height }
    }

    /// Returns eyes, nose tip and mouth corners, left to right in the image when the face is upright.
    pub fn keypoints(&self) -> &[Point; 5] {
        &self.record.detection.keypoints
    }

    /// Returns how well the face can be seen: size, turn, light.
    pub fn quality(&self) -> Quality {
        self.record.quality()
    }

    /// Returns the pose of the head; `None` without the 68 landmarks.
    pub fn pose(&self) -> Option<Pose> {
        self.record.pose()
    }

    /// Returns the landmarks, if a task for them was chosen.
    pub fn landmarks(&self) -> Option<&Landmarks> {
        self.first(|result| match result {
            TaskOutput::Landmarks(landmarks) => Some(landmarks),
            _ => None,
        })
    }

    /// Returns which part of the face each pixel is, if a task for that was chosen.
    pub fn parsing(&self) -> Option<Parsing<'_>> {
        self.first(|result| match result {
            TaskOutput::Parsing(parsing) => Some(parsing),
            _ => None,
        })
    }

    /// Returns the age, if a task for it was chosen.
    pub fn age(&self) -> Option<Age> {
        self.first(|result| match result {
            TaskOutput::Age(age) => Some(age),
            _ => None,
        })
    }

    /// Returns the expression, if a task for it was chosen.
    pub fn expression(&self) -> Option<Expression<'_>> {
        self.first(|result| match result {
            TaskOutput::Expression(expression) => Some(expression),
            _ => None,
        })
    }

    /// Returns the attributes, if a task for them was chosen.
    pub fn attributes(&self) -> Option<Attributes<'_>> {
        self.first(|result| match result {
            TaskOutput::Attributes(attributes) => Some(attributes),
            _ => None,
        })
    }

    /// Returns the embedding, if a task for it was chosen.
    pub fn embedding(&self) -> Option<Embedding<'_>> {
        self.first(|result| match result {
            TaskOutput::Embedding(embedding) => Some(embedding),
            _ => None,
        })
    }

    /// Returns the result of the task with that name: for bundles with tasks of their own, or several of one kind.
    pub fn result(&self, task: &str) -> Option<TaskOutput<'_>> {
        self.results().find(|(name, _)| *name == task).map(|(_, result)| result)
    }

    /// Returns the results with the names of their tasks, in the order of the bundle's manifest.
    pub fn results(&self) -> impl Iterator<Item = (&str, TaskOutput<'_>)> {
        self.record.known(&self.decoders).map(|(_, decoder, result)| {
            (
                decoder.task().name.as_str(),
                TaskOutput::new(&result.prediction, decoder, self.windows().of(decoder.window()), self.size),
            )
        })
    }

    /// Returns how many frames ago the result of a task was computed; 0 in photos, and for results of this frame.
    pub fn stale_frames(&self, task: &str) -> Option<u32> {
        let known = self.record.known(&self.decoders).find(|(_, decoder, _)| decoder.task().name == task);
        known.map(|(_, _, result)| result.stale_frames)
    }

    fn first<'a, T>(&'a self, pick: impl Fn(TaskOutput<'a>) -> Option<T>) -> Option<T> {
        self.results().find_map(|(_, result)| pick(result))
    }

    /// Returns where the windows of the face lie in the image.
    pub(crate) fn windows(&self) -> &WindowTransforms {
        &self.record.windows
    }
}
