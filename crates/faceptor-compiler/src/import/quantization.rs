//! `QuantizeLinear` and `DequantizeLinear` as opaque tract operators.
//!
//! tract's own operators become element-wise float arithmetic, which later passes fold into the weights, or into a table that
//! is wrong around Softmax. These keep their scale and zero point until the integer pass has run.

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::expandable::{Expansion, expand};

/// Registers both operators in place of tract's.
pub fn register(onnx: &mut tract_onnx::Onnx) {
    onnx.op_register.insert("QuantizeLinear", |_, node| parse(node, true));
    onnx.op_register.insert("DequantizeLinear", |_, node| parse(node, false));
}

fn parse(node: &NodeProto, quantize: bool) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let block_size = node.get_attr_opt::<i64>("block_size")?.unwrap_or(0);
    ensure!(block_size == 0, "{}: blocked quantization is not supported", node.name);
    let axis = node.get_attr_opt::<i64>("axis")?.unwrap_or(1);
    Ok((expand(Unresolved { quantize, axis }), vec![]))
}

/// Either operator before its constant inputs are known.
#[derive(Debug, Clone)]
struct Unresolved {
    quantize: bool,
    axis: i64,
}

impl Expansion for Unresolved {
    fn name(&self) -> StaticName {
        if self.quantize { "FaceptorQuantizeExpansion".into() } else { "FaceptorDequantizeExpansion".into() }
    }

    fn runs_out_of_plan(&self) -> bool {
        // Otherwise tract's analysis would replace dequantized weights by float constants.
        false
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        ensure!(inputs.len() == 2 || inputs.len() == 3, "expects a scale and maybe a zero point");
        check_output_arity(outputs, 1)?;
        solver.equals(&inputs[0].shape, &outputs[0].shape)?;
        solver.equals(&inputs[1].datum_type, f32::datum_type())?;
        let quantized = if self.quantize { &outputs[0] } else { &inputs[0] };
        let real = if self.quantize { &inputs[0] } else { &outputs[0] };
        solver.equals(&real.datum_type, f32::datum_type())?;
        match inputs.get(2) {
            Some(zero_point) => solver.equals(&quantized.datum_type, &zero_point.datum_type)?,
            None if self.quantize => solver.equals(&quantized.datum_type, u8::datum_type())?,
            None => {}
        }
        Ok(())
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let constant = |slot: usize, what: &str| -> TractResult<Arc<Tensor>> {
            let fact = model.outlet_fact(inputs[slot])?;
            fact.konst.clone().with_context(|| format!("{prefix}: the {what} must be a constant"))
        };
        let scale: Vec<f32> = constant(1, "scale")?.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
        ensure!(scale.iter().all(|s| s.is_finite() && *s > 0.0), "{prefix}: a scale is not a positive number");
        let zero_point = if inputs.len() == 3 {
            let tensor = constant(2, "zero point")?;
            tensor.cast_to::<i32>()?.try_as_plain_ram()?.as_slice::<i32>()?.to_vec()
        } else {
            vec![0]
        };
        let rank = model.outlet_fact(inputs[0])?.rank() as i64;
        let axis = if self.axis < 0 { self.axis + rank } else { self.axis };
        let table = Scales::new(scale, zero_point, axis.max(0) as usize);
        ensure!(
            table.scale.len() == 1
                || model.outlet_fact(inputs[0])?.shape.get(table.axis) == Some(&table.scale.len().to_dim()),
            "{prefix}: {} scales do not fit axis {}",
            table.scale.len(),
            table.axis
        );
        if !self.quantize {
            return model.wire_node(prefix, Dequantize(table), &inputs[..1]);
        }
        ensure!(table.scale.len() == 1, "{prefix}: activations quantized per axis are not supported");
        let to = match inputs.get(2) {
            Some(zero_point) => model.outlet_fact(*zero_point)?.datum_type,
            None => u8::datum_type(),
        };
        ensure!(
            to == u8::datum_type() || to == i8::datum_type(),
            "{prefix}: quantization to {to:?} is not supported, only 8 bit"
        );
        model.wire_node(prefix, Quantize { scale: table.scale[0], zero_point: table.zero_point[0], to }, &inputs[..1])
    }
}

/// One scale and zero point, or one for each index of an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Scales {
    pub scale: Vec<f32>,
    pub zero_point: Vec<i32>,
    pub axis: usize,
}

impl Eq for Scales {}

impl Scales {
    fn new(mut scale: Vec<f32>, mut zero_point: Vec<i32>, axis: usize) -> Scales {
        let len = scale.len().max(zero_point.len());
        scale.resize(len, scale[0]);
        zero_point.resize(len, zero_point[0]);
        Scales { scale, zero_point, axis }
    }

    /// Returns the real values of a quantized tensor.
    pub fn dequantize(&self, quantized: &Tensor) -> TractResult<Tensor> {
        let shape = quantized.shape();
        let wide = quantized.cast_to::<i32>()?;
        let wide = wide.try_as_plain_ram()?;
        let behind: usize = if self.scale.len() == 1 { 1 } else { shape[self.axis + 1..].iter().product() };
        let len = self.scale.len();
        let real: Vec<f32> = wide
            .as_slice::<i32>()?
            .iter()
            .enumerate()
            .map(|(i, q)| {
                let channel = i / behind % len;
                (q - self.zero_point[channel]) as f32 * self.scale[channel]
            })
            .collect();
        Tensor::from_shape(shape, &real)
    }
}

/// Float32 to 8 bit: `saturate(round_half_even(x / scale) + zero_point)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantize {
    pub scale: f32,
    pub zero_point: i32,
    pub to: DatumType,
}

impl Eq for Quantize {}

impl Op for Quantize {
    fn name(&self) -> StaticName {
        "FaceptorQuantize".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Quantize {
    // tract must not fold it: the integer pass looks for this operator, also after constants.
    not_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let x = inputs[0].try_as_plain_ram()?;
        let (low, high) = if self.to == i8::datum_type() { (-128, 127) } else { (0, 255) };
        let wide: Vec<i32> = x
            .as_slice::<f32>()?
            .iter()
            .map(|x| ((x / self.scale).round_ties_even() as i32).saturating_add(self.zero_point).clamp(low, high))
            .collect();
        let tensor = Tensor::from_shape(inputs[0].shape(), &wide)?;
        Ok(tvec!(tensor.cast_to_dt(self.to)?.into_owned().into_tvalue()))
    }
}

impl TypedOp for Quantize {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(self.to.fact(inputs[0].shape.clone())))
    }
}

/// 8 bit or 32 bit integers to float32: `(q - zero_point) * scale`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dequantize(pub Scales);

impl Op for Dequantize {
    fn name(&self) -> StaticName {
        "FaceptorDequantize".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Dequantize {
    not_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        Ok(tvec!(self.0.dequantize(&inputs[0])?.into_tvalue()))
    }
}

impl TypedOp for Dequantize {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(inputs[0].shape.clone())))
    }
}
