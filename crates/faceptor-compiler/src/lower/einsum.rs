//! Lowers Einstein sums of two tensors: to products with weights, or to strided matrix products.

use anyhow::{Context, Result, bail, ensure};
use tract_onnx::tract_hir::internal::AxesMapping;

use crate::graph::Graph;
use crate::lower::convolution::float_product;
use faceptor_nn::plan::{Element, MatMul, Op, Product, ValueId, Walk};

/// One index of the sum: its length, and its stride in each tensor, 0 where it does not occur.
#[derive(Debug, Clone, Copy)]
struct Letter {
    walk: Walk,
    in_a: bool,
    in_b: bool,
    in_out: bool,
}

/// Returns the strides, in elements, of a dense row-major shape.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}

/// Adds the steps of the sum and returns its value.
pub fn lower(
    graph: &mut Graph,
    name: &str,
    axes: &AxesMapping,
    inputs: [ValueId; 2],
    out: &[usize],
) -> Result<ValueId> {
    ensure!(
        inputs.iter().all(|i| graph.slot(*i).element == Element::F32),
        "products of quantized values are not supported, dequantize them first"
    );
    let mut letters = Vec::new();
    let mut inputs = inputs;
    if let Some(product) = with_weights(graph, axes, inputs, out)? {
        let (product, operands) = product;
        return Ok(graph.push(name, Op::Product(product), &operands, out, Element::F32));
    }
    // Letters that are summed but not shared would need a reduction first; only length 1 occurs in practice.
    let mut depth_axes = [Vec::new(), Vec::new()];
    for axis in axes.iter_all_axes() {
        let at = |list: &[usize]| -> Result<Option<usize>> {
            ensure!(list.len() < 2, "an axis that occurs twice in one tensor is not supported");
            Ok(list.first().copied())
        };
        let (a, b, o) = (at(&axis.inputs[0])?, at(&axis.inputs[1])?, at(&axis.outputs[0])?);
        if let (Some(a), Some(b), None) = (a, b, o) {
            depth_axes[0].push(a);
            depth_axes[1].push(b);
        }
        letters.push((a, b, o));
    }
    if depth_axes[0].len() > 1 {
        // Several summed axes: bring them to the end in one order, so that they walk as one.
        for side in 0..2 {
            let (value, order) = bring_last(graph, name, inputs[side], &depth_axes[side]);
            inputs[side] = value;
            for letter in &mut letters {
                let slot = if side == 0 { &mut letter.0 } else { &mut letter.1 };
                *slot = slot.and_then(|axis| order.iter().position(|o| *o == axis));
            }
        }
    }
    let shapes = [graph.shape(inputs[0]).to_vec(), graph.shape(inputs[1]).to_vec(), out.to_vec()];
    let all_strides = [strides(&shapes[0]), strides(&shapes[1]), strides(&shapes[2])];
    let mut walks = Vec::new();
    for (a, b, o) in letters {
        let places = [a, b, o];
        let lengths: Vec<usize> = (0..3).filter_map(|t| places[t].map(|p| shapes[t][p])).collect();
        let len = lengths.iter().copied().max().unwrap_or(1);
        if len == 1 {
            continue;
        }
        ensure!(lengths.iter().all(|l| *l == len || *l == 1), "lengths {lengths:?} of one axis do not fit");
        // An axis of length 1 is broadcast: stride 0, as if the index did not occur there.
        let at = |t: usize| places[t].filter(|p| shapes[t][*p] == len);
        let stride = |t: usize| at(t).map_or(0, |p| all_strides[t][p]);
        let walk = Walk { len, a: stride(0), b: stride(1), out: stride(2) };
        let letter = Letter { walk, in_a: at(0).is_some(), in_b: at(1).is_some(), in_out: at(2).is_some() };
        ensure!(letter.in_out || (letter.in_a && letter.in_b), "sums over one factor alone are not supported");
        walks.push(letter);
    }
    let unit = Walk { len: 1, a: 0, b: 0, out: 0 };
    let mut rest: Vec<Walk> = Vec::new();
    let mut take = |pick: &dyn Fn(&Letter) -> bool| -> Walk {
        let merged = merge(walks.iter().filter(|l| pick(l)).map(|l| l.walk).collect());
        let best = merged.iter().enumerate().max_by_key(|(_, w)| w.len).map(|(i, _)| i);
        rest.extend(merged.iter().enumerate().filter(|(i, _)| Some(*i) != best).map(|(_, w)| *w));
        best.map_or(unit, |i| merged[i])
    };
    let m = take(&|l| l.in_a && !l.in_b && l.in_out);
    let n = take(&|l| !l.in_a && l.in_b && l.in_out);
    let mut outer = rest;
    let depth = merge(walks.iter().filter(|l| !l.in_out).map(|l| l.walk).collect());
    let k = match depth[..] {
        [] => unit,
        [one] => one,
        _ => bail!("its summed axes do not walk as one"),
    };
    outer.extend(merge(walks.iter().filter(|l| l.in_a && l.in_b && l.in_out).map(|l| l.walk).collect()));
    let op = Op::MatMul(MatMul { outer, m, n, k });
    Ok(graph.push(name, op, &inputs, out, Element::F32))
}

