//! The pixels of a frame on their way to the outputs.

use std::sync::Arc;

use faceptor::stages::{Analysis, OwnedFrame, Picture};
use faceptor_results::cover::Covers;
use faceptor_results::identity::Identity;
use faceptor_results::overlay::Annotator;

/// The pixels of a frame, with what is covered on them. Outputs get them drawn, after the covers: there is no other way to them, so
/// that no output can show what `--blur` covers.
#[derive(Clone, Debug)]
pub struct Still {
    pixels: Arc<OwnedFrame>,
    covers: Option<Covers>,
}

impl Still {
    /// Takes a frame with its covers; `None` without `--blur`.
    pub fn new(pixels: Arc<OwnedFrame>, covers: Option<Covers>) -> Still {
        Still { pixels, covers }
    }

    /// Draws the covered frame with its analysis, at the size that `size` returns for it.
    pub fn draw<'a>(
        &self,
        annotator: &'a mut Annotator,
        analysis: &Analysis,
        identities: &[Identity<'_>],
        size: impl FnOnce(&Picture) -> [usize; 2],
    ) -> &'a Picture {
        annotator.draw(&self.pixels.view(), analysis, identities, self.covers.as_ref(), size)
    }
}
