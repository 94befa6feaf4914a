//! Finds attention: a product, softmax over its columns and a second product become one step.
//!
//! A soft-argmax is attention too, with the coordinates of the pixels as values.

use crate::graph::Graph;
use crate::lower::einsum::strides;
use faceptor_nn::plan::{Attention, Binary, Element, MatMul, Op, Reach, Reduction, Step, ValueId, Walk};

/// Replaces every product, softmax, product. Returns whether there was one.
pub fn find_attention(graph: &mut Graph) -> bool {
    let mut changed = false;
    let mut i = 0;
    while i < graph.steps.len() {
        changed |= match graph.steps[i].op {
            Op::Softmax { .. } => fuse(graph, i),
            Op::Concat { .. } => mean_of_coordinates(graph, i),
            _ => false,
        };
        i += 1;
    }
    changed
}

/// Fuses a constant factor of the queries or the scores, and a quantization of the result, into attention.
pub fn absorb(graph: &mut Graph) -> bool {
    let mut changed = false;
    for i in 0..graph.steps.len() {
        changed |= absorb_scale(graph, i);
    }
    let mut i = 0;
    while i < graph.steps.len() {
        changed |= absorb_quantize(graph, i);
        i += 1;
    }
    changed
}

/// Returns the value before a chain of reshapes that nothing else reads.
fn before_reshapes(graph: &Graph, mut value: ValueId) -> ValueId {
    while let Some(step) = graph.producer(value).map(|p| &graph.steps[p])
        && step.op == Op::Reshape
        && graph.only_consumer(value).is_some()
    {
        value = step.inputs[0];
    }
    value
}

/// Returns the only step that reads a value, directly or after reshapes.
fn after_reshapes(graph: &Graph, value: ValueId) -> Option<(usize, ValueId)> {
    let next = graph.only_consumer(value)?;
    if graph.steps[next].op == Op::Reshape {
        after_reshapes(graph, graph.steps[next].outputs[0])
    } else {
        Some((next, value))
    }
}

fn swapped(op: &MatMul) -> MatMul {
    let swap = |w: &Walk| Walk { a: w.b, b: w.a, ..*w };
    MatMul { outer: op.outer.iter().map(swap).collect(), m: swap(&op.n), n: swap(&op.m), k: swap(&op.k) }
}

fn fuse(graph: &mut Graph, i: usize) -> bool {
    let Op::Softmax { axis } = graph.steps[i].op else { return false };
    let (x, out) = (graph.steps[i].inputs[0], graph.steps[i].outputs[0]);
    let shape = graph.shape(x).to_vec();
    let len = shape[axis];
    if shape[axis + 1..].iter().any(|d| *d != 1) || graph.only_consumer(x).is_none() {
        return false;
    }
    let mut value = before_reshapes(graph, x);
    let mut scale = 1.0;
    // The factor of the scores, if there is one.
    if let Some(p) = graph.producer(value)
        && let Op::Binary(op @ (Binary::Mul | Binary::Div)) = graph.steps[p].op
        && let [a, b] = graph.steps[p].inputs[..]
        && let Some(factor) = graph.scalar(b)
        && graph.slot(a).len() == graph.slot(value).len()
        && graph.only_consumer(a).is_some()
    {
        scale = if op == Binary::Mul { factor } else { 1.0 / factor };
        value = before_reshapes(graph, a);
    }
    let Some(first) = graph.producer(value) else { return false };
    let Op::MatMul(scores) = &graph.steps[first].op else { return false };
    if graph.only_consumer(value).is_none() {
        return false;
    }
    let Some((second, mixed_from)) = after_reshapes(graph, out) else { return false };
    let Op::MatMul(mixed) = &graph.steps[second].op else { return false };
    let (mut scores, mut mixed) = (scores.clone(), mixed.clone());
    let (mut qk, mut pv) = (graph.steps[first].inputs.clone(), graph.steps[second].inputs.clone());
    // Queries are the left operand of the first product, the scores that of the second.
    if scores.m.len == len && scores.m.out == 1 {
        scores = swapped(&scores);
        qk.swap(0, 1);
    }
    if pv[1] == mixed_from {
        mixed = swapped(&mixed);
        pv.swap(0, 1);
    }
    let fits = pv[0] == mixed_from
        && pv[1] != mixed_from
        && scores.n.len == len
        && scores.n.out == 1
        && mixed.k.len == len
        && mixed.k.a == 1
        && scores.m.len == mixed.m.len
        && (scores.m.out == mixed.m.a || scores.m.len == 1)
        && scale > 0.0
        && scale.is_finite();
    let Some(outer) = fits.then(|| pair(&scores.outer, &mixed.outer)).flatten() else { return false };
    let none = Reach { len: 1, query: 0, key: 0, value: 0, out: 0 };
    let op = Attention {
        outer,
        queries: Reach { len: scores.m.len, query: scores.m.a, out: mixed.m.out, ..none },
        keys: Reach { len, key: scores.n.b, value: mixed.k.b, ..none },
        depth: Reach { len: scores.k.len, query: scores.k.a, key: scores.k.b, ..none },
        columns: Reach { len: mixed.n.len, value: mixed.n.b, out: mixed.n.out, ..none },
        scale,
        quantized_output: None,
        starts: [0; 3],
    };
    graph.steps[second].op = Op::Attention(op);
    graph.steps[second].inputs = vec![qk[0], qk[1], pv[1]];
    true
}

