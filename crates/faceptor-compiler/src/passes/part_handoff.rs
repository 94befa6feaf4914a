//! Hands tensors from part to part in the encoding of the kernels (quantized, channels last) in place of the ONNX file's
//! (float32, channels first).
//!
//! Each part is an ONNX file of its own, so a producer ends by dequantizing and transposing a tensor, and each reader begins
//! by undoing both. This pass moves the producer's last steps into the readers; where they cancel, both share the value
//! before them. The tensor of the ONNX file remains available as a view: a plan of its own, which runs only on request.

use anyhow::Result;

use crate::graph::Graph;
use crate::passes::column_order::{ChannelAxis, order_columns};
use crate::simplify;
use faceptor_nn::bundle::{Encoding, TensorName};
use faceptor_nn::plan::{Element, Op, Port, Quantization, Step, ValueId};

/// The graph of a part, or of a view, before it becomes a plan.
#[derive(Clone)]
pub struct PartGraph {
    pub name: String,
    pub graph: Graph,
}

/// Hands over all tensors between parts. Returns the views, which are named like the tensors that they compute.
pub fn hand_over(parts: &mut [PartGraph]) -> Result<Vec<PartGraph>> {
    let mut views = Vec::new();
    for producer in 0..parts.len() {
        let tensors: Vec<String> = parts[producer].graph.outputs.iter().map(|p| p.name.clone()).collect();
        for tensor in tensors {
            views.extend(hand_over_tensor(parts, producer, &tensor)?);
        }
    }
    Ok(views)
}

/// The transposes, reshapes and dequantization that a part ends with.
struct OutputConversion {
    /// The value before them.
    root: ValueId,
    /// The steps, in order of computation.
    steps: Vec<Step>,
}

fn output_conversion(graph: &Graph, value: ValueId) -> OutputConversion {
    let mut conversion = OutputConversion { root: value, steps: Vec::new() };
    while let Some(step) = graph.producer(conversion.root).map(|p| &graph.steps[p])
        && matches!(step.op, Op::Reshape | Op::Transpose { .. } | Op::Dequantize(_))
        && graph.slot(conversion.root).element == Element::F32
    {
        conversion.steps.insert(0, step.clone());
        conversion.root = step.inputs[0];
    }
    conversion
}

/// Hands over a tensor. Tries the producer's columns in channels-last order first; that is kept if every reader takes the
/// encoded tensor, so that no view has to undo the order on every run.
fn hand_over_tensor(parts: &mut [PartGraph], producer: usize, tensor: &str) -> Result<Option<PartGraph>> {
    let mut ordered = parts.to_vec();
    if order_columns(&mut ordered[producer].graph, ChannelAxis::Anywhere)
        && let Some(view) = try_hand_over(&mut ordered, producer, tensor)?
        && ordered.iter().all(|part| part.graph.inputs.iter().all(|port| port.name != tensor))
    {
        parts.clone_from_slice(&ordered);
        return Ok(Some(view));
    }
    try_hand_over(parts, producer, tensor)
}

