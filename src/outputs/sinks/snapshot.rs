//! Snapshots: single frames as annotated PNGs, requested while the loop runs.

use std::ops::ControlFlow;

use crate::outputs::draw::overlay::{Annotator, readable_size};
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
}

impl SnapshotSink {
    pub fn new(annotator: Annotator) -> SnapshotSink {
        SnapshotSink { annotator }
    }
}

impl Sink<SnapshotFrame> for SnapshotSink {
    fn take(&mut self, snapshot: &mut SnapshotFrame) -> ControlFlow<()> {
        if let (Some(SnapshotRequest { path, ticket }), Some(still)) =
            (snapshot.request.take(), snapshot.frame.still.take())
        {
            let picture = self.annotator.draw(&still.view(), &snapshot.frame.analysis, readable_size);
            drop(still);
            let written = png::write_picture(&path, picture).map_err(|reason| format!("{reason:#}"));
            match &written {
                Ok(()) => log::info!("snapshot written to {}", path.display()),
                Err(reason) => log::error!("snapshot: {reason}"),
            }
            ticket.settle(written);
        }
        ControlFlow::Continue(())
    }
}
