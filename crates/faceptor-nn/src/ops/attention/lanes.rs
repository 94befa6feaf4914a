//! Attention with queries side by side in registers, for values of few columns.
//!
//! Queries are the columns of both products: scores are `keys x queries`, so that the softmax works on whole registers of
//! queries, and they already have the order of a packed factor for the product with the values. Only queries are packed.

use crate::cpu::{Kernel, Strided, pack_float};
use crate::ops::attention::{Attention, Out};
use crate::ops::functions::exp2_negative;

/// Keys of a block, at most: their scores stay in the first-level cache.
const KEYS: usize = 96;
/// Queries that are handled at once: one register on the widest CPUs, and on the narrowest.
const LANES: usize = 16;
const FEW: usize = 4;

/// Returns the elements of scratch that [`run`] needs.
pub(super) fn scratch_len(kernel: Kernel, op: &Attention) -> usize {
    let width = kernel.panel_float().min(kernel.pad_float(op.queries.len));
    // Packed queries, scores, mixed values twice, their statistics, a row of the result.
    width * (op.depth.len + block(op) + 2 * op.columns.len + 3) + op.columns.len
}

/// Returns the keys of a block: about equally many in each.
fn block(op: &Attention) -> usize {
    op.keys.len.div_ceil(op.keys.len.div_ceil(KEYS))
}

/// The softmax statistics of each query over the keys so far.
struct Softmax<'a> {
    max: &'a mut [f32],
    sum: &'a mut [f32],
    /// The factor that takes earlier results to the latest maximum.
    correction: &'a mut [f32],
}

/// Computes one step of the outer axes, whose queries, keys and values begin the slices; its result goes to `at`.
pub(super) fn run(
    kernel: Kernel,
    op: &Attention,
    [q, k, v]: [&[f32]; 3],
    out: &mut Out<'_>,
    at: usize,
    scratch: &mut [f32],
) {
    for first in (0..op.queries.len).step_by(kernel.panel_float()) {
        let q = &q[first * op.queries.query..];
        columns(kernel, op, first, [q, k, v], out, at + first * op.queries.out, scratch);
    }
}

/// Computes one panel of queries, from query `first` on, which is the first of `q` and goes to `at` in the output.
fn columns(
    kernel: Kernel,
    op: &Attention,
    first: usize,
    [q, k, v]: [&[f32]; 3],
    out: &mut Out<'_>,
    at: usize,
    scratch: &mut [f32],
) {
    let used = kernel.panel_float().min(op.queries.len - first);
    let width = kernel.pad_float(used);
    let mut rest = scratch;
    let mut take = |len: usize| {
        let (taken, left) = std::mem::take(&mut rest).split_at_mut(len);
        rest = left;
        taken
    };
    let packed = take(width * op.depth.len);
    let all_scores = take(width * block(op));
    let (mixed, partial) = (take(width * op.columns.len), take(width * op.columns.len));
    let mut softmax = Softmax { max: take(width), sum: take(width), correction: take(width) };
    let row = take(op.columns.len);
    pack_float(kernel, q, used, op.depth.len, [op.depth.query, op.queries.query], packed);
    mixed.fill(0.0);
    softmax.max.fill(f32::NEG_INFINITY);
    softmax.sum.fill(0.0);
    for first in (0..op.keys.len).step_by(block(op)) {
        let keys = block(op).min(op.keys.len - first);
        let scores = &mut all_scores[..keys * width];
        let left = Strided { values: &k[first * op.keys.key..], row_stride: op.keys.key, depth_stride: op.depth.key };
        kernel.multiply_float(left, keys, op.depth.len, packed, scores);
        kernel.vectorize(
            #[inline(always)]
            || match kernel.is_fused() {
                true => softmax.take::<true>(scores, width, op.scale),
                false => softmax.take::<false>(scores, width, op.scale),
            },
        );
        let (row_stride, depth_stride) = (op.columns.value, op.keys.value);
        let left = Strided { values: &v[first * op.keys.value..], row_stride, depth_stride };
        kernel.multiply_float(left, op.columns.len, keys, scores, partial);
        kernel.vectorize(
            #[inline(always)]
            || {
                for (mixed, partial) in mixed.chunks_exact_mut(width).zip(partial.chunks_exact(width)) {
                    let correction = softmax.correction.iter();
                    mixed.iter_mut().zip(partial).zip(correction).for_each(|((m, p), c)| *m = *m * c + p);
                }
            },
        );
    }
    softmax.sum.iter_mut().for_each(|sum| *sum = 1.0 / *sum);
    for (i, factor) in softmax.sum.iter().enumerate().take(used) {
        row.iter_mut().zip(mixed[i..].iter().step_by(width)).for_each(|(r, m)| *r = m * factor);
        let at = at + i * op.queries.out;
        out.store(at, op.columns.out, row);
    }
}

impl Softmax<'_> {
    /// Turns a block of scores, keys x queries, into exponentials.
    #[inline(always)]
    fn take<const FUSED: bool>(&mut self, scores: &mut [f32], width: usize, scale: f32) {
        let wide = width / LANES * LANES;
        // Loops, no closures: those would be compiled without the family's instructions.
        for first in (0..wide).step_by(LANES) {
            self.lanes::<FUSED, LANES>(scores, width, scale, first);
        }
        for first in (wide..width).step_by(FEW) {
            self.lanes::<FUSED, FEW>(scores, width, scale, first);
        }
    }

    /// Turns the scores of `N` queries, from `first` on, into exponentials.
    #[inline(always)]
    fn lanes<const FUSED: bool, const N: usize>(&mut self, scores: &mut [f32], width: usize, scale: f32, first: usize) {
        let mut old = [0.0; N];
        old.copy_from_slice(&self.max[first..first + N]);
        let mut max = old;
        for row in scores.chunks_exact(width) {
            for (max, x) in max.iter_mut().zip(&row[first..first + N]) {
                *max = if *x > *max { *x } else { *max };
            }
        }
        let factor = scale * std::f32::consts::LOG2_E;
        let shift = max.map(|max| max * factor);
        let mut sum = [0.0; N];
        for row in scores.chunks_exact_mut(width) {
            for ((sum, shift), x) in sum.iter_mut().zip(&shift).zip(&mut row[first..first + N]) {
                *x = exp2_negative::<FUSED>(if FUSED { x.mul_add(factor, -shift) } else { *x * factor - shift });
                *sum += *x;
            }
        }
        for i in 0..N {
            let correction = exp2_negative::<FUSED>((old[i] - max[i]) * factor);
            self.correction[first + i] = correction;
            self.sum[first + i] = self.sum[first + i] * correction + sum[i];
            self.max[first + i] = max[i];
        }
    }
}