/// Pairs the outer axes of both products, if both walk the scores in the same way.
fn pair(scores: &[Walk], mixed: &[Walk]) -> Option<Vec<Reach>> {
    if scores.len() != mixed.len() {
        return None;
    }
    let one = |s: &Walk| {
        let mut alike = mixed.iter().filter(|m| m.a == s.out && m.len == s.len);
        let m = alike.next().filter(|_| alike.next().is_none())?;
        Some(Reach { len: s.len, query: s.a, key: s.b, value: m.b, out: m.out })
    };
    scores.iter().map(one).collect()
}

fn absorb_scale(graph: &mut Graph, i: usize) -> bool {
    let Op::Attention(op) = &graph.steps[i].op else { return false };
    let query = graph.steps[i].inputs[0];
    let Some(p) = graph.producer(query).filter(|_| graph.only_consumer(query).is_some()) else { return false };
    let Op::Binary(binary @ (Binary::Mul | Binary::Div)) = graph.steps[p].op else { return false };
    let [a, b] = graph.steps[p].inputs[..] else { return false };
    let Some(factor) = graph.scalar(b).filter(|_| graph.slot(a).len() == graph.slot(query).len()) else { return false };
    let scale = op.scale * if binary == Binary::Mul { factor } else { 1.0 / factor };
    if !(scale > 0.0 && scale.is_finite()) {
        return false;
    }
    let op = Op::Attention(Attention { scale, ..op.clone() });
    graph.steps[i].op = op;
    graph.steps[i].inputs[0] = a;
    true
}

fn absorb_quantize(graph: &mut Graph, i: usize) -> bool {
    let Op::Attention(op) = &graph.steps[i].op else { return false };
    let out = graph.steps[i].outputs[0];
    let Some(next) = graph.only_consumer(out) else { return false };
    let Op::Quantize(to) = graph.steps[next].op else { return false };
    if op.columns.out != 1 || op.quantized_output.is_some() {
        return false;
    }
    let op = Op::Attention(Attention { quantized_output: Some(to), ..op.clone() });
    graph.steps[i].op = op;
    graph.steps[i].outputs = graph.steps[next].outputs.clone();
    graph.steps.remove(next);
    true
}

