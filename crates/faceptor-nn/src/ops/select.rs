//! A choice between two inputs, element by element.

use crate::error::Error;
use crate::ops::context::{Preparation, StepRun};
use crate::ops::{Operator, PreparedOperator, Signature, ensure};

/// Takes the second input where the first is not zero, else the third.
#[derive(Clone, Copy)]
pub(crate) struct Select;

impl Operator for Select {
    fn name(&self) -> &'static str {
        "select"
    }

    fn check(&self, operands: &Signature<'_>) -> Result<(), String> {
        let (_, out) = operands.operands(3)?;
        let same = operands.inputs.iter().all(|value| value.shape == out.shape);
        ensure(operands.is_float() && same, "has shapes that do not fit")
    }

    fn prepare(&self, _step: &mut Preparation<'_>) -> Result<Box<dyn PreparedOperator>, Error> {
        Ok(Box::new(*self))
    }
}

impl PreparedOperator for Select {
    fn run(&self, step: &mut StepRun<'_>) -> Result<(), Error> {
        let [condition, a, b] = [step.inputs.floats(0)?, step.inputs.floats(1)?, step.inputs.floats(2)?];
        let out = step.outputs.floats()?;
        step.kernel.vectorize(
            #[inline(always)]
            || select(condition, a, b, out),
        );
        Ok(())
    }
}

#[inline(always)]
fn select(condition: &[f32], a: &[f32], b: &[f32], out: &mut [f32]) {
    for ((out, c), (a, b)) in out.iter_mut().zip(condition).zip(a.iter().zip(b)) {
        *out = if *c != 0.0 { *a } else { *b };
    }
}
