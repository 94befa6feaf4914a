//! A constant around the input.

use crate::error::Error;
use crate::ops::context::{Preparation, StepRun};
use crate::ops::strides::{MAX_RANK, Odometer};
use crate::ops::{Operator, PreparedOperator, Signature, ensure};

/// Adds `before[axis]` elements in front of each axis, and as many after it as the output's shape asks for.
pub(crate) struct Pad<'a> {
    pub(crate) before: &'a [usize],
    pub(crate) value: f32,
}

impl Operator for Pad<'_> {
    fn name(&self) -> &'static str {
        "pad"
    }

    fn check(&self, operands: &Signature<'_>) -> Result<(), String> {
        let (x, out) = operands.operands(1)?;
        let before = self.before;
        let end = |i: usize| before[i].checked_add(x.shape[i]);
        let fits = before.len() == x.shape.len()
            && out.shape.len() == x.shape.len()
            && (0..before.len()).all(|i| end(i).is_some_and(|end| end <= out.shape[i]));
        ensure(operands.is_float() && fits, "has shapes that do not fit")
    }

    fn prepare(&self, step: &mut Preparation<'_>) -> Result<Box<dyn PreparedOperator>, Error> {
        let (shape, out) = (step.input(0).to_vec(), step.output().to_vec());
        Ok(Box::new(Prepared { shape, before: self.before.to_vec(), out, value: self.value }))
    }
}

struct Prepared {
    shape: Vec<usize>,
    before: Vec<usize>,
    out: Vec<usize>,
    value: f32,
}

impl PreparedOperator for Prepared {
    fn run(&self, step: &mut StepRun<'_>) -> Result<(), Error> {
        let (x, out) = (step.inputs.floats(0)?, step.outputs.floats()?);
        pad(&self.shape, &self.before, &self.out, self.value, x, out);
        Ok(())
    }
}

/// Writes the input into the middle of `out`, at `before` on each axis, and `value` around it.
fn pad(shape: &[usize], before: &[usize], out_shape: &[usize], value: f32, x: &[f32], out: &mut [f32]) {
    out.fill(value);
    let strides = dense_strides_array(out_shape);
    let start: usize = before.iter().zip(&strides).map(|(b, s)| b * s).sum();
    let Some((&run, outer)) = shape.split_last() else {
        out.copy_from_slice(x);
        return;
    };
    if run == 0 {
        return;
    }
    let mut odometer = Odometer::new(outer, [&strides[..outer.len()]]);
    for x in x.chunks_exact(run) {
        let at = start + odometer.at[0];
        out[at..at + run].copy_from_slice(x);
        odometer.advance();
    }
}

fn dense_strides_array(shape: &[usize]) -> [usize; MAX_RANK] {
    let mut strides = [1; MAX_RANK];
    for axis in (1..shape.len().min(MAX_RANK)).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pads_on_both_sides() {
        let mut out = [0.0; 12];
        pad(&[1, 2], &[1, 1], &[3, 4], 9.0, &[1.0, 2.0], &mut out);
        assert_eq!(out, [9., 9., 9., 9., 9., 1., 2., 9., 9., 9., 9., 9.]);
    }
}
