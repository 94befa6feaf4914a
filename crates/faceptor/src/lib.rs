//! Reads faces in images: landmarks, parsing, age, expression, attributes and recognition, by one small network.

mod align;
mod analysis;
mod analyze;
mod augmentation;
mod detect;
mod embedded;
mod geometry;
mod image;
mod quality;
pub mod stages;
mod stopwatch;
mod tasks;
mod track;
