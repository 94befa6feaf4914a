//! Attention with queries one below the other: keys and values are packed, whatever the number of queries, and the softmax
//! goes along each query's row of scores.

use crate::cpu::{Kernel, Strided, pack_float};
use crate::ops::attention::{Attention, Out};
use crate::ops::functions::exp2_negative;

/// Keys of a block, at most: packed, they and their values stay in the nearest caches.
const KEYS: usize = 256;
/// Queries that share a block of scores.
const ROWS: usize = 12;
/// Elements of a row that are handled at once: one register on the widest CPUs, and on the narrowest.
const LANES: usize = 16;
const FEW: usize = 4;

/// Returns the keys of a block: about equally many in each.
fn block(op: &Attention) -> usize {
    op.keys.len.div_ceil(op.keys.len.div_ceil(KEYS))
}

/// Returns the elements of scratch that [`run`] needs.
pub(super) fn scratch_len(kernel: Kernel, op: &Attention) -> usize {
    let (keys, columns) = (kernel.pad_float(block(op)), kernel.pad_float(op.columns.len));
    // Packed keys and values, scores, mixed values of some queries and of all, two statistics of each.
    keys * op.depth.len + columns * block(op) + ROWS * (keys + columns) + op.queries.len * (columns + 2)
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
    let columns = kernel.pad_float(op.columns.len);
    let mut rest = scratch;
    let mut take = |len: usize| {
        let (taken, left) = std::mem::take(&mut rest).split_at_mut(len);
        rest = left;
        taken
    };
    let all_keys = take(kernel.pad_float(block(op)) * op.depth.len);
    let all_values = take(columns * block(op));
    let all_scores = take(ROWS * kernel.pad_float(block(op)));
    let partial = take(ROWS * columns);
    let mixed = take(op.queries.len * columns);
    let (max, sum) = (take(op.queries.len), take(op.queries.len));
    max.fill(f32::NEG_INFINITY);
    sum.fill(0.0);
    mixed.fill(0.0);
    for first in (0..op.keys.len).step_by(block(op)) {
        let keys = block(op).min(op.keys.len - first);
        let width = kernel.pad_float(keys);
        let packed_keys = &mut all_keys[..width * op.depth.len];
        pack_float(kernel, &k[first * op.keys.key..], keys, op.depth.len, [op.depth.key, op.keys.key], packed_keys);
        let packed_values = &mut all_values[..columns * keys];
        let strides = [op.keys.value, op.columns.value];
        pack_float(kernel, &v[first * op.keys.value..], op.columns.len, keys, strides, packed_values);
        for row in (0..op.queries.len).step_by(ROWS) {
            let rows = ROWS.min(op.queries.len - row);
            let scores = &mut all_scores[..rows * width];
            let (row_stride, depth_stride) = (op.queries.query, op.depth.query);
            let left = Strided { values: &q[row * row_stride..], row_stride, depth_stride };
            kernel.multiply_float(left, rows, op.depth.len, packed_keys, scores);
            let mixed = &mut mixed[row * columns..][..rows * columns];
            let statistics = max[row..].iter_mut().zip(&mut sum[row..]);
            let rows_of_scores = scores.chunks_exact_mut(width).zip(mixed.chunks_exact_mut(columns));
            kernel.vectorize(
                #[inline(always)]
                || match kernel.is_fused() {
                    true => softmax::<true>(rows_of_scores, statistics, keys, op.scale),
                    false => softmax::<false>(rows_of_scores, statistics, keys, op.scale),
                },
            );
            let left = Strided { values: scores, row_stride: width, depth_stride: 1 };
            kernel.multiply_float(left, rows, keys, packed_values, partial);
            kernel.vectorize(
                #[inline(always)]
                || mixed.iter_mut().zip(&*partial).for_each(|(m, p)| *m += p),
            );
        }
    }
    kernel.vectorize(
        #[inline(always)]
        || {
            for (i, (row, sum)) in mixed.chunks_exact_mut(columns).zip(&*sum).enumerate() {
                let factor = 1.0 / sum;
                row.iter_mut().for_each(|m| *m *= factor);
                out.store(at + i * op.queries.out, op.columns.out, &row[..op.columns.len]);
            }
        },
    );
}

/// Turns rows of scores into exponentials, and takes the values mixed so far to the latest maximum.
#[inline(always)]
fn softmax<'a, const FUSED: bool>(
    rows: impl Iterator<Item = (&'a mut [f32], &'a mut [f32])>,
    statistics: impl Iterator<Item = (&'a mut f32, &'a mut f32)>,
    keys: usize,
    scale: f32,
) {
    let factor = scale * std::f32::consts::LOG2_E;
    for ((scores, mixed), (max, sum)) in rows.zip(statistics) {
        scores[keys..].fill(f32::NEG_INFINITY);
        let highest = highest(scores, *max);
        let here = exponentials::<FUSED>(scores, factor, highest * factor);
        if *max == f32::NEG_INFINITY {
            *sum = here;
        } else if *max == highest {
            *sum += here;
        } else {
            let correction = exp2_negative::<FUSED>((*max - highest) * factor);
            *sum = *sum * correction + here;
            mixed.iter_mut().for_each(|m| *m *= correction);
        }
        *max = highest;
    }
}

#[inline(always)]
fn highest(scores: &[f32], start: f32) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [start; LANES];
    let (wide, rest) = scores.as_chunks::<LANES>();
    let (few, _) = rest.as_chunks::<FEW>();
    wide.iter().for_each(|x| lanes.iter_mut().zip(x).for_each(|(l, x)| *l = larger(*l, *x)));
    few.iter().for_each(|x| lanes.iter_mut().zip(x).for_each(|(l, x)| *l = larger(*l, *x)));
    across(lanes, larger)
}

/// Combines all lanes by halves: one after the other, each would wait for the one before it.
#[inline(always)]
fn across(lanes: [f32; LANES], combine: impl Fn(f32, f32) -> f32) -> f32 {
    // An array for each half: compilers keep those in registers.
    let mut eight = [0.0; LANES / 2];
    for i in 0..8 {
        eight[i] = combine(lanes[i], lanes[i + 8]);
    }
    let mut four = [0.0; 4];
    for i in 0..4 {
        four[i] = combine(eight[i], eight[i + 4]);
    }
    combine(combine(four[0], four[2]), combine(four[1], four[3]))
}

/// Replaces each score by `2^(score * factor - shift)`; returns their sum.
#[inline(always)]
fn exponentials<const FUSED: bool>(scores: &mut [f32], factor: f32, shift: f32) -> f32 {
    let power = |x: f32| exp2_negative::<FUSED>(if FUSED { x.mul_add(factor, -shift) } else { x * factor - shift });
    let mut lanes = [0f32; LANES];
    let (wide, rest) = scores.as_chunks_mut::<LANES>();
    for x in wide {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *x = power(*x);
            *lane += *x;
        }
    }
    for x in rest.as_chunks_mut::<FEW>().0 {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *x = power(*x);
            *lane += *x;
        }
    }
    across(lanes, |a, b| a + b)
}
