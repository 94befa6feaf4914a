//! The result that the loop hands over for each frame.

use serde::Serialize;

use crate::capture::source::{SourceCounters, Stamp};
use crate::live::still::Still;
use crate::recognition::identities::Identities;
use faceptor::stages::{Analysis, TaskDecoder};

/// Counts of a run since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Counts of the source.
    pub source: SourceCounters,
    /// Frames that went through the network.
    pub frames: u64,
    /// Frames that the source could not read.
    pub bad_frames: u64,
    /// Frames for which the detector ran.
    pub finder_runs: u64,
    /// Results of earlier frames that were published again.
    pub stale_answers: u64,
    /// Frames that were skipped because of overload or heat.
    pub skipped_frames: u64,
    /// Results that were dropped because the publisher had not returned any memory.
    pub dropped_results: u64,
    /// The degradation level: see [`crate::live::degradation`].
    pub level: u8,
    /// Faces that are tracked now.
    pub faces: u8,
}

/// The result of one frame. Its memory circulates between the loop and the publisher.
#[derive(Debug, Default)]
pub struct FrameResult {
    /// The place of the source among those of the run.
    pub source: usize,
    /// Number of the frame, from 0; `None` if no frame came and only the counters are new.
    pub number: Option<u64>,
    /// The source's number and time of the frame.
    pub stamp: Stamp,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// The file that the frame was read from.
    pub path: Option<String>,
    /// The faces with their results.
    pub analysis: Analysis,
    /// The gallery's answers for the faces.
    pub identities: Identities,
    /// When the loop had the frame.
    pub grabbed_us: u64,
    /// When the loop handed this result over.
    pub handed_over_us: u64,
    /// Time for reading or decoding a file; for a live source the age of the frame when the loop had it.
    pub capture_us: u64,
    /// When the result is published; at once if that is past or `None`.
    pub publish_at_us: Option<u64>,
    /// The frame's pixels, if an output shows them.
    pub still: Option<Still>,
    /// The run's counts up to this frame.
    pub counters: Counters,
}

impl FrameResult {
    /// Allocates memory for up to `limit` faces.
    pub fn with_room(limit: usize, decoders: &[TaskDecoder]) -> FrameResult {
        FrameResult { analysis: Analysis::with_room(limit, decoders), ..FrameResult::default() }
    }

    /// Returns the time from the grab to the handover, in microseconds.
    pub fn used_us(&self) -> u64 {
        self.handed_over_us.saturating_sub(self.grabbed_us)
    }
}
