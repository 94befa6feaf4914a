//! The kinds of tasks, one file each: how an output is checked and decoded. `prediction` lists the kinds.

pub mod age;
mod attributes;
pub mod decoder;
mod expression;
pub mod landmarks;
pub mod parsing;
pub mod prediction;
mod recognition;
pub mod selection;
mod shape;
pub mod smoothing;
