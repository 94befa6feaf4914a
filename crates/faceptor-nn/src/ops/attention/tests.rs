//! Attention against its definition, on every family of this CPU.

use crate::ops::attention::*;
use crate::tensor::Quantization;

fn reach(len: usize, query: usize, key: usize, value: usize, out: usize) -> Reach {
    Reach { len, query, key, value, out }
}

/// Computes scores, softmax and mean written out, in double precision.
fn expected(op: &Attention, [q, k, v]: [&[f32]; 3], len: usize) -> Vec<f32> {
    let [q, k, v] = [&q[op.starts[0]..], &k[op.starts[1]..], &v[op.starts[2]..]];
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
        let (heads, queries, keys) = (random(3) + 1, random(90) + 1, random(600) + 1);
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
            starts: [random(4), random(4), random(4)],
        };
        let mut floats = |len: usize| (0..len).map(|_| random(2001) as f32 / 1000.0 - 1.0).collect::<Vec<f32>>();
        let (q, k, v) = (floats(queries * pitch_q + 3), floats(keys * pitch_q + 3), floats(keys * pitch_v + 3));
        let expected = expected(&op, [&q, &k, &v], queries * pitch_v);
        for kernel in Kernel::available() {
            let mut scratch = vec![f32::NAN; scratch_len(kernel, &op)];
            let mut found = vec![f32::NAN; expected.len()];
            op.quantized_output = None;
            compute(kernel, &op, [&q, &k, &v], &mut Out::Floats(&mut found), &mut scratch);
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() < 2e-5, "{} case {case}: {found} {expected}", kernel.name());
            }
            let to = Quantization { scale: 0.01, zero_point: 100 };
            let mut bytes = vec![0; expected.len()];
            compute(kernel, &op, [&q, &k, &v], &mut Out::Bytes(&mut bytes, Quantizer::new(to)), &mut scratch);
            for (byte, expected) in bytes.iter().zip(&expected) {
                let found = (i32::from(*byte) - 100) as f32 * 0.01;
                assert!((found - expected).abs() < 0.0051, "{} case {case}: {found} {expected}", kernel.name());
            }
        }
    }
}
