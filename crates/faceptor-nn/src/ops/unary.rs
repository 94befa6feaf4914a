//! Functions of each element by itself.

use crate::error::Error;
use crate::ops::context::{Preparation, StepRun};
use crate::ops::functions::{erf, exp, sigmoid, tanh};
use crate::ops::{Operator, PreparedOperator, Signature, ensure};
use serde::{Deserialize, Serialize};

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Unary {
    /// `max(x, 0)`.
    Relu,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// `x sigmoid(x)`.
    Silu,
    /// Hyperbolic tangent.
    Tanh,
    /// GELU with the error function.
    Gelu,
    /// GELU with the hyperbolic tangent.
    GeluTanh,
    /// Error function.
    Erf,
    /// `e^x`.
    Exp,
    /// Natural logarithm.
    Ln,
    /// Square root.
    Sqrt,
    /// `1 / sqrt(x)`.
    Rsqrt,
    /// `1 / x`.
    Reciprocal,
    /// `x x`.
    Square,
    /// `|x|`.
    Abs,
    /// `-x`.
    Neg,
    /// Largest whole number of at most x.
    Floor,
    /// Smallest whole number of at least x.
    Ceil,
    /// Nearest whole number, half to even.
    Round,
    /// `x`, or this factor times `x` if `x` is negative.
    LeakyRelu(f32),
    /// `x clamp(x / 6 + 1/2, 0, 1)`.
    HardSwish,
    /// `x` to this power.
    Power(f32),
}

impl Operator for Unary {
    fn name(&self) -> &'static str {
        "unary"
    }

    fn check(&self, operands: &Signature<'_>) -> Result<(), String> {
        let (x, out) = operands.operands(1)?;
        ensure(operands.is_float() && x.shape == out.shape, "has shapes that do not fit")
    }

    fn prepare(&self, _step: &mut Preparation<'_>) -> Result<Box<dyn PreparedOperator>, Error> {
        Ok(Box::new(*self))
    }
}

impl PreparedOperator for Unary {
    fn run(&self, step: &mut StepRun<'_>) -> Result<(), Error> {
        let (x, out) = (step.inputs.floats(0)?, step.outputs.floats()?);
        step.kernel.vectorize(
            #[inline(always)]
            || apply(*self, x, out),
        );
        Ok(())
    }
}

#[inline(always)]
fn map(x: &[f32], out: &mut [f32], f: impl Fn(f32) -> f32) {
    out.iter_mut().zip(x).for_each(|(o, x)| *o = f(*x));
}

#[inline(always)]
fn apply(op: Unary, x: &[f32], out: &mut [f32]) {
    match op {
        Unary::Relu => map(x, out, |x| x.max(0.0)),
        Unary::Sigmoid => map(x, out, sigmoid),
        Unary::Silu => map(x, out, |x| x * sigmoid(x)),
        Unary::Tanh => map(x, out, tanh),
        Unary::Gelu => map(x, out, |x| 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))),
        Unary::GeluTanh => map(x, out, |x| {
            let inner = 0.797_884_6 * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + tanh(inner))
        }),
        Unary::Erf => map(x, out, erf),
        Unary::Exp => map(x, out, exp),
        Unary::Ln => map(x, out, f32::ln),
        Unary::Sqrt => map(x, out, f32::sqrt),
        Unary::Rsqrt => map(x, out, |x| 1.0 / x.sqrt()),
        Unary::Reciprocal => map(x, out, |x| 1.0 / x),
        Unary::Square => map(x, out, |x| x * x),
        Unary::Abs => map(x, out, f32::abs),
        Unary::Neg => map(x, out, |x| -x),
        Unary::Floor => map(x, out, f32::floor),
        Unary::Ceil => map(x, out, f32::ceil),
        Unary::Round => map(x, out, f32::round_ties_even),
        Unary::LeakyRelu(alpha) => map(x, out, |x| if x < 0.0 { alpha * x } else { x }),
        Unary::HardSwish => map(x, out, |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        Unary::Power(exponent) => map(x, out, |x| x.powf(exponent)),
    }
}
