//! Folds a transpose into the adjacent matrix product or attention by changing its strides, so that no data is copied.

use crate::graph::Graph;
use crate::lower::einsum::strides;
use crate::passes::layout::{AxisPiece, arrange, join, mover, regroup};
use crate::passes::merge_projections::stride_of;
use faceptor_nn::plan::{Attention, MatMul, Op, ValueId, Walk};

/// Returns the pieces of the source that `len` steps of `stride` pass through in its transpose.
fn pieces(source: &[usize], order: &[usize], len: usize, stride: usize) -> Option<Vec<AxisPiece>> {
    let from = strides(source);
    let moved: Vec<usize> = order.iter().map(|a| source[*a]).collect();
    let flat: Vec<AxisPiece> =
        moved.iter().zip(order).map(|(len, axis)| AxisPiece { len: *len, stride: from[*axis] }).collect();
    // From outer to inner: the axes before the walk, its `len` steps, the `stride` elements of each.
    let total: usize = moved.iter().product();
    if !total.is_multiple_of(stride * len) {
        return None;
    }
    let groups = regroup(&flat, &[total / (stride * len), len, stride])?;
    Some(join(groups[1].iter().copied()))
}

/// Returns the stride in the source of `len` steps of `stride` in its transpose, if there is a single one.
fn source_stride(source: &[usize], order: &[usize], len: usize, stride: usize) -> Option<usize> {
    if len == 1 || stride == 0 {
        return Some(stride);
    }
    match pieces(source, order, len, stride)?[..] {
        [one] => Some(one.stride),
        _ => None,
    }
}

/// Applies a function to all axes of a product.
fn remap(op: &MatMul, f: impl Fn(&Walk) -> Option<Walk>) -> Option<MatMul> {
    Some(MatMul { outer: op.outer.iter().map(&f).collect::<Option<_>>()?, m: f(&op.m)?, n: f(&op.n)?, k: f(&op.k)? })
}

/// Folds the transpose or reshape before an operand of a product. Returns whether there was one.
pub fn matmul_input(graph: &mut Graph, i: usize, side: usize, op: &MatMul) -> bool {
    let Some(before) = mover(graph, graph.steps[i].inputs[side]) else { return false };
    let source = before.inputs[0];
    let new = match &before.op {
        Op::Transpose { order } => {
            let shape = graph.shape(source);
            remap(op, |walk| {
                let stride = if side == 0 { walk.a } else { walk.b };
                let stride = source_stride(shape, order, walk.len, stride)?;
                Some(if side == 0 { Walk { a: stride, ..*walk } } else { Walk { b: stride, ..*walk } })
            })
        }
        _ => Some(op.clone()),
    };
    let Some(new) = new else { return false };
    graph.steps[i].op = Op::MatMul(new);
    graph.steps[i].inputs[side] = source;
    true
}

/// Folds the transpose after a product. Returns whether there was one.
pub fn matmul_output(graph: &mut Graph, i: usize, op: &MatMul) -> bool {
    let out = graph.steps[i].outputs[0];
    let Some(next) = graph.only_consumer(out) else { return false };
    let step = graph.steps[next].clone();
    let Op::Transpose { order } = &step.op else { return false };
    // What the product writes is the transpose, by the inverse order, of the result that is wanted.
    let mut inverse = vec![0; order.len()];
    order.iter().enumerate().for_each(|(i, axis)| inverse[*axis] = i);
    let shape = graph.shape(step.outputs[0]);
    let Some(new) = remap(op, |walk| Some(Walk { out: source_stride(shape, &inverse, walk.len, walk.out)?, ..*walk }))
    else {
        return false;
    };
    graph.steps[i].op = Op::MatMul(new);
    graph.steps[i].outputs = step.outputs;
    graph.steps.remove(next);
    true
}

