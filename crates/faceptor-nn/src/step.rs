//! A step of a part, prepared for this CPU: an operator, where its operands lie, and how long it took.

use crate::buffers::{Buffers, Place};
use crate::cpu::Kernel;
use crate::error::{Error, ErrorKind};
use crate::ops::PreparedOperator;
use crate::ops::context::{Helpers, Inputs, Operand, Outputs, Preparation, StepRun};
use crate::ops::scratch::Scratch;
use crate::plan::{Plan, Step};
use crate::weights::{Constants, SharedWeights};

/// One step of a part.
pub(crate) struct PreparedStep {
    operator: Box<dyn PreparedOperator>,
    inputs: Vec<Operand>,
    outputs: Vec<Operand>,
    pub(crate) time_ns: u64,
}

impl PreparedStep {
    /// Prepares a step of a checked plan whose values lie at `places`; grows `scratch` to what it needs.
    pub(crate) fn new(
        plan: &Plan,
        step: &Step,
        places: &[Option<Place>],
        constants: &dyn Constants,
        weights: &mut SharedWeights,
        scratch: &mut Scratch,
        own_bytes: &mut usize,
    ) -> Result<PreparedStep, Error> {
        let nowhere = || Error::new(ErrorKind::Network, format!("an operand of step {} lies nowhere", step.name));
        let operand = |id: &u32| {
            let place = places.get(*id as usize).copied().flatten().ok_or_else(nowhere)?;
            Ok(Operand { place, len: plan.values[*id as usize].len() })
        };
        let inputs = step.inputs.iter().map(operand).collect::<Result<Vec<_>, Error>>()?;
        let outputs = step.outputs.iter().map(operand).collect::<Result<Vec<_>, Error>>()?;
        let in_place = inputs.first().map(|input| input.place) == outputs.first().map(|output| output.place);
        let mut preparation = Preparation {
            name: &step.name,
            operands: plan.signature(step),
            macs: plan.step_macs(step),
            in_place,
            scratch,
            constants,
            weights,
            own_bytes,
        };
        let operator = step.op.operator().prepare(&mut preparation)?;
        Ok(PreparedStep { operator, inputs, outputs, time_ns: 0 })
    }

    /// Computes the step's outputs; with helpers, if the operator can share its work.
    pub(crate) fn run(
        &self,
        kernel: Kernel,
        constants: &dyn Constants,
        buffers: &mut Buffers,
        scratch: &mut Scratch,
        helpers: Option<&mut Helpers>,
    ) -> Result<(), Error> {
        let mut outputs = Outputs::take(buffers, &self.outputs);
        let helpers = helpers.filter(|_| self.operator.threads() > 1);
        let inputs = Inputs { buffers, constants, operands: &self.inputs };
        let mut step = StepRun { kernel, inputs, outputs: &mut outputs, scratch, helpers };
        let done = self.operator.run(&mut step);
        outputs.put_back(buffers);
        done
    }
}
