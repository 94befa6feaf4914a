//! Reads faces in images: landmarks, parsing, age, expression, attributes and recognition, by one small network.

pub mod align;
pub mod analysis;
pub mod analyze;
pub mod augmentation;
pub mod detect;
pub mod embedded;
pub mod geometry;
pub mod image;
pub mod quality;
pub mod stopwatch;
pub mod tasks;
pub mod track;

pub use faceptor_nn as nn;
