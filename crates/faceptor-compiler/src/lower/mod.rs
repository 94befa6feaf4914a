//! Lowers tract's typed graph to the compiler's graph.

pub(crate) mod convolution;
pub(crate) mod deconvolution;
pub(crate) mod einsum;
pub(crate) mod sampling;
pub(crate) mod softmax;

use std::collections::HashMap;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_core::ops::Downsample;
use tract_onnx::tract_hir::tract_core::ops::array::{Gather, MultiBroadcastTo, Pad, PadMode, Slice, Tile, TypedConcat};
use tract_onnx::tract_hir::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_hir::tract_core::ops::cast::Cast;
use tract_onnx::tract_hir::tract_core::ops::cnn::{Conv, Deconv, MaxPool, SumPool};
use tract_onnx::tract_hir::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_hir::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_hir::tract_core::ops::konst::Const;
use tract_onnx::tract_hir::tract_core::ops::logic::{Iff, Not};
use tract_onnx::tract_hir::tract_core::ops::math::PowConst;
use tract_onnx::tract_hir::tract_core::ops::nn::{DataFormat, LeakyRelu, Reduce, Reducer, RmsNorm, Softmax};
use tract_onnx::tract_hir::tract_core::ops::source::TypedSource;

use crate::graph::Graph;
use crate::import::integer::{QuantizedConv, QuantizedLinear, Weights};
use crate::import::quantization::{Dequantize, Quantize};
use faceptor_nn::manifest::Part;
use faceptor_nn::plan::{
    Activation, Binary, Element, Op as PlanOp, Port, Product, Quantization, Reduction, Residual, Unary, ValueId, Window,
};

/// Lowers the whole model. Errors name the node and its operator.
pub fn lower(model: &TypedModel, part: &Part) -> Result<Graph> {
    let mut lowering = Lowering { model, graph: Graph::default(), values: HashMap::new() };
    let inputs = model.input_outlets()?;
    ensure!(inputs.len() == part.inputs.len(), "has {} inputs, the manifest names {}", inputs.len(), part.inputs.len());
    for id in model.eval_order()? {
        let node = model.node(id);
        lowering.node(node).with_context(|| format!("node {} (operator {})", node.name, node.op.name()))?;
    }
    let mut graph = lowering.graph;
    for outlet in inputs {
        let name = &model.node(outlet.node).name;
        let named = part.file_inputs().iter().zip(&part.inputs).find(|(file, _)| *file == name);
        let (_, name) = named.with_context(|| format!("input {name} is not in the manifest"))?;
        graph.inputs.push(Port { name: name.clone(), value: lowering.values[outlet] });
    }
    for (outlet, name) in model.output_outlets()?.iter().zip(&part.outputs) {
        let value = *lowering.values.get(outlet).with_context(|| format!("output {name} was not lowered"))?;
        ensure!(graph.slot(value).element == Element::F32, "output {name} is not float32");
        graph.outputs.push(Port { name: name.clone(), value });
    }
    Ok(graph)
}

/// The state of lowering: tract's model, and the graph so far.
pub struct Lowering<'m> {
    pub model: &'m TypedModel,
    pub graph: Graph,
    values: HashMap<OutletId, ValueId>,
}

/// Returns what is added to values of an 8 bit type, so that they become unsigned: 128 for signed ones.
fn shift(datum_type: DatumType) -> Result<i32> {
    match datum_type {
        DatumType::U8 => Ok(0),
        DatumType::I8 => Ok(128),
        other => bail!("{other:?} is not an 8 bit type"),
    }
}

fn quantization(scale: f32, zero_point: i32, datum_type: DatumType) -> Result<Quantization> {
    let shifted = zero_point + shift(datum_type)?;
    let zero_point = u8::try_from(shifted).map_err(|_| anyhow!("zero point {zero_point} is out of range"))?;
    Ok(Quantization { scale, zero_point })
}

