//! Where the faces are: the finder, and the transform from a face to the aligned frame.

pub mod alignment;
pub mod detection;
pub mod finder;
pub mod letterbox;

pub use alignment::{Point, Similarity};
pub use detection::{Detection, Detections, MAX_FACES};
pub use finder::{Finder, Purpose};
pub use letterbox::Normalization;
