//! Sums, maxima and other reductions of axes to the length 1.

use crate::error::Error;
use crate::ops::context::{Preparation, StepRun};
use crate::ops::strides::{Odometer, dense_strides};
use crate::ops::{Operator, PreparedOperator, Signature, ensure};
use serde::{Deserialize, Serialize};

/// A combination of many numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reduction {
    /// Their sum.
    Sum,
    /// The largest.
    Max,
    /// The smallest.
    Min,
    /// The mean of their squares.
    MeanOfSquares,
    /// Their product.
    Product,
}

/// Reduces some axes, which keep the length 1.
pub(crate) struct Reduce<'a> {
    pub(crate) by: Reduction,
    pub(crate) axes: &'a [usize],
}

impl Operator for Reduce<'_> {
    fn name(&self) -> &'static str {
        "reduce"
    }

    fn check(&self, operands: &Signature<'_>) -> Result<(), String> {
        let (x, out) = operands.operands(1)?;
        let kept = |(i, len): (usize, &usize)| if self.axes.contains(&i) { 1 } else { *len };
        let expected: Vec<usize> = x.shape.iter().enumerate().map(kept).collect();
        let axes = self.axes.iter().all(|axis| *axis < x.shape.len());
        ensure(operands.is_float() && axes && expected == out.shape, "has wrong axes")
    }

    fn prepare(&self, step: &mut Preparation<'_>) -> Result<Box<dyn PreparedOperator>, Error> {
        Ok(Box::new(Prepared { by: self.by, reduced: Reduced::new(step.input(0), self.axes) }))
    }
}

struct Prepared {
    by: Reduction,
    reduced: Reduced,
}

impl PreparedOperator for Prepared {
    fn run(&self, step: &mut StepRun<'_>) -> Result<(), Error> {
        let (x, out) = (step.inputs.floats(0)?, step.outputs.floats()?);
        step.kernel.vectorize(
            #[inline(always)]
            || reduce(self.by, &self.reduced, x, out),
        );
        Ok(())
    }
}

/// The walk of a reduction: blocks of `len` rows of `inner` elements, each of which becomes one row.
struct Reduced {
    len: usize,
    inner: usize,
    /// Strides of the output over the input's shape, if the reduced axes do not lie side by side.
    scattered: Option<(Vec<usize>, Vec<usize>)>,
    /// Elements that become one.
    count: f32,
}

impl Reduced {
    fn new(shape: &[usize], axes: &[usize]) -> Reduced {
        let count = axes.iter().map(|a| shape[*a]).product::<usize>();
        let first = axes.iter().copied().min().unwrap_or(0);
        let last = axes.iter().copied().max().unwrap_or(0);
        let side_by_side = (first..=last).all(|a| axes.contains(&a) || shape[a] == 1);
        let scattered = (!side_by_side).then(|| {
            let kept = shape.iter().enumerate().map(|(i, d)| if axes.contains(&i) { 1 } else { *d });
            let mut strides = dense_strides(&kept.collect::<Vec<_>>());
            axes.iter().for_each(|a| strides[*a] = 0);
            (shape.to_vec(), strides)
        });
        Reduced { len: count, inner: shape[last + 1..].iter().product(), scattered, count: count as f32 }
    }

    #[inline(always)]
    fn run(&self, start: f32, x: &[f32], out: &mut [f32], combine: impl Fn(f32, f32) -> f32) {
        out.fill(start);
        if let Some((shape, strides)) = &self.scattered {
            let mut odometer = Odometer::new(shape, [strides]);
            for x in x {
                let out = &mut out[odometer.at[0]];
                *out = combine(*out, *x);
                odometer.advance();
            }
            return;
        }
        for (x, out) in x.chunks_exact(self.len * self.inner).zip(out.chunks_exact_mut(self.inner)) {
            for x in x.chunks_exact(self.inner) {
                out.iter_mut().zip(x).for_each(|(o, x)| *o = combine(*o, *x));
            }
        }
    }
}

/// Reduces; the axes keep the length 1.
#[inline(always)]
fn reduce(by: Reduction, reduced: &Reduced, x: &[f32], out: &mut [f32]) {
    if reduced.inner == 1 && reduced.scattered.is_none() && matches!(by, Reduction::Sum | Reduction::MeanOfSquares) {
        for (out, x) in out.iter_mut().zip(x.chunks_exact(reduced.len)) {
            *out = if by == Reduction::Sum { sum_of(x, |x| x) } else { sum_of(x, |x| x * x) };
        }
    } else {
        match by {
            Reduction::Sum => reduced.run(0.0, x, out, |a, b| a + b),
            Reduction::Max => reduced.run(f32::NEG_INFINITY, x, out, f32::max),
            Reduction::Min => reduced.run(f32::INFINITY, x, out, f32::min),
            Reduction::MeanOfSquares => reduced.run(0.0, x, out, |a, b| a + b * b),
            Reduction::Product => reduced.run(1.0, x, out, |a, b| a * b),
        }
    }
    if by == Reduction::MeanOfSquares {
        out.iter_mut().for_each(|o| *o /= reduced.count);
    }
}

/// Sums in sixteen lanes, which vectorizes and errs less than one after another.
#[inline(always)]
pub(crate) fn sum_of(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; 16];
    let (chunks, rest) = x.as_chunks::<16>();
    let rest: f32 = rest.iter().map(|x| f(*x)).sum();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(l, x)| *l += f(*x));
    }
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reduces_any_axes() {
        let x: Vec<f32> = (0..24).map(|i| i as f32).collect();
        let sums = |axes: &[usize], len: usize| {
            let mut out = vec![0.0; len];
            reduce(Reduction::Sum, &Reduced::new(&[2, 3, 4], axes), &x, &mut out);
            out
        };
        assert_eq!(sums(&[2], 6), [6., 22., 38., 54., 70., 86.]);
        assert_eq!(sums(&[1], 8), [12., 15., 18., 21., 48., 51., 54., 57.]);
        assert_eq!(sums(&[0, 2], 3), [60., 92., 124.]);
        assert_eq!(sums(&[1, 2], 2), [66., 210.]);
    }
}