/// Folds the transpose or reshape before an operand of attention. Returns whether anything changed.
///
/// Where an axis would need several strides, the keys are taken in the order in which they are stored, if that is possible;
/// otherwise the transpose is replaced by one that copies long pieces.
pub fn attention_input(graph: &mut Graph, i: usize, side: usize, op: &Attention) -> bool {
    let Some(before) = mover(graph, graph.steps[i].inputs[side]).filter(|_| op.starts[side] == 0) else { return false };
    let source = before.inputs[0];
    let Op::Transpose { order } = &before.op else {
        graph.steps[i].inputs[side] = source;
        return true;
    };
    let shape = graph.shape(source).to_vec();
    let mut op = op.clone();
    let mut walks: Vec<(&mut usize, Vec<AxisPiece>)> = Vec::new();
    let mut keys = None;
    let outer = op.outer.iter_mut().zip(std::iter::repeat(false));
    let inner = [&mut op.queries, &mut op.keys, &mut op.depth, &mut op.columns];
    for (reach, is_keys) in outer.chain(inner.into_iter().zip([false, true, false, false])) {
        let len = reach.len;
        let stride = stride_of(reach, side);
        if len > 1 && *stride > 0 {
            let Some(pieces) = pieces(&shape, order, len, *stride) else { return false };
            keys = if is_keys { Some(walks.len()) } else { keys };
            walks.push((stride, pieces));
        }
    }
    // The order of keys does not matter if the values have the same order.
    let values = graph.steps[i].inputs[2];
    if let Some((keys, sorted)) = keys.filter(|_| side == 1).and_then(|at| Some((at, in_order(&walks[at].1)?)))
        && walks[keys].1.len() > 1
        && walks.iter().enumerate().all(|(at, (_, pieces))| at == keys || pieces.len() == 1)
        && let Some(values) = rows_in_order(graph, values, &walks[keys].1)
    {
        walks[keys].1 = vec![sorted];
        graph.steps[i].inputs[2] = values;
    }
    if walks.iter().all(|(_, pieces)| pieces.len() == 1) {
        walks.iter_mut().for_each(|(stride, pieces)| **stride = pieces[0].stride);
        graph.steps[i].op = Op::Attention(op);
        graph.steps[i].inputs[side] = source;
        return true;
    }
    let is_contiguous = |axis: Option<&usize>| axis.is_some_and(|axis| strides(&shape)[*axis] == 1);
    let covered: usize = walks.iter().flat_map(|(_, pieces)| pieces).map(|atom| atom.len).product();
    let last = order.iter().rev().find(|axis| shape[**axis] != 1);
    if is_contiguous(last) || covered != shape.iter().product::<usize>() {
        return false;
    }
    walks.sort_by_key(|(_, pieces)| std::cmp::Reverse(pieces.last().map(|atom| atom.stride)));
    let atoms: Vec<AxisPiece> = walks.iter().flat_map(|(_, pieces)| pieces.iter().copied()).collect();
    let mut next = 1;
    for (stride, pieces) in walks.into_iter().rev() {
        *stride = next;
        next *= pieces.iter().map(|atom| atom.len).product::<usize>();
    }
    graph.steps[i].op = Op::Attention(op);
    graph.steps[i].inputs[side] = arrange(graph, &before.name, source, &atoms);
    true
}

/// Joins pieces in storage order; `None` if more than one is left.
fn in_order(pieces: &[AxisPiece]) -> Option<AxisPiece> {
    let mut sorted = pieces.to_vec();
    sorted.sort_by_key(|atom| std::cmp::Reverse(atom.stride));
    match join(sorted.into_iter())[..] {
        [one] => Some(one),
        _ => None,
    }
}

