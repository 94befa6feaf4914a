//! Attention without its scores in memory: a block of keys at a time, with the softmax corrected from block to block.

mod lanes;
mod rows;

use serde::{Deserialize, Serialize};

use crate::cpu::Kernel;
use crate::error::Error;
use crate::ops::context::{Outputs, Preparation, StepRun};
use crate::ops::quantize::Quantizer;
use crate::ops::scratch::Scratch;
use crate::ops::strides::{MAX_RANK, Odometer};
use crate::ops::{Operator, PreparedOperator, Signature, ensure};
use crate::tensor::MAX_ELEMENTS;
use crate::tensor::{Element, Quantization, Value};
use crate::thread_pool::MAX_THREADS;

/// Computes `out[.., q, c] = sum over n of p[.., q, n] values[.., n, c]`, where `p[.., q, ..]` is the softmax of
/// `scale * sum over d of queries[.., q, d] keys[.., n, d]`; all axes by strides in elements, all float32.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attention {
    /// Axes that are walked one by one, such as the heads.
    pub outer: Vec<Reach>,
    /// The axis of queries and out.
    pub queries: Reach,
    /// The axis of keys and values.
    pub keys: Reach,
    /// The axis of queries and keys, which is summed over.
    pub depth: Reach,
    /// The axis of values and out.
    pub columns: Reach,
    /// Factor of the scores, above zero.
    pub scale: f32,
    /// Given if the output is unsigned 8 bit; its columns then lie side by side.
    pub quantized_output: Option<Quantization>,
    /// The first element of queries, keys and values: they may be columns of one product.
    pub starts: [usize; 3],
}

/// An axis of attention; strides are 0 where it does not occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// Number of indices.
    pub len: usize,
    /// Stride in the queries, elements.
    pub query: usize,
    /// Stride in the keys, elements.
    pub key: usize,
    /// Stride in the values, elements.
    pub value: usize,
    /// Stride in the output, elements.
    pub out: usize,
}

impl Attention {
    fn axes(&self) -> impl Iterator<Item = &Reach> {
        self.outer.iter().chain([&self.queries, &self.keys, &self.depth, &self.columns])
    }
}

impl Operator for Attention {
    fn name(&self) -> &'static str {
        "attention f32"
    }

    fn check(&self, operands: &Signature<'_>) -> Result<(), String> {
        let (_, out) = operands.operands(3)?;
        let inputs = &operands.inputs;
        let float = inputs.iter().all(|value| value.element == Element::F32);
        let few = self.outer.len() <= MAX_RANK;
        ensure(float && few && self.scale > 0.0, "is not float32, or has too many axes or no scale")?;
        let element = if self.quantized_output.is_some() { Element::U8 } else { Element::F32 };
        let dense = self.quantized_output.is_none_or(|to| to.scale > 0.0 && self.columns.out == 1);
        ensure(out.element == element && dense, "has an output of a wrong type")?;
        let (queries, keys, depth, columns) = (&self.queries, &self.keys, &self.depth, &self.columns);
        ensure(
            self.axes().all(|axis| axis.len > 0)
                && [queries.key, queries.value, keys.query, keys.out].iter().all(|stride| *stride == 0)
                && [depth.value, depth.out, columns.query, columns.key].iter().all(|stride| *stride == 0),
            "has an empty axis, or strides where none may be",
        )?;
        let largest = MAX_ELEMENTS / 256;
        ensure(depth.len <= largest && columns.len <= largest, "is too large")?;
        let within = |value: &Value, start: usize, stride: fn(&Reach) -> usize| {
            let mut axes = self.axes();
            let last = axes.try_fold(start, |n, axis| n.checked_add((axis.len - 1).checked_mul(stride(axis))?));
            last.is_some_and(|last| last < value.len())
        };
        let fits = within(inputs[0], self.starts[0], |axis| axis.query)
            && within(inputs[1], self.starts[1], |axis| axis.key)
            && within(inputs[2], self.starts[2], |axis| axis.value)
            && within(out, 0, |axis| axis.out);
        ensure(fits, "reaches outside its operands")
    }

    fn macs(&self, _operands: &Signature<'_>) -> Option<u64> {
        let mut axes = self.outer.iter().chain([&self.queries, &self.keys]);
        let rows = axes.try_fold(1u64, |n, axis| n.checked_mul(axis.len as u64))?;
        rows.checked_mul((self.depth.len as u64).checked_add(self.columns.len as u64)?)
    }

    fn prepare(&self, step: &mut Preparation<'_>) -> Result<Box<dyn PreparedOperator>, Error> {
        let results = step.output().iter().product();
        let shares = share_queries(self, results, step.threads());
        for op in shares.iter().chain([self]) {
            step.scratch.reserve_float([scratch_len(step.kernel(), op), 0]);
        }
        Ok(Box::new(Prepared { op: self.clone(), shares }))
    }
}

/// An attention as a whole, and the share of each thread.
struct Prepared {
    op: Attention,
    shares: Vec<Attention>,
}

impl PreparedOperator for Prepared {
    fn threads(&self) -> usize {
        self.shares.len().max(1)
    }

