//! Expression: a probability for each of several classes that exclude each other.

use crate::error::Result;
use crate::tasks::shape::check_numbers;
use faceptor_nn::manifest::Task;

/// Checks for `[1, classes]` with a label for each class.
pub(super) fn check(task: &Task, shape: &[usize]) -> Result<()> {
    check_numbers(task, shape, Some(task.labels.len()))
}

/// Copies the probabilities; the softmax is part of the network.
pub(super) fn read(output: &[f32], scores: &mut Vec<f32>) {
    scores.clear();
    scores.extend_from_slice(output);
}
