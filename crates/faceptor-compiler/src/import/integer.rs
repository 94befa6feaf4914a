//! Convolution and linear layer with int8 weights as tract operators, and the pass that replaces dequantize -> float operator
//! by them.
//!
//! Each operator has a scalar reference, so that the rewritten graph still runs in tract.

use anyhow::Context as _;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_core::ops::cast::Cast;
use tract_onnx::tract_hir::tract_core::ops::cnn::{Conv, KernelFormat};
use tract_onnx::tract_hir::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_hir::tract_core::ops::konst::Const;
use tract_onnx::tract_hir::tract_core::ops::nn::DataFormat;

use crate::import::quantization::{Dequantize, Scales};

/// Int8 weights by output column, and the scales and biases that turn an integer sum into a real number.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    pub columns: usize,
    pub depth: usize,
    /// `[columns, depth]`, zero point 0.
    pub values: Vec<i8>,
    /// Activation scale times weight scale, per column.
    pub scale: Vec<f32>,
    pub bias: Option<Vec<f32>>,
    /// The zero point of the activations, in their type.
    pub zero_point: i32,
}

impl Eq for Weights {}

impl Weights {
    fn finish(&self, sum: i32, column: usize) -> f32 {
        sum as f32 * self.scale[column] + self.bias.as_ref().map_or(0.0, |b| b[column])
    }
}

/// Convolution of `[1, channels, height, width]`, 8 bit in, float32 out. Weights run over rows, columns, channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuantizedConv {
    pub weights: Arc<Weights>,
    pub size: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    pub before: [usize; 2],
    pub output: [usize; 2],
}

impl Op for QuantizedConv {
    fn name(&self) -> StaticName {
        "FaceptorQuantizedConv".into()
    }

    op_as_typed_op!();
}

impl EvalOp for QuantizedConv {
    not_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let w = &self.weights;
        let &[_, channels, height, width] = inputs[0].shape() else { bail!("expects a rank of 4") };
        let x = inputs[0].cast_to::<i32>()?;
        let x = x.try_as_plain_ram()?;
        let x = x.as_slice::<i32>()?;
        let [rows, columns] = self.output;
        let mut out = vec![0f32; w.columns * rows * columns];
        for (i, out) in out.iter_mut().enumerate() {
            let (o, row, column) = (i / (rows * columns), i / columns % rows, i % columns);
            let mut sum = 0;
            for (t, weight) in w.values[o * w.depth..][..w.depth].iter().enumerate() {
                let (dy, dx, c) = (t / channels / self.size[1], t / channels % self.size[1], t % channels);
                let y = (row * self.stride[0] + dy * self.dilation[0]).wrapping_sub(self.before[0]);
                let x_at = (column * self.stride[1] + dx * self.dilation[1]).wrapping_sub(self.before[1]);
                if y < height && x_at < width {
                    sum += (x[(c * height + y) * width + x_at] - w.zero_point) * *weight as i32;
                }
            }
            *out = w.finish(sum, o);
        }
        Ok(tvec!(Tensor::from_shape(&[1, w.columns, rows, columns], &out)?.into_tvalue()))
    }
}

impl TypedOp for QuantizedConv {
    as_op!();

    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact([1, self.weights.columns, self.output[0], self.output[1]])))
    }
}

/// Product of weights and each row of the last axis, 8 bit in, float32 out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuantizedLinear {
    pub weights: Arc<Weights>,
}

impl Op for QuantizedLinear {
    fn name(&self) -> StaticName {
        "FaceptorQuantizedLinear".into()
    }

    op_as_typed_op!();
}

impl EvalOp for QuantizedLinear {
    not_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let w = &self.weights;
        let x = inputs[0].cast_to::<i32>()?;
        let x = x.try_as_plain_ram()?;
        let mut out = Vec::with_capacity(x.as_slice::<i32>()?.len() / w.depth * w.columns);
        for row in x.as_slice::<i32>()?.chunks_exact(w.depth) {
            for (o, weights) in w.values.chunks_exact(w.depth).enumerate() {
                let sum = row.iter().zip(weights).map(|(x, w_)| (x - w.zero_point) * *w_ as i32).sum();
                out.push(w.finish(sum, o));
            }
        }
        let mut shape = inputs[0].shape().to_vec();
        *shape.last_mut().context("expects a last axis")? = w.columns;
        Ok(tvec!(Tensor::from_shape(&shape, &out)?.into_tvalue()))
    }
}

impl TypedOp for QuantizedLinear {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let mut shape = inputs[0].shape.to_tvec();
        *shape.last_mut().context("expects a last axis")? = self.weights.columns.to_dim();
        Ok(tvec!(f32::fact(shape)))
    }
}

