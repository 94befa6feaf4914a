//! Turns grey levels into the numbers that a network takes, and back.

/// How pixel values become the network's numbers: `(value - mean) / std` for each channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalization {
    pub mean: [f32; 3],
    pub std: [f32; 3],
    /// The network's first channel is blue.
    pub bgr: bool,
}

impl Normalization {
    /// Returns the plane of RGB channel `channel`, and the network's value there.
    #[inline]
    pub fn apply(&self, channel: usize, value: f32) -> (usize, f32) {
        let plane = if self.bgr { 2 - channel } else { channel };
        (plane, (value - self.mean[plane]) / self.std[plane])
    }

    /// Returns the luma (0..=255, ITU-R BT.601) of a pixel whose normalised value in each plane is `value`.
    pub fn luma(&self, value: impl Fn(usize) -> f32) -> f32 {
        let weights = if self.bgr { [0.114, 0.587, 0.299] } else { [0.299, 0.587, 0.114] };
        (0..3).map(|plane| weights[plane] * (value(plane) * self.std[plane] + self.mean[plane])).sum()
    }
}
