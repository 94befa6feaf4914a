//! Finds faces: letterbox, detector, non-maximum suppression.

pub mod detection;
pub mod detector;
pub mod letterbox;
pub mod placement;
pub mod search;
pub mod sighting;
pub mod tiles;
