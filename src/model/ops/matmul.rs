//! Float32 products of activations with activations.

use super::Odometer;
use crate::model::kernels::{Kernel, Strided, pack_float};
use crate::model::plan::{MatMul, Walk};

/// Elements of scratch: the packed right factor, and the results of one outer step.
pub fn scratch_len(kernel: Kernel, op: &MatMul) -> [usize; 2] {
    let columns = kernel.pad_float(op.n.len);
    [columns * op.k.len, columns * op.m.len]
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
        let left = Strided { values: &a[at_a..], row_stride: op.m.a, depth_stride: op.k.a };
        kernel.multiply_float(left, op.m.len, op.k.len, packed, results);
        let columns = kernel.pad_float(op.n.len);
        for (row, results) in results.chunks_exact(columns).enumerate() {
            let out = &mut out[at_out + row * op.m.out..];
            if op.n.out == 1 {
                out[..op.n.len].copy_from_slice(&results[..op.n.len]);
            } else {
                results[..op.n.len].iter().enumerate().for_each(|(i, r)| out[i * op.n.out] = *r);
            }
        }
        odometer.advance();
    }
}

fn outer(op: &MatMul, f: impl Fn(&Walk) -> usize) -> [usize; super::MAX_RANK] {
    let mut values = [0; super::MAX_RANK];
    values.iter_mut().zip(&op.outer).for_each(|(v, w)| *v = f(w));
    values
}
