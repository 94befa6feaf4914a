//! Functions of two inputs, element by element, which are broadcast against each other from the right.

use crate::error::Error;
use crate::ops::context::{Preparation, StepRun};
use crate::ops::strides::{Odometer, broadcast_strides, broadcasts, collapse};
use crate::ops::{Operator, PreparedOperator, Signature, ensure};
use serde::{Deserialize, Serialize};

/// A function of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a b`.
    Mul,
    /// `a / b`.
    Div,
    /// The smaller one.
    Min,
    /// The larger one.
    Max,
    /// `a` to the power of `b`.
    Pow,
    /// 1 if `a < b`, else 0.
    Less,
    /// 1 if `a <= b`, else 0.
    LessEqual,
    /// 1 if `a == b`, else 0.
    Equal,
    /// 1 if `a != b`, else 0.
    NotEqual,
}

impl Operator for Binary {
    fn name(&self) -> &'static str {
        "binary"
    }

    fn check(&self, operands: &Signature<'_>) -> Result<(), String> {
        let (_, out) = operands.operands(2)?;
        let fits = operands.inputs.iter().all(|value| broadcasts(&value.shape, &out.shape));
        ensure(operands.is_float() && fits, "has shapes that do not fit")
    }

    fn prepare(&self, step: &mut Preparation<'_>) -> Result<Box<dyn PreparedOperator>, Error> {
        Ok(Box::new(Prepared { op: *self, broadcast: Broadcast::new(step.input(0), step.input(1), step.output()) }))
    }
}

struct Prepared {
    op: Binary,
    broadcast: Broadcast,
}

impl PreparedOperator for Prepared {
    fn run(&self, step: &mut StepRun<'_>) -> Result<(), Error> {
        let (a, b, out) = (step.inputs.floats(0)?, step.inputs.floats(1)?, step.outputs.floats()?);
        step.kernel.vectorize(
            #[inline(always)]
            || apply(self.op, &self.broadcast, a, b, out),
        );
        Ok(())
    }
}

/// The strides by which two inputs are broadcast to the output, joined to as few axes as possible.
struct Broadcast {
    outer: Vec<usize>,
    outer_strides: [Vec<usize>; 2],
    inner: usize,
    /// Stride of each input along the innermost axis, or 0.
    inner_strides: [usize; 2],
}

impl Broadcast {
    fn new(a: &[usize], b: &[usize], out: &[usize]) -> Broadcast {
        let (mut outer, [mut a, mut b]) = collapse(out, [broadcast_strides(a, out), broadcast_strides(b, out)]);
        let inner = outer.pop().unwrap_or(1);
        let inner_strides = [a.pop().unwrap_or(0), b.pop().unwrap_or(0)];
        Broadcast { outer, outer_strides: [a, b], inner, inner_strides }
    }

    #[inline(always)]
    fn run(&self, a: &[f32], b: &[f32], out: &mut [f32], f: impl Fn(f32, f32) -> f32) {
        let [a_strides, b_strides] = &self.outer_strides;
        let mut odometer = Odometer::new(&self.outer, [a_strides, b_strides]);
        for out in out.chunks_exact_mut(self.inner) {
            let [at_a, at_b] = odometer.at;
            let (a, b) = (&a[at_a..], &b[at_b..]);
            match self.inner_strides {
                [1, 1] => out.iter_mut().zip(a.iter().zip(b)).for_each(|(o, (a, b))| *o = f(*a, *b)),
                [1, 0] => out.iter_mut().zip(a).for_each(|(o, a)| *o = f(*a, b[0])),
                [0, 1] => out.iter_mut().zip(b).for_each(|(o, b)| *o = f(a[0], *b)),
                [i, j] => out.iter_mut().enumerate().for_each(|(k, o)| *o = f(a[k * i], b[k * j])),
            }
            odometer.advance();
        }
    }
}

#[inline(always)]
fn apply(op: Binary, broadcast: &Broadcast, a: &[f32], b: &[f32], out: &mut [f32]) {
    match op {
        Binary::Add => broadcast.run(a, b, out, |a, b| a + b),
        Binary::Sub => broadcast.run(a, b, out, |a, b| a - b),
        Binary::Mul => broadcast.run(a, b, out, |a, b| a * b),
        Binary::Div => broadcast.run(a, b, out, |a, b| a / b),
        Binary::Min => broadcast.run(a, b, out, f32::min),
        Binary::Max => broadcast.run(a, b, out, f32::max),
        Binary::Pow => broadcast.run(a, b, out, f32::powf),
        Binary::Less => broadcast.run(a, b, out, |a, b| f32::from(a < b)),
        Binary::LessEqual => broadcast.run(a, b, out, |a, b| f32::from(a <= b)),
        Binary::Equal => broadcast.run(a, b, out, |a, b| f32::from(a == b)),
        Binary::NotEqual => broadcast.run(a, b, out, |a, b| f32::from(a != b)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_broadcast_from_the_right() {
        let broadcast = Broadcast::new(&[2, 1, 2], &[3, 1], &[2, 3, 2]);
        let mut out = [0.0; 12];
        apply(Binary::Add, &broadcast, &[0.0, 1.0, 10.0, 11.0], &[100.0, 200.0, 300.0], &mut out);
        assert_eq!(out, [100., 101., 200., 201., 300., 301., 110., 111., 210., 211., 310., 311.]);
    }
}