/// Replaces every float operator whose inputs are dequantized activations and dequantized constant weights.
///
/// Must run before tract's declutter, which moves axes between the operators.
pub fn rewrite(model: &mut TypedModel) -> TractResult<()> {
    for id in model.eval_order()? {
        let node = model.node(id);
        let op: Option<Box<dyn TypedOp>> = if let Some(conv) = node.op_as::<Conv>() {
            convolution(model, node, conv)?.map(|op| Box::new(op) as _)
        } else if let Some(einsum) = node.op_as::<EinSum>() {
            linear(model, node, einsum)?.map(|op| Box::new(op) as _)
        } else {
            None
        };
        if let Some(op) = op {
            let activations = model.node(node.inputs[0].node).inputs[0];
            TypedModelPatch::replace_single_op(model, node, &[activations], op)
                .and_then(|patch| patch.apply(model))
                .with_context(|| format!("making node {id} an integer operator"))?;
        }
    }
    Ok(())
}

/// Returns scale and zero point of an activation that is dequantized from an 8 bit tensor.
fn activations(model: &TypedModel, outlet: OutletId) -> TractResult<Option<&Scales>> {
    let node = model.node(outlet.node);
    let Some(Dequantize(scales)) = node.op_as::<Dequantize>() else { return Ok(None) };
    let from = model.outlet_fact(node.inputs[0])?.datum_type;
    let eight_bit = from == u8::datum_type() || from == i8::datum_type();
    Ok((eight_bit && scales.scale.len() == 1).then_some(scales))
}

/// Returns constant weights as signed 8 bit, and their scales: one for each index of `column_axis`, or a single one.
fn weights(model: &TypedModel, outlet: OutletId, column_axis: usize) -> TractResult<Option<(Tensor, Vec<f32>)>> {
    let node = model.node(outlet.node);
    let Some(Dequantize(scales)) = node.op_as::<Dequantize>() else { return Ok(None) };
    let Some(constant) = &model.outlet_fact(node.inputs[0])?.konst else { return Ok(None) };
    if scales.scale.len() > 1 && scales.axis != column_axis {
        return Ok(None);
    }
    let unsigned = constant.datum_type() == u8::datum_type();
    if !unsigned && constant.datum_type() != i8::datum_type() {
        return Ok(None);
    }
    // Unsigned weights are signed ones shifted by 128.
    let shift = if unsigned { 128 } else { 0 };
    ensure!(
        scales.zero_point.iter().all(|z| *z == shift),
        "{}: weights must be symmetric (zero point {shift}), quantize them with WeightSymmetric",
        node.name
    );
    let wide = constant.cast_to::<i32>()?;
    let wide = wide.try_as_plain_ram()?;
    let signed: Vec<i8> = wide.as_slice::<i32>()?.iter().map(|w| (w - shift) as i8).collect();
    Ok(Some((Tensor::from_shape(constant.shape(), &signed)?, scales.scale.clone())))
}

/// Returns a constant float tensor, also from dequantization, casts and changes of axes.
fn constant(model: &TypedModel, outlet: OutletId) -> TractResult<Option<Tensor>> {
    let node = model.node(outlet.node);
    if let Some(tensor) = &model.outlet_fact(outlet)?.konst {
        return Ok(Some(tensor.clone().into_tensor()));
    }
    let Some(&input) = node.inputs.first() else { return Ok(None) };
    let Some(tensor) = constant(model, input)? else { return Ok(None) };
    if let Some(Dequantize(scales)) = node.op_as::<Dequantize>() {
        return scales.dequantize(&tensor).map(Some);
    }
    if node.op_is::<Cast>() || node.op_is::<AxisOp>() || node.op_is::<Const>() {
        let output = node.op.eval_out_of_plan(tvec!(tensor.into_tvalue()))?;
        return Ok(output.and_then(|mut o| o.pop()).map(|t| t.into_tensor()));
    }
    Ok(None)
}

fn per_column(scales: &[f32], columns: usize, activation_scale: f32) -> Vec<f32> {
    (0..columns).map(|c| scales[if scales.len() == 1 { 0 } else { c }] * activation_scale).collect()
}