fn try_hand_over(parts: &mut [PartGraph], producer: usize, tensor: &str) -> Result<Option<PartGraph>> {
    let readers: Vec<usize> =
        (0..parts.len()).filter(|i| parts[*i].graph.inputs.iter().any(|p| p.name == tensor)).collect();
    let graph = &parts[producer].graph;
    let Some(value) = graph.outputs.iter().find(|p| p.name == tensor).map(|p| p.value) else { return Ok(None) };
    let conversion = output_conversion(graph, value);
    let shared = |root: ValueId| graph.outputs.iter().chain(&graph.inputs).any(|p| p.value == root && p.name != tensor);
    if readers.is_empty() || graph.slot(conversion.root).constant.is_some() || shared(conversion.root) {
        return Ok(None);
    }
    let quantized = graph.slot(conversion.root).element == Element::U8;
    let mut handed = conversion.steps.clone();
    let mut to = None;
    if !quantized {
        // The value is float: it is quantized here, as its first reader does.
        let Some(first) = readers.iter().find_map(|r| quantization_of(&parts[*r].graph, tensor)) else {
            return Ok(None);
        };
        let dequantize = Op::Dequantize(first);
        handed.insert(0, Step { name: tensor.into(), op: dequantize, inputs: vec![], outputs: vec![conversion.root] });
        to = Some(first);
    }
    let form = TensorName::new(tensor, Encoding::Quantized).to_string();
    let mut others = Vec::new();
    let count = readers.len();
    for reader in readers {
        match encoded_reader(
            &parts[reader].graph,
            graph_of(parts, producer),
            tensor,
            (&form, Element::U8),
            &conversion,
            &handed,
        )? {
            Some(graph) if !leaves_dequantized(&graph, &form) => parts[reader].graph = graph,
            _ => others.push(reader),
        }
    }
    if others.len() == count {
        return Ok(None);
    }
    // A single reader of floats takes the value before the conversion; several share the view.
    if let (&[reader], Some(_)) = (&others[..], to) {
        let form = (&*TensorName::new(tensor, Encoding::Reordered).to_string(), Element::F32);
        let graph = encoded_reader(
            &parts[reader].graph,
            graph_of(parts, producer),
            tensor,
            form,
            &conversion,
            &conversion.steps,
        )?;
        let moves = |graph: &Graph| graph.steps.iter().filter(|s| matches!(s.op, Op::Transpose { .. })).count();
        if let Some(graph) = graph.filter(|graph| moves(graph) <= moves(&parts[reader].graph) + 1) {
            parts[reader].graph = graph;
        }
    }
    let graph = &mut parts[producer].graph;
    graph.outputs.retain(|p| p.name != tensor);
    let root_shape = graph.shape(conversion.root).to_vec();
    let root_element = graph.slot(conversion.root).element;
    let view_input = match to {
        None => {
            graph.outputs.push(Port { name: form.clone(), value: conversion.root });
            form
        }
        Some(to) => {
            let bytes = graph.push(tensor, Op::Quantize(to), &[conversion.root], &root_shape, Element::U8);
            graph.outputs.push(Port { name: form, value: bytes });
            let form = TensorName::new(tensor, Encoding::Reordered).to_string();
            graph.outputs.push(Port { name: form.clone(), value: conversion.root });
            form
        }
    };
    let mut view = Graph::default();
    let from = view.add_value(&root_shape, root_element);
    view.inputs.push(Port { name: view_input, value: from });
    let value = replay(&mut view, graph, &conversion.steps, from);
    view.outputs.push(Port { name: tensor.into(), value });
    crate::separate_outputs(&mut view);
    simplify(graph)?;
    Ok(Some(PartGraph { name: tensor.into(), graph: view }))
}

fn graph_of(parts: &[PartGraph], index: usize) -> &Graph {
    &parts[index].graph
}

/// Returns how the first reader of an input quantizes it, if it does.
fn quantization_of(graph: &Graph, tensor: &str) -> Option<Quantization> {
    let mut value = graph.inputs.iter().find(|p| p.name == tensor)?.value;
    loop {
        let next = *graph.consumers(value).first()?;
        match graph.steps[next].op {
            Op::Quantize(to) => return Some(to),
            Op::Reshape | Op::Transpose { .. } => value = graph.steps[next].outputs[0],
            _ => return None,
        }
    }
}

/// Appends a chain of steps of another graph that begins at `from`. Returns the last result.
fn replay(graph: &mut Graph, source: &Graph, steps: &[Step], from: ValueId) -> ValueId {
    steps.iter().fold(from, |value, step| {
        let slot = source.slot(step.outputs[0]);
        graph.push(&step.name, step.op.clone(), &[value], &slot.shape, slot.element)
    })
}

/// Returns the reader with the encoded tensor as its input; `None` if the tensor is also an output of the reader.
fn encoded_reader(
    reader: &Graph,
    producer: &Graph,
    tensor: &str,
    (form, element): (&str, Element),
    conversion: &OutputConversion,
    handed: &[Step],
) -> Result<Option<Graph>> {
    let mut graph = reader.clone();
    let Some(at) = graph.inputs.iter().position(|p| p.name == tensor) else { return Ok(None) };
    let value = graph.inputs[at].value;
    if graph.is_output(value) {
        return Ok(None);
    }
    let from = graph.add_value(producer.shape(conversion.root), element);
    graph.inputs[at] = Port { name: form.into(), value: from };
    let result = replay(&mut graph, producer, handed, from);
    graph.replace(value, result);
    graph.sort();
    simplify(&mut graph)?;
    Ok(Some(graph))
}

