//! Some indices of one axis, at equal distances.

use crate::error::Error;
use crate::ops::context::{Preparation, StepRun};
use crate::ops::gather::Gather;
use crate::ops::strides::agree_but_for;
use crate::ops::{Operator, PreparedOperator, Signature, ensure};
use crate::tensor::Movable;

/// Keeps every `step`th index of the axis, from `start` on, as many as the output is long.
pub(crate) struct Slice {
    pub(crate) axis: usize,
    pub(crate) start: usize,
    pub(crate) step: usize,
}

impl Operator for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }

    fn check(&self, operands: &Signature<'_>) -> Result<(), String> {
        let (x, out) = operands.operands(1)?;
        let axis = self.axis;
        let last = || (out.shape[axis] - 1).checked_mul(self.step).and_then(|last| last.checked_add(self.start));
        let within = || self.step > 0 && last().is_some_and(|last| last < x.shape[axis]);
        let fits = axis < x.shape.len() && agree_but_for(axis, &x.shape, &out.shape) && within();
        ensure(operands.is_movable() && fits, "reaches outside its operand")
    }

    fn prepare(&self, step: &mut Preparation<'_>) -> Result<Box<dyn PreparedOperator>, Error> {
        let (x, out, axis) = (step.input(0), step.output(), self.axis);
        if self.step != 1 {
            return Ok(Box::new(Gather::sample(x, out, axis, self.start, self.step)));
        }
        let inner: usize = x[axis + 1..].iter().product();
        Ok(Box::new(Rows { run: out[axis] * inner, start: self.start * inner, pitch: x[axis] * inner }))
    }
}

/// Neighbouring indices: rows of `run` elements, every `pitch` elements from `start` on.
struct Rows {
    run: usize,
    start: usize,
    pitch: usize,
}

impl PreparedOperator for Rows {
    fn run(&self, step: &mut StepRun<'_>) -> Result<(), Error> {
        match step.inputs.get(0)?.movable() {
            Movable::Floats(x) => take(x, self.run, self.start, self.pitch, step.outputs.floats()?),
            Movable::Bytes(x) => take(x, self.run, self.start, self.pitch, step.outputs.bytes()?),
        }
        Ok(())
    }
}

/// Copies rows of `run` elements, every `pitch` elements from `start` on.
fn take<T: Copy>(x: &[T], run: usize, start: usize, pitch: usize, out: &mut [T]) {
    if run == 0 || pitch == 0 {
        return;
    }
    for (x, out) in x.chunks_exact(pitch).zip(out.chunks_exact_mut(run)) {
        out.copy_from_slice(&x[start..start + run]);
    }
}
