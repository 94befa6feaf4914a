//! The plan of one part: a flat list of steps over numbered values with static shapes.
//!
//! The compiler makes plans, a bundle stores them, an engine runs them. A plan is independent of the CPU; it refers to
//! constants by their index in the bundle's tensor table. Images are `[1, height, width, channels]` wherever an operator
//! needs axes with a meaning.
//!
//! [`check_plan`] proves that no step of a plan reaches outside its operands. [`evaluate`](crate::evaluate::evaluate) runs a plan by itself, without a
//! bundle: the compiler folds constants with it, and tests compare it with other runtimes.

mod check;

use serde::{Deserialize, Serialize};

use crate::ops::{Operator, Signature};
use crate::ops::{concat, depthwise, layer_norm, pad, quantize, reduce, reshape, select, slice, softmax, transpose};

pub use crate::ops::attention::{Attention, Reach};
pub use crate::ops::best_class::BestClass;
pub use crate::ops::binary::Binary;
pub use crate::ops::depthwise::Window;
pub use crate::ops::matmul::{MatMul, Walk};
pub use crate::ops::product::{Activation, Product, Residual};
pub use crate::ops::quantize::{dequantize, quantize};
pub use crate::ops::reduce::Reduction;
pub use crate::ops::sample::{Combine, Sample};
pub use crate::ops::unary::Unary;
pub use crate::tensor::{Element, Quantization, Value};
pub use check::{ConstantShape, check_plan};

/// Number of a value within its plan.
pub type ValueId = u32;

/// One operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Name of the ONNX graph's node that the step comes from.
    pub name: String,
    /// The operator.
    pub op: Op,
    /// Values that the step reads.
    pub inputs: Vec<ValueId>,
    /// Values that the step writes.
    pub outputs: Vec<ValueId>,
}

/// One part of the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Name of the part, or of the tensor that a view makes.
    pub name: String,
    /// All values.
    pub values: Vec<Value>,
    /// The steps, in order of computation.
    pub steps: Vec<Step>,
    /// Values that other parts or the caller write.
    pub inputs: Vec<Port>,
    /// Values that the part hands on.
    pub outputs: Vec<Port>,
    /// Multiply-accumulates of one run.
    pub macs: u64,
}

/// A value that the part shares with other parts or with the caller.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// Name of the tensor among all parts, with its encoding (see [`crate::bundle::Encoding`]).
    pub name: String,
    /// The value.
    pub value: ValueId,
}

/// The operator of a step with its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// Multiplies activations by constant weights.
    Product(Product),
    /// Multiplies float32 activations by activations.
    MatMul(MatMul),
    /// Combines inputs a and b, broadcast against each other from the right.
    Binary(Binary),
    /// Maps each element.
    Unary(Unary),
    /// Reduces axes, which keep the length 1.
    Reduce {
        /// The combination of the elements.
        by: Reduction,
        /// The axes.
        axes: Vec<usize>,
    },
    /// Computes the softmax over an axis.
    Softmax {
        /// The axis.
        axis: usize,
    },
    /// Normalizes over the last axis. Inputs: x, gain, offset.
    LayerNorm {
        /// Added to the variance.
        epsilon: f32,
    },
    /// Makes output axis `i` of input axis `order[i]`.
    Transpose {
        /// The input axis of each output axis.
        order: Vec<usize>,
    },
    /// Keeps the elements in their order under another shape; costs nothing.
    Reshape,
    /// Repeats axes of length 1.
    Broadcast,
    /// Joins inputs along an axis.
    Concat {
        /// The axis.
        axis: usize,
    },
    /// Keeps every `step`th index of the axis, from `start` on, as many as the output is long.
    Slice {
        /// The axis.
        axis: usize,
        /// The first index.
        start: usize,
        /// Distance of the indices.
        step: usize,
    },
    /// Adds elements in front of each axis, and as many after it as the output's shape asks for.
    Pad {
        /// Elements in front of each axis.
        before: Vec<usize>,
        /// Their value.
        value: f32,
    },
    /// Quantizes float32 to unsigned 8 bit, half to even.
    Quantize(Quantization),
    /// Takes unsigned 8 bit back to float32.
    Dequantize(Quantization),
    /// Attends: scores, their softmax and the mean of the values, without the scores in memory. Inputs: queries, keys, values.
    Attention(Attention),
    /// Makes indices of an axis of a few others. Inputs: x and, if the positions are weighted, their weights.
    Sample(Sample),
    /// Takes a where the condition is not zero, else b. Inputs: condition, a, b, all of the output's shape.
    Select,
    /// Convolves every channel by itself. Inputs: x `[1, height, width, channels]`, weights `[places of the window, channels]`,
    /// bias `[channels]`.
    Depthwise(Window),
    /// Makes unsigned 8 bit `[1, height, width]`: the class of each pixel, without scores in memory. Inputs: queries, pixels.
    BestClass(BestClass),
}

impl Op {
    /// Returns the operator's implementation. A new operator needs a variant above and an arm here.
    pub(crate) fn operator(&self) -> Box<dyn Operator + '_> {
        match self {
            Op::Product(op) => Box::new(op),
            Op::MatMul(op) => Box::new(op),
            Op::Binary(op) => Box::new(op),
            Op::Unary(op) => Box::new(op),
            Op::Reduce { by, axes } => Box::new(reduce::Reduce { by: *by, axes }),
            Op::Softmax { axis } => Box::new(softmax::Softmax { axis: *axis }),
            Op::LayerNorm { epsilon } => Box::new(layer_norm::LayerNorm { epsilon: *epsilon }),
            Op::Transpose { order } => Box::new(transpose::Transpose { order }),
            Op::Reshape => Box::new(reshape::Reshape),
            Op::Broadcast => Box::new(transpose::Broadcast),
            Op::Concat { axis } => Box::new(concat::Concat { axis: *axis }),
            Op::Slice { axis, start, step } => Box::new(slice::Slice { axis: *axis, start: *start, step: *step }),
            Op::Pad { before, value } => Box::new(pad::Pad { before, value: *value }),
            Op::Quantize(to) => Box::new(quantize::Quantize(*to)),
            Op::Dequantize(from) => Box::new(quantize::Dequantize(*from)),
            Op::Attention(op) => Box::new(op),
            Op::Sample(op) => Box::new(op),
            Op::Select => Box::new(select::Select),
            Op::Depthwise(window) => Box::new(depthwise::Depthwise { window }),
            Op::BestClass(op) => Box::new(op),
        }
    }

    /// Returns whether the operator multiplies 8 bit integers.
    pub fn is_integer(&self) -> bool {
        self.operator().is_integer()
    }

    /// Returns the short name for listings.
    pub fn name(&self) -> &'static str {
        self.operator().name()
    }
}

impl Plan {
    /// Returns the multiply-accumulates of one step, whose operands must be values of this plan.
    pub fn step_macs(&self, step: &Step) -> u64 {
        self.checked_step_macs(step).unwrap_or(u64::MAX)
    }

    /// Returns the multiply-accumulates of one step; none if there are more than can be counted.
    pub(crate) fn checked_step_macs(&self, step: &Step) -> Option<u64> {
        step.op.operator().macs(&self.signature(step))
    }

    /// Collects the operands of a step, which must be values of this plan.
    pub(crate) fn signature(&self, step: &Step) -> Signature<'_> {
        let values = |ids: &[u32]| ids.iter().map(|id| &self.values[*id as usize]).collect();
        Signature { inputs: values(&step.inputs), outputs: values(&step.outputs) }
    }
}
