//! The live loop's face to the rest of the program: commands to it, and what it shows of itself.

use std::path::PathBuf;

use crate::perceive::TaskList;

/// What others ask of the loop. Commands come through a bounded channel and are taken at the start of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// From the next frame on, in this order of priority.
    SetTasks(TaskList),
    SetBudgetUs(u64),
    /// Writes the next frame, annotated, as a PNG.
    Snapshot(PathBuf),
    Quit,
}
