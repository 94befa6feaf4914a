//! Attention without its scores in memory: a block of keys at a time, with the softmax corrected from block to block.

mod lanes;
mod rows;

use crate::cpu::Kernel;
use crate::ops::elementwise::Quantizer;
use crate::ops::{MAX_RANK, Odometer};
use crate::plan::{Attention, Reach};

/// Values of fewer columns leave too much of a register empty.
const MIN_COLUMNS: usize = 8;

/// Where the result goes.
pub enum Out<'a> {
    Floats(&'a mut [f32]),
    Bytes(&'a mut [u8], Quantizer),
}

impl Out<'_> {
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

/// Elements of scratch that [`run`] needs.
pub fn scratch_len(kernel: Kernel, op: &Attention) -> usize {
    if in_rows(op) { rows::scratch_len(kernel, op) } else { lanes::scratch_len(kernel, op) }
}

/// Whether queries are rows; otherwise they are lanes.
fn in_rows(op: &Attention) -> bool {
    op.columns.len >= MIN_COLUMNS
}

/// Runs it; `scratch` is as long as [`scratch_len`] says.
pub fn run(kernel: Kernel, op: &Attention, [q, k, v]: [&[f32]; 3], out: &mut Out<'_>, scratch: &mut [f32]) {
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
