//! Axes in another order, and axes of length 1 repeated.

use crate::error::Error;
use crate::ops::context::Preparation;
use crate::ops::gather::Gather;
use crate::ops::strides::broadcasts;
use crate::ops::{Operator, PreparedOperator, Signature, ensure};

/// Makes output axis `i` of input axis `order[i]`.
pub(crate) struct Transpose<'a> {
    pub(crate) order: &'a [usize],
}

impl Operator for Transpose<'_> {
    fn name(&self) -> &'static str {
        "transpose"
    }

    fn check(&self, operands: &Signature<'_>) -> Result<(), String> {
        let (x, out) = operands.operands(1)?;
        let mut sorted = self.order.to_vec();
        sorted.sort_unstable();
        let permutation = sorted.iter().copied().eq(0..x.shape.len());
        let moved = || self.order.iter().map(|i| x.shape[*i]).eq(out.shape.iter().copied());
        ensure(operands.is_movable() && permutation && moved(), "has a wrong order")
    }

    fn prepare(&self, step: &mut Preparation<'_>) -> Result<Box<dyn PreparedOperator>, Error> {
        Ok(Box::new(Gather::transpose(step.input(0), self.order)))
    }
}

/// Repeats axes of length 1.
pub(crate) struct Broadcast;

impl Operator for Broadcast {
    fn name(&self) -> &'static str {
        "broadcast"
    }

    fn check(&self, operands: &Signature<'_>) -> Result<(), String> {
        let (x, out) = operands.operands(1)?;
        ensure(operands.is_movable() && broadcasts(&x.shape, &out.shape), "has shapes that do not fit")
    }

    fn prepare(&self, step: &mut Preparation<'_>) -> Result<Box<dyn PreparedOperator>, Error> {
        Ok(Box::new(Gather::broadcast(step.input(0), step.output())))
    }
}
