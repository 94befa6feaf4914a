//! Attributes: a probability for each of several independent properties.

use crate::error::Result;
use crate::tasks::shape::check_numbers;
use faceptor_nn::manifest::Task;

/// Checks for `[1, attributes]` with a label for each.
pub(super) fn check(task: &Task, shape: &[usize]) -> Result<()> {
    check_numbers(task, shape, Some(task.labels.len()))
}

/// Copies the probabilities; the sigmoid is part of the network.
pub(super) fn read(output: &[f32], values: &mut Vec<f32>) {
    values.clear();
    values.extend_from_slice(output);
}
