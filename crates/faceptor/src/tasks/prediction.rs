//! The prediction of a task, by the task's kind.
//!
//! The library lists the kinds here and nowhere else: each arm calls the file of its kind. A new kind is a file, a variant
//! and an arm in each `match`.

use crate::align::warp::Warp;
use crate::error::Result;
use crate::geometry::Similarity;
use crate::tasks::age::Age;
use crate::tasks::landmarks::Landmarks;
use crate::tasks::parsing::Parsing;
use crate::tasks::{age, attributes, expression, landmarks, parsing, recognition};
use faceptor_nn::manifest::{Task, TaskKind};

/// How outputs of several views are averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Averaging {
    /// Pairs x, y of network coordinates.
    Points,
    /// A plane of the network's grid for each class.
    Planes,
    /// Numbers without a place.
    Numbers,
}

/// The result of a task for a face.
#[derive(Debug, PartialEq)]
pub enum Prediction {
    /// Points.
    Landmarks(Landmarks),
    /// Classes of pixels.
    Parsing(Parsing),
    /// Years.
    Age(Age),
    /// Probability of each label; they sum to one.
    Expression(Vec<f32>),
    /// Probability of each attribute by itself.
    Attributes(Vec<f32>),
    /// Embedding of unit length.
    Recognition(Vec<f32>),
}

impl Prediction {
    /// Checks the shape of a task's output against its kind, labels and bins, so that reading it cannot fail.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`](crate::ErrorKind::Bundle) when they do not fit.
    pub(crate) fn check(task: &Task, shape: &[usize]) -> Result<()> {
        match task.kind {
            TaskKind::Landmarks => landmarks::check(task, shape),
            TaskKind::Parsing => parsing::check(task, shape),
            TaskKind::Age => age::check(task, shape),
            TaskKind::Expression => expression::check(task, shape),
            TaskKind::Attributes => attributes::check(task, shape),
            TaskKind::Recognition => recognition::check(task, shape),
        }
    }

    /// Makes a prediction with the memory for an output of that shape, which was checked.
    pub(crate) fn blank(task: &Task, shape: &[usize]) -> Prediction {
        let count = shape[1];
        match task.kind {
            TaskKind::Landmarks => Prediction::Landmarks(Landmarks { points: Vec::with_capacity(count) }),
            TaskKind::Parsing => Prediction::Parsing(Parsing::with_grid(parsing::grid(shape))),
            TaskKind::Age => Prediction::Age(Age::default()),
            TaskKind::Expression => Prediction::Expression(Vec::with_capacity(count)),
            TaskKind::Attributes => Prediction::Attributes(Vec::with_capacity(count)),
            TaskKind::Recognition => Prediction::Recognition(Vec::with_capacity(count)),
        }
    }

    /// Decodes an output of `shape`, which was checked, in place. Returns false, and changes nothing, if this is a
    /// prediction of another kind.
    pub(crate) fn read(
        &mut self,
        task: &Task,
        shape: &[usize],
        output: &[f32],
        warp: &Warp,
        to_picture: &Similarity,
    ) -> bool {
        match (task.kind, self) {
            (TaskKind::Landmarks, Prediction::Landmarks(landmarks)) => landmarks.read(output, warp, to_picture),
            (TaskKind::Parsing, Prediction::Parsing(parsing)) => {
                parsing.read(parsing::Output::Planes(output), parsing::grid(shape), warp, true);
            }
            (TaskKind::Age, Prediction::Age(age)) => *age = Age::read(output, &task.bins),
            (TaskKind::Expression, Prediction::Expression(scores)) => expression::read(output, scores),
            (TaskKind::Attributes, Prediction::Attributes(values)) => attributes::read(output, values),
            (TaskKind::Recognition, Prediction::Recognition(embedding)) => recognition::read(output, embedding),
            _ => return false,
        }
        true
    }

    /// Reports whether predictions of this kind are smoothed over time. Landmarks have a filter of their own.
    pub(crate) fn is_smoothed(&self) -> bool {
        match self {
            Prediction::Age(_) | Prediction::Expression(_) | Prediction::Attributes(_) => true,
            Prediction::Landmarks(_) | Prediction::Parsing(_) | Prediction::Recognition(_) => false,
        }
    }

    /// Returns how outputs of a kind are averaged over augmented views.
    pub(crate) fn averaging(kind: TaskKind) -> Averaging {
        match kind {
            TaskKind::Landmarks => Averaging::Points,
            TaskKind::Parsing => Averaging::Planes,
            TaskKind::Age | TaskKind::Expression | TaskKind::Attributes | TaskKind::Recognition => Averaging::Numbers,
        }
    }
}

impl Clone for Prediction {
    fn clone(&self) -> Prediction {
        match self {
            Prediction::Landmarks(landmarks) => Prediction::Landmarks(landmarks.clone()),
            Prediction::Parsing(parsing) => Prediction::Parsing(parsing.clone()),
            Prediction::Age(age) => Prediction::Age(*age),
            Prediction::Expression(scores) => Prediction::Expression(scores.clone()),
            Prediction::Attributes(values) => Prediction::Attributes(values.clone()),
            Prediction::Recognition(embedding) => Prediction::Recognition(embedding.clone()),
        }
    }

    /// Allocates nothing when both are of one task and `self` has held a prediction before.
    fn clone_from(&mut self, other: &Prediction) {
        match (self, other) {
            (Prediction::Landmarks(to), Prediction::Landmarks(from)) => to.points.clone_from(&from.points),
            (Prediction::Parsing(to), Prediction::Parsing(from)) => to.clone_from(from),
            (Prediction::Expression(to), Prediction::Expression(from))
            | (Prediction::Attributes(to), Prediction::Attributes(from))
            | (Prediction::Recognition(to), Prediction::Recognition(from)) => to.clone_from(from),
            (to, from) => *to = from.clone(),
        }
    }
}
