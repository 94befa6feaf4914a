//! Finds layer norms, which ONNX and tract express as several steps.

use crate::graph::Graph;
use faceptor_nn::plan::{Binary, Element, Op, Reduction, Step, Unary, ValueId};

/// Replaces `(x - mean) * rsqrt(variance + epsilon) [* gain] [+ offset]` over the last axis. Returns whether
/// there was one.
pub fn find_layer_norms(graph: &mut Graph) -> bool {
    let mut changed = false;
    for i in 0..graph.steps.len() {
        if let Some((x, epsilon)) = normalisation(graph, i) {
            let len = graph.shape(x).last().copied().unwrap_or(1);
            let gain = graph.add_floats(&[len], &vec![1.0; len]);
            let offset = graph.add_floats(&[len], &vec![0.0; len]);
            let step = &mut graph.steps[i];
            step.op = Op::LayerNorm { epsilon };
            step.inputs = vec![x, gain, offset];
            changed = true;
        } else {
            changed |= absorb_affine(graph, i);
        }
    }
    changed
}

/// Returns the input and epsilon, if step `i` multiplies the centred input by the reciprocal of its deviation.
fn normalisation(graph: &Graph, i: usize) -> Option<(ValueId, f32)> {
    let step = &graph.steps[i];
    let Op::Binary(Binary::Mul) = step.op else { return None };
    let [a, b] = step.inputs[..] else { return None };
    reciprocal_deviation(graph, a, b).or_else(|| reciprocal_deviation(graph, b, a))
}

fn reciprocal_deviation(graph: &Graph, centred: ValueId, factor: ValueId) -> Option<(ValueId, f32)> {
    let producer = |id: ValueId| graph.producer(id).map(|i| &graph.steps[i]);
    let rsqrt = producer(factor).filter(|s| s.op == Op::Unary(Unary::Rsqrt))?;
    let sum = producer(rsqrt.inputs[0]).filter(|s| s.op == Op::Binary(Binary::Add))?;
    let (variance, epsilon) = with_constant(graph, sum)?;
    if mean(graph, variance, Reduction::MeanOfSquares)? != centred {
        return None;
    }
    let difference = producer(centred).filter(|s| s.op == Op::Binary(Binary::Sub))?;
    let x = difference.inputs[0];
    (mean(graph, difference.inputs[1], Reduction::Sum)? == x).then_some((x, epsilon))
}

/// Returns the other operand and the constant, if one of the two operands is a constant with one value.
fn with_constant(graph: &Graph, step: &Step) -> Option<(ValueId, f32)> {
    let [a, b] = step.inputs[..] else { return None };
    graph.scalar(b).map(|c| (a, c)).or_else(|| graph.scalar(a).map(|c| (b, c)))
}

/// Returns the value of which `value` is the mean (or the mean square) over the last axis.
fn mean(graph: &Graph, value: ValueId, wanted: Reduction) -> Option<ValueId> {
    let step = &graph.steps[graph.producer(value)?];
    if let Op::Reduce { by, axes } = &step.op {
        let x = step.inputs[0];
        let last = axes.len() == 1 && axes[0] + 1 == graph.shape(x).len();
        return (last && *by == wanted && wanted == Reduction::MeanOfSquares).then_some(x);
    }
    // A sum divided by the length, or multiplied by its reciprocal.
    let (sum, constant) = with_constant(graph, step)?;
    let reduce = &graph.steps[graph.producer(sum)?];
    let Op::Reduce { by: Reduction::Sum, axes } = &reduce.op else { return None };
    let x = reduce.inputs[0];
    let len = *graph.shape(x).last()? as f32;
    let divided = match step.op {
        Op::Binary(Binary::Div) => step.inputs[0] == sum && constant == len,
        Op::Binary(Binary::Mul) => (constant * len - 1.0).abs() < 1e-6,
        _ => false,
    };
    if !divided || axes.len() != 1 || axes[0] + 1 != graph.shape(x).len() {
        return None;
    }
    if wanted == Reduction::Sum {
        return Some(x);
    }
    let square = &graph.steps[graph.producer(x)?];
    match square.op {
        Op::Unary(Unary::Square) => Some(square.inputs[0]),
        Op::Binary(Binary::Mul) if square.inputs[0] == square.inputs[1] => Some(square.inputs[0]),
        _ => None,
    }
}

/// Fuses a constant factor or summand per column into the layer norm before it.
fn absorb_affine(graph: &mut Graph, i: usize) -> bool {
    let norm = &graph.steps[i];
    let Op::LayerNorm { .. } = norm.op else { return false };
    let (output, gain, offset) = (norm.outputs[0], norm.inputs[1], norm.inputs[2]);
    let Some(next) = graph.only_consumer(output) else { return false };
    let step = &graph.steps[next];
    let Op::Binary(op @ (Binary::Mul | Binary::Add)) = step.op else { return false };
    let other = if step.inputs[0] == output { step.inputs[1] } else { step.inputs[0] };
    let Some(values) = per_column(graph, other, graph.shape(output)) else { return false };
    let (Some(mut gains), Some(mut offsets)) = (graph.floats(gain), graph.floats(offset)) else { return false };
    if graph.shape(step.outputs[0]) != graph.shape(output) {
        return false;
    }
    match op {
        Binary::Mul => {
            gains.iter_mut().zip(&values).for_each(|(g, v)| *g *= v);
            offsets.iter_mut().zip(&values).for_each(|(o, v)| *o *= v);
        }
        _ => offsets.iter_mut().zip(&values).for_each(|(o, v)| *o += v),
    }
    let result = step.outputs[0];
    let shape = [gains.len()];
    let inputs = [graph.add_floats(&shape, &gains), graph.add_floats(&shape, &offsets)];
    graph.steps[i].inputs[1..].copy_from_slice(&inputs);
    graph.replace(result, output);
    true
}

/// Returns a constant's value for each index of the last axis, if it does not depend on the other axes.
pub fn per_column(graph: &Graph, id: ValueId, shape: &[usize]) -> Option<Vec<f32>> {
    let values = graph.floats(id)?;
    let columns = *shape.last()?;
    if graph.slot(id).element != Element::F32 {
        return None;
    }
    match values.len() {
        1 => Some(vec![values[0]; columns]),
        n if n == columns && graph.shape(id).last() == Some(&columns) => Some(values),
        _ => None,
    }
}
