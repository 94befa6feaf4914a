//! Gives the elements another shape and keeps their order.

use crate::error::Error;
use crate::ops::context::{Preparation, StepRun};
use crate::ops::{Operator, PreparedOperator, Signature, ensure};
use crate::tensor::Movable;

/// Changes the shape. Costs nothing where input and output share their place, which the memory plan sees to.
pub(crate) struct Reshape;

impl Operator for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn check(&self, operands: &Signature<'_>) -> Result<(), String> {
        let (x, out) = operands.operands(1)?;
        ensure(operands.is_movable() && x.len() == out.len(), "changes the number of elements")
    }

    fn prepare(&self, step: &mut Preparation<'_>) -> Result<Box<dyn PreparedOperator>, Error> {
        Ok(if step.in_place { Box::new(InPlace) } else { Box::new(Copy) })
    }
}

struct InPlace;

impl PreparedOperator for InPlace {
    fn run(&self, _step: &mut StepRun<'_>) -> Result<(), Error> {
        Ok(())
    }
}

struct Copy;

impl PreparedOperator for Copy {
    fn run(&self, step: &mut StepRun<'_>) -> Result<(), Error> {
        match step.inputs.get(0)?.movable() {
            Movable::Floats(x) => step.outputs.floats()?.copy_from_slice(x),
            Movable::Bytes(x) => step.outputs.bytes()?.copy_from_slice(x),
        }
        Ok(())
    }
}
