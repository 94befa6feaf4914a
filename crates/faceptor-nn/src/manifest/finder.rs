//! The face detector in a manifest.

use serde::{Deserialize, Serialize};

use crate::manifest::{Colour, MAX_SIDE, Manifest, ManifestError, check_normalisation};

/// The face detector: one part for each input size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finder {
    /// Name of the finder.
    pub name: String,
    /// Probability from which a cell counts as a face.
    pub score_threshold: f32,
    /// Overlap from which the weaker of two boxes is dropped.
    pub nms_iou: f32,
    /// Mean of each channel: the input has `(pixel - mean) / std`, pixels are in 0..=255.
    pub mean: [f32; 3],
    /// Standard deviation of each channel.
    pub std: [f32; 3],
    /// Order of the channels.
    #[serde(default)]
    pub colour: Colour,
    /// Pixels of the finder's input per cell, one for each output.
    pub strides: Vec<usize>,
    /// The input sizes.
    #[serde(rename = "size")]
    pub sizes: Vec<FinderSize>,
}

/// The finder at one static input size. Each output is `[1, 15, height / stride, width / stride]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FinderSize {
    /// Part that runs at this size.
    pub part: String,
    /// Width of the input, pixels.
    pub width: usize,
    /// Height of the input, pixels.
    pub height: usize,
    /// Input tensor `[1, 3, height, width]`.
    pub input: String,
    /// Output tensors, one for each stride.
    pub outputs: Vec<String>,
    /// `true` if photos use this size: small faces matter there, and time does not.
    #[serde(default = "yes")]
    pub photo: bool,
    /// `true` if a loop with a frame period uses this size.
    #[serde(default = "yes")]
    pub live: bool,
}

fn yes() -> bool {
    true
}

impl Finder {
    /// Refuses sizes that the parts of its manifest do not fit.
    pub(crate) fn check(&self, manifest: &Manifest) -> Result<(), ManifestError> {
        let fail = |text: String| Err(ManifestError::Content(format!("finder: {text}")));
        check_normalisation("finder", &self.mean, &self.std)?;
        if self.sizes.is_empty() || self.strides.is_empty() || self.strides.contains(&0) {
            return fail("needs at least one size and non-zero strides".into());
        }
        for size in &self.sizes {
            let sides_fit = (1..=MAX_SIDE).contains(&size.width) && (1..=MAX_SIDE).contains(&size.height);
            if !sides_fit || size.outputs.len() != self.strides.len() {
                return fail(format!("size {}x{} is out of range or lacks an output", size.width, size.height));
            }
            let Some(part) = manifest.part(&size.part) else {
                return fail(format!("part {} is not there", size.part));
            };
            if !part.inputs.contains(&size.input) || !size.outputs.iter().all(|o| part.outputs.contains(o)) {
                return fail(format!("part {} lacks input {} or an output", part.name, size.input));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finder_sizes_serve_photos_and_the_loop_by_default() {
        let size = |more: &str| {
            toml::from_str::<FinderSize>(&format!("part='p'\nwidth=32\nheight=32\ninput='i'\noutputs=[]\n{more}"))
        };
        let uses = |more| size(more).map(|s| (s.photo, s.live));
        assert_eq!((uses(""), uses("photo = false")), (Ok((true, true)), Ok((false, true))));
    }
}
