//! Finds faces: letterbox, detector, non-maximum suppression.

pub mod detection;
pub mod finder;
pub mod letterbox;
