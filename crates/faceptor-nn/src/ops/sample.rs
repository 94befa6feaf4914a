//! Indices of one axis that are made of a few others: resizing, pooling, gathering, padding by repetition.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::ops::context::{Preparation, StepRun};
use crate::ops::strides::agree_but_for;
use crate::ops::{Operator, PreparedOperator, Signature, ensure};

/// Makes each index of the output's axis of `taps` indices of the input's: resizing, pooling, gathering.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The axis that is sampled.
    pub axis: usize,
    /// Indices of the input for each index of the output.
    pub taps: usize,
    /// The combination of the taps.
    pub by: Combine,
    /// The indices of the input, `taps` for each index of the output.
    pub positions: Vec<u32>,
}

/// A combination of the taps of a [`Sample`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Combine {
    /// Their sum, weighted if the step has weights.
    Sum,
    /// The largest of them.
    Max,
}

impl Operator for Sample {
    fn name(&self) -> &'static str {
        "sample"
    }

    fn check(&self, operands: &Signature<'_>) -> Result<(), String> {
        let (x, out) = operands.operands(operands.inputs.len().clamp(1, 2))?;
        let fits = self.axis < x.shape.len() && agree_but_for(self.axis, &x.shape, &out.shape);
        ensure(operands.is_float() && fits, "has shapes that do not fit")?;
        let count = out.shape[self.axis].checked_mul(self.taps);
        ensure(self.taps > 0 && count == Some(self.positions.len()), "has too few positions")?;
        let within = self.positions.iter().all(|position| (*position as usize) < x.shape[self.axis]);
        ensure(within, "reaches outside its operand")?;
        let weighted = operands.inputs.get(1).is_none_or(|weights| weights.len() == self.positions.len());
        ensure(weighted, "has too few weights")
    }

    fn prepare(&self, step: &mut Preparation<'_>) -> Result<Box<dyn PreparedOperator>, Error> {
        Ok(Box::new(Sampled::new(self, step.input(0))))
    }
}

impl PreparedOperator for Sampled {
    fn run(&self, step: &mut StepRun<'_>) -> Result<(), Error> {
        let weights = if step.inputs.count() > 1 { step.inputs.floats(1)? } else { &[] };
        let (x, out) = (step.inputs.floats(0)?, step.outputs.floats()?);
        step.kernel.vectorize(
            #[inline(always)]
            || self.compute(x, weights, out),
        );
        Ok(())
    }
}

/// A sample with the shape that it walks: `len` rows of `inner` elements become one row for each index of the output.
struct Sampled {
    op: Sample,
    len: usize,
    inner: usize,
}

impl Sampled {
    fn new(op: &Sample, shape: &[usize]) -> Sampled {
        Sampled { op: op.clone(), len: shape[op.axis], inner: shape[op.axis + 1..].iter().product() }
    }

    /// Computes the output; `weights` has one for each position, or is empty where all are 1.
    #[inline(always)]
    fn compute(&self, x: &[f32], weights: &[f32], out: &mut [f32]) {
        match self.op.by {
            Combine::Max => self.walk(x, &[], out, f32::max),
            Combine::Sum => self.walk(x, weights, out, |sum, x| sum + x),
        }
    }

    #[inline(always)]
    fn walk(&self, x: &[f32], weights: &[f32], out: &mut [f32], combine: impl Fn(f32, f32) -> f32) {
        let (taps, inner) = (self.op.taps, self.inner);
        let rows = self.op.positions.len() / taps.max(1);
        for (x, out) in x.chunks_exact(self.len * inner).zip(out.chunks_exact_mut(rows * inner)) {
            for (row, out) in out.chunks_exact_mut(inner).enumerate() {
                for (tap, position) in self.op.positions[row * taps..][..taps].iter().enumerate() {
                    let x = &x[*position as usize * inner..][..inner];
                    let weight = weights.get(row * taps + tap).copied();
                    match (tap, weight) {
                        (0, None) => out.copy_from_slice(x),
                        (0, Some(weight)) => out.iter_mut().zip(x).for_each(|(o, x)| *o = x * weight),
                        (_, None) => out.iter_mut().zip(x).for_each(|(o, x)| *o = combine(*o, *x)),
                        (_, Some(weight)) => out.iter_mut().zip(x).for_each(|(o, x)| *o = combine(*o, x * weight)),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(axis: usize, taps: usize, by: Combine, positions: &[u32]) -> Sample {
        Sample { axis, taps, by, positions: positions.to_vec() }
    }

    #[test]
    fn resizes_pools_and_gathers() {
        let x: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let mut out = [0.0; 8];
        let op = sample(1, 2, Combine::Sum, &[0, 1, 1, 2]);
        Sampled::new(&op, &[2, 3, 2]).compute(&x, &[0.5, 0.5, 0.25, 0.75], &mut out);
        assert_eq!(out, [1.0, 2.0, 3.5, 4.5, 7.0, 8.0, 9.5, 10.5]);
        let op = sample(1, 2, Combine::Max, &[0, 1, 2, 0]);
        Sampled::new(&op, &[2, 3, 2]).compute(&x, &[], &mut out);
        assert_eq!(out, [2.0, 3.0, 4.0, 5.0, 8.0, 9.0, 10.0, 11.0]);
        let mut out = [0.0; 16];
        Sampled::new(&sample(2, 1, Combine::Sum, &[3, 3, 0, 1]), &[1, 3, 4]).compute(&x, &[], &mut out[..12]);
        assert_eq!(out[..12], [3., 3., 0., 1., 7., 7., 4., 5., 11., 11., 8., 9.]);
    }
}
