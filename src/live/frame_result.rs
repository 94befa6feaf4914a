//! What the loop hands over for each frame.

use std::sync::Arc;

use serde::Serialize;

use crate::capture::source::{SourceCounters, Stamp};
use faceptor::stages::{Analysis, OwnedFrame, TaskDecoder};

/// What has happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    pub source: SourceCounters,
    /// Frames that went through the network.
    pub frames: u64,
    /// Frames that the source could not read.
    pub bad_frames: u64,
    /// Frames for which the finder ran.
    pub finder_runs: u64,
    /// Answers of earlier frames that were given again.
    pub stale_answers: u64,
    /// Frames that were passed over because of overload or heat.
    pub skipped_frames: u64,
    /// Results that were dropped because the publisher had not given one back.
    pub dropped_results: u64,
    /// What is given up: see [`crate::live::degradation`].
    pub level: u8,
    /// Faces that are followed now.
    pub faces: u8,
}

/// One frame's result. Its memory goes round between the loop and the publisher.
#[derive(Debug, Default)]
pub struct FrameResult {
    /// From 0 on; `None` when no frame came and only the counters are new.
    pub number: Option<u64>,
    pub stamp: Stamp,
    pub width: usize,
    pub height: usize,
    /// The file it was read from.
    pub path: Option<String>,
    pub analysis: Analysis,
    /// When the loop had the frame, and when it handed this over.
    pub grabbed_us: u64,
    pub handed_over_us: u64,
    /// Reading or decoding of a file; the age of a live frame when the loop had it.
    pub capture_us: u64,
    /// The result is published then; at once when that is past.
    pub publish_at_us: Option<u64>,
    /// The frame's pixels, when somebody watches.
    pub still: Option<Arc<OwnedFrame>>,
    pub counters: Counters,
}

impl FrameResult {
    /// With memory for so many faces.
    pub fn with_room(limit: usize, decoders: &[TaskDecoder]) -> FrameResult {
        FrameResult { analysis: Analysis::with_room(limit, decoders), ..FrameResult::default() }
    }

    /// From the grab to the handing over.
    pub fn used_us(&self) -> u64 {
        self.handed_over_us.saturating_sub(self.grabbed_us)
    }
}
