//! Reorders the columns of products that are spread over pixels, as those of an up-convolution are.
//!
//! The weights are reordered once, so that the columns are computed in the order in which they are stored. The transpose
//! that remains in each run then copies longer pieces.

use crate::graph::Graph;
use faceptor_nn::plan::{Op, Residual, ValueId};

/// Where the columns that are not spread over pixels may end up after the transpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelAxis {
    /// Innermost only: channels last.
    Innermost,
    /// Anywhere: as planes, the transpose is slower in the new order, unless the readers undo it.
    Anywhere,
}

/// Reorders the columns of every such product. Returns whether there was one.
pub fn order_columns(graph: &mut Graph, channels: ChannelAxis) -> bool {
    // `count`, because `any` would stop at the first one.
    (0..graph.steps.len()).filter(|i| order(graph, *i, channels)).count() > 0
}

/// Matches product, reshape, transpose; moves the column axes that the transpose puts after a row axis to the front, if there
/// are at least two.
fn order(graph: &mut Graph, i: usize, channels: ChannelAxis) -> bool {
    let Op::Product(product) = &graph.steps[i].op else { return false };
    let &[out] = &graph.steps[i].outputs[..] else { return false };
    if product.residual != Residual::None {
        return false;
    }
    let columns = product.columns;
    let Some((split, moves)) = movement_after(graph, out) else { return false };
    let apart = graph.steps[split].outputs[0];
    let shape = graph.shape(apart).to_vec();
    let Op::Transpose { order } = graph.steps[moves].op.clone() else { return false };
    let Some(first) = (0..shape.len()).find(|axis| shape[*axis..].iter().product::<usize>() == columns) else {
        return false;
    };
    let long: Vec<usize> = order.iter().copied().filter(|axis| shape[*axis] != 1).collect();
    let spread = |axis: &usize| long.windows(2).any(|pair| pair[0] < first && pair[1] == *axis);
    let (mut axes, rest): (Vec<usize>, Vec<usize>) = (first..shape.len()).partition(spread);
    let side_by_side = long.last().is_some_and(|last| rest.contains(last));
    if axes.len() < 2 || rest.is_empty() || (channels == ChannelAxis::Innermost && !side_by_side) {
        return false;
    }
    axes.extend(rest);
    if axes.is_sorted() {
        return false;
    }
    let from = crate::lower::einsum::strides(&shape);
    let old = |column: usize| {
        let mut inner = columns;
        let step = |axis: &usize| {
            inner /= shape[*axis];
            column / inner % shape[*axis] * from[*axis]
        };
        axes.iter().map(step).sum::<usize>()
    };
    let places: Vec<usize> = (0..columns).map(old).collect();
    for operand in 1..graph.steps[i].inputs.len() {
        let Some(ordered) = reordered(graph, graph.steps[i].inputs[operand], &places) else { return false };
        graph.steps[i].inputs[operand] = ordered;
    }
    let all: Vec<usize> = (0..first).chain(axes).collect();
    let spread_shape: Vec<usize> = all.iter().map(|axis| shape[*axis]).collect();
    let element = graph.slot(apart).element;
    let value = graph.add_value(&spread_shape, element);
    graph.steps[split].outputs = vec![value];
    graph.steps[moves].inputs = vec![value];
    let order = order.iter().filter_map(|axis| all.iter().position(|other| other == axis)).collect();
    graph.steps[moves].op = Op::Transpose { order };
    true
}

/// Returns the reshape and the transpose that follow a value, if nothing else reads it.
fn movement_after(graph: &Graph, value: ValueId) -> Option<(usize, usize)> {
    let split = graph.only_consumer(value).filter(|next| graph.steps[*next].op == Op::Reshape)?;
    let moves = graph.only_consumer(graph.steps[split].outputs[0])?;
    Some((split, moves))
}

