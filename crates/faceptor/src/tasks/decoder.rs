//! From a task's output tensor to its answer, by the kind that the manifest gives the task.

use std::sync::Arc;

use crate::align::face_window::WindowGeometry;
use crate::align::warp::Warp;
use crate::augmentation::OutputMean;
use crate::error::{Error, Result, ensure};
use crate::geometry::Similarity;
use crate::tasks::age::Age;
use crate::tasks::landmarks::Landmarks;
use crate::tasks::parsing::{self, OUTSIDE, Parsing};
use crate::tasks::recognition;
use faceptor_nn::engine::{Engine, TensorId};
use faceptor_nn::manifest::{Task, TaskKind};

/// What one task says of one face.
#[derive(Debug, PartialEq)]
pub enum Prediction {
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

    /// Takes no new memory when both are answers of one task and `self` has held one before.
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

/// An answer that is kept from frame to frame, with its age.
#[derive(Debug, PartialEq)]
pub struct TaskResult {
    pub prediction: Prediction,
    /// Whether the task has been answered for this face at all; `prediction` means nothing otherwise.
    pub known: bool,
    /// How many frames ago the face was seen that it is about; 0 is this frame.
    pub stale_frames: u32,
    /// Seconds since the task was answered last.
    pub since_s: f32,
}

impl TaskResult {
    /// An answer of this frame.
    pub fn fresh(prediction: Prediction) -> TaskResult {
        TaskResult { prediction, known: true, stale_frames: 0, since_s: 0.0 }
    }
}

impl Clone for TaskResult {
    fn clone(&self) -> TaskResult {
        TaskResult { prediction: self.prediction.clone(), ..*self }
    }

    /// Copies an answer that is known only: what is not known is not read.
    fn clone_from(&mut self, other: &TaskResult) {
        (self.known, self.stale_frames, self.since_s) = (other.known, other.stale_frames, other.since_s);
        if other.known {
            self.prediction.clone_from(&other.prediction);
        }
    }
}

/// The tensors from which parsing is read more cheaply than from the task's output, where the network has them.
#[derive(Clone, Debug, Default)]
struct ParsingViews {
    /// The best classes alone.
    labels: Option<TensorId>,
    /// Scores by cells, and the rows and columns of a cell.
    cells: Option<(TensorId, [usize; 2])>,
}

/// Reads the answers of one task. Two tasks of one kind have a decoder each.
#[derive(Clone, Debug)]
pub struct TaskDecoder {
    task: Task,
    /// Classes, height and width of a parsing output; unused otherwise.
    grid: [usize; 3],
    /// The task's output tensor; none for a decoder that no engine has been given to.
    output: Option<TensorId>,
    views: ParsingViews,
    /// Points, labels, bins or numbers.
    outputs: usize,
    window: usize,
    geometry: Arc<WindowGeometry>,
}

impl TaskDecoder {
    /// Checks the shape of the task's output against its kind and labels, so that reading cannot fail later.
    pub fn new(task: &Task, shape: &[usize]) -> Result<TaskDecoder> {
        let name = &task.name;
        let wrong = |wanted: &str| format!("task {name}: its output has shape {shape:?} instead of {wanted}");
        let mut grid = [0; 3];
        ensure!(!shape.contains(&0), Bundle, "task {name}: its output of shape {shape:?} is empty");
        match task.kind {
            TaskKind::Landmarks => ensure!(matches!(shape, [1, _, 2]), Bundle, "{}", wrong("[1, points, 2]")),
            TaskKind::Parsing => {
                ensure!(matches!(shape, [1, _, _, _]), Bundle, "{}", wrong("[1, classes, height, width]"));
                grid.copy_from_slice(&shape[1..]);
                ensure!(grid[0] < usize::from(OUTSIDE), Bundle, "task {name}: {} classes do not fit a mask", grid[0]);
            }
            _ => ensure!(matches!(shape, [1, _]), Bundle, "{}", wrong("[1, numbers]")),
        }
        let named = match task.kind {
            TaskKind::Parsing | TaskKind::Expression | TaskKind::Attributes => task.labels.len(),
            TaskKind::Age => task.bins.len(),
            TaskKind::Landmarks | TaskKind::Recognition => shape[1],
        };
        ensure!(named == shape[1], Bundle, "task {name}: {} outputs, but {named} labels or bins", shape[1]);
        let paired = task.flip.len();
        ensure!(paired == 0 || paired == shape[1], Bundle, "task {name}: {} outputs, but flip has {paired}", shape[1]);
        let geometry = Arc::new(WindowGeometry::new(Warp::NONE, Similarity::scaling(1.0)));
        Ok(TaskDecoder {
            task: task.clone(),
            grid,
            output: None,
            views: ParsingViews::default(),
            outputs: shape[1],
            window: 0,
            geometry,
        })
    }

