//! The context in which an operator is prepared and runs: its operands, weights, scratch and helpers.

use std::sync::Arc;

use crate::buffers::{Buffers, Place};
use crate::cpu::{Kernel, PackedFloat, PackedInt8};
use crate::error::{Error, ErrorKind};
use crate::ops::Signature;
use crate::ops::scratch::Scratch;
use crate::tensor::{Data, wrong_element};
use crate::thread_pool::Pool;
use crate::weights::{Constants, SharedWeights};

/// Steps with fewer multiply-accumulates take less time than it takes to wake a helper.
const MIN_SHARED_MACS: u64 = 400_000;

/// The context in which an operator is prepared for one step.
pub(crate) struct Preparation<'a> {
    /// The step's name, for errors.
    pub(crate) name: &'a str,
    pub(crate) operands: Signature<'a>,
    /// Multiply-accumulates of the step.
    pub(crate) macs: u64,
    /// `true` if input and output share their place, so that moving nothing leaves the right result.
    pub(crate) in_place: bool,
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) constants: &'a dyn Constants,
    pub(crate) weights: &'a mut SharedWeights,
    /// Grows by the packed weights that this step is the first to use.
    pub(crate) own_bytes: &'a mut usize,
}

impl Preparation<'_> {
    /// Returns the kernel that the step will run with.
    pub(crate) fn kernel(&self) -> Kernel {
        self.weights.kernel()
    }

    /// Returns how many threads may share the step: one if it is too small to gain by it.
    pub(crate) fn threads(&self) -> usize {
        if self.macs >= MIN_SHARED_MACS { self.weights.threads() } else { 1 }
    }

    /// Returns the shape of an input.
    pub(crate) fn input(&self, i: usize) -> &[usize] {
        &self.operands.inputs[i].shape
    }

    /// Returns the shape of the first output.
    pub(crate) fn output(&self) -> &[usize] {
        &self.operands.outputs[0].shape
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
        let constant = self.operands.inputs.get(1).and_then(|value| value.constant);
        constant.ok_or_else(|| Error::new(ErrorKind::Network, format!("step {} has no constant weights", self.name)))
    }
}

/// Where the elements of an operand lie, and how many there are.
#[derive(Clone, Copy)]
pub(crate) struct Operand {
    pub(crate) place: Place,
    pub(crate) len: usize,
}

/// Threads that share the large steps, each with its own scratch.
pub(crate) struct Helpers {
    pub(crate) pool: Pool,
    /// One for each helper; the caller has its own.
    pub(crate) scratch: Vec<Scratch>,
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
    pub(crate) buffers: &'a Buffers,
    pub(crate) constants: &'a dyn Constants,
    pub(crate) operands: &'a [Operand],
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
    pub(crate) fn take(buffers: &mut Buffers, operands: &[Operand]) -> Outputs {
        let first = Taken::new(buffers, operands.first());
        Outputs { first, second: Taken::new(buffers, operands.get(1)) }
    }

    pub(crate) fn put_back(self, buffers: &mut Buffers) {
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
