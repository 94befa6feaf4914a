#![cfg_attr(all(any(feature = "embedded", feature = "nano"), feature = "photo"), doc = include_str!("../README.md"))]
#![cfg_attr(
    not(all(any(feature = "embedded", feature = "nano"), feature = "photo")),
    doc = "Reads faces in images, by one small network."
)]
#![forbid(unsafe_code)]

mod align;
mod analysis;
mod analyze;
mod analyzer;
mod augmentation;
mod bundle;
mod detect;
mod embedded;
mod error;
mod face;
mod face_check;
mod frame_policy;
mod geometry;
mod image;
mod mean_face;
mod pipeline;
mod pose;
mod quality;
mod results;
mod sightings;
pub mod stages;
mod stopwatch;
mod task;
mod tasks;
mod track;
mod video;
mod video_tracker;
mod visibility;

pub use align::light::Light;
pub use analyzer::{Analyzer, Image};
pub use augmentation::Augmentation;
pub use bundle::Bundle;
pub use error::{Error, ErrorKind};
pub use face::{Analysis, BoundingBox, Face};
pub use geometry::Point;
pub use image::colour::Colour;
#[cfg(feature = "photo")]
pub use image::photo::{Photo, PhotoOptions};
pub use image::view::{ImageView, PixelFormat, ShortFrame};
pub use pose::Pose;
pub use quality::Quality;
pub use results::{Attributes, Embedding, Expression, Parsing, TaskOutput};
pub use task::Task;
pub use tasks::age::Age;
pub use tasks::landmarks::Landmarks;
pub use video_tracker::Tracker;
pub use visibility::Visibility;
