//! Softmax over one axis.

use crate::error::Error;
use crate::ops::context::{Preparation, StepRun};
use crate::ops::functions::exp;
use crate::ops::reduce::sum_of;
use crate::ops::{Operator, PreparedOperator, Signature, ensure};

/// Computes the softmax over an axis.
pub(crate) struct Softmax {
    pub(crate) axis: usize,
}

impl Operator for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn check(&self, operands: &Signature<'_>) -> Result<(), String> {
        let (x, out) = operands.operands(1)?;
        ensure(operands.is_float() && x.shape == out.shape && self.axis < x.shape.len(), "has a wrong axis")
    }

    fn prepare(&self, step: &mut Preparation<'_>) -> Result<Box<dyn PreparedOperator>, Error> {
        let x = step.input(0);
        Ok(Box::new(Prepared { len: x[self.axis], stride: x[self.axis + 1..].iter().product() }))
    }
}

struct Prepared {
    len: usize,
    stride: usize,
}

impl PreparedOperator for Prepared {
    fn run(&self, step: &mut StepRun<'_>) -> Result<(), Error> {
        let (x, out) = (step.inputs.floats(0)?, step.outputs.floats()?);
        step.kernel.vectorize(
            #[inline(always)]
            || softmax(self.len, self.stride, x, out),
        );
        Ok(())
    }
}

/// Computes the softmax over an axis of `len` elements, `stride` apart.
#[inline(always)]
fn softmax(len: usize, stride: usize, x: &[f32], out: &mut [f32]) {
    if len == 0 || stride == 0 {
        return;
    }
    for (x, out) in x.chunks_exact(len * stride).zip(out.chunks_exact_mut(len * stride)) {
        if stride == 1 {
            let mut lanes = [f32::NEG_INFINITY; 16];
            let (chunks, rest) = x.as_chunks::<16>();
            let rest = rest.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            chunks.iter().for_each(|c| lanes.iter_mut().zip(c).for_each(|(l, x)| *l = l.max(*x)));
            let max = lanes.iter().copied().fold(rest, f32::max);
            out.iter_mut().zip(x).for_each(|(o, x)| *o = exp(x - max));
            let factor = 1.0 / sum_of(out, |x| x);
            out.iter_mut().for_each(|o| *o *= factor);
        } else {
            for i in 0..stride {
                let max = x[i..].iter().step_by(stride).copied().fold(f32::NEG_INFINITY, f32::max);
                let mut sum = 0.0;
                for (o, x) in out[i..].iter_mut().step_by(stride).zip(x[i..].iter().step_by(stride)) {
                    *o = exp(x - max);
                    sum += *o;
                }
                out[i..].iter_mut().step_by(stride).for_each(|o| *o /= sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_over_a_middle_axis_equals_the_last() {
        let x: Vec<f32> = (0..12).map(|i| (i * 7 % 5) as f32).collect();
        let (mut middle, mut last) = ([0.0; 12], [0.0; 12]);
        softmax(3, 2, &x, &mut middle);
        let moved = |v: &[f32]| -> Vec<f32> { (0..12).map(|i| v[i / 6 * 6 + i % 3 * 2 + i / 3 % 2]).collect() };
        softmax(3, 1, &moved(&x), &mut last);
        assert!(moved(&middle).iter().zip(last).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}
