//! A step of a part, prepared for this CPU: an operator, where its operands lie, and how long it took.

use crate::cpu::{Kernel, PackedFloat, PackedInt8};
use crate::error::{Error, ErrorKind};
use crate::memory_plan::{Buffers, Place};
use crate::ops::scratch::Scratch;
use crate::ops::{Data, PreparedOperator, wrong_element};
use crate::part::{Constants, Helpers, SharedWeights};
use crate::plan::{Plan, Step};
use std::sync::Arc;

/// Steps with fewer multiply-accumulates take less time than it takes to wake a helper.
const MIN_SHARED_MACS: u64 = 400_000;

/// The context in which an operator is prepared for one step.
pub(crate) struct Preparation<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) step: &'a Step,
    /// `true` if input and output share their place, so that moving nothing leaves the right result.
    pub(crate) in_place: bool,
    pub(crate) scratch: &'a mut Scratch,
    constants: &'a dyn Constants,
    weights: &'a mut SharedWeights,
    /// Grows by the packed weights that this step is the first to use.
    own_bytes: &'a mut usize,
}

impl Preparation<'_> {
    /// Returns the kernel that the step will run with.
    pub(crate) fn kernel(&self) -> Kernel {
        self.weights.kernel()
    }

    /// Returns how many threads may share the step: one if it is too small to gain by it.
    pub(crate) fn threads(&self) -> usize {
        if self.plan.step_macs(self.step) >= MIN_SHARED_MACS { self.weights.threads() } else { 1 }
    }

    /// Returns the shape of an input.
    pub(crate) fn input(&self, i: usize) -> &[usize] {
        &self.plan.values[self.step.inputs[i] as usize].shape
    }

    /// Returns the shape of the first output.
    pub(crate) fn output(&self) -> &[usize] {
        &self.plan.values[self.step.outputs[0] as usize].shape
    }

    /// Packs int8 weights, input 1, or finds them packed by an earlier step.
    pub(crate) fn int8_weights(&mut self, shape: [usize; 2]) -> Result<Arc<PackedInt8>, Error> {
        let index = self.weight_index()?;
        self.weights.int8(index, shape, self.constants, self.own_bytes)
    }

    /// Packs float32 weights, input 1, or finds them packed by an earlier step.
    pub(crate) fn float_weights(&mut self, shape: [usize; 2]) -> Result<Arc<PackedFloat>, Error> {
        let index = self.weight_index()?;
        self.weights.float(index, shape, self.constants, self.own_bytes)
    }

    fn weight_index(&self) -> Result<u32, Error> {
        let value = self.step.inputs.get(1).and_then(|id| self.plan.values.get(*id as usize));
        value
            .and_then(|value| value.constant)
            .ok_or_else(|| Error::new(ErrorKind::Network, format!("step {} has no constant weights", self.step.name)))
    }
}

/// Where the elements of an operand lie, and how many there are.
#[derive(Clone, Copy)]
struct Operand {
    place: Place,
    len: usize,
}

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
        let mut preparation = Preparation { plan, step, in_place, scratch, constants, weights, own_bytes };
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

/// The context in which an operator runs.
pub(crate) struct StepRun<'a> {
    pub(crate) kernel: Kernel,
    pub(crate) inputs: Inputs<'a>,
    pub(crate) outputs: &'a mut Outputs,
    pub(crate) scratch: &'a mut Scratch,
    /// Present if the operator shares its work and the engine has threads for that.
    pub(crate) helpers: Option<&'a mut Helpers>,
}

/// The operands that a step reads, from the buffers or from the constants.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    buffers: &'a Buffers,
    constants: &'a dyn Constants,
    operands: &'a [Operand],
}

impl<'a> Inputs<'a> {
    /// Returns how many inputs the step has.
    pub(crate) fn count(self) -> usize {
        self.operands.len()
    }

    /// Returns the elements of an input.
    pub(crate) fn get(self, i: usize) -> Result<Data<'a>, Error> {
        let missing = || Error::new(ErrorKind::Network, format!("a step has no input {i}"));
        let operand = self.operands.get(i).ok_or_else(missing)?;
        match operand.place {
            Place::Constant(index) => self.constants.constant(index),
            Place::Float(slot) => Ok(Data::F32(&self.buffers.floats(slot)[..operand.len])),
            Place::Byte(slot) => Ok(Data::U8(&self.buffers.bytes(slot)[..operand.len])),
        }
    }

    /// Returns the elements of a float32 input.
    pub(crate) fn floats(self, i: usize) -> Result<&'a [f32], Error> {
        self.get(i)?.floats()
    }

    /// Returns the elements of an unsigned 8 bit input.
    pub(crate) fn bytes(self, i: usize) -> Result<&'a [u8], Error> {
        self.get(i)?.bytes()
    }
}

/// The buffers that a step writes, moved out of the engine's so that others can be read at the same time.
pub(crate) struct Outputs {
    first: Taken,
    second: Taken,
}

impl Outputs {
    fn take(buffers: &mut Buffers, operands: &[Operand]) -> Outputs {
        let first = Taken::new(buffers, operands.first());
        Outputs { first, second: Taken::new(buffers, operands.get(1)) }
    }

    fn put_back(self, buffers: &mut Buffers) {
        self.first.put_back(buffers);
        self.second.put_back(buffers);
    }

    /// Returns the elements of a float32 output, the step's first.
    pub(crate) fn floats(&mut self) -> Result<&mut [f32], Error> {
        self.first.floats()
    }

    /// Returns the elements of an unsigned 8 bit output, the step's first.
    pub(crate) fn bytes(&mut self) -> Result<&mut [u8], Error> {
        self.first.bytes()
    }

    /// Returns the elements of two outputs, float32 and unsigned 8 bit.
    pub(crate) fn floats_and_bytes(&mut self) -> Result<(&mut [f32], &mut [u8]), Error> {
        Ok((self.first.floats()?, self.second.bytes()?))
    }
}

/// A buffer while it is written, with its slot and the number of elements of the output.
enum Taken {
    Float { slot: usize, buffer: Vec<f32>, len: usize },
    Byte { slot: usize, buffer: Vec<u8>, len: usize },
    Nothing,
}

impl Taken {
    fn new(buffers: &mut Buffers, operand: Option<&Operand>) -> Taken {
        match operand.map(|operand| (operand.place, operand.len)) {
            Some((Place::Float(slot), len)) => Taken::Float { slot, buffer: buffers.take_floats(slot), len },
            Some((Place::Byte(slot), len)) => Taken::Byte { slot, buffer: buffers.take_bytes(slot), len },
            Some((Place::Constant(_), _)) | None => Taken::Nothing,
        }
    }

    fn put_back(self, buffers: &mut Buffers) {
        match self {
            Taken::Float { slot, buffer, .. } => buffers.put_floats(slot, buffer),
            Taken::Byte { slot, buffer, .. } => buffers.put_bytes(slot, buffer),
            Taken::Nothing => {}
        }
    }

    fn floats(&mut self) -> Result<&mut [f32], Error> {
        if let Taken::Float { buffer, len, .. } = self {
            Ok(&mut buffer[..*len])
        } else {
            Err(wrong_element("float32"))
        }
    }

    fn bytes(&mut self) -> Result<&mut [u8], Error> {
        let Taken::Byte { buffer, len, .. } = self else { return Err(wrong_element("unsigned 8 bit")) };
        Ok(&mut buffer[..*len])
    }
}
