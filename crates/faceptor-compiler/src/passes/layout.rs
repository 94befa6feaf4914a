//! Moves transposes and reshapes towards the end of the graph, where they meet and cancel, and into steps that read or write
//! by strides.
//!
//! Convolutions work on channels-last images, ONNX has channels first: lowering puts a transpose before and after each
//! convolution, and this pass removes them.

use crate::graph::Graph;
use crate::lower::einsum::strides;
use crate::passes::stride_folding::{attention_input, matmul_input, matmul_output};
use faceptor_nn::plan::{Element, Op, Sample, Step, ValueId};

/// Applies every rule once to every step. Returns whether anything changed.
pub fn simplify_movement(graph: &mut Graph) -> bool {
    let mut changed = false;
    let mut i = 0;
    while i < graph.steps.len() {
        changed |= plain(graph, i) || compose(graph, i) || raise(graph, i) || sink(graph, i) || absorb(graph, i);
        i += 1;
    }
    graph.sort();
    changed
}

fn is_movement(op: &Op) -> bool {
    matches!(op, Op::Transpose { .. } | Op::Reshape)
}

/// Returns the transpose or reshape that computes a value, if one does.
pub fn mover(graph: &Graph, id: ValueId) -> Option<Step> {
    graph.producer(id).map(|i| &graph.steps[i]).filter(|s| is_movement(&s.op)).cloned()
}

/// Replaces transposes that only move axes of length 1 by reshapes, and removes reshapes to the same shape.
fn plain(graph: &mut Graph, i: usize) -> bool {
    let step = &graph.steps[i];
    let (x, out) = (step.inputs.first().copied(), step.outputs[0]);
    let Some(x) = x else { return false };
    match &step.op {
        Op::Transpose { order } => {
            let long: Vec<usize> = order.iter().copied().filter(|a| graph.shape(x)[*a] != 1).collect();
            if long.is_sorted() {
                graph.steps[i].op = Op::Reshape;
                return true;
            }
            false
        }
        Op::Reshape => {
            if graph.shape(x) == graph.shape(out) && !graph.is_output(out) && !graph.consumers(out).is_empty() {
                graph.replace(out, x);
                return true;
            }
            match graph.producer(x).map(|p| graph.steps[p].clone()) {
                Some(before) if before.op == Op::Reshape => {
                    graph.steps[i].inputs = before.inputs;
                    true
                }
                _ => false,
            }
        }
        _ => false,
    }
}

/// A piece of an axis: its length, and its stride in the source in elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AxisPiece {
    pub len: usize,
    pub stride: usize,
}

/// Follows a chain of transposes and reshapes back to its source, if one step reads each value of it.
///
/// Returns the source, and for each axis of `value` the pieces of the source along it, from outer to inner; `None` if an axis
/// is not made of whole pieces.
pub fn origin(graph: &Graph, value: ValueId) -> Option<(ValueId, Vec<Vec<AxisPiece>>)> {
    let mut chain: Vec<Step> = Vec::new();
    let mut root = value;
    while let Some(step) = mover(graph, root) {
        root = step.inputs[0];
        graph.only_consumer(root)?;
        chain.push(step);
    }
    let shape = graph.shape(root);
    let axes = shape.iter().zip(strides(shape)).map(|(len, stride)| vec![AxisPiece { len: *len, stride }]).collect();
    let moved = chain.iter().rev().try_fold(axes, |axes, step| move_axes(axes, graph, step))?;
    Some((root, moved.into_iter().map(|axis| join(axis.into_iter())).collect()))
}

/// Returns the axes after a transpose or reshape from those before it.
fn move_axes(axes: Vec<Vec<AxisPiece>>, graph: &Graph, step: &Step) -> Option<Vec<Vec<AxisPiece>>> {
    match &step.op {
        Op::Transpose { order } => Some(order.iter().map(|a| axes[*a].clone()).collect()),
        _ => regroup(&axes.concat(), graph.shape(step.outputs[0])),
    }
}

/// Splits a list of pieces at the axes of `shape`; `None` if an axis ends within a piece that cannot be divided there.
pub fn regroup(atoms: &[AxisPiece], shape: &[usize]) -> Option<Vec<Vec<AxisPiece>>> {
    let mut rest: Vec<AxisPiece> = atoms.iter().copied().filter(|a| a.len != 1).collect();
    rest.reverse();
    let mut groups = Vec::new();
    for &len in shape {
        let mut group = Vec::new();
        let mut missing = len;
        while missing > 1 {
            let atom = rest.pop()?;
            if missing.is_multiple_of(atom.len) {
                missing /= atom.len;
                group.push(atom);
            } else if atom.len.is_multiple_of(missing) {
                let inner = atom.len / missing;
                group.push(AxisPiece { len: missing, stride: atom.stride * inner });
                rest.push(AxisPiece { len: inner, stride: atom.stride });
                missing = 1;
            } else {
                return None;
            }
        }
        groups.push(group);
    }
    rest.is_empty().then_some(groups)
}

