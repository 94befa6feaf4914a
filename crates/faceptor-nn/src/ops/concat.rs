//! Inputs one after another along one axis.

use crate::error::Error;
use crate::ops::context::{Preparation, StepRun};
use crate::ops::strides::agree_but_for;
use crate::ops::{Operator, PreparedOperator, Signature, ensure};
use crate::tensor::Movable;

/// Joins its inputs along an axis.
pub(crate) struct Concat {
    pub(crate) axis: usize,
}

impl Operator for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn check(&self, operands: &Signature<'_>) -> Result<(), String> {
        let (_, out) = operands.operands(operands.inputs.len().max(1))?;
        let (inputs, axis) = (&operands.inputs, self.axis);
        let others = inputs.iter().all(|value| agree_but_for(axis, &value.shape, &out.shape));
        ensure(operands.is_movable() && axis < out.shape.len() && others, "has shapes that do not fit")?;
        let sum: usize = inputs.iter().map(|value| value.shape[axis]).sum();
        ensure(sum == out.shape[axis], "has lengths that do not add up")
    }

    fn prepare(&self, step: &mut Preparation<'_>) -> Result<Box<dyn PreparedOperator>, Error> {
        let run = |i: usize| step.input(i)[self.axis..].iter().product();
        Ok(Box::new(Rows { runs: (0..step.operands.inputs.len()).map(run).collect() }))
    }
}

/// The length of each input's rows.
struct Rows {
    runs: Vec<usize>,
}

impl PreparedOperator for Rows {
    fn run(&self, step: &mut StepRun<'_>) -> Result<(), Error> {
        let pitch = self.runs.iter().sum();
        let mut start = 0;
        for (i, run) in self.runs.iter().enumerate() {
            match step.inputs.get(i)?.movable() {
                Movable::Floats(x) => place(x, *run, start, pitch, step.outputs.floats()?),
                Movable::Bytes(x) => place(x, *run, start, pitch, step.outputs.bytes()?),
            }
            start += run;
        }
        Ok(())
    }
}

/// Copies one input into its place: rows of `run` elements, every `pitch` elements from `start` on.
fn place<T: Copy>(x: &[T], run: usize, start: usize, pitch: usize, out: &mut [T]) {
    if run == 0 || pitch == 0 {
        return;
    }
    for (x, out) in x.chunks_exact(run).zip(out.chunks_exact_mut(pitch)) {
        out[start..start + run].copy_from_slice(x);
    }
}