/// Adds a copy of a float constant that has a row for each step through `pieces`, with its rows in storage order.
fn rows_in_order(graph: &mut Graph, value: ValueId, pieces: &[AxisPiece]) -> Option<ValueId> {
    let floats = graph.floats(value)?;
    let rows: usize = pieces.iter().map(|atom| atom.len).product();
    if !floats.len().is_multiple_of(rows) {
        return None;
    }
    let place = |row: usize| {
        let mut inner = rows;
        let step = |atom: &AxisPiece| {
            inner /= atom.len;
            row / inner % atom.len * atom.stride
        };
        pieces.iter().map(step).sum::<usize>()
    };
    let mut order: Vec<usize> = (0..rows).collect();
    order.sort_by_key(|row| place(*row));
    let columns = floats.len() / rows;
    let ordered: Vec<f32> = order.iter().flat_map(|row| &floats[row * columns..][..columns]).copied().collect();
    let shape = graph.shape(value).to_vec();
    Some(graph.add_floats(&shape, &ordered))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::constant_folding;
    use crate::simplify;
    use faceptor_nn::plan::{Element, Port, Reach, Unary};

    const GRID: [usize; 2] = [3, 2];
    const QUERIES: usize = 5;
    const DEPTH: usize = 4;
    const COLUMNS: usize = 2;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 37 + seed * 11) % 23) as f32 / 8.0 - 1.0).collect()
    }

    /// Returns a graph of attention over the keys of an up-convolution, transposed to planes; its values are constant or computed.
    fn graph(known_values: bool) -> Graph {
        let keys = GRID[0] * GRID[1] * 4;
        let mut graph = Graph::default();
        let q = graph.add_value(&[QUERIES, DEPTH], Element::F32);
        let shape = [GRID[0], GRID[1], 2, 2, DEPTH];
        let k = graph.add_value(&shape, Element::F32);
        let given = graph.add_value(&[keys, COLUMNS], Element::F32);
        for (name, value) in [("q", q), ("k", k), ("v", given)] {
            graph.inputs.push(Port { name: name.into(), value });
        }
        let values = if known_values {
            graph.add_floats(&[keys, COLUMNS], &numbers(keys * COLUMNS, 2))
        } else {
            graph.push("negative", Op::Unary(Unary::Neg), &[given], &[keys, COLUMNS], Element::F32)
        };
        let order = vec![4, 0, 2, 1, 3];
        let moved: Vec<usize> = order.iter().map(|axis| shape[*axis]).collect();
        let planes = graph.push("planes", Op::Transpose { order }, &[k], &moved, Element::F32);
        let none = Reach { len: 1, query: 0, key: 0, value: 0, out: 0 };
        let op = Attention {
            outer: Vec::new(),
            queries: Reach { len: QUERIES, query: DEPTH, out: COLUMNS, ..none },
            keys: Reach { len: keys, key: 1, value: COLUMNS, ..none },
            depth: Reach { len: DEPTH, query: 1, key: keys, ..none },
            columns: Reach { len: COLUMNS, value: 1, out: 1, ..none },
            scale: 1.0,
            quantized_output: None,
            starts: [0; 3],
        };
        let inputs = [q, planes, values];
        let out = graph.push("attention", Op::Attention(op), &inputs, &[QUERIES, COLUMNS], Element::F32);
        graph.outputs.push(Port { name: "y".into(), value: out });
        graph
    }

    fn answer(mut graph: Graph) -> Vec<f32> {
        for (seed, port) in graph.inputs.clone().iter().enumerate() {
            let shape = graph.shape(port.value).to_vec();
            let known = graph.add_floats(&shape, &numbers(shape.iter().product(), seed));
            graph.replace(port.value, known);
        }
        constant_folding::fold_constants(&mut graph).expect("folds");
        graph.floats(graph.outputs[0].value).expect("known")
    }

    #[test]
    fn keys_are_read_in_storage_order_or_copied_in_long_pieces() {
        for known_values in [true, false] {
            let plain = graph(known_values);
            let mut simple = plain.clone();
            simplify(&mut simple).expect("simple");
            let orders: Vec<_> = simple
                .steps
                .iter()
                .filter_map(|step| match &step.op {
                    Op::Transpose { order } => Some(order.clone()),
                    _ => None,
                })
                .collect();
            // Without constant values a transpose remains, in which the depth is innermost.
            assert_eq!(orders, if known_values { vec![] } else { vec![vec![0, 2, 1, 3, 4]] });
            for (found, expected) in answer(simple).iter().zip(answer(plain)) {
                assert!((found - expected).abs() < 1e-5, "{found} {expected}");
            }
        }
    }
}
