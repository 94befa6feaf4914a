//! Fuses bias, activation, residual and requantization into the product before them.

use crate::graph::Graph;
use crate::passes::layer_norm::per_column;
use faceptor_nn::plan::{Activation, Binary, Element, Op, Product, Quantization, Residual, Unary, ValueId};
use faceptor_nn::plan::{dequantize, quantize};

/// Runs once over all steps. Returns whether anything changed.
pub fn fuse(graph: &mut Graph) -> bool {
    let mut changed = simplify(graph);
    let mut i = 0;
    while i < graph.steps.len() {
        if fuse_next(graph, i) {
            // Steps may have moved: look at this index again.
            changed = true;
        } else {
            i += 1;
        }
    }
    changed
}

/// Replaces steps by simpler ones.
fn simplify(graph: &mut Graph) -> bool {
    let mut changed = false;
    for i in 0..graph.steps.len() {
        let step = &graph.steps[i];
        match step.op {
            Op::Binary(Binary::Max) => {
                let [a, b] = step.inputs[..] else { continue };
                let x = match (graph.scalar(a), graph.scalar(b)) {
                    (None, Some(0.0)) => a,
                    (Some(0.0), None) => b,
                    _ => continue,
                };
                if graph.shape(x) == graph.shape(step.outputs[0]) {
                    graph.steps[i].op = Op::Unary(Unary::Relu);
                    graph.steps[i].inputs = vec![x];
                    changed = true;
                }
            }
            Op::Quantize(to) => {
                // Dequantizing and quantizing in the same way changes nothing.
                let (x, out) = (step.inputs[0], step.outputs[0]);
                let Some(producer) = graph.producer(x) else { continue };
                let Op::Dequantize(from) = graph.steps[producer].op else { continue };
                if is_round_trip(from, to) && !graph.consumers(out).is_empty() {
                    let quantized = graph.steps[producer].inputs[0];
                    graph.replace(out, quantized);
                    changed = true;
                }
            }
            _ => {}
        }
    }
    changed
}

/// Returns whether every byte is the same after dequantizing and quantizing; two calibrations may round the scale differently.
fn is_round_trip(from: Quantization, to: Quantization) -> bool {
    let bytes: Vec<u8> = (0..=u8::MAX).collect();
    let (mut real, mut again) = ([0.0; 256], [0; 256]);
    dequantize(from, &bytes, &mut real);
    quantize(to, &real, &mut again);
    bytes == again
}

/// Fuses the step after product `i` into it.
fn fuse_next(graph: &mut Graph, i: usize) -> bool {
    let Op::Product(product) = &graph.steps[i].op else { return false };
    if !product.float_output {
        return false;
    }
    let product = product.clone();
    let value = graph.steps[i].outputs[0];
    if product.quantized_output.is_none()
        && let Some(next) = graph.only_consumer(value)
        && fuse_arithmetic(graph, i, next, &product, value)
    {
        return true;
    }
    fuse_quantize(graph, i, product, value)
}

fn fuse_arithmetic(graph: &mut Graph, i: usize, next: usize, product: &Product, value: ValueId) -> bool {
    let step = &graph.steps[next];
    let result = step.outputs[0];
    if graph.shape(result) != graph.shape(value) {
        return false;
    }
    let mut product = product.clone();
    let mut inputs = graph.steps[i].inputs.clone();
    match step.op {
        Op::Unary(Unary::Relu) => match product.residual {
            Residual::None if product.first == Activation::None => product.first = Activation::Relu,
            Residual::None => {}
            _ => product.second = Activation::Relu,
        },
        Op::Binary(Binary::Add) if product.second == Activation::None && product.residual == Residual::None => {
            let other = if step.inputs[0] == value { step.inputs[1] } else { step.inputs[0] };
            if other == value {
                return false;
            }
            let columns = per_column(graph, other, graph.shape(value));
            if let (Some(mut bias), Activation::None) = (columns, product.first) {
                let at = 2 + product.zero_point.is_some() as usize;
                if product.bias {
                    let Some(old) = graph.floats(inputs[at]) else { return false };
                    bias.iter_mut().zip(old).for_each(|(b, old)| *b += old);
                    inputs[at] = graph.add_floats(&[bias.len()], &bias);
                } else {
                    inputs.insert(at, graph.add_floats(&[bias.len()], &bias));
                    product.bias = true;
                }
            } else if graph.slot(other).len() == graph.slot(value).len() {
                let dequantized = graph.producer(other).map(|p| &graph.steps[p]);
                match dequantized.map(|s| (&s.op, s.inputs[0])) {
                    Some((Op::Dequantize(from), quantized)) => {
                        product.residual = Residual::Quantized(*from);
                        inputs.push(quantized);
                    }
                    _ => {
                        product.residual = Residual::Float;
                        inputs.push(other);
                    }
                }
            } else {
                return false;
            }
        }
        _ => return false,
    }
    graph.steps[i].op = Op::Product(product);
    graph.steps[i].inputs = inputs;
    graph.steps[i].outputs = vec![result];
    graph.steps.remove(next);
    // The residual may be computed after the product.
    graph.sort();
    true
}

fn fuse_quantize(graph: &mut Graph, i: usize, mut product: Product, value: ValueId) -> bool {
    let mut changed = false;
    if product.quantized_output.is_none() {
        let consumers = graph.consumers(value);
        let quantizer = consumers.into_iter().find_map(|c| match graph.steps[c].op {
            Op::Quantize(to) => Some((c, to)),
            _ => None,
        });
        if let Some((next, to)) = quantizer {
            let step = graph.steps.remove(next);
            let shape = graph.shape(value).to_vec();
            let quantized = graph.add_value(&shape, Element::U8);
            graph.replace(step.outputs[0], quantized);
            product.quantized_output = Some(to);
            graph.steps[i].outputs = vec![value, quantized];
            changed = true;
        }
    }
    if product.quantized_output.is_some() && graph.consumers(value).is_empty() && !graph.is_output(value) {
        product.float_output = false;
        graph.steps[i].outputs.remove(0);
        changed = true;
    }
    if changed {
        graph.steps[i].op = Op::Product(product);
        graph.sort();
    }
    changed
}
