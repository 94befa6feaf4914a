//! Activations times constant weights: linear layers and convolutions.

mod gather;
mod padding;
mod rows;

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cpu::{PackedFloat, PackedInt8};
use crate::error::Error;
use crate::ops::context::{Inputs, Outputs, Preparation, StepRun};
use crate::ops::depthwise::{Window, check_window};
use crate::ops::product::rows::{Added, Finish, Geometry};
use crate::ops::scratch::Scratch;
use crate::ops::{Operator, PreparedOperator, Signature, ensure};
use crate::tensor::{Element, Quantization, Value};
use crate::thread_pool::MAX_THREADS;

/// Multiplies rows of activations by constant weights, and finishes each result before it is stored.
///
/// Inputs: activations; weights `[columns, depth]`; scale `[columns]` if `zero_point` is given; bias `[columns]` if
/// `bias`; residual if any. Outputs: float32 if `float_output`, then unsigned 8 bit if `quantized_output`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Product {
    /// A convolution's window; without one each row of the last axis is multiplied.
    pub window: Option<Window>,
    /// Columns of the result.
    pub columns: usize,
    /// Elements of a row of activations, or of a window.
    pub depth: usize,
    /// Zero point of unsigned 8 bit activations; none if activations and weights are float32.
    pub zero_point: Option<u8>,
    /// `true` if a bias is added.
    pub bias: bool,
    /// Activation before the residual is added.
    pub first: Activation,
    /// The residual that is added.
    pub residual: Residual,
    /// Activation after the residual is added.
    pub second: Activation,
    /// `true` if the results are stored as float32.
    pub float_output: bool,
    /// Given if the results are stored as unsigned 8 bit.
    pub quantized_output: Option<Quantization>,
}

/// A function of each result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activation {
    /// The result as it is.
    None,
    /// Zero in place of a negative result.
    Relu,
}

/// A value that is added to each result.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Residual {
    /// No bias is added.
    None,
    /// The last input, float32.
    Float,
    /// The last input, unsigned 8 bit.
    Quantized(Quantization),
}

impl Operator for Product {
    fn name(&self) -> &'static str {
        match (self.zero_point.is_some(), self.window.is_some()) {
            (true, true) => "convolution int8",
            (true, false) => "linear int8",
            (false, true) => "convolution f32",
            (false, false) => "linear f32",
        }
    }

    fn is_integer(&self) -> bool {
        self.zero_point.is_some()
    }

    fn check(&self, operands: &Signature<'_>) -> Result<(), String> {
        check(self, &operands.inputs, &operands.outputs)
    }

    fn macs(&self, operands: &Signature<'_>) -> Option<u64> {
        operands.results().checked_mul(self.depth as u64)
    }

    fn prepare(&self, step: &mut Preparation<'_>) -> Result<Box<dyn PreparedOperator>, Error> {
        let (kernel, shape) = (step.kernel(), [self.columns, self.depth]);
        let geometry = Geometry::new(kernel, self, step.input(0), step.output());
        geometry.reserve(kernel, step.scratch);
        Ok(if self.is_integer() {
            let threads = step.threads().min(geometry.rows());
            Box::new(Int8 { geometry, weights: step.int8_weights(shape)?, threads })
        } else {
            Box::new(Float { geometry, weights: step.float_weights(shape)? })
        })
    }
}

fn check(p: &Product, inputs: &[&Value], outputs: &[&Value]) -> Result<(), String> {
    let quantized = p.zero_point.is_some();
    let residual = p.residual != Residual::None;
    let expected = 2 + quantized as usize + p.bias as usize + residual as usize;
    let stored = p.float_output as usize + p.quantized_output.is_some() as usize;
    ensure(inputs.len() == expected && outputs.len() == stored && stored > 0, "has the wrong number of operands")?;
    ensure(p.columns > 0 && p.depth > 0, "has no columns or no depth")?;
    let (activations, weights) = if quantized { (Element::U8, Element::I8) } else { (Element::F32, Element::F32) };
    let (x, w, out) = (inputs[0], inputs[1], outputs[0]);
    ensure(x.element == activations && x.constant.is_none(), "has activations of a wrong type")?;
    ensure(w.element == weights && w.constant.is_some() && w.shape == [p.columns, p.depth], "has wrong weights")?;
    let vectors = quantized as usize + p.bias as usize;
    let column = |v: &&Value| v.element == Element::F32 && v.constant.is_some() && v.shape == [p.columns];
    ensure(inputs[2..2 + vectors].iter().all(column), "has a wrong scale or bias")?;
    ensure(outputs.iter().all(|o| o.shape == out.shape), "has outputs of different shapes")?;
    let mut types = Vec::new();
    types.extend(p.float_output.then_some(Element::F32));
    types.extend(p.quantized_output.map(|_| Element::U8));
    ensure(outputs.iter().map(|o| o.element).eq(types), "has outputs of wrong types")?;
    let scales = [p.quantized_output, if let Residual::Quantized(q) = p.residual { Some(q) } else { None }];
    ensure(scales.iter().flatten().all(|q| q.scale > 0.0), "has a scale that is not positive")?;
    if residual {
        let element = if p.residual == Residual::Float { Element::F32 } else { Element::U8 };
        let added = inputs[inputs.len() - 1];
        ensure(added.element == element && added.len() == out.len(), "has a wrong residual")?;
    }
    let Some(window) = &p.window else {
        let rows = x.len() / p.depth;
        let fits = x.shape.last() == Some(&p.depth) && out.shape.last() == Some(&p.columns);
        return ensure(fits && out.len() == rows * p.columns, "has shapes that do not fit");
    };
    let (&[1, height, width, channels], &[1, rows, columns, depth]) = (&x.shape[..], &out.shape[..]) else {
        return Err("is a convolution of something else than one image".into());
    };
    check_window(window, [height, width], [rows, columns])?;
    ensure(window.size[0] * window.size[1] * channels == p.depth && depth == p.columns, "has a wrong depth")
}