/// Joins pieces that are adjacent in the source.
pub fn join(atoms: impl Iterator<Item = AxisPiece>) -> Vec<AxisPiece> {
    let mut joined: Vec<AxisPiece> = Vec::new();
    for atom in atoms.filter(|a| a.len != 1) {
        match joined.last_mut() {
            Some(last) if last.stride == atom.stride * atom.len => {
                *last = AxisPiece { len: last.len * atom.len, stride: atom.stride };
            }
            _ => joined.push(atom),
        }
    }
    joined
}

/// Replaces a chain with several transposes by reshape, one transpose, reshape.
fn compose(graph: &mut Graph, i: usize) -> bool {
    if !matches!(graph.steps[i].op, Op::Transpose { .. }) {
        return false;
    }
    let mut chain = vec![graph.steps[i].clone()];
    while let Some(step) = chain.last().and_then(|s| mover(graph, s.inputs[0])) {
        chain.push(step);
    }
    while chain.last().is_some_and(|s| s.op == Op::Reshape) {
        chain.pop();
    }
    if chain.iter().filter(|s| s.op != Op::Reshape).count() < 2 {
        return false;
    }
    let Some(source) = chain.last().map(|s| s.inputs[0]) else { return false };
    let shape = graph.shape(source).to_vec();
    let mut groups: Vec<Vec<AxisPiece>> =
        shape.iter().zip(strides(&shape)).map(|(len, stride)| vec![AxisPiece { len: *len, stride }]).collect();
    for step in chain.iter().rev() {
        let Some(moved) = move_axes(groups, graph, step) else { return false };
        groups = moved;
    }
    let atoms = join(groups.concat().into_iter());
    let name = graph.steps[i].name.clone();
    let out = graph.steps[i].outputs[0];
    let from = arrange(graph, &name, source, &atoms);
    graph.steps[i] = Step { name, op: Op::Reshape, inputs: vec![from], outputs: vec![out] };
    true
}

/// Adds the reshape and transpose that bring the pieces, which tile the source without gaps, into the given order.
pub fn arrange(graph: &mut Graph, name: &str, source: ValueId, atoms: &[AxisPiece]) -> ValueId {
    let mut natural: Vec<usize> = (0..atoms.len()).collect();
    natural.sort_by_key(|a| std::cmp::Reverse(atoms[*a].stride));
    let element = graph.slot(source).element;
    let order: Vec<usize> = (0..atoms.len()).filter_map(|a| natural.iter().position(|n| *n == a)).collect();
    if order.is_sorted() {
        return source;
    }
    let split: Vec<usize> = natural.iter().map(|a| atoms[*a].len).collect();
    let moved: Vec<usize> = atoms.iter().map(|a| a.len).collect();
    let apart = graph.push(name, Op::Reshape, &[source], &split, element);
    graph.push(name, Op::Transpose { order }, &[apart], &moved, element)
}

/// Moves a reshape before a transpose, if it only joins axes that the transpose leaves adjacent; there it can meet others.
fn raise(graph: &mut Graph, i: usize) -> bool {
    let step = graph.steps[i].clone();
    let Some(before) = mover(graph, step.inputs[0]).filter(|_| step.op == Op::Reshape) else { return false };
    let Op::Transpose { order } = &before.op else { return false };
    let source = before.inputs[0];
    let shape = graph.shape(source).to_vec();
    let from = strides(&shape);
    let atoms: Vec<AxisPiece> = order.iter().map(|a| AxisPiece { len: shape[*a], stride: from[*a] }).collect();
    let out = graph.shape(step.outputs[0]).to_vec();
    let Some(groups) = regroup(&atoms, &out) else { return false };
    let joined: Vec<Vec<AxisPiece>> = groups.into_iter().map(|g| join(g.into_iter())).collect();
    if joined.iter().any(|g| g.len() > 1) {
        return false;
    }
    // The axes of the output in the order of the source; axes of length 1 come first.
    let stride = |axis: &usize| joined[*axis].first().map_or(usize::MAX, |a| a.stride);
    let mut natural: Vec<usize> = (0..out.len()).collect();
    natural.sort_by_key(|axis| std::cmp::Reverse(stride(axis)));
    let reshaped: Vec<usize> = natural.iter().map(|axis| out[*axis]).collect();
    let order = (0..out.len()).filter_map(|axis| natural.iter().position(|n| *n == axis)).collect();
    let element = graph.slot(source).element;
    let value = graph.push(&step.name, Op::Reshape, &[source], &reshaped, element);
    graph.steps[i].op = Op::Transpose { order };
    graph.steps[i].inputs = vec![value];
    true
}