/// Replaces concatenated sums of a softmax over a grid, weighted by constants, by a product with those constants.
fn mean_of_coordinates(graph: &mut Graph, i: usize) -> bool {
    let step = graph.steps[i].clone();
    let out = step.outputs[0];
    let shape = graph.shape(out).to_vec();
    let (Op::Concat { axis }, Some(&columns)) = (&step.op, shape.last()) else { return false };
    if *axis + 1 != shape.len() || columns != step.inputs.len() {
        return false;
    }
    let mut root = None;
    let mut weights = Vec::new();
    for input in &step.inputs {
        let Some((from, column)) = weighted_sum(graph, *input) else { return false };
        if *root.get_or_insert(from) != from {
            return false;
        }
        weights.push(column);
    }
    let Some(root) = root else { return false };
    let keys = weights[0].len();
    let rows = graph.slot(root).len() / keys;
    if weights.iter().any(|w| w.len() != keys) || rows * columns != graph.slot(out).len() {
        return false;
    }
    let matrix: Vec<f32> = (0..keys * columns).map(|j| weights[j % columns][j / columns]).collect();
    let values = graph.add_floats(&[keys, columns], &matrix);
    let op = MatMul {
        outer: Vec::new(),
        m: Walk { len: rows, a: keys, b: 0, out: columns },
        n: Walk { len: columns, a: 0, b: 1, out: 1 },
        k: Walk { len: keys, a: 1, b: columns, out: 0 },
    };
    graph.steps[i] = Step { name: step.name, op: Op::MatMul(op), inputs: vec![root, values], outputs: vec![out] };
    graph.drop_dead_steps();
    true
}

/// Returns the softmax that `value` sums over its last axes, and the weight of each element.
fn weighted_sum(graph: &Graph, value: ValueId) -> Option<(ValueId, Vec<f32>)> {
    let (last, partial) = sum(graph, before_reshapes(graph, value))?;
    let product = &graph.steps[graph.producer(partial)?];
    let (Op::Binary(Binary::Mul), [a, b]) = (&product.op, &product.inputs[..]) else { return None };
    let (summed, constant) = if graph.slot(*b).constant.is_some() { (*a, *b) } else { (*b, *a) };
    let (first, grid) = sum(graph, summed)?;
    let shape = graph.shape(grid).to_vec();
    let behind = first.iter().chain(&last).copied().min()?;
    let whole = (behind..shape.len()).all(|axis| first.contains(&axis) || last.contains(&axis));
    // After the first sum its axes have length 1; the constant is broadcast along them, and maybe along others.
    let small = graph.shape(summed).to_vec();
    let constants = graph.floats(constant)?;
    let own = graph.shape(constant).to_vec();
    let padded: Vec<usize> = std::iter::repeat_n(1, shape.len().checked_sub(own.len())?).chain(own).collect();
    let repeats = padded.iter().enumerate().all(|(a, d)| *d == 1 || (a >= behind && *d == small[a]));
    if !whole || !repeats || graph.shape(product.outputs[0]) != small {
        return None;
    }
    let (to, from) = (strides(&shape), strides(&padded));
    let weight = |i: usize| {
        let at = |axis: usize| if padded[axis] == 1 { 0 } else { i / to[axis] % shape[axis] * from[axis] };
        constants[(behind..shape.len()).map(at).sum::<usize>()]
    };
    let softmax = root_of_reshapes(graph, grid);
    let is_softmax = graph.producer(softmax).is_some_and(|p| matches!(graph.steps[p].op, Op::Softmax { .. }));
    let element = graph.slot(softmax).element == Element::F32;
    (is_softmax && element).then(|| (softmax, (0..shape[behind..].iter().product()).map(weight).collect()))
}

/// Returns axes and operand of a sum that nothing else reads.
fn sum(graph: &Graph, value: ValueId) -> Option<(Vec<usize>, ValueId)> {
    graph.only_consumer(value)?;
    let step = &graph.steps[graph.producer(value)?];
    match &step.op {
        Op::Reduce { by: Reduction::Sum, axes } => Some((axes.clone(), step.inputs[0])),
        _ => None,
    }
}

/// Returns the value before a chain of reshapes, which other steps may read too.
fn root_of_reshapes(graph: &Graph, mut value: ValueId) -> ValueId {
    while let Some(step) = graph.producer(value).map(|p| &graph.steps[p])
        && step.op == Op::Reshape
    {
        value = step.inputs[0];
    }
    value
}