/// A product of 8 bit integers.
struct Int8 {
    geometry: Geometry,
    weights: Arc<PackedInt8>,
    threads: usize,
}

impl PreparedOperator for Int8 {
    fn threads(&self) -> usize {
        self.threads
    }

    fn run(&self, step: &mut StepRun<'_>) -> Result<(), Error> {
        let Int8 { geometry, weights, .. } = self;
        let (kernel, x, scale) = (step.kernel, step.inputs.bytes(0)?, step.inputs.floats(2)?);
        let mut finish = finish(&geometry.op, step.inputs, step.outputs)?;
        let Some(helpers) = step.helpers.as_deref_mut() else {
            geometry.run_int8(kernel, weights, scale, x, 0..geometry.rows(), &mut finish, step.scratch);
            return Ok(());
        };
        let (count, all) = (self.threads.min(helpers.pool.threads()), geometry.rows());
        let mut scratches = std::iter::once(&mut *step.scratch).chain(&mut helpers.scratch);
        let mut shares: [Option<Share<'_>>; MAX_THREADS] = [const { None }; MAX_THREADS];
        for (thread, share) in shares[..count].iter_mut().enumerate() {
            let rows = all * thread / count..all * (thread + 1) / count;
            let finish = finish.split_first(rows.len(), geometry.op.columns);
            *share = scratches.next().map(|scratch| Share { rows, finish, scratch });
        }
        helpers.pool.each(&mut shares[..count], |share| {
            if let Some(Share { rows, finish, scratch }) = share {
                geometry.run_int8(kernel, weights, scale, x, rows.clone(), finish, scratch);
            }
        });
        Ok(())
    }
}

/// One thread's share of a product: some of the rows.
struct Share<'a> {
    rows: Range<usize>,
    finish: Finish<'a>,
    scratch: &'a mut Scratch,
}

/// A product of float32.
struct Float {
    geometry: Geometry,
    weights: Arc<PackedFloat>,
}

impl PreparedOperator for Float {
    fn run(&self, step: &mut StepRun<'_>) -> Result<(), Error> {
        let x = step.inputs.floats(0)?;
        let mut finish = finish(&self.geometry.op, step.inputs, step.outputs)?;
        self.geometry.run_float(step.kernel, self.weights.values(), x, &mut finish, step.scratch);
        Ok(())
    }
}

/// Collects the operands and outputs that finish the results of a product.
fn finish<'a>(op: &Product, inputs: Inputs<'a>, outputs: &'a mut Outputs) -> Result<Finish<'a>, Error> {
    let bias_at = 2 + usize::from(op.is_integer());
    let bias = if op.bias { inputs.floats(bias_at)? } else { &[] };
    let residual_at = bias_at + usize::from(op.bias);
    let added = match op.residual {
        Residual::None => Added::Nothing,
        Residual::Float => Added::Floats(inputs.floats(residual_at)?),
        Residual::Quantized(from) => Added::Bytes(inputs.bytes(residual_at)?, from),
    };
    let (floats, bytes) = match (op.float_output, op.quantized_output) {
        (true, Some(to)) => {
            let (floats, bytes) = outputs.floats_and_bytes()?;
            (Some(floats), Some((bytes, to)))
        }
        (true, None) => (Some(outputs.floats()?), None),
        (false, Some(to)) => (None, Some((outputs.bytes()?, to))),
        (false, None) => (None, None),
    };
    Ok(Finish { bias, added, floats, bytes, origin: 0 })
}