    /// Looks up the tensors that the decoder reads, so that no run looks up a name.
    pub fn with_tensors_of(mut self, engine: &Engine) -> Result<TaskDecoder> {
        self.output = Some(engine.output_id(&self.task.output).map_err(Error::network)?);
        if self.task.kind == TaskKind::Parsing {
            let cell = |cells: TensorId| match engine.shape(cells) {
                Some(&[_, _, rows, columns, _]) => Some((cells, [rows, columns])),
                _ => None,
            };
            self.views.labels = engine.labels_id(&self.task.output);
            self.views.cells = engine.cells_id(&self.task.output).and_then(cell);
        }
        Ok(self)
    }

    /// Has the network compute the answer of the face that it has been shown, and reads it as [`TaskDecoder::read_into`] does.
    /// `scores`: a mask may be drawn of it.
    ///
    /// # Errors
    /// When the network has not been shown a face.
    pub fn run(
        &self,
        engine: &mut Engine,
        scores: bool,
        to_picture: &Similarity,
        answer: &mut Prediction,
    ) -> Result<()> {
        if let (Prediction::Parsing(parsing), TaskKind::Parsing) = (&mut *answer, self.task.kind) {
            let output = match (self.views.labels, self.views.cells) {
                (Some(labels), _) if !scores => parsing::Output::Labels(engine.bytes(labels).map_err(Error::network)?),
                (_, Some((cells, cell))) => parsing::Output::Cells(engine.output(cells).map_err(Error::network)?, cell),
                _ => parsing::Output::Planes(self.compute(engine)?),
            };
            parsing.read(output, self.grid, &self.geometry.warp, scores);
            return Ok(());
        }
        self.read_into(self.compute(engine)?, to_picture, answer);
        Ok(())
    }

    /// Runs the task without decoding its output; for parsing without `scores` the best classes alone.
    pub(crate) fn run_only(&self, engine: &mut Engine, scores: bool) -> Result<()> {
        let tensor = match (self.views.labels, self.views.cells) {
            (Some(labels), _) if !scores => Some(labels),
            (_, Some((cells, _))) => Some(cells),
            _ => self.output,
        };
        let computed = match tensor {
            Some(tensor) => engine.compute(tensor),
            None => engine.compute(&self.task.output),
        };
        computed.map_err(Error::network)
    }

    /// Computes the task's output tensor.
    pub(crate) fn compute<'a>(&self, engine: &'a mut Engine) -> Result<&'a [f32]> {
        let output = match self.output {
            Some(output) => engine.output(output),
            None => engine.output(&self.task.output),
        };
        output.map_err(Error::network)
    }

    /// For a network that looks at the face in this way; otherwise at the aligned frame as it is.
    pub fn in_window(mut self, window: usize, geometry: Arc<WindowGeometry>) -> TaskDecoder {
        (self.window, self.geometry) = (window, geometry);
        self
    }

    /// Which of a face's [`WindowTransforms`](crate::align::face_window::WindowTransforms) the task has.
    pub fn window(&self) -> usize {
        self.window
    }

    /// How the task sees it.
    pub fn geometry(&self) -> &WindowGeometry {
        &self.geometry
    }

    /// The task as the manifest has it.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Classes, height and width of a parsing output; zeros for other kinds.
    pub fn grid(&self) -> [usize; 3] {
        self.grid
    }

    /// How many points, labels, bins or numbers an answer has.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Reads `output`, whose shape was checked, for the face that `to_picture` (the task's view to picture) points at,
    /// into an answer of this decoder (see [`TaskDecoder::blank`]), whose memory is used again.
    pub fn read_into(&self, output: &[f32], to_picture: &Similarity, answer: &mut Prediction) {
        let warp = &self.geometry.warp;
        match (self.task.kind, answer) {
            (TaskKind::Landmarks, Prediction::Landmarks(landmarks)) => landmarks.read(output, warp, to_picture),
            (TaskKind::Parsing, Prediction::Parsing(parsing)) => {
                parsing.read(parsing::Output::Planes(output), self.grid, warp, true);
            }
            (TaskKind::Age, Prediction::Age(age)) => *age = Age::read(output, &self.task.bins),
            (TaskKind::Expression, Prediction::Expression(numbers))
            | (TaskKind::Attributes, Prediction::Attributes(numbers)) => {
                numbers.clear();
                numbers.extend_from_slice(output);
            }
            (TaskKind::Recognition, Prediction::Recognition(embedding)) => recognition::read(output, embedding),
            (_, answer) => {
                // An answer of another task: only its memory is lost.
                *answer = self.blank();
                self.read_into(output, to_picture, answer);
            }
        }
    }

    /// The same of the mean of several looks, whose grid is finer for parsing.
    pub fn read_mean(&self, mean: &OutputMean, to_picture: &Similarity, answer: &mut Prediction) {
        match (self.task.kind, answer) {
            (TaskKind::Parsing, Prediction::Parsing(parsing)) => {
                parsing.read(parsing::Output::Planes(mean.output()), mean.grid(), &self.geometry.warp, true);
            }
            (_, answer) => self.read_into(mean.output(), to_picture, answer),
        }
    }

    /// An answer of the right kind with the memory that reading needs.
    pub fn blank(&self) -> Prediction {
        match self.task.kind {
            TaskKind::Landmarks => Prediction::Landmarks(Landmarks { points: Vec::with_capacity(self.outputs) }),
            TaskKind::Parsing => Prediction::Parsing(Parsing::with_grid(self.grid)),
            TaskKind::Age => Prediction::Age(Age::default()),
            TaskKind::Expression => Prediction::Expression(Vec::with_capacity(self.outputs)),
            TaskKind::Attributes => Prediction::Attributes(Vec::with_capacity(self.outputs)),
            TaskKind::Recognition => Prediction::Recognition(Vec::with_capacity(self.outputs)),
        }
    }

    /// The same as a new answer.
    pub fn read(&self, output: &[f32], to_picture: &Similarity) -> Prediction {
        let mut answer = self.blank();
        self.read_into(output, to_picture, &mut answer);
        answer
    }
}

