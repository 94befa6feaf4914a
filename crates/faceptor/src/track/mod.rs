//! Tracks faces from frame to frame.

pub mod face_track;
pub(crate) mod likeness;
pub mod one_euro;
pub mod search_roll;
pub mod track_check;
pub mod tracker;
