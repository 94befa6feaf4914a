//! Checks whether a sampled crop shows a face, by the features that the encoder has computed for the tasks.
//!
//! The finder takes drawings, toys and other things with two dark spots above a third one for faces, with scores as high as
//! those of faces. The encoder has seen faces alone, and its features of other things differ: a linear function of their means
//! over the picture separates them (`models/faceptor_models/student/face_check.py` fits it).

use crate::error::{Error, ErrorKind, OrError, Result, ensure};
use faceptor_nn::engine::{Engine, TensorId};
use faceptor_nn::manifest;

/// The face check of a bundle.
pub(crate) struct FaceCheck {
    tensor: TensorId,
    bias: f32,
    weights: Vec<f32>,
}

impl FaceCheck {
    /// Creates the check of a manifest; fails if the tensor has another number of channels.
    pub(crate) fn new(spec: &manifest::FaceCheck, engine: &Engine) -> Result<FaceCheck> {
        let name = &spec.tensor;
        let shape = engine.shape(name).or_error(ErrorKind::Bundle, || format!("face check: no tensor {name}"))?;
        let channels = spec.weights.len();
        let fits = matches!(*shape, [1, found, height, width] if found == channels && height * width > 0);
        ensure!(fits, Bundle, "face check: {name} has shape {shape:?}, not [1, {channels}, height, width]");
        let tensor = engine.output_id(name).map_err(Error::network)?;
        Ok(FaceCheck { tensor, bias: spec.bias, weights: spec.weights.clone() })
    }

    /// Returns the probability, 0..=1, that the face which the engine has encoded is one.
    pub(crate) fn probability(&self, engine: &mut Engine) -> Result<f32> {
        let features = engine.output(self.tensor).map_err(Error::network)?;
        Ok(probability(features, &self.weights, self.bias))
    }
}

/// Computes the logistic function of the bias and the weighted means of `features`, of which each channel has as many.
fn probability(features: &[f32], weights: &[f32], bias: f32) -> f32 {
    let cells = (features.len() / weights.len().max(1)).max(1);
    let means = features.chunks_exact(cells).map(|channel| channel.iter().sum::<f32>() / cells as f32);
    let value = means.zip(weights).fold(bias, |sum, (mean, weight)| sum + mean * weight);
    1.0 / (1.0 + (-value).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_averaged_and_weighed() {
        // Means 2 and 1, so that the value is 0.5 + 2 * 1 - 1 * 3 = -0.5.
        let found = probability(&[1.0, 2.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0], &[1.0, -3.0], 0.5);
        assert!((found - 0.377_540_7).abs() < 1e-6, "{found}");
        assert_eq!((probability(&[], &[], 0.0), probability(&[9.0], &[100.0], 0.0)), (0.5, 1.0));
        assert!(probability(&[f32::NAN], &[1.0], 0.0).is_nan());
    }
}
