//! Float32 products of activations with activations.

use crate::cpu::{Kernel, Strided, pack_float};
use crate::ops::Odometer;
use crate::plan::{MatMul, Walk};

/// Elements of results that should stay in the first-level cache until they are stored.
const BLOCK: usize = 6 << 10;
/// What the kernels' rows at once divide.
const ROWS: usize = 24;

/// Rows that are multiplied before they are stored.
fn block(columns: usize, op: &MatMul) -> usize {
    (BLOCK / columns).next_multiple_of(ROWS).max(ROWS).min(op.m.len)
}

/// Elements of scratch: the packed right factor, and the results of a block of rows.
pub fn scratch_len(kernel: Kernel, op: &MatMul) -> [usize; 2] {
    let columns = kernel.pad_float(op.n.len);
    [columns * op.k.len, columns * block(columns, op)]
}

/// Runs it; `packed` and `results` are as long as [`scratch_len`] says.
pub fn run(
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

fn outer(op: &MatMul, f: impl Fn(&Walk) -> usize) -> [usize; crate::ops::MAX_RANK] {
    let mut values = [0; crate::ops::MAX_RANK];
    values.iter_mut().zip(&op.outer).for_each(|(v, w)| *v = f(w));
    values
}
