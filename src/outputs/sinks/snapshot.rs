//! Snapshots: single frames as annotated PNGs, requested while the loop runs.

use std::ops::ControlFlow;

use crate::files::inputs::Inputs;
use crate::files::output_file::{self, OutputRules};
use crate::files::result_kind::ResultKind;
use crate::outputs::draw::overlay::{Annotator, own_size};
use crate::outputs::draw::png;
use crate::outputs::shared_frame::SharedFrame;
use crate::outputs::sinks::pixel_demand::SnapshotRequest;
use crate::outputs::sinks::sink::Sink;

/// A frame with the request that it serves.
#[derive(Default)]
pub struct SnapshotFrame {
    pub request: Option<SnapshotRequest>,
    pub frame: SharedFrame,
}

/// Draws and writes snapshots.
pub struct SnapshotSink {
    annotator: Annotator,
    /// Files that no snapshot replaces.
    inputs: Inputs,
}

impl SnapshotSink {
    pub(crate) fn new(annotator: Annotator, inputs: Inputs) -> SnapshotSink {
        SnapshotSink { annotator, inputs }
    }
}

impl Sink<SnapshotFrame> for SnapshotSink {
    fn take(&mut self, snapshot: &mut SnapshotFrame) -> ControlFlow<()> {
        if let (Some(SnapshotRequest { path, force, ticket }), Some(still)) =
            (snapshot.request.take(), snapshot.frame.still.take())
        {
            let SharedFrame { analysis, identities, .. } = &snapshot.frame;
            let picture = still.draw(&mut self.annotator, analysis, &identities.list(), own_size);
            drop(still);
            let rules = OutputRules { force, inputs: self.inputs.clone() };
            let written =
                output_file::write(&path, ResultKind::Picture, &rules, |file| png::encode_picture(file, picture, None));
            let written = written.map_err(|reason| format!("{reason:#}"));
            match &written {
                Ok(()) => log::info!("snapshot written to {}", path.display()),
                Err(reason) => log::error!("snapshot: {reason}"),
            }
            ticket.settle(written);
        }
        ControlFlow::Continue(())
    }
}
