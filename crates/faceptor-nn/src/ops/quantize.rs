//! Between float32 and unsigned 8 bit.

pub(crate) use crate::cpu::Quantizer;
use crate::error::Error;
use crate::ops::context::{Preparation, StepRun};
use crate::ops::{Operator, PreparedOperator, Signature, ensure};
use crate::tensor::{Element, Quantization};

/// Quantizes float32 to unsigned 8 bit.
#[derive(Clone, Copy)]
pub(crate) struct Quantize(pub(crate) Quantization);

/// Takes unsigned 8 bit back to float32.
#[derive(Clone, Copy)]
pub(crate) struct Dequantize(pub(crate) Quantization);

impl Operator for Quantize {
    fn name(&self) -> &'static str {
        "quantize"
    }

    fn check(&self, operands: &Signature<'_>) -> Result<(), String> {
        let (x, out) = operands.operands(1)?;
        let fits = x.element == Element::F32 && out.element == Element::U8 && x.shape == out.shape;
        ensure(fits && self.0.scale > 0.0, "does not fit")
    }

    fn prepare(&self, _step: &mut Preparation<'_>) -> Result<Box<dyn PreparedOperator>, Error> {
        Ok(Box::new(*self))
    }
}

impl PreparedOperator for Quantize {
    fn run(&self, step: &mut StepRun<'_>) -> Result<(), Error> {
        let (x, out) = (step.inputs.floats(0)?, step.outputs.bytes()?);
        step.kernel.vectorize(
            #[inline(always)]
            || quantize(self.0, x, out),
        );
        Ok(())
    }
}

impl Operator for Dequantize {
    fn name(&self) -> &'static str {
        "dequantize"
    }

    fn check(&self, operands: &Signature<'_>) -> Result<(), String> {
        let (x, out) = operands.operands(1)?;
        let fits = x.element == Element::U8 && out.element == Element::F32 && x.shape == out.shape;
        ensure(fits, "does not fit")
    }

    fn prepare(&self, _step: &mut Preparation<'_>) -> Result<Box<dyn PreparedOperator>, Error> {
        Ok(Box::new(*self))
    }
}

impl PreparedOperator for Dequantize {
    fn run(&self, step: &mut StepRun<'_>) -> Result<(), Error> {
        let (x, out) = (step.inputs.bytes(0)?, step.outputs.floats()?);
        step.kernel.vectorize(
            #[inline(always)]
            || dequantize(self.0, x, out),
        );
        Ok(())
    }
}

/// Computes `saturate(round_half_even(x / scale) + zero_point)` for each element.
#[inline(always)]
pub fn quantize(to: Quantization, x: &[f32], out: &mut [u8]) {
    let quantizer = Quantizer::new(to);
    out.iter_mut().zip(x).for_each(|(out, x)| *out = quantizer.quantize(*x));
}

/// Computes `(q - zero_point) * scale` for each element.
#[inline(always)]
pub fn dequantize(from: Quantization, x: &[u8], out: &mut [f32]) {
    let zero_point = from.zero_point as i32;
    out.iter_mut().zip(x).for_each(|(o, x)| *o = (*x as i32 - zero_point) as f32 * from.scale);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantization_rounds_half_to_even_and_saturates() {
        let to = Quantization { scale: 0.5, zero_point: 3 };
        let x = [0.0, 0.25, 0.75, -0.25, -0.75, 1.25, -100.0, 1e9, f32::INFINITY, f32::NEG_INFINITY, 126.0];
        let mut out = [0; 11];
        quantize(to, &x, &mut out);
        assert_eq!(out, [3, 3, 5, 3, 1, 5, 0, 255, 255, 0, 255]);
        let mut back = [0.0; 3];
        dequantize(to, &[0, 3, 255], &mut back);
        assert_eq!(back, [-1.5, 0.0, 126.0]);
    }
}
