//! A published frame on its way to the sinks that draw.

use crate::live::still::Still;
use crate::recognition::identities::Identities;
use faceptor::stages::Analysis;

/// A published frame for a sink that draws. Buffers are reused.
#[derive(Debug, Default)]
pub struct SharedFrame {
    /// The frame's pixels, if an output needed them when it was captured.
    pub still: Option<Still>,
    pub analysis: Analysis,
    /// The gallery's answers for the faces.
    pub identities: Identities,
    /// The frame's JSON line.
    pub json: Vec<u8>,
    pub captured_us: u64,
    pub published_us: u64,
}
