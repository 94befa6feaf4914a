//! A published frame on its way to an output.

use std::sync::Arc;

use faceptor::stages::{Analysis, OwnedFrame};

/// What an outlet that shows something gets. The memory goes round and round.
#[derive(Debug, Default)]
pub struct SharedFrame {
    /// The frame's pixels, when somebody watched while it was taken.
    pub still: Option<Arc<OwnedFrame>>,
    pub analysis: Analysis,
    /// The frame's JSON line.
    pub json: Vec<u8>,
    pub captured_us: u64,
    pub published_us: u64,
}
