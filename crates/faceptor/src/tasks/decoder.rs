//! Runs a task and decodes its output into a prediction.

use std::sync::Arc;

use crate::align::face_window::WindowGeometry;
use crate::align::warp::Warp;
use crate::error::{Error, Result, ensure};
use crate::geometry::Similarity;
use crate::tasks::parsing::{self, Parsing};
use crate::tasks::prediction::Prediction;
use faceptor_nn::engine::{Engine, TensorId};
use faceptor_nn::manifest::{Task, TaskKind};

/// A prediction that is kept from frame to frame, with its age.
#[derive(Debug, PartialEq)]
pub struct TaskResult {
    /// Meaningless unless `known`.
    pub prediction: Prediction,
    /// The task has run for this face.
    pub known: bool,
    /// How many frames ago it ran; 0 is this frame.
    pub stale_frames: u32,
    /// Seconds since it ran.
    pub since_s: f32,
}

impl TaskResult {
    /// Makes a result of this frame.
    pub fn fresh(prediction: Prediction) -> TaskResult {
        TaskResult { prediction, known: true, stale_frames: 0, since_s: 0.0 }
    }
}

impl Clone for TaskResult {
    fn clone(&self) -> TaskResult {
        TaskResult { prediction: self.prediction.clone(), ..*self }
    }

    /// Leaves the prediction as it is when that of `other` is not known.
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

/// Runs one task and decodes its output. Two tasks of one kind have a decoder each.
#[derive(Clone, Debug)]
pub struct TaskDecoder {
    task: Task,
    /// Shape of the task's output.
    shape: Vec<usize>,
    /// The task's output tensor; `None` for a decoder that was given no engine.
    output: Option<TensorId>,
    views: ParsingViews,
    window: usize,
    geometry: Arc<WindowGeometry>,
}

impl TaskDecoder {
    /// Checks the shape of the task's output against its kind and labels, so that decoding cannot fail later. The task
    /// sees the aligned frame as it is.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`](crate::ErrorKind::Bundle) when they do not fit.
    pub fn new(task: &Task, shape: &[usize]) -> Result<TaskDecoder, Error> {
        let name = &task.name;
        ensure!(!shape.contains(&0), Bundle, "task {name}: its output of shape {shape:?} is empty");
        Prediction::check(task, shape)?;
        let geometry = Arc::new(WindowGeometry::new(Warp::NONE, Similarity::scaling(1.0)));
        Ok(TaskDecoder {
            task: task.clone(),
            shape: shape.to_vec(),
            output: None,
            views: ParsingViews::default(),
            window: 0,
            geometry,
        })
    }

    /// Looks up the tensors that the decoder reads, so that no run looks up a name.
    pub(crate) fn with_tensors_of(mut self, engine: &Engine) -> Result<TaskDecoder> {
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

    /// Sets the window that the task sees the face through.
    pub(crate) fn in_window(mut self, window: usize, geometry: Arc<WindowGeometry>) -> TaskDecoder {
        (self.window, self.geometry) = (window, geometry);
        self
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

    /// Runs the task for the face that was sampled and decodes its output as [`TaskDecoder::read_into`] does. `scores`:
    /// parsing keeps its scores, from which masks are interpolated.
    pub(crate) fn run(
        &self,
        engine: &mut Engine,
        scores: bool,
        to_picture: &Similarity,
        prediction: &mut Prediction,
    ) -> Result<()> {
        let Some(parsing) = self.parsing_in(prediction) else {
            self.read_into(self.compute(engine)?, to_picture, prediction);
            return Ok(());
        };
        let output = match (self.views.labels, self.views.cells) {
            (Some(labels), _) if !scores => parsing::Output::Labels(engine.bytes(labels).map_err(Error::network)?),
            (_, Some((cells, cell))) => parsing::Output::Cells(engine.output(cells).map_err(Error::network)?, cell),
            _ => parsing::Output::Planes(self.compute(engine)?),
        };
        parsing.read(output, self.grid(), &self.geometry.warp, scores);
        Ok(())
    }

    /// Computes the task's output tensor.
    pub(crate) fn compute<'a>(&self, engine: &'a mut Engine) -> Result<&'a [f32]> {
        let output = match self.output {
            Some(output) => engine.output(output),
            None => engine.output(&self.task.output),
        };
        output.map_err(Error::network)
    }

    /// Returns which of a face's [`WindowTransforms`](crate::stages::WindowTransforms) the task has.
    pub fn window(&self) -> usize {
        self.window
    }

    /// Returns the geometry of that window.
    pub fn geometry(&self) -> &WindowGeometry {
        &self.geometry
    }

    /// Returns the task as the manifest has it.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Returns classes, height and width of a parsing output; zeros for other kinds.
    pub fn grid(&self) -> [usize; 3] {
        parsing::grid(&self.shape)
    }

    /// Returns how many points, classes, bins or numbers a prediction has.
    pub fn outputs(&self) -> usize {
        self.shape[1]
    }

    /// Decodes `output`, whose length fits the shape that was checked, into the memory of a prediction of
    /// [`TaskDecoder::blank`]; `to_picture` is the transform of the task's window.
    pub fn read_into(&self, output: &[f32], to_picture: &Similarity, prediction: &mut Prediction) {
        if !prediction.read(&self.task, &self.shape, output, &self.geometry.warp, to_picture) {
            // A prediction of another task: its memory is lost.
            *prediction = self.blank();
            prediction.read(&self.task, &self.shape, output, &self.geometry.warp, to_picture);
        }
    }

    /// Decodes the mean over several views. `grid` holds classes, height and width of a parsing's mean, which is finer than
    /// an output.
    pub(crate) fn read_mean(
        &self,
        mean: &[f32],
        grid: [usize; 3],
        to_picture: &Similarity,
        prediction: &mut Prediction,
    ) {
        match self.parsing_in(prediction) {
            Some(parsing) => parsing.read(parsing::Output::Planes(mean), grid, &self.geometry.warp, true),
            None => self.read_into(mean, to_picture, prediction),
        }
    }

    /// Returns the parsing that a prediction holds, or is made to hold, if the task is one; `None` for other kinds.
    fn parsing_in<'a>(&self, prediction: &'a mut Prediction) -> Option<&'a mut Parsing> {
        if self.task.kind != TaskKind::Parsing {
            return None;
        }
        if !matches!(prediction, Prediction::Parsing(_)) {
            *prediction = self.blank();
        }
        match prediction {
            Prediction::Parsing(parsing) => Some(parsing),
            _ => None,
        }
    }

    /// Makes a prediction of the task's kind with the memory that decoding needs.
    pub fn blank(&self) -> Prediction {
        Prediction::blank(&self.task, &self.shape)
    }

    /// Decodes as [`TaskDecoder::read_into`] does, into a new prediction.
    pub fn read(&self, output: &[f32], to_picture: &Similarity) -> Prediction {
        let mut prediction = self.blank();
        self.read_into(output, to_picture, &mut prediction);
        prediction
    }
}

/// Returns the index of the largest number, the first of equals; 0 for an empty list.
pub fn largest(numbers: &[f32]) -> usize {
    numbers.iter().enumerate().fold(0, |best, (index, number)| if *number > numbers[best] { index } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::age::Age;

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
