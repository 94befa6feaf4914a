//! A product whose columns are spread over the pixels behind it, as an up-convolution's are, makes them in the order in which
//! they will lie: the weights are put into another order once, and what moves on every run moves in long pieces.

use crate::graph::Graph;
use faceptor_nn::plan::{Op, Residual, ValueId};

/// What becomes of the columns that are not spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// They lie side by side.
    Last,
    /// They may be planes: then moving is slower in the new order, unless the readers undo it.
    Anywhere,
}

/// Orders the columns of every such product; says whether there was any.
pub fn order_columns(graph: &mut Graph, rest: Rest) -> bool {
    // Counted, not asked for any: every one is put into order.
    (0..graph.steps.len()).filter(|i| order(graph, *i, rest)).count() > 0
}

/// Product, reshape, transposition: the columns' axes that follow an axis of the rows, at least two, come first.
fn order(graph: &mut Graph, i: usize, wanted: Rest) -> bool {
    let Op::Product(product) = &graph.steps[i].op else { return false };
    let &[out] = &graph.steps[i].outputs[..] else { return false };
    if product.residual != Residual::None {
        return false;
    }
    let columns = product.columns;
    let Some((split, moves)) = movement_behind(graph, out) else { return false };
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
    if axes.len() < 2 || rest.is_empty() || (wanted == Rest::Last && !side_by_side) {
        return false;
    }
    axes.extend(rest);
    if axes.is_sorted() {
        return false;
    }
    let from = crate::lower::einsum::strides(&shape);
    let old = |column: usize| {
        let mut behind = columns;
        let step = |axis: &usize| {
            behind /= shape[*axis];
            column / behind % shape[*axis] * from[*axis]
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

/// The reshape and the transposition that alone read a value.
fn movement_behind(graph: &Graph, value: ValueId) -> Option<(usize, usize)> {
    let split = graph.only_consumer(value).filter(|next| graph.steps[*next].op == Op::Reshape)?;
    let moves = graph.only_consumer(graph.steps[split].outputs[0])?;
    Some((split, moves))
}

/// A constant with a row for each column of the product, in another order of rows.
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

    /// A product of bytes, and a transposition of its rows and columns by `order`.
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
    fn what_is_spread_over_pixels_comes_first_and_nothing_else_changes() {
        let split = [ROWS[0], ROWS[1], CHANNELS, 2, 2];
        // Channels last, and channels first.
        for order in [[0, 3, 1, 4, 2], [2, 0, 3, 1, 4]] {
            let plain = graph(&split, &order);
            let mut ordered = plain.clone();
            assert_eq!(order_columns(&mut ordered.clone(), Rest::Last), order[4] == 2);
            assert!(order_columns(&mut ordered, Rest::Anywhere));
            let apart = ordered.steps[1].outputs[0];
            assert_eq!(ordered.shape(apart), [ROWS[0], ROWS[1], 2, 2, CHANNELS]);
            assert!(!order_columns(&mut ordered, Rest::Anywhere), "once is enough");
            assert_eq!(answer(ordered), answer(plain));
        }
        // Heads of attention are not spread, nor are channels that come first as they are.
        assert!(!order_columns(&mut graph(&[ROWS[0] * ROWS[1], 4, CHANNELS], &[1, 0, 2]), Rest::Anywhere));
        assert!(!order_columns(&mut graph(&[ROWS[0], ROWS[1], 4 * CHANNELS], &[2, 0, 1]), Rest::Anywhere));
    }
}