fn convolution(model: &TypedModel, node: &TypedNode, conv: &Conv) -> TractResult<Option<QuantizedConv>> {
    let Some(scales) = activations(model, node.inputs[0])? else { return Ok(None) };
    let known_layout = conv.pool_spec.data_format == DataFormat::NCHW && conv.kernel_fmt == KernelFormat::OIHW;
    if !known_layout || conv.pool_spec.rank() != 2 || conv.q_params.is_some() {
        return Ok(None);
    }
    let Some((kernel, scale)) = weights(model, node.inputs[1], 0)? else { return Ok(None) };
    let columns = conv.output_channels();
    let Some(bias) = constant(model, node.inputs[2])? else { return Ok(None) };
    let bias = bias.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
    let bias = match bias.len() {
        1 if bias[0] == 0.0 => None,
        1 => Some(vec![bias[0]; columns]),
        _ => Some(bias),
    };
    let input = model.outlet_fact(node.inputs[0])?.shape.as_concrete().context("shape is not static")?.to_vec();
    ensure!(input[0] == 1, "{}: batch must be 1", node.name);
    let geometry = conv.pool_spec.computed_padding(&input[2..]);
    let pair = |values: Cow<[usize]>| [values[0], values[1]];
    let &[_, per_group, height, width] = kernel.shape() else { bail!("{}: kernel has no rank of 4", node.name) };
    let kernel = kernel.try_as_plain_ram()?;
    let kernel = kernel.as_slice::<i8>()?;
    // Groups become one dense product with zeros between them: correct for every network, wasteful for depth-wise ones.
    let channels = input[1];
    let mut values = vec![0i8; columns * height * width * channels];
    for (i, value) in kernel.iter().enumerate() {
        let (o, c, tap) = (i / (per_group * height * width), i / (height * width) % per_group, i % (height * width));
        let group = o / (columns / conv.group);
        values[(o * height * width + tap) * channels + group * per_group + c] = *value;
    }
    Ok(Some(QuantizedConv {
        weights: Arc::new(Weights {
            columns,
            depth: height * width * channels,
            values,
            scale: per_column(&scale, columns, scales.scale[0]),
            bias,
            zero_point: scales.zero_point[0],
        }),
        size: [height, width],
        stride: pair(conv.pool_spec.strides()),
        dilation: pair(conv.pool_spec.dilations()),
        before: [geometry[0].pad_before, geometry[1].pad_before],
        output: [geometry[0].convoluted, geometry[1].convoluted],
    }))
}

fn linear(model: &TypedModel, node: &TypedNode, einsum: &EinSum) -> TractResult<Option<QuantizedLinear>> {
    if einsum.q_params.is_some() || node.inputs.len() != 2 {
        return Ok(None);
    }
    let Some(scales) = activations(model, node.inputs[0])? else { return Ok(None) };
    let (left, right) = (model.outlet_fact(node.inputs[0])?.rank(), model.outlet_fact(node.inputs[1])?.rank());
    let out = node.outputs[0].fact.rank();
    if right != 2 || out != left {
        return Ok(None);
    }
    let mut axes: [Option<&Axis>; 2] = [None, None];
    for (i, slot) in axes.iter_mut().enumerate() {
        *slot = einsum.axes.axis((InOut::In(1), i)).ok();
    }
    let [Some(first), Some(second)] = axes else { return Ok(None) };
    // One axis of the weights is summed with the last axis of the activations, the other is the last axis of the output.
    let is_depth = |a: &Axis| a.inputs[0].as_slice() == [left - 1] && a.outputs[0].is_empty();
    let is_column = |a: &Axis| a.inputs[0].is_empty() && a.outputs[0].as_slice() == [out - 1];
    let column_axis = match (is_depth(first), is_column(first), is_depth(second), is_column(second)) {
        (true, _, _, true) => 1,
        (_, true, true, _) => 0,
        _ => return Ok(None),
    };
    let rows_stay = (0..left - 1).all(|i| {
        einsum.axes.axis((InOut::In(0), i)).is_ok_and(|a| a.outputs[0].as_slice() == [i] && a.inputs[1].is_empty())
    });
    if !rows_stay {
        return Ok(None);
    }
    let Some((matrix, scale)) = weights(model, node.inputs[1], column_axis)? else { return Ok(None) };
    let (columns, depth) = (matrix.shape()[column_axis], matrix.shape()[1 - column_axis]);
    let matrix = matrix.try_as_plain_ram()?;
    let matrix = matrix.as_slice::<i8>()?;
    let values = (0..columns * depth)
        .map(|i| {
            let (o, k) = (i / depth, i % depth);
            matrix[if column_axis == 0 { i } else { k * columns + o }]
        })
        .collect();
    Ok(Some(QuantizedLinear {
        weights: Arc::new(Weights {
            columns,
            depth,
            values,
            scale: per_column(&scale, columns, scales.scale[0]),
            bias: None,
            zero_point: scales.zero_point[0],
        }),
    }))
}
