//! From a task's output tensor to its answer, by the kind that the manifest gives the task.

use anyhow::{Result, ensure};

use super::age::Age;
use super::landmarks::Landmarks;
use super::parsing::{OUTSIDE, Parsing};
use super::recognition;
use super::warp::Warp;
use crate::locate::alignment::Similarity;
use crate::model::manifest::{Task, TaskKind};

/// What one task says of one face.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Landmarks(Landmarks),
    Parsing(Parsing),
    Age(Age),
    /// Probability of each label; they sum to one.
    Expression(Vec<f32>),
    /// Probability of each attribute by itself.
    Attributes(Vec<f32>),
    /// Embedding of unit length.
    Recognition(Vec<f32>),
}

/// Reads the answers of one task. Two tasks of one kind have a reader each.
#[derive(Clone, Debug)]
pub struct Reader {
    task: Task,
    /// Classes, height and width of a parsing output; unused otherwise.
    grid: [usize; 3],
}

impl Reader {
    /// Checks the shape of the task's output against its kind and labels, so that reading cannot fail later.
    pub fn new(task: &Task, shape: &[usize]) -> Result<Reader> {
        let name = &task.name;
        let wrong = |wanted: &str| format!("task {name}: its output has shape {shape:?} instead of {wanted}");
        let mut grid = [0; 3];
        ensure!(!shape.contains(&0), "task {name}: its output of shape {shape:?} is empty");
        match task.kind {
            TaskKind::Landmarks => ensure!(matches!(shape, [1, _, 2]), wrong("[1, points, 2]")),
            TaskKind::Parsing => {
                ensure!(matches!(shape, [1, _, _, _]), wrong("[1, classes, height, width]"));
                grid.copy_from_slice(&shape[1..]);
                ensure!(grid[0] < usize::from(OUTSIDE), "task {name}: {} classes do not fit a mask", grid[0]);
            }
            _ => ensure!(matches!(shape, [1, _]), wrong("[1, numbers]")),
        }
        let named = match task.kind {
            TaskKind::Parsing | TaskKind::Expression | TaskKind::Attributes => task.labels.len(),
            TaskKind::Age => task.bins.len(),
            TaskKind::Landmarks | TaskKind::Recognition => shape[1],
        };
        ensure!(named == shape[1], "task {name}: {} outputs, but {named} labels or bins", shape[1]);
        Ok(Reader { task: task.clone(), grid })
    }

    /// The task as the manifest has it.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Reads `output`, whose shape was checked, for the face that `to_picture` (frame to picture) points at.
    pub fn read(&self, output: &[f32], warp: &Warp, to_picture: &Similarity) -> Answer {
        match self.task.kind {
            TaskKind::Landmarks => {
                let mut landmarks = Landmarks::default();
                landmarks.read(output, warp, to_picture);
                Answer::Landmarks(landmarks)
            }
            TaskKind::Parsing => {
                let mut parsing = Parsing::default();
                parsing.read(output, self.grid, warp);
                Answer::Parsing(parsing)
            }
            TaskKind::Age => Answer::Age(Age::read(output, &self.task.bins)),
            TaskKind::Expression => Answer::Expression(output.to_vec()),
            TaskKind::Attributes => Answer::Attributes(output.to_vec()),
            TaskKind::Recognition => {
                let mut embedding = Vec::new();
                recognition::read(output, &mut embedding);
                Answer::Recognition(embedding)
            }
        }
    }
}

/// Index of the largest number, the first of equals; 0 for an empty list.
pub fn largest(numbers: &[f32]) -> usize {
    numbers.iter().enumerate().fold(0, |best, (index, number)| if *number > numbers[best] { index } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::manifest::Interpreter;

    fn task(kind: TaskKind, labels: usize) -> Task {
        Task {
            name: "mine".into(),
            kind,
            part: "p".into(),
            output: "o".into(),
            default: true,
            queries: [0, labels],
            interpreter: Interpreter::Value,
            labels: (0..labels).map(|i| format!("label{i}")).collect(),
            bins: Vec::new(),
            flip: Vec::new(),
        }
    }

    #[test]
    fn shapes_that_do_not_fit_the_kind_are_refused() {
        let fails = |kind, labels, shape: &[usize]| Reader::new(&task(kind, labels), shape).is_err();
        assert!(fails(TaskKind::Landmarks, 0, &[1, 68]));
        assert!(fails(TaskKind::Parsing, 3, &[1, 4, 8, 8]));
        assert!(fails(TaskKind::Parsing, 300, &[1, 300, 8, 8]));
        assert!(fails(TaskKind::Age, 0, &[1, 21]));
        assert!(fails(TaskKind::Expression, 8, &[1, 0]));
        assert!(!fails(TaskKind::Attributes, 40, &[1, 40]));
        assert!(!fails(TaskKind::Recognition, 0, &[1, 128]));
    }

    #[test]
    fn the_kind_decides_how_numbers_are_read() {
        let warp = Warp::new(1.0).expect("allowed");
        let to_picture = Similarity::scaling(10.0);
        let reader = Reader::new(&task(TaskKind::Recognition, 0), &[1, 2]).expect("fits");
        assert_eq!(reader.read(&[0.0, 2.0], &warp, &to_picture), Answer::Recognition(vec![0.0, 1.0]));
        let reader = Reader::new(&task(TaskKind::Landmarks, 0), &[1, 1, 2]).expect("fits");
        let Answer::Landmarks(landmarks) = reader.read(&[0.5, 0.25], &warp, &to_picture) else {
            panic!("landmarks are read as landmarks");
        };
        assert_eq!(landmarks.points, [[5.0, 2.5]]);
        assert_eq!(largest(&[0.1, 0.7, 0.7, 0.2]), 1);
    }
}
