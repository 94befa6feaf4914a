//! What the tasks say of a face: the fovea, the choice of tasks, and one interpreter for each kind of task.

pub mod age;
pub mod answer;
pub mod cost;
pub mod crop;
pub mod landmarks;
pub mod parsing;
pub mod pipeline;
pub mod recognition;
pub mod tasks;
pub mod warp;

pub use answer::{Answer, Reader};
pub use pipeline::{Analysis, Face, Locate, Pipeline, Timing};