/// Index of the largest number, the first of equals; 0 for an empty list.
pub fn largest(numbers: &[f32]) -> usize {
    numbers.iter().enumerate().fold(0, |best, (index, number)| if *number > numbers[best] { index } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(kind: TaskKind, labels: usize) -> Task {
        Task { labels: (0..labels).map(|i| format!("label{i}")).collect(), ..Task::of_kind(kind) }
    }

    #[test]
    fn shapes_that_do_not_fit_the_kind_are_refused() {
        let fails = |kind, labels, shape: &[usize]| TaskDecoder::new(&task(kind, labels), shape).is_err();
        assert!(fails(TaskKind::Landmarks, 0, &[1, 68]));
        assert!(fails(TaskKind::Parsing, 3, &[1, 4, 8, 8]));
        assert!(fails(TaskKind::Parsing, 300, &[1, 300, 8, 8]));
        assert!(fails(TaskKind::Age, 0, &[1, 21]));
        assert!(fails(TaskKind::Expression, 8, &[1, 0]));
        assert!(!fails(TaskKind::Attributes, 40, &[1, 40]));
        assert!(!fails(TaskKind::Recognition, 0, &[1, 128]));
        let paired = |flip: &[usize]| Task { flip: flip.to_vec(), ..task(TaskKind::Landmarks, 0) };
        let reads = |flip: &[usize]| TaskDecoder::new(&paired(flip), &[1, 3, 2]).is_ok();
        assert_eq!((reads(&[1, 0, 2]), reads(&[1, 0]), reads(&[])), (true, false, true));
    }

    #[test]
    fn the_kind_decides_how_numbers_are_read() {
        let to_picture = Similarity::scaling(10.0);
        let decoder = TaskDecoder::new(&task(TaskKind::Recognition, 0), &[1, 2]).expect("fits");
        assert_eq!(decoder.read(&[0.0, 2.0], &to_picture), Prediction::Recognition(vec![0.0, 1.0]));
        let decoder = TaskDecoder::new(&task(TaskKind::Landmarks, 0), &[1, 1, 2]).expect("fits");
        let Prediction::Landmarks(landmarks) = decoder.read(&[0.5, 0.25], &to_picture) else {
            panic!("landmarks are read as landmarks");
        };
        assert_eq!(landmarks.points, [[5.0, 2.5]]);
        assert_eq!(largest(&[0.1, 0.7, 0.7, 0.2]), 1);
    }
    #[test]
    fn a_second_answer_takes_the_memory_of_the_first() {
        let to_picture = Similarity::scaling(1.0);
        for kind in [TaskKind::Expression, TaskKind::Recognition] {
            let decoder = TaskDecoder::new(&task(kind, 2), &[1, 2]).expect("fits");
            let mut result = TaskResult { known: false, stale_frames: 3, ..TaskResult::fresh(decoder.blank()) };
            let memory = |answer: &Prediction| match answer {
                Prediction::Expression(numbers) | Prediction::Recognition(numbers) => numbers.as_ptr(),
                other => panic!("{other:?}"),
            };
            let before = memory(&result.prediction);
            decoder.read_into(&[0.0, 1.0], &to_picture, &mut result.prediction);
            result.clone_from(&TaskResult::fresh(decoder.read(&[1.0, 0.0], &to_picture)));
            assert_eq!((memory(&result.prediction), result.known, result.stale_frames), (before, true, 0));
            assert_eq!(result.prediction, decoder.read(&[1.0, 0.0], &to_picture));
        }
        let decoder = TaskDecoder::new(&task(TaskKind::Expression, 2), &[1, 2]).expect("fits");
        let mut other = Prediction::Age(Age::default());
        decoder.read_into(&[0.5, 0.5], &to_picture, &mut other);
        assert_eq!(other, Prediction::Expression(vec![0.5, 0.5]));
    }
}
