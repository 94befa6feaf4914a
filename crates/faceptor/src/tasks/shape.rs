//! Checks of a task's output shape that kinds have in common.

use crate::error::{Error, ErrorKind, Result, ensure};
use faceptor_nn::manifest::Task;

/// Makes the error about an output of another shape than the kind has.
pub(super) fn unfit(task: &Task, shape: &[usize], wanted: &str) -> Error {
    let name = &task.name;
    Error::new(ErrorKind::Bundle, format!("task {name}: its output has shape {shape:?} instead of {wanted}"))
}

/// Checks that an output with something in it has as many entries as the task has names (labels or bins), where it has
/// any, and as many mirrored twins, where these are given.
pub(super) fn check_count(task: &Task, count: usize, named: Option<usize>) -> Result<()> {
    let (name, named) = (&task.name, named.unwrap_or(count));
    ensure!(named == count, Bundle, "task {name}: {count} outputs, but {named} labels or bins");
    let paired = task.flip.len();
    ensure!(paired == 0 || paired == count, Bundle, "task {name}: {count} outputs, but flip has {paired}");
    Ok(())
}

/// Checks for `[1, numbers]`, as [`check_count`].
pub(super) fn check_numbers(task: &Task, shape: &[usize], named: Option<usize>) -> Result<()> {
    match shape {
        &[1, count] => check_count(task, count, named),
        _ => Err(unfit(task, shape, "[1, numbers]")),
    }
}
