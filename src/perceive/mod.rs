//! What the tasks say of a face: the fovea, the choice of tasks, and one interpreter for each kind of task.

pub mod age;
pub mod analysis;
pub mod answer;
pub mod aspect;
pub mod cost;
pub mod crop;
pub mod difference;
pub mod golden;
pub mod landmarks;
pub mod look;
pub mod parsing;
pub mod pipeline;
pub mod probe;
pub mod quality;
pub mod recognition;
pub mod steady;
pub mod tasks;
pub mod verification;
pub mod warp;

pub use analysis::{Analysis, Deadline, Face, Faces, Timing};
pub use answer::{Answer, Held, Reader};
pub use aspect::Looks;
pub use pipeline::{Locate, Pipeline};
pub use tasks::TaskList;
