//! Layer normalization over the last axis.

use crate::error::Error;
use crate::ops::context::{Preparation, StepRun};
use crate::ops::reduce::sum_of;
use crate::ops::{Operator, PreparedOperator, Signature, ensure};
use crate::tensor::Value;

/// Normalizes each row of its first input; the others are gain and offset of a row.
#[derive(Clone, Copy)]
pub(crate) struct LayerNorm {
    pub(crate) epsilon: f32,
}

impl Operator for LayerNorm {
    fn name(&self) -> &'static str {
        "layer norm"
    }

    fn check(&self, operands: &Signature<'_>) -> Result<(), String> {
        let (x, out) = operands.operands(3)?;
        let row = |value: &Value| Some(&value.len()) == x.shape.last();
        let fits = x.shape == out.shape && operands.inputs[1..].iter().all(|value| row(value));
        ensure(operands.is_float() && fits, "has shapes that do not fit")
    }

    fn prepare(&self, _step: &mut Preparation<'_>) -> Result<Box<dyn PreparedOperator>, Error> {
        Ok(Box::new(*self))
    }
}

impl PreparedOperator for LayerNorm {
    fn run(&self, step: &mut StepRun<'_>) -> Result<(), Error> {
        let [x, gain, offset] = [step.inputs.floats(0)?, step.inputs.floats(1)?, step.inputs.floats(2)?];
        let out = step.outputs.floats()?;
        step.kernel.vectorize(
            #[inline(always)]
            || layer_norm(self.epsilon, gain, offset, x, out),
        );
        Ok(())
    }
}

/// Computes `(x - mean) / sqrt(variance + epsilon) * gain + offset` over rows as long as `gain`.
#[inline(always)]
fn layer_norm(epsilon: f32, gain: &[f32], offset: &[f32], x: &[f32], out: &mut [f32]) {
    let len = gain.len().max(1);
    for (x, out) in x.chunks_exact(len).zip(out.chunks_exact_mut(len)) {
        let mean = sum_of(x, |x| x) / len as f32;
        let variance = sum_of(x, |x| (x - mean) * (x - mean)) / len as f32;
        let factor = 1.0 / (variance + epsilon).sqrt();
        for ((out, x), (gain, offset)) in out.iter_mut().zip(x).zip(gain.iter().zip(offset)) {
            *out = (x - mean) * factor * gain + offset;
        }
    }
}