/// Transposes a value so that the given axes come last, in their order. Returns it, and the new order of all axes.
fn bring_last(graph: &mut Graph, name: &str, value: ValueId, last: &[usize]) -> (ValueId, Vec<usize>) {
    let shape = graph.shape(value).to_vec();
    let order: Vec<usize> = (0..shape.len()).filter(|i| !last.contains(i)).chain(last.iter().copied()).collect();
    let to: Vec<usize> = order.iter().map(|i| shape[*i]).collect();
    let op = Op::Transpose { order: order.clone() };
    (graph.push(name, op, &[value], &to, Element::F32), order)
}

/// Joins walks that are adjacent in every tensor.
fn merge(mut walks: Vec<Walk>) -> Vec<Walk> {
    'again: loop {
        for i in 0..walks.len() {
            for j in 0..walks.len() {
                let (outer, inner) = (walks[i], walks[j]);
                let follows = |o: usize, i: usize| o == i * inner.len;
                if i != j && follows(outer.a, inner.a) && follows(outer.b, inner.b) && follows(outer.out, inner.out) {
                    walks[j].len *= outer.len;
                    walks.remove(i);
                    continue 'again;
                }
            }
        }
        return walks;
    }
}

type ProductAndOperands = (Product, Vec<ValueId>);

/// Lowers the sum to a product of rows with a constant matrix, if it is one.
fn with_weights(
    graph: &mut Graph,
    axes: &AxesMapping,
    inputs: [ValueId; 2],
    out: &[usize],
) -> Result<Option<ProductAndOperands>> {
    for (x, w) in [(0, 1), (1, 0)] {
        let (Some(values), false) = (graph.floats(inputs[w]), graph.slot(inputs[x]).constant.is_some()) else {
            continue;
        };
        let (x_shape, w_shape) = (graph.shape(inputs[x]).to_vec(), graph.shape(inputs[w]).to_vec());
        let Some(last) = x_shape.len().checked_sub(1).filter(|_| out.len() == x_shape.len()) else { continue };
        let mut depth_axis = None;
        let mut column_axis = None;
        let mut fits = true;
        for axis in axes.iter_all_axes() {
            let (in_x, in_w, in_out) = (&axis.inputs[x][..], &axis.inputs[w][..], &axis.outputs[0][..]);
            match (in_x, in_w, in_out) {
                ([i], [j], []) if *i == last => depth_axis = Some(*j),
                ([], [j], [o]) if *o == last => column_axis = Some(*j),
                ([i], [], [o]) if i == o => {}
                ([i], [j], [o]) if i == o && w_shape[*j] == 1 => {}
                _ => fits = false,
            }
        }
        let (Some(depth_axis), Some(column_axis), true) = (depth_axis, column_axis, fits) else { continue };
        let (columns, depth) = (w_shape[column_axis], w_shape[depth_axis]);
        let w_strides = strides(&w_shape);
        let matrix: Vec<f32> = (0..columns * depth)
            .map(|i| values[i / depth * w_strides[column_axis] + i % depth * w_strides[depth_axis]])
            .collect();
        ensure!(x_shape.last().context("no axes")? == &depth, "depths do not fit");
        let weights = graph.add_floats(&[columns, depth], &matrix);
        let product = float_product(None, columns, depth);
        return Ok(Some((product, vec![inputs[x], weights])));
    }
    Ok(None)
}