/// Returns the transpose or reshape that should sink through a step: preferably a transpose of a computed value.
fn movement_above(graph: &Graph, step: &Step) -> Option<Step> {
    let movers: Vec<Step> = step.inputs.iter().filter_map(|v| mover(graph, *v)).collect();
    let plain = movers.iter().position(|m| m.op != Op::Reshape && mover(graph, m.inputs[0]).is_none());
    movers.into_iter().nth(plain.unwrap_or(0))
}

/// Replaces `op(move(x))` by `move(op(x))`, where `move` is a transpose or a reshape.
fn sink(graph: &mut Graph, i: usize) -> bool {
    let step = graph.steps[i].clone();
    let out = step.outputs[0];
    let Some(moves) = movement_above(graph, &step) else { return false };
    let from = graph.shape(moves.inputs[0]).to_vec();
    let to = graph.shape(moves.outputs[0]).to_vec();
    let keeps_rows = moves.op == Op::Reshape && from.last() == to.last();
    let order = if let Op::Transpose { order } = &moves.op { Some(order.clone()) } else { None };
    let mut op = step.op.clone();
    let mut inputs = step.inputs.clone();
    let mut shape = from.clone();
    match &step.op {
        Op::Unary(_) | Op::Quantize(_) | Op::Dequantize(_) => inputs[0] = moves.inputs[0],
        Op::LayerNorm { .. } if keeps_rows => inputs[0] = moves.inputs[0],
        Op::Binary(_) => {
            if graph.shape(out) != to {
                return false;
            }
            let before = (graph.steps.len(), graph.slots.len());
            for input in &mut inputs {
                let Some(source) = before_movement(graph, *input, &moves, &from, &to, &step.name) else {
                    // Removes what was added for the other operand.
                    graph.steps.truncate(before.0);
                    graph.slots.truncate(before.1);
                    return false;
                };
                *input = source;
            }
        }
        Op::Concat { axis } => {
            let Some(order) = &order else { return false };
            for input in &mut inputs {
                match mover(graph, *input) {
                    Some(m) if m.op == moves.op => *input = m.inputs[0],
                    _ => return false,
                }
            }
            shape[order[*axis]] = graph.shape(out)[*axis];
            op = Op::Concat { axis: order[*axis] };
        }
        Op::Slice { axis, start, step } => {
            let Some(order) = &order else { return false };
            shape[order[*axis]] = graph.shape(out)[*axis];
            op = Op::Slice { axis: order[*axis], start: *start, step: *step };
            inputs[0] = moves.inputs[0];
        }
        Op::Sample(sample) => {
            let Some(order) = &order else { return false };
            shape[order[sample.axis]] = graph.shape(out)[sample.axis];
            op = Op::Sample(Sample { axis: order[sample.axis], ..sample.clone() });
            inputs[0] = moves.inputs[0];
        }
        Op::Pad { before, value } => {
            let Some(order) = &order else { return false };
            let mut moved = vec![0; before.len()];
            for (i, axis) in order.iter().enumerate() {
                moved[*axis] = before[i];
                shape[*axis] = graph.shape(out)[i];
            }
            op = Op::Pad { before: moved, value: *value };
            inputs[0] = moves.inputs[0];
        }
        Op::Reduce { by, axes } => {
            let Some(order) = &order else { return false };
            let axes: Vec<usize> = axes.iter().map(|a| order[*a]).collect();
            axes.iter().for_each(|a| shape[*a] = 1);
            op = Op::Reduce { by: *by, axes };
            inputs[0] = moves.inputs[0];
        }
        _ => return false,
    }
    let element = graph.slot(out).element;
    let value = graph.push(&step.name, op, &inputs, &shape, element);
    graph.steps[i] = Step { name: step.name, op: moves.op, inputs: vec![value], outputs: vec![out] };
    true
}

