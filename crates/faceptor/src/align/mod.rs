//! Aligns a face: similarity transform, foveal warp, crop.

pub mod crop;
pub mod face_window;
pub mod similarity;
pub mod warp;