impl Lowering<'_> {
    pub fn shape_of(&self, outlet: OutletId) -> Result<Vec<usize>> {
        let fact = self.model.outlet_fact(outlet)?;
        Ok(fact.shape.as_concrete().context("a shape is not static")?.to_vec())
    }

    /// Returns the value of an input; adds it if it is a constant that has not been read yet.
    pub fn input(&mut self, node: &TypedNode, slot: usize) -> Result<ValueId> {
        let outlet = *node.inputs.get(slot).with_context(|| format!("has no input {slot}"))?;
        if let Some(value) = self.values.get(&outlet) {
            return Ok(*value);
        }
        let from = &self.model.node(outlet.node).name;
        let tensor = self.model.outlet_fact(outlet)?.konst.clone();
        let tensor = tensor.with_context(|| format!("its input {slot} ({from}) was not lowered"))?;
        let value = self.constant(&tensor).with_context(|| format!("input {slot} ({from})"))?;
        self.values.insert(outlet, value);
        Ok(value)
    }

    fn constant(&mut self, tensor: &Tensor) -> Result<ValueId> {
        match tensor.datum_type() {
            DatumType::U8 | DatumType::I8 => {
                let by = shift(tensor.datum_type())?;
                let wide = tensor.cast_to::<i32>()?;
                let bytes = wide.try_as_plain_ram()?.as_slice::<i32>()?.iter().map(|v| (v + by) as u8).collect();
                Ok(self.graph.add_constant(tensor.shape(), Element::U8, bytes))
            }
            t if t.is_float() || t == bool::datum_type() => {
                let float = tensor.cast_to::<f32>()?;
                Ok(self.graph.add_floats(tensor.shape(), float.try_as_plain_ram()?.as_slice::<f32>()?))
            }
            other => bail!("constants of type {other:?} are not supported here"),
        }
    }

    /// Adds a step that computes the only output of the node.
    pub fn emit(&mut self, node: &TypedNode, op: PlanOp, inputs: &[ValueId]) -> Result<()> {
        let outlet = OutletId::new(node.id, 0);
        let shape = self.shape_of(outlet)?;
        let element = match self.model.outlet_fact(outlet)?.datum_type {
            // Truth values are 1 and 0.
            DatumType::F32 | DatumType::Bool => Element::F32,
            DatumType::U8 | DatumType::I8 => Element::U8,
            other => bail!("values of type {other:?} are not supported"),
        };
        let value = self.graph.push(&node.name, op, inputs, &shape, element);
        self.values.insert(outlet, value);
        Ok(())
    }

    fn node(&mut self, node: &TypedNode) -> Result<()> {
        let outlet = OutletId::new(node.id, 0);
        let op: &dyn TypedOp = node.op.as_ref();
        if node.op_is::<Const>() {
            return Ok(()); // read where it is used
        }
        if node.op_is::<TypedSource>() {
            let shape = self.shape_of(outlet)?;
            ensure!(self.model.outlet_fact(outlet)?.datum_type == f32::datum_type(), "inputs must be float32");
            let value = self.graph.add_value(&shape, Element::F32);
            self.values.insert(outlet, value);
            return Ok(());
        }
        if let Some(op) = op.downcast_ref::<Quantize>() {
            let x = self.input(node, 0)?;
            return self.emit(node, PlanOp::Quantize(quantization(op.scale, op.zero_point, op.to)?), &[x]);
        }
        if let Some(Dequantize(scales)) = op.downcast_ref::<Dequantize>() {
            if let Some(constant) = &self.model.outlet_fact(node.inputs[0])?.konst {
                let value = self.constant(&scales.dequantize(constant)?)?;
                self.values.insert(outlet, value);
                return Ok(());
            }
            ensure!(scales.scale.len() == 1, "activations dequantized per axis are not supported");
            let from = self.model.outlet_fact(node.inputs[0])?.datum_type;
            let x = self.input(node, 0)?;
            let to = quantization(scales.scale[0], scales.zero_point[0], from)?;
            return self.emit(node, PlanOp::Dequantize(to), &[x]);
        }
        if let Some(conv) = op.downcast_ref::<QuantizedConv>() {
            let window = Window { size: conv.size, stride: conv.stride, dilation: conv.dilation, before: conv.before };
            let (product, operands) = self.integer_product(node, &conv.weights, Some(window))?;
            return self.image_step(node, PlanOp::Product(product), &operands, DataFormat::NCHW);
        }
        if let Some(linear) = op.downcast_ref::<QuantizedLinear>() {
            let (product, operands) = self.integer_product(node, &linear.weights, None)?;
            return self.emit(node, PlanOp::Product(product), &operands);
        }
        if let Some(conv) = op.downcast_ref::<Conv>() {
            return self.float_conv(node, conv);
        }
        if let Some(einsum) = op.downcast_ref::<EinSum>() {
            ensure!(einsum.q_params.is_none() && node.inputs.len() == 2, "only float products of two are supported");
            let inputs = [self.input(node, 0)?, self.input(node, 1)?];
            let shape = self.shape_of(outlet)?;
            let value = einsum::lower(&mut self.graph, &node.name, &einsum.axes, inputs, &shape)?;
            self.values.insert(outlet, value);
            return Ok(());
        }
        if let Some(binary) = op.downcast_ref::<TypedBinOp>() {
            return self.binary(node, binary.0.name());
        }
        if let Some(element_wise) = op.downcast_ref::<ElementWiseOp>() {
            let mini = element_wise.0.as_ref();
            if mini.is::<Not>() {
                let x = self.input(node, 0)?;
                let zero = self.graph.add_floats(&[], &[0.0]);
                return self.emit(node, PlanOp::Binary(Binary::Equal), &[x, zero]);
            }
            let unary = if let Some(op) = mini.downcast_ref::<PowConst>() {
                Unary::Power(op.exponent)
            } else if let Some(op) = mini.downcast_ref::<LeakyRelu>() {
                Unary::LeakyRelu(op.alpha)
            } else {
                unary(&mini.name())?
            };
            let x = self.input(node, 0)?;
            return self.emit(node, PlanOp::Unary(unary), &[x]);
        }
        if let Some(reduce) = op.downcast_ref::<Reduce>() {
            let by = match reduce.reducer {
                Reducer::Sum => Reduction::Sum,
                Reducer::Max => Reduction::Max,
                Reducer::Min => Reduction::Min,
                Reducer::MeanOfSquares => Reduction::MeanOfSquares,
                Reducer::Prod => Reduction::Product,
                other => bail!("reduction {other:?} is not supported"),
            };
            let x = self.input(node, 0)?;
            return self.emit(node, PlanOp::Reduce { by, axes: reduce.axes.to_vec() }, &[x]);
        }
        if let Some(softmax) = op.downcast_ref::<Softmax>() {
            return self.softmax(node, &softmax.axes, &softmax.kind);
        }
        if let Some(pool) = op.downcast_ref::<MaxPool>() {
            ensure!(pool.with_index_outputs.is_none(), "the places of the maxima are not supported");
            return self.max_pool(node, &pool.pool_spec);
        }
        if let Some(pool) = op.downcast_ref::<SumPool>() {
            return self.sum_pool(node, pool);
        }
        if let Some(deconv) = op.downcast_ref::<Deconv>() {
            return self.deconvolution(node, deconv);
        }
        if node.op_is::<Iff>() {
            return self.select(node);
        }
        // tract's operator for all modes is in a crate that is not a dependency of this one.
        if node.op.name() == "Resize" {
            return self.resize(node);
        }
        if let Some(norm) = op.downcast_ref::<RmsNorm>() {
            return self.rms_norm(node, norm.axis, norm.eps.cast_to_scalar::<f32>()?);
        }
        self.movement(node)
    }

    fn movement(&mut self, node: &TypedNode) -> Result<()> {
        let op: &dyn TypedOp = node.op.as_ref();
        let x = self.input(node, 0)?;
        if let Some(change) = op.downcast_ref::<AxisOp>() {
            let op = match change {
                AxisOp::Move(from, to) => {
                    let mut order: Vec<usize> = (0..self.graph.shape(x).len()).collect();
                    let axis = order.remove(*from);
                    order.insert(*to, axis);
                    PlanOp::Transpose { order }
                }
                _ => PlanOp::Reshape,
            };
            return self.emit(node, op, &[x]);
        }
        if let Some(concat) = op.downcast_ref::<TypedConcat>() {
            let inputs = (0..node.inputs.len()).map(|i| self.input(node, i)).collect::<Result<Vec<_>>>()?;
            return self.emit(node, PlanOp::Concat { axis: concat.axis }, &inputs);
        }
        if let Some(slice) = op.downcast_ref::<Slice>() {
            let op = PlanOp::Slice { axis: slice.axis, start: slice.start.to_usize()?, step: 1 };
            return self.emit(node, op, &[x]);
        }
        if let Some(gather) = op.downcast_ref::<Gather>() {
            return self.gather(node, gather.axis);
        }
        if let Some(tile) = op.downcast_ref::<Tile>() {
            return self.tile(node, &tile.multipliers);
        }
        if let Some(sample) = op.downcast_ref::<Downsample>() {
            let Ok(step) = usize::try_from(sample.stride) else {
                return self.backwards(node, sample.axis, sample.modulo, sample.stride.unsigned_abs());
            };
            return self.emit(node, PlanOp::Slice { axis: sample.axis, start: sample.modulo, step }, &[x]);
        }
        if op.downcast_ref::<MultiBroadcastTo>().is_some() {
            return self.emit(node, PlanOp::Broadcast, &[x]);
        }
        if let Some(pad) = op.downcast_ref::<Pad>() {
            let PadMode::Constant(value) = &pad.mode else { return self.pad_by_repetition(node, pad) };
            ensure!(self.graph.slot(x).element == Element::F32, "only float32 can be padded");
            let before = pad.pads.iter().map(|p| p.0).collect();
            return self.emit(node, PlanOp::Pad { before, value: value.cast_to_scalar::<f32>()? }, &[x]);
        }
        if let Some(cast) = op.downcast_ref::<Cast>() {
            let from = self.model.outlet_fact(node.inputs[0])?.datum_type;
            let truth = from == bool::datum_type() && cast.to == f32::datum_type();
            ensure!(truth || cast.to == from, "cast from {from:?} to {:?} is not supported", cast.to);
            self.values.insert(OutletId::new(node.id, 0), x);
            return Ok(());
        }
        bail!(
            "this operator is not supported; supported are convolution, matrix product, normalisation, softmax, reduction, pooling, resizing, element-wise and shape operators"
        )
    }

    fn binary(&mut self, node: &TypedNode, name: &str) -> Result<()> {
        let (mut a, mut b) = (self.input(node, 0)?, self.input(node, 1)?);
        let op = match name {
            "Add" => Binary::Add,
            "Sub" => Binary::Sub,
            "SubF" => {
                std::mem::swap(&mut a, &mut b);
                Binary::Sub
            }
            "Mul" => Binary::Mul,
            "Div" => Binary::Div,
            "Min" => Binary::Min,
            "Max" => Binary::Max,
            "Pow" => Binary::Pow,
            "Eq" => Binary::Equal,
            "NE" => Binary::NotEqual,
            "LT" => Binary::Less,
            "LTE" => Binary::LessEqual,
            "GT" | "GTE" => {
                std::mem::swap(&mut a, &mut b);
                if name == "GT" { Binary::Less } else { Binary::LessEqual }
            }
            "And" => Binary::Min,
            "Or" => Binary::Max,
            other => bail!("binary operator {other} is not supported"),
        };
        ensure!(
            [a, b].iter().all(|v| self.graph.slot(*v).element == Element::F32),
            "arithmetic on quantized values is not supported"
        );
        self.emit(node, PlanOp::Binary(op), &[a, b])
    }

    /// Adds `x / sqrt(mean(x^2) + epsilon)` as steps that the layer-norm pass recognizes.
    fn rms_norm(&mut self, node: &TypedNode, axis: usize, epsilon: f32) -> Result<()> {
        let x = self.input(node, 0)?;
        let mut shape = self.graph.shape(x).to_vec();
        let epsilon = self.graph.add_floats(&vec![1; shape.len()], &[epsilon]);
        shape[axis] = 1;
        let reduce = PlanOp::Reduce { by: Reduction::MeanOfSquares, axes: vec![axis] };
        let mean = self.graph.push(&node.name, reduce, &[x], &shape, Element::F32);
        let sum = self.graph.push(&node.name, PlanOp::Binary(Binary::Add), &[mean, epsilon], &shape, Element::F32);
        let factor = self.graph.push(&node.name, PlanOp::Unary(Unary::Rsqrt), &[sum], &shape, Element::F32);
        self.emit(node, PlanOp::Binary(Binary::Mul), &[x, factor])
    }

    fn integer_product(
        &mut self,
        node: &TypedNode,
        weights: &Weights,
        window: Option<Window>,
    ) -> Result<(Product, Vec<ValueId>)> {
        let from = self.model.outlet_fact(node.inputs[0])?.datum_type;
        let zero_point = quantization(1.0, weights.zero_point, from)?.zero_point;
        let bytes = weights.values.iter().map(|w| *w as u8).collect();
        let mut operands = vec![
            self.input(node, 0)?,
            self.graph.add_constant(&[weights.columns, weights.depth], Element::I8, bytes),
            self.graph.add_floats(&[weights.columns], &weights.scale),
        ];
        if let Some(bias) = &weights.bias {
            operands.push(self.graph.add_floats(&[weights.columns], bias));
        }
        let product = Product {
            window,
            columns: weights.columns,
            depth: weights.depth,
            zero_point: Some(zero_point),
            bias: weights.bias.is_some(),
            first: Activation::None,
            residual: Residual::None,
            second: Activation::None,
            float_output: true,
            quantized_output: None,
        };
        Ok((product, operands))
    }

    /// Adds a convolution with the transposes before and after it that its channels-last layout needs.
    pub fn image_step(&mut self, node: &TypedNode, op: PlanOp, operands: &[ValueId], format: DataFormat) -> Result<()> {
        let outlet = OutletId::new(node.id, 0);
        let mut out = self.shape_of(outlet)?;
        let mut inputs = operands.to_vec();
        // tract drops a batch axis of 1 where that saves a transpose.
        let batched = format.has_n();
        if !batched {
            inputs[0] = self.with_batch(node, inputs[0]);
            out.insert(0, 1);
        }
        let y = if format.c_is_last() {
            self.graph.push(&node.name, op, &inputs, &out, Element::F32)
        } else {
            let &[n, c, h, w] = self.graph.shape(inputs[0]) else { bail!("expects a rank of 4") };
            let element = self.graph.slot(inputs[0]).element;
            let transpose = PlanOp::Transpose { order: vec![0, 2, 3, 1] };
            inputs[0] = self.graph.push(&node.name, transpose, &inputs[..1], &[n, h, w, c], element);
            let last = [out[0], out[2], out[3], out[1]];
            let y = self.graph.push(&node.name, op, &inputs, &last, Element::F32);
            let back = PlanOp::Transpose { order: vec![0, 3, 1, 2] };
            self.graph.push(&node.name, back, &[y], &out, Element::F32)
        };
        if !batched {
            return self.emit(node, PlanOp::Reshape, &[y]);
        }
        self.values.insert(outlet, y);
        Ok(())
    }

    /// Returns a value with an axis of length 1 added in front.
    fn with_batch(&mut self, node: &TypedNode, value: ValueId) -> ValueId {
        let shape = [&[1], self.graph.shape(value)].concat();
        let element = self.graph.slot(value).element;
        self.graph.push(&node.name, PlanOp::Reshape, &[value], &shape, element)
    }
}

fn unary(name: &str) -> Result<Unary> {
    Ok(match name {
        "Relu" => Unary::Relu,
        "Sigmoid" => Unary::Sigmoid,
        "Silu" => Unary::Silu,
        "Tanh" => Unary::Tanh,
        "GeluExact" => Unary::Gelu,
        "GeluApproximate" => Unary::GeluTanh,
        "Erf" => Unary::Erf,
        "Exp" => Unary::Exp,
        "Ln" => Unary::Ln,
        "Sqrt" => Unary::Sqrt,
        "Rsqrt" => Unary::Rsqrt,
        "Recip" => Unary::Reciprocal,
        "Square" => Unary::Square,
        "Abs" => Unary::Abs,
        "Neg" => Unary::Neg,
        "Floor" => Unary::Floor,
        "Ceil" => Unary::Ceil,
        "RoundHalfToEven" => Unary::Round,
        "HardSwish" => Unary::HardSwish,
        other => bail!("element-wise operator {other} is not supported"),
    })
}
