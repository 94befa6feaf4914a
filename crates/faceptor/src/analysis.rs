//! Records of an analysis, with memory that is reused: faces with their results, and the time of each step.

use crate::align::face_window::WindowTransforms;
use crate::align::light::Light;
use crate::detect::detection::Detection;
use crate::geometry::{Point, Similarity};
use crate::pose::Pose;
use crate::quality::{ANY_ROLL, Quality};
use crate::tasks::decoder::{TaskDecoder, TaskResult};
use crate::tasks::prediction::Prediction;
use crate::tasks::selection::TaskList;

/// A face with the results of the tasks.
#[derive(Debug)]
pub struct Face {
    /// From 1 on: in a photo by falling score, in a video the same from frame to frame.
    pub id: u32,
    pub detection: Detection,
    /// Transforms the aligned frame (0..1) to pixels of the picture.
    pub to_picture: Similarity,
    /// The windows that the network sees the face through; all equal for a network with one input.
    pub windows: WindowTransforms,
    /// Light on the face; `None` before it was sampled.
    pub light: Option<Light>,
    /// Sharpness of the face, about 1 when it is sharp; `None` before it was sampled.
    pub sharpness: Option<f32>,
    /// Probability that it is a face, 0..=1; `None` before a task has run.
    pub likeness: Option<f32>,
    /// Degrees of roll to which faces were looked for.
    pub most_roll: f32,
    /// Width and height of the picture, pixels; `None` where they are not known.
    pub picture: Option<[usize; 2]>,
    /// One for each decoder of the pipeline.
    pub results: Vec<TaskResult>,
}

impl Face {
    /// Makes a face without results, with memory for all of them.
    pub fn blank(decoders: &[TaskDecoder]) -> Face {
        let results = decoders.iter().map(|r| TaskResult { known: false, ..TaskResult::fresh(r.blank()) }).collect();
        let detection = Detection { score: 0.0, edges: [0.0; 4], keypoints: [[0.0; 2]; 5] };
        let to_picture = Similarity::scaling(1.0);
        let windows = WindowTransforms::same(to_picture);
        Face {
            id: 0,
            detection,
            to_picture,
            windows,
            light: None,
            sharpness: None,
            likeness: None,
            most_roll: ANY_ROLL,
            picture: None,
            results,
        }
    }

    /// Measures how well the face can be seen.
    pub fn quality(&self) -> Quality {
        let keypoints = &self.detection.keypoints;
        let (sharpness, likeness) = (self.sharpness, self.likeness);
        let quality = Quality { sharpness, likeness, ..Quality::of(keypoints, self.light, self.most_roll) };
        let Some(size) = self.picture else { return quality };
        quality.in_picture(keypoints, self.fresh_landmarks().next().unwrap_or_default(), size)
    }

    /// Returns the pose of the head; `None` without 68 landmarks of this picture.
    pub fn pose(&self) -> Option<Pose> {
        self.fresh_landmarks().find_map(Pose::of_landmarks)
    }

    /// Returns the landmarks of each task. Those of an earlier frame say nothing about this one.
    fn fresh_landmarks(&self) -> impl Iterator<Item = &[Point]> {
        let results = self.results.iter().filter(|result| result.known && result.stale_frames == 0);
        results.filter_map(|result| match &result.prediction {
            Prediction::Landmarks(landmarks) => Some(landmarks.points.as_slice()),
            _ => None,
        })
    }

    /// Returns the known results with their decoders and indices, in the order of the manifest's tasks.
    pub fn known<'a>(
        &'a self,
        decoders: &'a [TaskDecoder],
    ) -> impl Iterator<Item = (usize, &'a TaskDecoder, &'a TaskResult)> {
        let pairs = decoders.iter().zip(&self.results).enumerate();
        pairs.filter(|(_, (_, result))| result.known).map(|(index, (decoder, result))| (index, decoder, result))
    }
}

impl Clone for Face {
    fn clone(&self) -> Face {
        Face { results: self.results.clone(), ..*self }
    }

    /// Allocates nothing when both are faces of one pipeline.
    fn clone_from(&mut self, other: &Face) {
        (self.id, self.detection, self.to_picture) = (other.id, other.detection, other.to_picture);
        (self.windows, self.light, self.most_roll) = (other.windows, other.light, other.most_roll);
        (self.sharpness, self.likeness, self.picture) = (other.sharpness, other.likeness, other.picture);
        self.results.clone_from(&other.results);
    }
}

/// A list of faces that keeps its memory when it gets shorter.
#[derive(Debug, Default)]
pub struct Faces {
    slots: Vec<Face>,
    used: usize,
}