/// Adds a copy of a constant that has a row for each column of the product, with its rows reordered.
fn reordered(graph: &mut Graph, value: ValueId, places: &[usize]) -> Option<ValueId> {
    let slot = graph.slot(value).clone();
    let bytes = &slot.constant.as_ref()?.bytes;
    let row = bytes.len() / places.len();
    let bytes = places.iter().flat_map(|place| &bytes[place * row..(place + 1) * row]).copied().collect();
    Some(graph.add_constant(&slot.shape, slot.element, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::constant_folding;
    use faceptor_nn::plan::{Activation, Element, Port, Product};

    const ROWS: [usize; 2] = [3, 2];
    const CHANNELS: usize = 3;
    const DEPTH: usize = 2;

    /// Returns a product of bytes, and a transpose of its rows and columns by `order`.
    fn graph(split: &[usize], order: &[usize]) -> Graph {
        let columns = CHANNELS * 4;
        let mut graph = Graph::default();
        let bytes = (0..(ROWS[0] * ROWS[1] * DEPTH) as u8).map(|i| i.wrapping_mul(37)).collect();
        let x = graph.add_constant(&[ROWS[0] * ROWS[1], DEPTH], Element::U8, bytes);
        let weights = (0..(columns * DEPTH) as u8).map(|i| i.wrapping_mul(91)).collect();
        let weights = graph.add_constant(&[columns, DEPTH], Element::I8, weights);
        let scale: Vec<f32> = (0..columns).map(|i| 0.5 + i as f32).collect();
        let scale = graph.add_floats(&[columns], &scale);
        let bias: Vec<f32> = (0..columns).map(|i| 100.0 * i as f32).collect();
        let bias = graph.add_floats(&[columns], &bias);
        let product = Product {
            window: None,
            columns,
            depth: DEPTH,
            zero_point: Some(3),
            bias: true,
            first: Activation::None,
            residual: Residual::None,
            second: Activation::None,
            float_output: true,
            quantized_output: None,
        };
        let shape = [ROWS[0] * ROWS[1], columns];
        let y = graph.push("p", Op::Product(product), &[x, weights, scale, bias], &shape, Element::F32);
        let apart = graph.push("s", Op::Reshape, &[y], split, Element::F32);
        let to: Vec<usize> = order.iter().map(|axis| split[*axis]).collect();
        let op = Op::Transpose { order: order.to_vec() };
        let moved = graph.push("t", op, &[apart], &to, Element::F32);
        graph.outputs.push(Port { name: "y".into(), value: moved });
        graph
    }

    fn answer(mut graph: Graph) -> Vec<f32> {
        constant_folding::fold_constants(&mut graph).expect("folds");
        graph.floats(graph.outputs[0].value).expect("known")
    }

    #[test]
    fn columns_spread_over_pixels_come_first_and_answers_stay_equal() {
        let split = [ROWS[0], ROWS[1], CHANNELS, 2, 2];
        // Channels last, and channels first.
        for order in [[0, 3, 1, 4, 2], [2, 0, 3, 1, 4]] {
            let plain = graph(&split, &order);
            let mut ordered = plain.clone();
            assert_eq!(order_columns(&mut ordered.clone(), ChannelAxis::Innermost), order[4] == 2);
            assert!(order_columns(&mut ordered, ChannelAxis::Anywhere));
            let apart = ordered.steps[1].outputs[0];
            assert_eq!(ordered.shape(apart), [ROWS[0], ROWS[1], 2, 2, CHANNELS]);
            assert!(!order_columns(&mut ordered, ChannelAxis::Anywhere), "the second run changes nothing");
            assert_eq!(answer(ordered), answer(plain));
        }
        // Heads of attention are not spread over pixels, nor are channels that stay in front.
        assert!(!order_columns(&mut graph(&[ROWS[0] * ROWS[1], 4, CHANNELS], &[1, 0, 2]), ChannelAxis::Anywhere));
        assert!(!order_columns(&mut graph(&[ROWS[0], ROWS[1], 4 * CHANNELS], &[2, 0, 1]), ChannelAxis::Anywhere));
    }
}
