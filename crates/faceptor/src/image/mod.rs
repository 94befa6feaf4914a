//! Images: views of frames in the format in which they came, pixels, photos.

pub mod bilinear;
pub mod colour;
pub mod containment;
pub mod downscaled;
mod fixed_point;
pub mod formats;
pub mod jpeg;
pub mod jpeg_markers;
pub mod normalization;
#[cfg(feature = "photo")]
pub mod photo;
#[cfg(feature = "photo")]
mod photo_formats;
pub mod picture;
pub mod view;
