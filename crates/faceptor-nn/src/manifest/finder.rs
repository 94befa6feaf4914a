//! The face finder in a manifest.

use serde::{Deserialize, Serialize};

use crate::manifest::{Colour, MAX_SIDE, Manifest, ManifestError, check_normalisation};

/// The face finder: one part for each input size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finder {
    pub name: String,
    /// Probability from which a cell counts as a face.
    pub score_threshold: f32,
    /// Overlap from which the weaker of two boxes is dropped.
    pub nms_iou: f32,
    pub mean: [f32; 3],
    pub std: [f32; 3],
    #[serde(default)]
    pub colour: Colour,
    /// Pixels of the finder's input per cell, one for each output.
    pub strides: Vec<usize>,
    #[serde(rename = "size")]
    pub sizes: Vec<FinderSize>,
}

/// The finder at one static input size. Each output is `[1, 15, height / stride, width / stride]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FinderSize {
    pub part: String,
    pub width: usize,
    pub height: usize,
    pub input: String,
    pub outputs: Vec<String>,
    /// Used for photos, where small faces count and time does not.
    #[serde(default = "yes")]
    pub photo: bool,
    /// Used in a loop with a frame period.
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
    fn finder_sizes_serve_photos_and_the_loop_unless_they_say_otherwise() {
        let size = |more: &str| {
            toml::from_str::<FinderSize>(&format!("part='p'\nwidth=32\nheight=32\ninput='i'\noutputs=[]\n{more}"))
        };
        let uses = |more| size(more).map(|s| (s.photo, s.live));
        assert_eq!((uses(""), uses("photo = false")), (Ok((true, true)), Ok((false, true))));
    }
}
