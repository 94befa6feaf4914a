//! Preprocessing groups: the input tensors of tasks that need different ones (`[[group]]` of the manifest).
//!
//! A network with a single input has `[input]` and `[frame]` instead. A group's tensor is written once a face; the parts that
//! its tasks share run once.

use serde::{Deserialize, Serialize};

/// One input tensor `[1, channels, size, size]` and how a picture becomes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Name of the group.
    pub name: String,
    /// Name of the tensor.
    pub tensor: String,
    /// Side of the square, pixels.
    pub size: usize,
    /// Channels of the tensor.
    #[serde(default)]
    pub colour: GroupColour,
    /// Mean of each channel: the tensor has `(pixel - mean) / std`, pixels are in 0..=255.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel.
    pub std: Vec<f32>,
    /// Area of the picture that is sampled.
    pub frame: GroupFrame,
}

/// The channels of a group's tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupColour {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// One channel: 0.299 R + 0.587 G + 0.114 B.
    Grey,
}

impl GroupColour {
    /// Returns the number of channels.
    pub fn channels(self) -> usize {
        if self == GroupColour::Grey { 1 } else { 3 }
    }
}

/// The area of the picture that a group samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupFrame {
    /// Alignment to the face.
    #[serde(flatten)]
    pub align: Align,
    /// Mapping of tensor to frame coordinates.
    #[serde(default)]
    pub warp: GroupWarp,
    /// `w` of [`GroupWarp::Tanh`], above 0 and at most 1.
    #[serde(default = "full")]
    pub warp_tanh: f32,
    /// Pixels outside the photo.
    #[serde(default)]
    pub border: GroupBorder,
}

/// The alignment of the square to the face.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "align", rename_all = "lowercase")]
pub enum Align {
    /// A similarity transform brings eyes, nose and mouth corners, left to right in the image, to these places, in units
    /// of the side: pixel i's centre is `(i + 0.5) / size`.
    Keypoints {
        /// Places of the keypoints, 0..1.
        template: [[f32; 2]; 5],
    },
    /// An upright square about the centre of the face's box, whose longer side fills this part of it.
    Box {
        /// Side of the box in units of the square's.
        box_scale: f32,
    },
}

/// The mapping of a pixel of the tensor to the frame, on each axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupWarp {
    /// `v = u`.
    #[default]
    None,
    /// With `u = 2 i / size - 1` for pixel i: where `|u| > 1 - w`, the sample lies at
    /// `sign(u) (w atanh(min((|u| - 1 + w) / w, 0.999)) + 1 - w)` (LaPa).
    Tanh,
}

/// The pixels outside the photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupBorder {
    /// The photo's nearest pixels.
    #[default]
    Replicate,
    /// Zero before the normalisation.
    Black,
}

fn full() -> f32 {
    1.0
}

impl Group {
    /// Returns why the group cannot be used, if so; `max_side` bounds the size.
    pub(crate) fn problem(&self, max_side: usize) -> Option<String> {
        let channels = self.colour.channels();
        if self.size == 0 || self.size > max_side {
            return Some(format!("size {} is not in 1..={max_side}", self.size));
        }
        if self.mean.len() != channels || self.std.len() != channels {
            return Some(format!("mean and std must have {channels} numbers each"));
        }
        let normal = self.mean.iter().all(|m| m.is_finite()) && self.std.iter().all(|s| s.is_finite() && *s != 0.0);
        if !normal {
            return Some("mean or std is not finite, or std is zero".into());
        }
        let placed = match &self.frame.align {
            Align::Keypoints { template } => template.iter().flatten().all(|v| v.is_finite()),
            Align::Box { box_scale } => *box_scale > 0.0 && *box_scale <= 10.0,
        };
        if !placed {
            return Some("its template is not finite, or box_scale is not in 0..=10".into());
        }
        if !(self.frame.warp_tanh > 0.0 && self.frame.warp_tanh <= 1.0) {
            return Some(format!("warp_tanh {} is not above 0 and at most 1", self.frame.warp_tanh));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(more: &str) -> Result<Group, toml::de::Error> {
        let head =
            "name = 'g'\ntensor = 'image_g'\nsize = 40\ncolour = 'grey'\nmean = [127.5]\nstd = [127.5]\n[frame]\n";
        toml::from_str(&format!("{head}{more}"))
    }

    #[test]
    fn both_alignments_are_read_and_others_refused() {
        let boxed = group("align = 'box'\nbox_scale = 0.8\nborder = 'black'").unwrap();
        assert_eq!(boxed.frame.align, Align::Box { box_scale: 0.8 });
        assert_eq!((boxed.colour.channels(), boxed.frame.border, boxed.problem(4096)), (1, GroupBorder::Black, None));
        let template = "[[0.4,0.4],[0.6,0.4],[0.5,0.5],[0.4,0.6],[0.6,0.6]]";
        let aligned =
            group(&format!("align = 'keypoints'\ntemplate = {template}\nwarp = 'tanh'\nwarp_tanh = 0.8")).unwrap();
        assert_eq!((aligned.frame.warp, aligned.problem(4096)), (GroupWarp::Tanh, None));
        assert!(group("align = 'mesh'").is_err() && group("align = 'keypoints'").is_err());
    }

    #[test]
    fn impossible_numbers_are_named() {
        let mut wrong = group("align = 'box'\nbox_scale = 0.0").unwrap();
        assert!(wrong.problem(4096).unwrap().contains("box_scale"));
        wrong.mean.push(1.0);
        assert!(wrong.problem(4096).unwrap().contains("1 numbers"));
        wrong.size = 5000;
        assert!(wrong.problem(4096).unwrap().contains("size 5000"));
    }
}
