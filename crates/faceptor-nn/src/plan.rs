//! The plan of one part: a flat list of steps over numbered values with static shapes.
//!
//! It is what the compiler makes and what the bundle stores: independent of the CPU, with constants referred to by their
//! place in the bundle's tensor table. Images are `[1, height, width, channels]` wherever a step cares.

use serde::{Deserialize, Serialize};

/// Number of a value within its plan.
pub type ValueId = u32;

/// What one element of a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Element {
    F32,
    /// Quantized activations; signed ones are shifted by 128 when they are compiled.
    U8,
    /// Quantized weights.
    I8,
}

impl Element {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::U8 | Element::I8 => 1,
        }
    }
}

/// A tensor of the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Value {
    pub shape: Vec<usize>,
    pub element: Element,
    /// Index in the bundle's tensor table, if the value is known when compiling.
    pub constant: Option<u32>,
}

impl Value {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The node of the ONNX graph that it comes from.
    pub name: String,
    pub op: Op,
    pub inputs: Vec<ValueId>,
    pub outputs: Vec<ValueId>,
}

/// One part of the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub name: String,
    pub values: Vec<Value>,
    pub steps: Vec<Step>,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    /// Multiply-accumulates of one run.
    pub macs: u64,
}

/// A value that the part shares with other parts or with the caller.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Port {
    pub name: String,
    pub value: ValueId,
}

/// `real = (quantized - zero_point) * scale`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quantization {
    pub scale: f32,
    pub zero_point: u8,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// Activations times constant weights.
    Product(Product),
    /// Float32 activations times activations.
    MatMul(MatMul),
    /// Inputs a, b, broadcast against each other from the right.
    Binary(Binary),
    Unary(Unary),
    /// Keeps the reduced axes with length 1.
    Reduce {
        by: Reduction,
        axes: Vec<usize>,
    },
    Softmax {
        axis: usize,
    },
    /// Inputs x, gain, offset; over the last axis.
    LayerNorm {
        epsilon: f32,
    },
    /// Output axis `i` is input axis `order[i]`.
    Transpose {
        order: Vec<usize>,
    },
    /// The same elements in the same order; costs nothing.
    Reshape,
    /// Repeats axes of length 1.
    Broadcast,
    Concat {
        axis: usize,
    },
    /// Keeps every `step`th index of the axis, from `start` on, as many as the output is long.
    Slice {
        axis: usize,
        start: usize,
        step: usize,
    },
    /// Adds `before[axis]` elements in front of each axis, and what the output shape asks for behind it.
    Pad {
        before: Vec<usize>,
        value: f32,
    },
    /// Float32 to unsigned 8 bit, half to even.
    Quantize(Quantization),
    /// Unsigned 8 bit to float32.
    Dequantize(Quantization),
    /// Inputs queries, keys, values: scores, their softmax and the mean of the values, without the scores in memory.
    Attention(Attention),
    /// Inputs x and, if the positions are weighted, their weights.
    Sample(Sample),
    /// Inputs condition, a, b of the output's shape: a where the condition is not zero, else b.
    Select,
    /// Inputs x `[1, height, width, channels]`, weights `[places of the window, channels]`, bias `[channels]`.
    Depthwise(Window),
    /// Inputs queries, pixels; gives unsigned 8 bit `[1, height, width]`: the class of each pixel, and no scores in memory.
    BestClass(BestClass),
}

/// Rows of activations times constant weights, and what is done to each result before it is stored.
///
/// Inputs: activations; weights `[columns, depth]`; scale `[columns]` if `zero_point` is given; bias `[columns]` if
/// `bias`; residual if any. Outputs: float32 if `float_output`, then unsigned 8 bit if `quantized_output`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Product {
    /// A convolution's window; without one each row of the last axis is multiplied.
    pub window: Option<Window>,
    pub columns: usize,
    pub depth: usize,
    /// Of the unsigned 8 bit activations; none: activations and weights are float32.
    pub zero_point: Option<u8>,
    pub bias: bool,
    /// Before the residual is added.
    pub first: Activation,
    pub residual: Residual,
    /// After it.
    pub second: Activation,
    pub float_output: bool,
    pub quantized_output: Option<Quantization>,
}

/// A convolution over `[1, height, width, channels]`; weights run over rows, columns, channels of the window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    pub size: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Rows above, columns to the left; what lies below and right follows from the output's shape.
    pub before: [usize; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activation {
    None,
    Relu,
}

/// Added to a product.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Residual {
    None,
    Float,
    Quantized(Quantization),
}

/// `out[.., m, n] = sum over k of a[.., m, k] b[.., k, n]`, all axes by strides in elements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MatMul {
    /// Axes walked one by one: length and strides in a, b and out.
    pub outer: Vec<Walk>,
    /// Stride in b is 0.
    pub m: Walk,
    /// Stride in a is 0.
    pub n: Walk,
    /// Stride in out is 0.
    pub k: Walk,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    pub len: usize,
    pub a: usize,
    pub b: usize,
    pub out: usize,
}

