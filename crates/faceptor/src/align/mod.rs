//! Aligns a face: similarity transform, foveal warp, crop.

pub mod appearance;
pub mod crop;
pub mod face_window;
pub mod light;
pub mod sharpness;
pub mod warp;
