//! The check of a manifest that reports how much a sampled crop looks like a face.

use serde::{Deserialize, Serialize};

use crate::manifest::{Manifest, ManifestError};

/// A linear function of an encoder's features: `bias` plus the sum of `weights` times the mean of each channel over the picture.
/// Above 0 the crop shows a face.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaceCheck {
    /// Tensor `[1, channels, height, width]` that a part makes.
    pub tensor: String,
    /// Value for features of zero.
    pub bias: f32,
    /// One for each channel.
    pub weights: Vec<f32>,
}

/// Most channels: keeps a hostile manifest from asking for much time.
const MAX_CHANNELS: usize = 4096;

impl FaceCheck {
    pub(super) fn check(&self, manifest: &Manifest) -> Result<(), ManifestError> {
        let fail = |text: String| Err(ManifestError::Content(format!("face_check: {text}")));
        if !manifest.parts.iter().any(|part| part.outputs.contains(&self.tensor)) {
            return fail(format!("no part makes {:?}", self.tensor));
        }
        match self.weights.len() {
            1..=MAX_CHANNELS => {}
            count => return fail(format!("{count} weights, 1 to {MAX_CHANNELS} are allowed")),
        }
        match self.weights.iter().chain([&self.bias]).all(|v| v.is_finite()) {
            true => Ok(()),
            false => fail("a weight or the bias is not finite".into()),
        }
    }
}
