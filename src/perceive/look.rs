//! One way of looking at a face: a group of the manifest, ready to sample.
//!
//! Every face has one aligned frame (`Face::to_picture`). A group's own frame lies at a fixed place in it: where its
//! template has the same five keypoints, or about the box that a face of that frame has.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::crop::Crop;
use super::warp::{Unwarp, Warp};
use crate::locate::{Normalization, Point, Similarity};
use crate::model::group::{Align, Group, GroupBorder, GroupColour, GroupWarp};
use crate::model::manifest;
use crate::model::{Engine, Manifest};

/// The five keypoints in the aligned frame (contract): eyes, nose, mouth corners.
pub const TEMPLATE: [Point; 5] = [
    [0.395_833_93, 0.427_651_33],
    [0.604_164_7, 0.426_499_03],
    [0.500_661_5, 0.546_134_38],
    [0.415_076_5, 0.668_097_4],
    [0.587_599_2, 0.667_143_15],
];
/// The face's box in the aligned frame: its middle, and its longer side. Medians over the 4,512 sure and nearly upright
/// faces of the training scenes, whose boxes are the finder's labels.
const BOX_MIDDLE: [f64; 2] = [0.498, 0.507];
const BOX_SIDE: f64 = 0.602;

/// Where a group's view lies, for reading what is said of it.
#[derive(Clone, Debug)]
pub struct Gaze {
    pub warp: Warp,
    /// Coordinates of the group's frame to network coordinates, for painting masks.
    pub unwarp: Unwarp,
    /// The group's frame (0..1) to the aligned frame.
    in_frame: Similarity,
}

impl Gaze {
    /// `in_frame` takes the group's frame to the aligned frame.
    pub fn new(warp: Warp, in_frame: Similarity) -> Gaze {
        Gaze { warp, unwarp: Unwarp::new(&warp), in_frame }
    }

    /// The group's frame (0..1) to picture pixels, for a face of the aligned frame `to_picture`.
    pub fn to_picture(&self, to_picture: &Similarity) -> Similarity {
        self.in_frame.then(to_picture)
    }
}

/// A group with its sampler.
pub struct Look {
    pub(super) tensor: String,
    pub(super) crop: Crop,
    pub(super) gaze: Arc<Gaze>,
}

impl Look {
    /// The look of a network with `[input]` and `[frame]`: the aligned frame itself.
    fn alone(input: &manifest::Input, frame: &manifest::Frame, engine: &Engine) -> Result<Look> {
        check_shape(&input.tensor, 3, input.size, engine)?;
        let linear = match frame.warp {
            manifest::Warp::None => 1.0,
            manifest::Warp::Cubic => f64::from(frame.warp_linear),
        };
        let warp = Warp::new(linear).with_context(|| format!("frame: warp_linear {linear} is not in 0..=1"))?;
        let bgr = input.colour == manifest::Colour::Bgr;
        let crop = Crop::new(input.size, warp, Normalization { mean: input.mean, std: input.std, bgr });
        let gaze = Arc::new(Gaze::new(warp, Similarity::scaling(1.0)));
        Ok(Look { tensor: input.tensor.clone(), crop, gaze })
    }

    /// The look of one group.
    fn of_group(group: &Group, engine: &Engine) -> Result<Look> {
        let (name, frame) = (&group.name, &group.frame);
        check_shape(&group.tensor, group.colour.channels(), group.size, engine)?;
        let warp = match frame.warp {
            GroupWarp::None => Some(Warp::NONE),
            GroupWarp::Tanh => Warp::tanh(f64::from(frame.warp_tanh), group.size),
        };
        let warp = warp.with_context(|| format!("group {name}: its warp is out of range"))?;
        let in_frame = match &frame.align {
            Align::Keypoints { template } => Similarity::fit(template, &TEMPLATE),
            Align::Box { box_scale } => {
                let side = BOX_SIDE / f64::from(*box_scale);
                let [tx, ty] = BOX_MIDDLE.map(|middle| middle - side / 2.0);
                Some(Similarity { a: side, b: 0.0, tx, ty })
            }
        };
        let in_frame = in_frame.with_context(|| format!("group {name}: its template has no distinct points"))?;
        let number = |numbers: &[f32], channel: usize| numbers.get(channel).copied().unwrap_or(1.0);
        let three = |numbers: &[f32]| [0, 1, 2].map(|channel| number(numbers, channel));
        let bgr = group.colour == GroupColour::Bgr;
        let normalization = Normalization { mean: three(&group.mean), std: three(&group.std), bgr };
        let mut crop = Crop::new(group.size, warp, normalization);
        if group.colour == GroupColour::Grey {
            crop = crop.grey(number(&group.mean, 0), number(&group.std, 0));
        }
        if frame.border == GroupBorder::Black {
            crop = crop.black_beyond();
        }
        Ok(Look { tensor: group.tensor.clone(), crop, gaze: Arc::new(Gaze::new(warp, in_frame)) })
    }

    /// Every look of a bundle, and the template of its aligned frame: that of `[frame]`, otherwise [`TEMPLATE`].
    pub(super) fn all(manifest: &Manifest, engine: &Engine) -> Result<(Vec<Look>, [Point; 5])> {
        if !manifest.groups.is_empty() {
            let looks = manifest.groups.iter().map(|group| Look::of_group(group, engine));
            return Ok((looks.collect::<Result<_>>()?, TEMPLATE));
        }
        let missing =
            |what: &str| format!("this bundle answers no tasks: its manifest has neither {what} nor [[group]]");
        let input = manifest.input.as_ref().with_context(|| missing("[input]"))?;
        let frame = manifest.frame.as_ref().with_context(|| missing("[frame]"))?;
        Ok((vec![Look::alone(input, frame, engine)?], frame.template))
    }
}

fn check_shape(tensor: &str, channels: usize, size: usize, engine: &Engine) -> Result<()> {
    let shape = [1, channels, size, size];
    let found = engine.shape(tensor).with_context(|| format!("no part reads {tensor}"))?;
    ensure!(found == shape, "input {tensor} has shape {found:?} instead of {shape:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_the_contract_s() {
        let middle = [0, 1].map(|axis| (TEMPLATE[0][axis] + TEMPLATE[1][axis]) / 2.0 * 192.0);
        assert!((middle[0] - 96.0).abs() < 0.05 && (middle[1] - 82.0).abs() < 0.05, "{middle:?}");
        let apart = (TEMPLATE[1][0] - TEMPLATE[0][0]).hypot(TEMPLATE[1][1] - TEMPLATE[0][1]) * 192.0;
        assert!((apart - 40.0).abs() < 0.01, "{apart}");
    }
}
