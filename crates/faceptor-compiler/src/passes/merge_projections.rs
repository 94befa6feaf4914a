//! Merges the projections of query, key and value: attention reads its columns from one product, without slices.
//!
//! tract moves a bias of all columns after the slices, a piece to each. This pass joins the pieces to one constant, which
//! the product adds.

use crate::graph::Graph;
use faceptor_nn::plan::{Activation, Attention, Binary, Element, Op, Product, Reach, Residual, ValueId};

/// Merges constants and slices into the products and attention steps around them. Returns whether anything changed.
pub fn merge_projections(graph: &mut Graph) -> bool {
    let mut changed = false;
    let mut i = 0;
    while i < graph.steps.len() {
        changed |= match graph.steps[i].op.clone() {
            Op::Product(product) => take_constants(graph, i, product),
            Op::Attention(op) => (0..3).any(|side| read_slice(graph, i, side, &op)),
            _ => false,
        };
        i += 1;
    }
    changed
}

/// Moves constants that are added to slices of a product's columns into the product, if only slices read it.
fn take_constants(graph: &mut Graph, i: usize, mut product: Product) -> bool {
    let plain = product.residual == Residual::None
        && [product.first, product.second] == [Activation::None; 2]
        && product.quantized_output.is_none();
    let value = graph.steps[i].outputs[0];
    let columns = product.columns;
    let rows = graph.slot(value).len() / columns;
    let slices = graph.consumers(value);
    if !plain || slices.is_empty() || graph.is_output(value) {
        return false;
    }
    let mut sum = vec![0f32; rows * columns];
    let mut taken = Vec::new();
    for slice in slices {
        let last = graph.shape(value).len() - 1;
        let Op::Slice { axis, start, step: 1 } = graph.steps[slice].op else { return false };
        if axis != last {
            return false;
        }
        let out = graph.steps[slice].outputs[0];
        let wide = graph.shape(out)[last];
        let mut end = out;
        while let Some((next, constant)) = constant_added(graph, end, rows * wide) {
            for (row, sum) in sum.chunks_exact_mut(columns).enumerate() {
                // A single number, a row for all rows, or a row for each.
                let at = |column: usize| (row * wide + column) % constant.len();
                sum[start..start + wide].iter_mut().enumerate().for_each(|(column, sum)| *sum += constant[at(column)]);
            }
            end = next;
        }
        if end != out {
            taken.push((end, out));
        }
    }
    if taken.is_empty() {
        return false;
    }
    if sum.chunks_exact(columns).all(|row| *row == sum[..columns]) {
        let at = 2 + usize::from(product.zero_point.is_some());
        sum.truncate(columns);
        if product.bias {
            let Some(old) = graph.floats(graph.steps[i].inputs[at]) else { return false };
            sum.iter_mut().zip(old).for_each(|(sum, old)| *sum += old);
            graph.steps[i].inputs.remove(at);
        }
        let bias = graph.add_floats(&[columns], &sum);
        graph.steps[i].inputs.insert(at, bias);
        product.bias = true;
    } else {
        let shape = graph.shape(value).to_vec();
        let constant = graph.add_floats(&shape, &sum);
        graph.steps[i].inputs.push(constant);
        product.residual = Residual::Float;
    }
    graph.steps[i].op = Op::Product(product);
    taken.into_iter().for_each(|(end, out)| graph.replace(end, out));
    graph.drop_dead_steps();
    true
}

/// Returns the sum of a value of `len` elements, which nothing else reads, and a constant that is broadcast along whole rows.
fn constant_added(graph: &Graph, value: ValueId, len: usize) -> Option<(ValueId, Vec<f32>)> {
    let step = &graph.steps[graph.only_consumer(value)?];
    let (Op::Binary(Binary::Add), [a, b]) = (&step.op, &step.inputs[..]) else { return None };
    let other = if *a == value { *b } else { *a };
    let constant = graph.floats(other).filter(|_| other != value)?;
    let wide = *graph.shape(value).last()?;
    let fits = constant.len() == len || constant.len() == 1 || constant.len() == wide;
    let along = constant.len() == 1 || graph.shape(other).last() == Some(&wide);
    (fits && along && graph.shape(step.outputs[0]) == graph.shape(value)).then(|| (step.outputs[0], constant))
}