    fn run(&self, step: &mut StepRun<'_>) -> Result<(), Error> {
        let inputs = [step.inputs.floats(0)?, step.inputs.floats(1)?, step.inputs.floats(2)?];
        let mut out = Out::new(&self.op, step.outputs)?;
        let Some(helpers) = step.helpers.as_deref_mut() else {
            compute(step.kernel, &self.op, inputs, &mut out, &mut step.scratch.floats);
            return Ok(());
        };
        let (kernel, [q, k, v]) = (step.kernel, inputs);
        let mut scratches = std::iter::once(&mut *step.scratch).chain(&mut helpers.scratch);
        let count = self.shares.len().min(helpers.pool.threads());
        let mut shares: [Option<Share<'_>>; MAX_THREADS] = [const { None }; MAX_THREADS];
        let mut before = 0;
        for (op, share) in self.shares.iter().zip(&mut shares[..count]) {
            let out = out.split_first(op.queries.len * op.queries.out);
            let q = &q[before * op.queries.query..];
            *share = scratches.next().map(|scratch| Share { op, q, out, scratch });
            before += op.queries.len;
        }
        helpers.pool.each(&mut shares[..count], |share| {
            if let Some(Share { op, q, out, scratch }) = share {
                compute(kernel, op, [*q, k, v], out, &mut scratch.floats);
            }
        });
        Ok(())
    }
}

/// One thread's share: some of the queries, and their results.
struct Share<'a> {
    op: &'a Attention,
    q: &'a [f32],
    out: Out<'a>,
    scratch: &'a mut Scratch,
}

/// Splits an attention by queries, where the results of neighbouring queries follow each other; returns none where they do
/// not, or where there are too few of them.
fn share_queries(op: &Attention, results: usize, threads: usize) -> Vec<Attention> {
    let all = op.queries.len;
    if threads < 2 || all < 2 * threads || op.queries.out * all != results {
        return Vec::new();
    }
    let share = |thread: usize| all * (thread + 1) / threads - all * thread / threads;
    (0..threads).map(|thread| Attention { queries: Reach { len: share(thread), ..op.queries }, ..op.clone() }).collect()
}

/// The fewest columns of values that fill enough of a register.
const MIN_COLUMNS: usize = 8;

/// The output of an attention.
enum Out<'a> {
    Floats(&'a mut [f32]),
    Bytes(&'a mut [u8], Quantizer),
}

impl<'a> Out<'a> {
    fn new(op: &Attention, outputs: &'a mut Outputs) -> Result<Out<'a>, Error> {
        Ok(match op.quantized_output {
            Some(to) => Out::Bytes(outputs.bytes()?, Quantizer::new(to)),
            None => Out::Floats(outputs.floats()?),
        })
    }

    /// Splits off the first `len` elements.
    fn split_first(&mut self, len: usize) -> Out<'a> {
        match self {
            Out::Floats(all) => {
                let (first, rest) = std::mem::take(all).split_at_mut(len);
                *all = rest;
                Out::Floats(first)
            }
            Out::Bytes(all, to) => {
                let (first, rest) = std::mem::take(all).split_at_mut(len);
                *all = rest;
                Out::Bytes(first, *to)
            }
        }
    }

    /// Stores a query's result, whose columns lie `stride` apart from `at` on.
    #[inline(always)]
    fn store(&mut self, at: usize, stride: usize, row: &[f32]) {
        match self {
            Out::Floats(out) if stride == 1 => out[at..at + row.len()].copy_from_slice(row),
            Out::Floats(out) => row.iter().enumerate().for_each(|(c, r)| out[at + c * stride] = *r),
            Out::Bytes(out, to) => {
                out[at..at + row.len()].iter_mut().zip(row).for_each(|(o, r)| *o = to.quantize(*r));
            }
        }
    }
}

/// Returns the elements of scratch that [`compute`] needs.
fn scratch_len(kernel: Kernel, op: &Attention) -> usize {
    if in_rows(op) { rows::scratch_len(kernel, op) } else { lanes::scratch_len(kernel, op) }
}

/// Returns whether queries are rows; otherwise they are lanes.
fn in_rows(op: &Attention) -> bool {
    op.columns.len >= MIN_COLUMNS
}

/// Computes the output; `scratch` is as long as [`scratch_len`] says.
fn compute(kernel: Kernel, op: &Attention, [q, k, v]: [&[f32]; 3], out: &mut Out<'_>, scratch: &mut [f32]) {
    let [q, k, v] = [&q[op.starts[0]..], &k[op.starts[1]..], &v[op.starts[2]..]];
    let rank = op.outer.len();
    let strides = |f: fn(&Reach) -> usize| {
        let mut values = [0; MAX_RANK];
        values.iter_mut().zip(&op.outer).for_each(|(v, w)| *v = f(w));
        values
    };
    let lens = strides(|w| w.len);
    let (query, key, value, to) = (strides(|w| w.query), strides(|w| w.key), strides(|w| w.value), strides(|w| w.out));
    let mut odometer = Odometer::new(&lens[..rank], [&query[..rank], &key[..rank], &value[..rank], &to[..rank]]);
    for _ in 0..lens[..rank].iter().product() {
        let [at_q, at_k, at_v, at_out] = odometer.at;
        let inputs = [&q[at_q..], &k[at_k..], &v[at_v..]];
        if in_rows(op) {
            rows::run(kernel, op, inputs, out, at_out, scratch);
        } else {
            lanes::run(kernel, op, inputs, out, at_out, scratch);
        }
        odometer.advance();
    }
}

#[cfg(test)]
mod tests;
