//! Attention without its scores in memory: a block of keys at a time, with the softmax corrected from block to block.
//!
//! Queries are the columns of both products: scores are `keys x queries`, so that the softmax works on whole registers of
//! queries, and they already have the order of a packed factor for the product with the values. Only queries are packed.

use super::elementwise::{Quantizer, exp_negative};
use super::{MAX_RANK, Odometer};
use crate::model::kernels::{Kernel, Strided, pack_float};
use crate::model::plan::{Attention, Reach};

/// Keys of a block, at most: their scores stay in the first-level cache.
const KEYS: usize = 96;
/// Queries that are followed at once: one register on the widest CPUs, and on the narrowest.
const LANES: usize = 16;
const FEW: usize = 4;

/// Where the result goes.
pub enum Out<'a> {
    Floats(&'a mut [f32]),
    Bytes(&'a mut [u8], Quantizer),
}

/// Elements of scratch that [`run`] needs.
pub fn scratch_len(kernel: Kernel, op: &Attention) -> usize {
    let width = kernel.panel_float().min(kernel.pad_float(op.queries.len));
    // Packed queries, scores, mixed values twice, their statistics, a row of the result.
    width * (op.depth.len + block(op) + 2 * op.columns.len + 3) + op.columns.len
}

/// Keys of a block: about equally many in each.
fn block(op: &Attention) -> usize {
    op.keys.len.div_ceil(op.keys.len.div_ceil(KEYS))
}

/// Statistics of each query over the keys so far.
struct Softmax<'a> {
    max: &'a mut [f32],
    sum: &'a mut [f32],
    /// What takes earlier results to the latest maximum.
    correction: &'a mut [f32],
}

/// Runs it; `scratch` is as long as [`scratch_len`] says.
pub fn run(kernel: Kernel, op: &Attention, [q, k, v]: [&[f32]; 3], out: &mut Out<'_>, scratch: &mut [f32]) {
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
        for first in (0..op.queries.len).step_by(kernel.panel_float()) {
            let q = &q[at_q + first * op.queries.query..];
            let at = at_out + first * op.queries.out;
            columns(kernel, op, first, [q, &k[at_k..], &v[at_v..]], out, at, scratch);
        }
        odometer.advance();
    }
}

/// One panel of queries, from query `first` on, which is the first of `q` and goes to `at` in the output.
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
        match out {
            Out::Floats(out) if op.columns.out == 1 => out[at..at + row.len()].copy_from_slice(row),
            Out::Floats(out) => row.iter().enumerate().for_each(|(c, r)| out[at + c * op.columns.out] = *r),
            Out::Bytes(out, to) => {
                out[at..at + row.len()].iter_mut().zip(&*row).for_each(|(o, r)| *o = to.quantize(*r));
            }
        }
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

    /// The same for `N` queries from `first` on.
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
        let mut sum = [0.0; N];
        for row in scores.chunks_exact_mut(width) {
            for ((sum, max), x) in sum.iter_mut().zip(&max).zip(&mut row[first..first + N]) {
                *x = exp_negative::<FUSED>((*x - max) * scale);
                *sum += *x;
            }
        }
        for i in 0..N {
            let correction = exp_negative::<FUSED>((old[i] - max[i]) * scale);
            self.correction[first + i] = correction;
            self.sum[first + i] = self.sum[first + i] * correction + sum[i];
            self.max[first + i] = max[i];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::plan::Quantization;

    fn reach(len: usize, query: usize, key: usize, value: usize, out: usize) -> Reach {
        Reach { len, query, key, value, out }
    }

    /// Scores, softmax and mean written out, in double precision.
    fn expected(op: &Attention, [q, k, v]: [&[f32]; 3], len: usize) -> Vec<f32> {
        let mut out = vec![0.0; len];
        let heads = op.outer[0];
        for head in 0..heads.len {
            for i in 0..op.queries.len {
                let score = |n: usize| -> f64 {
                    let at_q = head * heads.query + i * op.queries.query;
                    let at_k = head * heads.key + n * op.keys.key;
                    let product =
                        |d: usize| f64::from(q[at_q + d * op.depth.query]) * f64::from(k[at_k + d * op.depth.key]);
                    (0..op.depth.len).map(product).sum::<f64>() * f64::from(op.scale)
                };
                let scores: Vec<f64> = (0..op.keys.len).map(score).collect();
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for c in 0..op.columns.len {
                    let value = |n: usize| f64::from(v[head * heads.value + n * op.keys.value + c * op.columns.value]);
                    let mean = (0..op.keys.len).map(|n| weights[n] * value(n)).sum::<f64>() / sum;
                    out[head * heads.out + i * op.queries.out + c * op.columns.out] = mean as f32;
                }
            }
        }
        out
    }

    #[test]
    fn attention_equals_its_definition_on_every_family() {
        let mut seed = 0x2545_F491_4F6C_DD1Du64;
        let mut random = move |end: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as usize % end
        };
        for case in 0..60 {
            let (heads, queries, keys) = (random(3) + 1, random(90) + 1, random(260) + 1);
            let (depth, columns) = (random(33) + 1, random(33) + 1);
            // Heads side by side in each row, as a network has them; every third case keys by columns.
            let (pitch_q, pitch_v) = (heads * depth, heads * columns);
            let by_columns = case % 3 == 0;
            let (key_head, key_key, key_depth) =
                if by_columns { (depth * keys, 1, keys) } else { (depth, heads * depth, 1) };
            let mut op = Attention {
                outer: vec![reach(heads, depth, key_head, columns, columns)],
                queries: reach(queries, pitch_q, 0, 0, pitch_v),
                keys: reach(keys, 0, key_key, pitch_v, 0),
                depth: reach(depth, 1, key_depth, 0, 0),
                columns: reach(columns, 0, 0, 1, 1),
                scale: [0.3, 1.0, 30.0][case % 3],
                quantized_output: None,
            };
            let mut floats = |len: usize| (0..len).map(|_| random(2001) as f32 / 1000.0 - 1.0).collect::<Vec<f32>>();
            let (q, k, v) = (floats(queries * pitch_q), floats(keys * pitch_q), floats(keys * pitch_v));
            let expected = expected(&op, [&q, &k, &v], queries * pitch_v);
            for kernel in Kernel::all().iter().copied().filter(|k| k.is_supported()) {
                let mut scratch = vec![f32::NAN; scratch_len(kernel, &op)];
                let mut found = vec![f32::NAN; expected.len()];
                op.quantized_output = None;
                run(kernel, &op, [&q, &k, &v], &mut Out::Floats(&mut found), &mut scratch);
                for (found, expected) in found.iter().zip(&expected) {
                    assert!((found - expected).abs() < 2e-5, "{} case {case}: {found} {expected}", kernel.name());
                }
                let to = Quantization { scale: 0.01, zero_point: 100 };
                let mut bytes = vec![0; expected.len()];
                run(kernel, &op, [&q, &k, &v], &mut Out::Bytes(&mut bytes, Quantizer::new(to)), &mut scratch);
                for (byte, expected) in bytes.iter().zip(&expected) {
                    let found = (i32::from(*byte) - 100) as f32 * 0.01;
                    assert!((found - expected).abs() < 0.0051, "{} case {case}: {found} {expected}", kernel.name());
                }
            }
        }
    }
}