impl Faces {
    /// Makes an empty list with memory for this many faces.
    pub fn with_room(limit: usize, decoders: &[TaskDecoder]) -> Faces {
        Faces { slots: (0..limit).map(|_| Face::blank(decoders)).collect(), used: 0 }
    }

    /// Empties the list and keeps its memory.
    pub fn clear(&mut self) {
        self.used = 0;
    }

    /// Shortens the list to this many faces and keeps its memory.
    pub fn truncate(&mut self, count: usize) {
        self.used = self.used.min(count);
    }

    /// Appends a face, in fresh memory when there is no room.
    pub fn push(&mut self, face: Face) {
        self.slots.truncate(self.used);
        self.slots.push(face);
        self.used += 1;
    }

    /// Appends a copy, in existing memory where there is room.
    pub fn push_copy(&mut self, face: &Face) {
        match self.slots.get_mut(self.used) {
            Some(slot) => slot.clone_from(face),
            None => self.slots.push(face.clone()),
        }
        self.used += 1;
    }
}

impl std::ops::Deref for Faces {
    type Target = [Face];

    fn deref(&self) -> &[Face] {
        &self.slots[..self.used]
    }
}

impl std::ops::DerefMut for Faces {
    fn deref_mut(&mut self) -> &mut [Face] {
        &mut self.slots[..self.used]
    }
}

impl<'a> IntoIterator for &'a Faces {
    type Item = &'a Face;
    type IntoIter = std::slice::Iter<'a, Face>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Clone for Faces {
    fn clone(&self) -> Faces {
        Faces { slots: self.to_vec(), used: self.used }
    }

    /// Allocates nothing when there is room.
    fn clone_from(&mut self, other: &Faces) {
        self.clear();
        other.iter().for_each(|face| self.push_copy(face));
    }
}

/// Time of each step for one picture, all faces together, in microseconds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Timing {
    pub find_us: u64,
    pub align_us: u64,
    pub encode_us: u64,
    /// For each decoder.
    pub decode_us: Vec<u64>,
}

impl Timing {
    /// Makes a timing of zeros for this many decoders.
    pub fn new(decoders: usize) -> Timing {
        Timing { decode_us: vec![0; decoders], ..Timing::default() }
    }

    /// Sets every time to zero.
    pub fn clear(&mut self) {
        (self.find_us, self.align_us, self.encode_us) = (0, 0, 0);
        self.decode_us.fill(0);
    }
}

impl Clone for Timing {
    fn clone(&self) -> Timing {
        Timing { decode_us: self.decode_us.clone(), ..*self }
    }

    fn clone_from(&mut self, other: &Timing) {
        (self.find_us, self.align_us, self.encode_us) = (other.find_us, other.align_us, other.encode_us);
        self.decode_us.clone_from(&other.decode_us);
    }
}

/// A frame's budget, and the tasks that were deferred to keep it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deadline {
    pub budget_us: u64,
    /// From the frame's arrival in the loop until its result is handed over.
    pub used_us: u64,
    pub missed: bool,
    /// Tasks that did not run for at least one face.
    pub deferred: TaskList,
}

/// The faces of one picture.
#[derive(Debug, Default)]
pub struct Analysis {
    /// The chosen tasks.
    pub tasks: TaskList,
    pub faces: Faces,
    /// Faces of a photo that were found and left out because of the limit: at least as many, in a crowd.
    pub faces_left_out: usize,
    pub timing: Timing,
    /// The deadline of a frame in the live loop; photos have none.
    pub deadline: Option<Deadline>,
    /// Longer side of the smallest faces that a photo was searched for, pixels.
    pub searched_from_px: Option<f32>,
}

impl Analysis {
    /// Makes an empty analysis with memory for this many faces.
    pub fn with_room(limit: usize, decoders: &[TaskDecoder]) -> Analysis {
        let faces = Faces::with_room(limit, decoders);
        Analysis { faces, timing: Timing::new(decoders.len()), ..Analysis::default() }
    }
}

impl Clone for Analysis {
    fn clone(&self) -> Analysis {
        let (faces, timing) = (self.faces.clone(), self.timing.clone());
        Analysis {
            tasks: self.tasks.clone(),
            faces,
            faces_left_out: self.faces_left_out,
            searched_from_px: self.searched_from_px,
            timing,
            deadline: self.deadline.clone(),
        }
    }

    /// Allocates nothing when there is room for the faces.
    fn clone_from(&mut self, other: &Analysis) {
        self.tasks.clone_from(&other.tasks);
        self.faces.clone_from(&other.faces);
        self.faces_left_out = other.faces_left_out;
        self.timing.clone_from(&other.timing);
        self.deadline.clone_from(&other.deadline);
        self.searched_from_px = other.searched_from_px;
    }
}
