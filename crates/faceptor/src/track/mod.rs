//! Tracks faces from frame to frame.

pub mod one_euro;
pub mod track;
pub mod track_check;
pub mod tracker;
