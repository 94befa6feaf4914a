//! Float32 products of activations with activations.

use serde::{Deserialize, Serialize};

use crate::cpu::{Kernel, Strided, pack_float};
use crate::error::Error;
use crate::ops::context::{Preparation, StepRun};
use crate::ops::strides::{MAX_RANK, Odometer};
use crate::ops::{Operator, PreparedOperator, Signature, ensure};
use crate::tensor::MAX_ELEMENTS;
use crate::tensor::Value;

/// Computes `out[.., m, n] = sum over k of a[.., m, k] b[.., k, n]`, all axes by strides in elements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MatMul {
    /// Axes that are walked one by one.
    pub outer: Vec<Walk>,
    /// The rows of a and out; the stride in b is 0.
    pub m: Walk,
    /// The columns of b and out; the stride in a is 0.
    pub n: Walk,
    /// The axis that is summed over; the stride in out is 0.
    pub k: Walk,
}

/// An axis of a [`MatMul`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    /// Number of indices.
    pub len: usize,
    /// Stride in a, elements.
    pub a: usize,
    /// Stride in b, elements.
    pub b: usize,
    /// Stride in out, elements.
    pub out: usize,
}

impl MatMul {
    fn walks(&self) -> impl Iterator<Item = &Walk> {
        self.outer.iter().chain([&self.m, &self.n, &self.k])
    }
}

impl Operator for MatMul {
    fn name(&self) -> &'static str {
        "matmul f32"
    }

    fn check(&self, operands: &Signature<'_>) -> Result<(), String> {
        let (a, out) = operands.operands(2)?;
        let b = operands.inputs[1];
        ensure(operands.is_float() && self.outer.len() <= MAX_RANK, "is not float32, or has too many axes")?;
        ensure(self.m.b == 0 && self.n.a == 0 && self.k.out == 0, "has strides where none may be")?;
        ensure(self.walks().all(|walk| walk.len > 0), "has an empty axis")?;
        let area = |a: &Walk, b: &Walk| a.len.checked_mul(b.len).is_some_and(|n| n <= MAX_ELEMENTS);
        ensure(area(&self.n, &self.k) && area(&self.n, &self.m), "is too large")?;
        let within = |value: &Value, stride: fn(&Walk) -> usize| {
            let mut walks = self.walks();
            let last = walks.try_fold(0usize, |n, walk| n.checked_add((walk.len - 1).checked_mul(stride(walk))?));
            last.is_some_and(|last| last < value.len())
        };
        let fits = within(a, |walk| walk.a) && within(b, |walk| walk.b) && within(out, |walk| walk.out);
        ensure(fits, "reaches outside its operands")
    }

    fn macs(&self, _operands: &Signature<'_>) -> Option<u64> {
        self.walks().try_fold(1u64, |n, walk| n.checked_mul(walk.len as u64))
    }

    fn prepare(&self, step: &mut Preparation<'_>) -> Result<Box<dyn PreparedOperator>, Error> {
        let len = scratch_len(step.kernel(), self);
        step.scratch.reserve_float(len);
        Ok(Box::new(self.clone()))
    }
}

impl PreparedOperator for MatMul {
    fn run(&self, step: &mut StepRun<'_>) -> Result<(), Error> {
        let (a, b, out) = (step.inputs.floats(0)?, step.inputs.floats(1)?, step.outputs.floats()?);
        multiply(step.kernel, self, a, b, out, &mut step.scratch.floats, &mut step.scratch.results);
        Ok(())
    }
}

/// Elements of results that should stay in the first-level cache until they are stored.
const BLOCK: usize = 6 << 10;
/// A multiple of the rows that any kernel takes at once.
const ROWS: usize = 24;

/// Returns the number of rows that are multiplied before they are stored.
fn block(columns: usize, op: &MatMul) -> usize {
    (BLOCK / columns).next_multiple_of(ROWS).max(ROWS).min(op.m.len)
}

/// Returns the elements of scratch: the packed right factor, and the results of a block of rows.
fn scratch_len(kernel: Kernel, op: &MatMul) -> [usize; 2] {
    let columns = kernel.pad_float(op.n.len);
    [columns * op.k.len, columns * block(columns, op)]
}

/// Multiplies; `packed` and `results` are as long as [`scratch_len`] says.
fn multiply(
    kernel: Kernel,
    op: &MatMul,
    a: &[f32],
    b: &[f32],
    out: &mut [f32],
    packed: &mut [f32],
    results: &mut [f32],
) {
    let [packed_len, results_len] = scratch_len(kernel, op);
    let (packed, results) = (&mut packed[..packed_len], &mut results[..results_len]);
    let columns = kernel.pad_float(op.n.len);
    let rows = block(columns, op);
    let lens = outer(op, |w| w.len);
    let strides = [outer(op, |w| w.a), outer(op, |w| w.b), outer(op, |w| w.out)];
    let rank = op.outer.len();
    let mut odometer = Odometer::new(&lens[..rank], [&strides[0][..rank], &strides[1][..rank], &strides[2][..rank]]);
    let steps: usize = lens[..rank].iter().product();
    let mut packed_from = None;
    for _ in 0..steps {
        let [at_a, at_b, at_out] = odometer.at;
        if packed_from != Some(at_b) {
            pack_float(kernel, &b[at_b..], op.n.len, op.k.len, [op.k.b, op.n.b], packed);
            packed_from = Some(at_b);
        }
        for first in (0..op.m.len).step_by(rows) {
            let here = rows.min(op.m.len - first);
            let results = &mut results[..columns * here];
            let left = Strided { values: &a[at_a + first * op.m.a..], row_stride: op.m.a, depth_stride: op.k.a };
            kernel.multiply_float(left, here, op.k.len, packed, results);
            for (row, results) in (first..).zip(results.chunks_exact(columns)) {
                let out = &mut out[at_out + row * op.m.out..];
                if op.n.out == 1 {
                    out[..op.n.len].copy_from_slice(&results[..op.n.len]);
                } else {
                    results[..op.n.len].iter().enumerate().for_each(|(i, r)| out[i * op.n.out] = *r);
                }
            }
        }
        odometer.advance();
    }
}

fn outer(op: &MatMul, f: impl Fn(&Walk) -> usize) -> [usize; MAX_RANK] {
    let mut values = [0; MAX_RANK];
    values.iter_mut().zip(&op.outer).for_each(|(v, w)| *v = f(w));
    values
}