/// Lets attention read the source of a slice by strides.
fn read_slice(graph: &mut Graph, i: usize, side: usize, op: &Attention) -> bool {
    let input = graph.steps[i].inputs[side];
    let Some(step) = graph.producer(input).map(|p| &graph.steps[p]) else { return false };
    let Op::Slice { axis, start, step: 1 } = step.op else { return false };
    let source = step.inputs[0];
    if op.starts[side] != 0 || graph.slot(source).element != Element::F32 {
        return false;
    }
    let inner = |value: ValueId| graph.shape(value)[axis..].iter().product::<usize>();
    let (short, long) = (inner(input), inner(source));
    let mut op = op.clone();
    let mut within = 0;
    for reach in op.outer.iter_mut().chain([&mut op.queries, &mut op.keys, &mut op.depth, &mut op.columns]) {
        let last = reach.len - 1;
        let stride = stride_of(reach, side);
        if last * *stride < short {
            within += last * *stride;
        } else if stride.is_multiple_of(short) {
            *stride = *stride / short * long;
        } else {
            return false;
        }
    }
    if within >= short {
        return false;
    }
    op.starts[side] = start * graph.shape(source)[axis + 1..].iter().product::<usize>();
    graph.steps[i].op = Op::Attention(op);
    graph.steps[i].inputs[side] = source;
    graph.drop_dead_steps();
    true
}

/// Returns the stride in queries, keys or values.
pub fn stride_of(reach: &mut Reach, side: usize) -> &mut usize {
    match side {
        0 => &mut reach.query,
        1 => &mut reach.key,
        _ => &mut reach.value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::constant_folding;
    use crate::simplify;
    use faceptor_nn::plan::Port;

    const ROWS: usize = 5;
    const HEADS: usize = 2;
    const DEPTH: usize = 3;
    const WIDE: usize = HEADS * DEPTH;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 37 + seed * 11) % 23) as f32 / 8.0 - 1.0).collect()
    }

    /// Returns a graph of self-attention on the columns of one product: something is added to each third of them, as far as `added` says.
    fn graph(added: [usize; 3]) -> Graph {
        let mut graph = Graph::default();
        let x = graph.add_value(&[ROWS, 4], Element::F32);
        graph.inputs.push(Port { name: "x".into(), value: x });
        let weights = graph.add_floats(&[3 * WIDE, 4], &numbers(12 * WIDE, 1));
        let product = crate::lower::convolution::float_product(None, 3 * WIDE, 4);
        let all = graph.push("product", Op::Product(product), &[x, weights], &[ROWS, 3 * WIDE], Element::F32);
        let thirds = [0, 1, 2].map(|third| {
            let op = Op::Slice { axis: 1, start: third * WIDE, step: 1 };
            let slice = graph.push("slice", op, &[all], &[ROWS, WIDE], Element::F32);
            if added[third] == 0 {
                return slice;
            }
            let constant = graph.add_floats(&[added[third], WIDE], &numbers(added[third] * WIDE, third + 2));
            graph.push("add", Op::Binary(Binary::Add), &[slice, constant], &[ROWS, WIDE], Element::F32)
        });
        let reach = |len, query, key, value, out| Reach { len, query, key, value, out };
        let op = Attention {
            outer: vec![reach(HEADS, DEPTH, DEPTH, DEPTH, DEPTH)],
            queries: reach(ROWS, WIDE, 0, 0, WIDE),
            keys: reach(ROWS, 0, WIDE, WIDE, 0),
            depth: reach(DEPTH, 1, 1, 0, 0),
            columns: reach(DEPTH, 0, 0, 1, 1),
            scale: 0.5,
            quantized_output: None,
            starts: [0; 3],
        };
        let out = graph.push("attention", Op::Attention(op), &thirds, &[ROWS, WIDE], Element::F32);
        graph.outputs.push(Port { name: "y".into(), value: out });
        graph
    }

    fn answer(mut graph: Graph) -> Vec<f32> {
        let x = graph.add_floats(&[ROWS, 4], &numbers(ROWS * 4, 0));
        graph.replace(graph.inputs[0].value, x);
        constant_folding::fold_constants(&mut graph).expect("folds");
        graph.floats(graph.outputs[0].value).expect("known")
    }

    #[test]
    fn query_key_and_value_are_columns_of_one_product() {
        // A row for each query and key and one for all values; one for all of each; nothing anywhere.
        for (added, residual, bias) in
            [([ROWS, ROWS, 1], true, false), ([1, 1, 1], false, true), ([0; 3], false, false)]
        {
            let plain = graph(added);
            let mut joined = plain.clone();
            simplify(&mut joined).expect("simple");
            let [product, attention] = &joined.steps[..] else { panic!("{:?}", joined.steps) };
            let (Op::Product(product), Op::Attention(op)) = (&product.op, &attention.op) else { panic!("{product:?}") };
            assert_eq!((product.residual == Residual::Float, product.bias), (residual, bias));
            assert_eq!((op.starts, op.queries.query, op.keys.key), ([0, WIDE, 2 * WIDE], 3 * WIDE, 3 * WIDE));
            for (found, expected) in answer(joined).iter().zip(answer(plain)) {
                assert!((found - expected).abs() < 1e-5, "{found} {expected}");
            }
        }
    }
}