/// `out[.., q, c] = sum over n of p[.., q, n] values[.., n, c]`, where `p[.., q, ..]` is the softmax of
/// `scale * sum over d of queries[.., q, d] keys[.., n, d]`; all axes by strides in elements, all float32.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attention {
    /// Axes walked one by one, such as the heads.
    pub outer: Vec<Reach>,
    /// In queries and out.
    pub queries: Reach,
    /// In keys and values.
    pub keys: Reach,
    /// In queries and keys.
    pub depth: Reach,
    /// In values and out.
    pub columns: Reach,
    /// Above zero.
    pub scale: f32,
    /// The output is unsigned 8 bit; its columns then lie side by side.
    pub quantized_output: Option<Quantization>,
    /// The first element of queries, keys and values: they may be columns of one product.
    pub starts: [usize; 3],
}

/// A grid of cells with `cell` pixels each. The class of a pixel is the one whose query has the largest dot product with its
/// cell's features, the first of equals; a cell has a query for each of its pixels and each class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BestClass {
    /// Rows and columns of cells.
    pub grid: [usize; 2],
    /// Rows and columns of pixels within a cell.
    pub cell: [usize; 2],
    pub classes: usize,
    pub depth: usize,
    /// From row to row and column to column within a cell, from class to class, and along the depth, in elements of the
    /// queries.
    pub query_strides: [usize; 4],
    /// From cell to cell, row by row, and along the depth.
    pub pixel_strides: [usize; 2],
}

/// Each index of the output's axis is made of `taps` indices of the input's: resizing, pooling, gathering.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub axis: usize,
    pub taps: usize,
    pub by: Combine,
    /// `taps` for each index of the output.
    pub positions: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Combine {
    Sum,
    Max,
}

/// An axis of attention; strides are 0 where it does not occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    pub len: usize,
    pub query: usize,
    pub key: usize,
    pub value: usize,
    pub out: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Min,
    Max,
    Pow,
    /// 1 where it holds, else 0.
    Less,
    LessEqual,
    Equal,
    NotEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Unary {
    Relu,
    Sigmoid,
    Silu,
    Tanh,
    /// With the error function.
    Gelu,
    /// With tanh.
    GeluTanh,
    Erf,
    Exp,
    Ln,
    Sqrt,
    Rsqrt,
    Reciprocal,
    Square,
    Abs,
    Neg,
    Floor,
    Ceil,
    Round,
    LeakyRelu(f32),
    HardSwish,
    Power(f32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reduction {
    Sum,
    Max,
    Min,
    MeanOfSquares,
    Product,
}

impl Op {
    /// Whether it is a product of 8 bit integers.
    pub fn is_integer(&self) -> bool {
        matches!(self, Op::Product(p) if p.zero_point.is_some())
    }

    /// Short name for listings.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Product(p) => match (p.zero_point.is_some(), p.window.is_some()) {
                (true, true) => "convolution int8",
                (true, false) => "linear int8",
                (false, true) => "convolution f32",
                (false, false) => "linear f32",
            },
            Op::MatMul(_) => "matmul f32",
            Op::Binary(_) => "binary",
            Op::Unary(_) => "unary",
            Op::Reduce { .. } => "reduce",
            Op::Softmax { .. } => "softmax",
            Op::LayerNorm { .. } => "layer norm",
            Op::Transpose { .. } => "transpose",
            Op::Reshape => "reshape",
            Op::Broadcast => "broadcast",
            Op::Concat { .. } => "concat",
            Op::Slice { .. } => "slice",
            Op::Pad { .. } => "pad",
            Op::Quantize(_) => "quantize",
            Op::Dequantize(_) => "dequantize",
            Op::Attention(_) => "attention f32",
            Op::Sample(_) => "sample",
            Op::Select => "select",
            Op::Depthwise(_) => "depthwise f32",
            Op::BestClass(_) => "best class f32",
        }
    }
}

impl Plan {
    /// Multiply-accumulates of one step.
    pub fn step_macs(&self, step: &Step) -> u64 {
        self.checked_step_macs(step).unwrap_or(u64::MAX)
    }

    /// The same; none if there are more than can be counted.
    pub fn checked_step_macs(&self, step: &Step) -> Option<u64> {
        match &step.op {
            Op::Product(p) => {
                let results = step.outputs.first().map_or(0, |o| self.values[*o as usize].len());
                (results as u64).checked_mul(p.depth as u64)
            }
            Op::MatMul(m) => {
                let mut walks = m.outer.iter().chain([&m.m, &m.n, &m.k]);
                walks.try_fold(1u64, |n, w| n.checked_mul(w.len as u64))
            }
            Op::Depthwise(window) => {
                let results = step.outputs.first().map_or(0, |o| self.values[*o as usize].len());
                (results as u64).checked_mul(window.size[0].checked_mul(window.size[1])? as u64)
            }
            Op::Attention(a) => {
                let mut walks = a.outer.iter().chain([&a.queries, &a.keys]);
                let rows = walks.try_fold(1u64, |n, w| n.checked_mul(w.len as u64))?;
                rows.checked_mul((a.depth.len as u64).checked_add(a.columns.len as u64)?)
            }
            Op::BestClass(b) => {
                let mut lens = b.grid.iter().chain(&b.cell).chain([&b.classes, &b.depth]);
                lens.try_fold(1u64, |n, len| n.checked_mul(*len as u64))
            }
            _ => Some(0),
        }
    }
}