/// Returns whether a reader dequantizes an input before it uses it.
fn leaves_dequantized(graph: &Graph, form: &str) -> bool {
    let mut open: Vec<ValueId> = graph.inputs.iter().filter(|p| p.name == form).map(|p| p.value).collect();
    while let Some(value) = open.pop() {
        for step in graph.consumers(value).into_iter().map(|i| &graph.steps[i]) {
            match step.op {
                Op::Dequantize(_) => return true,
                Op::Reshape | Op::Transpose { .. } => open.push(step.outputs[0]),
                _ => {}
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use faceptor_nn::plan::{Activation, Product, Residual, Unary};

    const TO: Quantization = Quantization { scale: 0.5, zero_point: 3 };

    fn plain_product() -> Product {
        Product {
            window: None,
            columns: 2,
            depth: 2,
            zero_point: Some(3),
            bias: false,
            first: Activation::None,
            residual: Residual::None,
            second: Activation::None,
            float_output: true,
            quantized_output: None,
        }
    }

    fn product() -> Op {
        Op::Product(plain_product())
    }

    fn part(
        name: &str,
        input: (&str, &[usize]),
        build: impl FnOnce(&mut Graph, ValueId) -> Vec<(&'static str, ValueId)>,
    ) -> PartGraph {
        let mut graph = Graph::default();
        let x = graph.add_value(input.1, Element::F32);
        graph.inputs.push(Port { name: input.0.into(), value: x });
        let made = build(&mut graph, x);
        graph.outputs.extend(made.into_iter().map(|(name, value)| Port { name: name.into(), value }));
        simplify(&mut graph).unwrap();
        PartGraph { name: name.into(), graph }
    }

    /// Returns a part that quantizes, transposes to channels last and multiplies.
    fn reader(name: &str, to: Quantization) -> PartGraph {
        part(name, ("t", &[1, 2, 3, 4]), |g, x| {
            let q = g.push("q", Op::Quantize(to), &[x], &[1, 2, 3, 4], Element::U8);
            let last = g.push("m", Op::Transpose { order: vec![0, 2, 3, 1] }, &[q], &[1, 3, 4, 2], Element::U8);
            let weights = g.add_constant(&[2, 2], Element::I8, vec![1, 2, 3, 4]);
            let scale = g.add_floats(&[2], &[1.0, 1.0]);
            vec![("y", g.push("p", product(), &[last, weights, scale], &[1, 3, 4, 2], Element::F32))]
        })
    }

    fn names(ports: &[Port]) -> Vec<&str> {
        ports.iter().map(|p| p.name.as_str()).collect()
    }

    #[test]
    fn conversions_that_cancel_are_removed_and_the_tensor_becomes_a_view() {
        for quantizes in [true, false] {
            let producer = part("a", ("x", &[1, 3, 4, 2]), |g, x| {
                let mut y = g.push("r", Op::Unary(Unary::Relu), &[x], &[1, 3, 4, 2], Element::F32);
                if quantizes {
                    let q = g.push("q", Op::Quantize(TO), &[y], &[1, 3, 4, 2], Element::U8);
                    y = g.push("d", Op::Dequantize(TO), &[q], &[1, 3, 4, 2], Element::F32);
                }
                vec![("t", g.push("t", Op::Transpose { order: vec![0, 3, 1, 2] }, &[y], &[1, 2, 3, 4], Element::F32))]
            });
            // A scale that differs by rounding alone, and one that really differs.
            let near = Quantization { scale: 0.500_000_06, ..TO };
            let far = Quantization { scale: 0.51, ..TO };
            let mut parts = [producer, reader("b", TO), reader("c", near), reader("d", far)];
            let views = hand_over(&mut parts).unwrap();
            assert_eq!(names(&parts[0].graph.outputs)[0], "t (u8)");
            assert_eq!(names(&parts[1].graph.inputs), ["t (u8)"]);
            assert_eq!(names(&parts[2].graph.inputs), ["t (u8)"]);
            let anew = if quantizes { "t" } else { "t (f32)" };
            assert_eq!(names(&parts[3].graph.inputs), [anew], "another scale must be quantized anew");
            assert!(parts[1].graph.steps.iter().all(|s| matches!(s.op, Op::Product(_))), "{:?}", parts[1].graph.steps);
            assert_eq!((views.len(), names(&views[0].graph.outputs)), (1, vec!["t"]));
            let first = &parts[0].graph.outputs.last().unwrap().name;
            assert_eq!(names(&views[0].graph.inputs), [first]);
        }
    }

    #[test]
    fn floats_without_a_quantizing_reader_stay_as_they_are() {
        let producer = part("a", ("x", &[2, 2]), |g, x| {
            vec![("t", g.push("r", Op::Unary(Unary::Relu), &[x], &[2, 2], Element::F32))]
        });
        let reader = part("b", ("t", &[2, 2]), |g, x| {
            vec![("y", g.push("s", Op::Unary(Unary::Sigmoid), &[x], &[2, 2], Element::F32))]
        });
        let mut parts = [producer, reader];
        assert!(hand_over(&mut parts).unwrap().is_empty());
        assert_eq!(names(&parts[0].graph.outputs), names(&parts[1].graph.inputs));
    }

    /// Returns an up-convolution whose part ends with planes.
    fn spread(name: &str) -> PartGraph {
        part(name, ("x", &[6, 2]), |g, x| {
            let weights: Vec<f32> = (0..24).map(|i| i as f32 / 8.0).collect();
            let weights = g.add_floats(&[12, 2], &weights);
            let product = Product { columns: 12, zero_point: None, ..plain_product() };
            let y = g.push("p", Op::Product(product), &[x, weights], &[6, 12], Element::F32);
            let apart = g.push("s", Op::Reshape, &[y], &[3, 2, 3, 2, 2], Element::F32);
            let order = vec![2, 0, 3, 1, 4];
            let planes = g.push("t", Op::Transpose { order }, &[apart], &[3, 3, 2, 2, 2], Element::F32);
            vec![("t", g.push("t", Op::Reshape, &[planes], &[1, 3, 6, 4], Element::F32))]
        })
    }

    #[test]
    fn columns_are_channels_last_unless_a_view_would_undo_it() {
        let bytes = || {
            part("bytes", ("t", &[1, 3, 6, 4]), |g, x| {
                let q = g.push("q", Op::Quantize(TO), &[x], &[1, 3, 6, 4], Element::U8);
                let order = vec![0, 2, 3, 1];
                let last = g.push("m", Op::Transpose { order }, &[q], &[1, 6, 4, 3], Element::U8);
                let weights = g.add_constant(&[2, 3], Element::I8, vec![1, 2, 3, 4, 5, 6]);
                let scale = g.add_floats(&[2], &[1.0, 1.0]);
                let product = Op::Product(Product { depth: 3, ..plain_product() });
                vec![("y", g.push("p", product, &[last, weights, scale], &[1, 6, 4, 2], Element::F32))]
            })
        };
        let floats = |name| {
            part(name, ("t", &[1, 3, 6, 4]), |g, x| {
                vec![("z", g.push("r", Op::Unary(Unary::Tanh), &[x], &[1, 3, 6, 4], Element::F32))]
            })
        };
        for (readers, ordered) in [(vec![bytes()], true), (vec![bytes(), floats("a"), floats("b")], false)] {
            let mut parts = [vec![spread("p")], readers].concat();
            let views = hand_over(&mut parts).unwrap();
            assert_eq!((names(&parts[1].graph.inputs), views.len()), (vec!["t (u8)"], 1));
            let steps = &parts[1].graph.steps;
            let moved = steps.iter().find(|s| matches!(s.op, Op::Transpose { .. })).expect("a shuffle");
            let shape = parts[1].graph.shape(moved.inputs[0]);
            // Three channels side by side, after the shuffle's two by two.
            assert_eq!(shape.last() == Some(&3) || shape.ends_with(&[2, 6]), ordered, "{shape:?}");
        }
    }
}
