//! Measures the light on a face from the values that were sampled for the network.

/// Luma in the middle of a face, between brows and chin, grey levels of 0..=255.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Light {
    pub mean: f32,
    /// Standard deviation.
    pub spread: f32,
}

impl Light {
    /// Computes mean and spread of luma values; `None` without values.
    pub fn of(lumas: impl Iterator<Item = f32>) -> Option<Light> {
        let (mut count, mut sum, mut squares) = (0.0f32, 0.0f32, 0.0f32);
        for luma in lumas {
            (count, sum, squares) = (count + 1.0, sum + luma, squares + luma * luma);
        }
        let mean = sum / count;
        (count > 0.0).then(|| Light { mean, spread: (squares / count - mean * mean).max(0.0).sqrt() })
    }
}
