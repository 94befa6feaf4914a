//! Attention against its definition, on every family of this CPU.

use faceptor_test_support::check;
use proptest::array::uniform3;
use proptest::collection::vec;
use proptest::prelude::Strategy;
use proptest::sample::select;

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

/// An attention with its queries, keys and values.
#[derive(Debug)]
struct Case {
    op: Attention,
    tensors: [Vec<f32>; 3],
}

/// Whole thousandths from -1 to 1.
fn floats(len: usize) -> impl Strategy<Value = Vec<f32>> {
    vec((-1000..=1000i16).prop_map(|thousandths| f32::from(thousandths) / 1000.0), len)
}

/// Attentions with heads side by side in each row, as a network has them; a third of them has its keys by columns.
fn cases() -> impl Strategy<Value = Case> {
    let shapes = (1..=3usize, 1..=90usize, 1..=600usize, 1..=33usize, 1..=33usize);
    let kinds = (0..3u8, select(vec![0.3f32, 1.0, 30.0]), uniform3(0..4usize));
    (shapes, kinds).prop_flat_map(|((heads, queries, keys, depth, columns), (order, scale, starts))| {
        let (pitch_q, pitch_v) = (heads * depth, heads * columns);
        let (key_head, key_key, key_depth) =
            if order == 0 { (depth * keys, 1, keys) } else { (depth, heads * depth, 1) };
        let op = Attention {
            outer: vec![reach(heads, depth, key_head, columns, columns)],
            queries: reach(queries, pitch_q, 0, 0, pitch_v),
            keys: reach(keys, 0, key_key, pitch_v, 0),
            depth: reach(depth, 1, key_depth, 0, 0),
            columns: reach(columns, 0, 0, 1, 1),
            scale,
            quantized_output: None,
            starts,
        };
        let tensors = (floats(queries * pitch_q + 3), floats(keys * pitch_q + 3), floats(keys * pitch_v + 3));
        tensors.prop_map(move |(q, k, v)| Case { op: op.clone(), tensors: [q, k, v] })
    })
}

#[test]
fn attention_equals_its_definition_on_every_family() {
    check(60, cases(), |Case { op, tensors: [q, k, v] }| {
        let expected = expected(&op, [&q, &k, &v], op.queries.len * op.queries.out);
        for kernel in Kernel::available() {
            let mut scratch = vec![f32::NAN; scratch_len(kernel, &op)];
            let mut found = vec![f32::NAN; expected.len()];
            compute(kernel, &op, [&q, &k, &v], &mut Out::Floats(&mut found), &mut scratch);
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() < 2e-5, "{}: {found} {expected}", kernel.name());
            }
            let to = Quantization { scale: 0.01, zero_point: 100 };
            let mut bytes = vec![0; expected.len()];
            compute(kernel, &op, [&q, &k, &v], &mut Out::Bytes(&mut bytes, Quantizer::new(to)), &mut scratch);
            for (byte, expected) in bytes.iter().zip(&expected) {
                let found = (i32::from(*byte) - 100) as f32 * 0.01;
                assert!((found - expected).abs() < 0.0051, "{}: {found} {expected}", kernel.name());
            }
        }
    });
}