/// Returns the operand that becomes `value` by the same transpose or reshape: its source, or a constant moved back.
fn before_movement(
    graph: &mut Graph,
    value: ValueId,
    moves: &Step,
    from: &[usize],
    to: &[usize],
    name: &str,
) -> Option<ValueId> {
    if let Some(own) = mover(graph, value)
        && own.op == moves.op
        && graph.shape(own.inputs[0]) == from
        && graph.shape(own.outputs[0]) == to
    {
        return Some(own.inputs[0]);
    }
    let slot = graph.slot(value).clone();
    if slot.constant.is_none() {
        // A value that is transposed anyhow can be transposed back: the two become one step.
        let Op::Transpose { order } = &moves.op else { return None };
        if mover(graph, moves.inputs[0]).is_some() || slot.shape != to {
            return None;
        }
        mover(graph, value)?;
        let mut inverse = vec![0; order.len()];
        order.iter().enumerate().for_each(|(i, axis)| inverse[*axis] = i);
        return Some(graph.push(name, Op::Transpose { order: inverse }, &[value], from, Element::F32));
    }
    if slot.len() == 1 {
        return Some(graph.push(name, Op::Reshape, &[value], &[1], Element::F32));
    }
    match &moves.op {
        Op::Transpose { order } => {
            let mut shape = vec![1; to.len() - slot.shape.len()];
            shape.extend(&slot.shape);
            let mut inverse = vec![0; order.len()];
            order.iter().enumerate().for_each(|(i, axis)| inverse[*axis] = i);
            let back: Vec<usize> = inverse.iter().map(|a| shape[*a]).collect();
            let padded = graph.push(name, Op::Reshape, &[value], &shape, Element::F32);
            Some(graph.push(name, Op::Transpose { order: inverse }, &[padded], &back, Element::F32))
        }
        _ if slot.len() == to.iter().product::<usize>() => {
            Some(graph.push(name, Op::Reshape, &[value], from, Element::F32))
        }
        _ if from.last() == to.last() && slot.shape.last() == to.last() && Some(&slot.len()) == to.last() => {
            Some(graph.push(name, Op::Reshape, &[value], &[slot.len()], Element::F32))
        }
        _ => None,
    }
}

/// Folds transposes and reshapes into adjacent steps that can read or write by strides.
fn absorb(graph: &mut Graph, i: usize) -> bool {
    match graph.steps[i].op.clone() {
        Op::Product(product) => {
            if let Some(w) = &product.window
                && w.size == [1, 1]
                && w.stride == [1, 1]
                && w.before == [0, 0]
                && graph.shape(graph.steps[i].inputs[0])[..3] == graph.shape(graph.steps[i].outputs[0])[..3]
            {
                let mut product = product.clone();
                product.window = None;
                graph.steps[i].op = Op::Product(product);
                return true;
            }
            product.window.is_none() && (rows_before(graph, i) || rows_after(graph, i))
        }
        Op::MatMul(op) => (0..2).any(|side| matmul_input(graph, i, side, &op)) || matmul_output(graph, i, &op),
        Op::Binary(_) => broadcast_input(graph, i),
        Op::Attention(op) => (0..3).any(|side| attention_input(graph, i, side, &op)),
        _ => false,
    }
}

/// Removes a reshape of the rows before a linear layer, which does not depend on their numbering.
fn rows_before(graph: &mut Graph, i: usize) -> bool {
    let x = graph.steps[i].inputs[0];
    let Some(before) = mover(graph, x) else { return false };
    if before.op != Op::Reshape || graph.shape(before.inputs[0]).last() != graph.shape(x).last() {
        return false;
    }
    graph.steps[i].inputs[0] = before.inputs[0];
    true
}

/// Removes a reshape of the rows after a linear layer.
fn rows_after(graph: &mut Graph, i: usize) -> bool {
    let [out] = graph.steps[i].outputs[..] else { return false };
    let Some(next) = graph.only_consumer(out) else { return false };
    let step = &graph.steps[next];
    let to = step.outputs[0];
    if step.op != Op::Reshape || graph.shape(to).last() != graph.shape(out).last() {
        return false;
    }
    graph.steps[i].outputs = vec![to];
    graph.steps.remove(next);
    true
}

/// Removes an explicit broadcast of an operand: the step broadcasts it itself.
fn broadcast_input(graph: &mut Graph, i: usize) -> bool {
    for slot in 0..2 {
        let Some(producer) = graph.producer(graph.steps[i].inputs[slot]) else { continue };
        if graph.steps[producer].op != Op::Broadcast {
            continue;
        }
        let source = graph.steps[producer].inputs[0];
        let other = graph.shape(graph.steps[i].inputs[1 - slot]).to_vec();
        let out = graph.shape(graph.steps[i].outputs[0]);
        if other == out {
            graph.steps[i].inputs[slot] = source;
            return true;
        }
    }
    false
}
