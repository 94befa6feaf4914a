//! Decodes the answers of the tasks: one file a task.

pub mod age;
pub mod decoder;
pub mod landmarks;
pub mod parsing;
pub mod recognition;
pub mod selection;
pub mod smoothing;
