//! The operators: one file each, with its parameters, its check, its multiply-accumulates and its loops.
//!
//! `docs/adding-an-operator.md` says how to add one: a file here, and a variant of the plan's `Op`.

pub(crate) mod attention;
pub(crate) mod best_class;
pub(crate) mod binary;
pub(crate) mod concat;
pub(crate) mod context;
pub(crate) mod depthwise;
pub(crate) mod functions;
pub(crate) mod gather;
pub(crate) mod layer_norm;
pub(crate) mod matmul;
pub(crate) mod pad;
pub(crate) mod product;
pub(crate) mod quantize;
pub(crate) mod reduce;
pub(crate) mod reshape;
pub(crate) mod sample;
pub(crate) mod scratch;
pub(crate) mod select;
pub(crate) mod slice;
pub(crate) mod softmax;
pub(crate) mod strides;
pub(crate) mod transpose;
pub(crate) mod unary;

use crate::error::Error;
use crate::ops::context::{Preparation, StepRun};
use crate::tensor::{Element, Value};

/// An operator of the plan: all that its check and the engine need to know.
pub(crate) trait Operator {
    /// Returns the short name for listings.
    fn name(&self) -> &'static str;

    /// Checks that the parameters fit the operands, so that no run can reach outside of them.
    fn check(&self, operands: &Signature<'_>) -> Result<(), String>;

    /// Returns the multiply-accumulates of one run; none if there are more than can be counted.
    fn macs(&self, _operands: &Signature<'_>) -> Option<u64> {
        Some(0)
    }

    /// Returns whether its multiply-accumulates are done on 8 bit integers.
    fn is_integer(&self) -> bool {
        false
    }

    /// Prepares a step whose operands have passed [`Operator::check`] for this CPU; reserves the scratch that it needs.
    fn prepare(&self, step: &mut Preparation<'_>) -> Result<Box<dyn PreparedOperator>, Error>;
}

impl<T: Operator> Operator for &T {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn check(&self, operands: &Signature<'_>) -> Result<(), String> {
        (**self).check(operands)
    }

    fn macs(&self, operands: &Signature<'_>) -> Option<u64> {
        (**self).macs(operands)
    }

    fn is_integer(&self) -> bool {
        (**self).is_integer()
    }

    fn prepare(&self, step: &mut Preparation<'_>) -> Result<Box<dyn PreparedOperator>, Error> {
        (**self).prepare(step)
    }
}

/// An operator with all that follows from the shapes of one step and from the CPU.
pub(crate) trait PreparedOperator: Send + Sync {
    /// Computes the outputs from the inputs, without allocating.
    fn run(&self, step: &mut StepRun<'_>) -> Result<(), Error>;

    /// Returns how many threads can share a run.
    fn threads(&self) -> usize {
        1
    }
}

/// The values that a step reads and writes.
pub(crate) struct Signature<'a> {
    pub(crate) inputs: Vec<&'a Value>,
    pub(crate) outputs: Vec<&'a Value>,
}

impl<'a> Signature<'a> {
    /// Returns the first input and the output of an operator that has `inputs` inputs, at least one, and one output.
    pub(crate) fn operands(&self, inputs: usize) -> Result<(&'a Value, &'a Value), String> {
        match (&self.inputs[..], &self.outputs[..]) {
            ([first, ..], [output]) if self.inputs.len() == inputs => Ok((first, output)),
            _ => Err("has the wrong number of operands".into()),
        }
    }

    /// Returns whether all operands are float32.
    pub(crate) fn is_float(&self) -> bool {
        self.inputs.iter().chain(&self.outputs).all(|value| value.element == Element::F32)
    }

    /// Returns true if all operands have the same element type and none holds weights.
    pub(crate) fn is_movable(&self) -> bool {
        let element = self.outputs.first().map(|value| value.element);
        element != Some(Element::I8) && self.inputs.iter().all(|value| Some(value.element) == element)
    }

    /// Returns the number of elements of the first output.
    pub(crate) fn results(&self) -> u64 {
        self.outputs.first().map_or(0, |value| value.len() as u64)
    }
}

/// Refuses a step for the given reason unless the condition holds.
pub(crate) fn ensure(condition: bool, reason: &str) -> Result<(), String> {
    if condition { Ok(()) } else { Err(reason.to_string()) }
}
