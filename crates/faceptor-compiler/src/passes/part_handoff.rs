//! What one part hands to another goes as it is: quantized and channels last, where the tensor of the ONNX files is float32
//! and channels first.
//!
//! Each part is an ONNX file of its own, so the last thing that a producer does with a tensor is to dequantize and transpose
//! it, and the first thing that every reader does is to undo both. Here the reader takes over the producer's last steps; if
//! they cancel, the two share the value before them. The tensor itself is still there for whoever asks for it: a plan of
//! its own, a view, makes it, and does not run otherwise.

use anyhow::Result;

use crate::graph::Graph;
use crate::passes::column_order::{Rest, order_columns};
use crate::simplify;
use faceptor_nn::bundle::{Encoding, TensorName};
use faceptor_nn::plan::{Element, Op, Port, Quantization, Step, ValueId};

/// A part on its way into a bundle.
#[derive(Clone)]
pub struct Unit {
    pub name: String,
    pub graph: Graph,
}

/// Links all parts; gives the views, whose names are those of the tensors they make.
pub fn link(parts: &mut [Unit]) -> Result<Vec<Unit>> {
    let mut views = Vec::new();
    for producer in 0..parts.len() {
        let tensors: Vec<String> = parts[producer].graph.outputs.iter().map(|p| p.name.clone()).collect();
        for tensor in tensors {
            views.extend(link_tensor(parts, producer, &tensor)?);
        }
    }
    Ok(views)
}

/// The movements and the dequantization that a part ends with.
struct Tail {
    /// What they begin with.
    root: ValueId,
    /// In order of computation.
    steps: Vec<Step>,
}

fn tail_of(graph: &Graph, value: ValueId) -> Tail {
    let mut tail = Tail { root: value, steps: Vec::new() };
    while let Some(step) = graph.producer(tail.root).map(|p| &graph.steps[p])
        && matches!(step.op, Op::Reshape | Op::Transpose { .. } | Op::Dequantize(_))
        && graph.slot(tail.root).element == Element::F32
    {
        tail.steps.insert(0, step.clone());
        tail.root = step.inputs[0];
    }
    tail
}

/// Links a tensor: first with the producer's columns in the order that suits channels last, which holds if every reader
/// takes what is handed on, and no view has to undo it on every run.
fn link_tensor(parts: &mut [Unit], producer: usize, tensor: &str) -> Result<Option<Unit>> {
    let mut ordered = parts.to_vec();
    if order_columns(&mut ordered[producer].graph, Rest::Anywhere)
        && let Some(view) = try_link(&mut ordered, producer, tensor)?
        && ordered.iter().all(|part| part.graph.inputs.iter().all(|port| port.name != tensor))
    {
        parts.clone_from_slice(&ordered);
        return Ok(Some(view));
    }
    try_link(parts, producer, tensor)
}

fn try_link(parts: &mut [Unit], producer: usize, tensor: &str) -> Result<Option<Unit>> {
    let readers: Vec<usize> =
        (0..parts.len()).filter(|i| parts[*i].graph.inputs.iter().any(|p| p.name == tensor)).collect();
    let graph = &parts[producer].graph;
    let Some(value) = graph.outputs.iter().find(|p| p.name == tensor).map(|p| p.value) else { return Ok(None) };
    let tail = tail_of(graph, value);
    let shared = |root: ValueId| graph.outputs.iter().chain(&graph.inputs).any(|p| p.value == root && p.name != tensor);
    if readers.is_empty() || graph.slot(tail.root).constant.is_some() || shared(tail.root) {
        return Ok(None);
    }
    let quantized = graph.slot(tail.root).element == Element::U8;
    let mut handed = tail.steps.clone();
    let mut to = None;
    if !quantized {
        // It leaves as float: what its first reader quantizes it to is done here.
        let Some(first) = readers.iter().find_map(|r| quantization_of(&parts[*r].graph, tensor)) else {
            return Ok(None);
        };
        let dequantize = Op::Dequantize(first);
        handed.insert(0, Step { name: tensor.into(), op: dequantize, inputs: vec![], outputs: vec![tail.root] });
        to = Some(first);
    }
    let form = TensorName::new(tensor, Encoding::Quantized).to_string();
    let mut others = Vec::new();
    let count = readers.len();
    for reader in readers {
        match adopt(&parts[reader].graph, graph_of(parts, producer), tensor, (&form, Element::U8), &tail, &handed)? {
            Some(graph) if !leaves_dequantized(&graph, &form) => parts[reader].graph = graph,
            _ => others.push(reader),
        }
    }
    if others.len() == count {
        return Ok(None);
    }
    // One that reads floats takes them as they are, and moves them as it needs; several share the view's.
    if let (&[reader], Some(_)) = (&others[..], to) {
        let form = (&*TensorName::new(tensor, Encoding::Reordered).to_string(), Element::F32);
        let graph = adopt(&parts[reader].graph, graph_of(parts, producer), tensor, form, &tail, &tail.steps)?;
        let moves = |graph: &Graph| graph.steps.iter().filter(|s| matches!(s.op, Op::Transpose { .. })).count();
        if let Some(graph) = graph.filter(|graph| moves(graph) <= moves(&parts[reader].graph) + 1) {
            parts[reader].graph = graph;
        }
    }
    let graph = &mut parts[producer].graph;
    graph.outputs.retain(|p| p.name != tensor);
    let root_shape = graph.shape(tail.root).to_vec();
    let root_element = graph.slot(tail.root).element;
    let view_input = match to {
        None => {
            graph.outputs.push(Port { name: form.clone(), value: tail.root });
            form
        }
        Some(to) => {
            let bytes = graph.push(tensor, Op::Quantize(to), &[tail.root], &root_shape, Element::U8);
            graph.outputs.push(Port { name: form, value: bytes });
            let form = TensorName::new(tensor, Encoding::Reordered).to_string();
            graph.outputs.push(Port { name: form.clone(), value: tail.root });
            form
        }
    };
    let mut view = Graph::default();
    let from = view.add_value(&root_shape, root_element);
    view.inputs.push(Port { name: view_input, value: from });
    let value = replay(&mut view, graph, &tail.steps, from);
    view.outputs.push(Port { name: tensor.into(), value });
    crate::separate_outputs(&mut view);
    simplify(graph)?;
    Ok(Some(Unit { name: tensor.into(), graph: view }))
}

fn graph_of(parts: &[Unit], index: usize) -> &Graph {
    &parts[index].graph
}

/// What the readers of an input quantize it to, if the first of them does.
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

/// Appends steps of another graph, each with one input, the first of which reads `from`; gives the last result.
fn replay(graph: &mut Graph, source: &Graph, steps: &[Step], from: ValueId) -> ValueId {
    steps.iter().fold(from, |value, step| {
        let slot = source.slot(step.outputs[0]);
        graph.push(&step.name, step.op.clone(), &[value], &slot.shape, slot.element)
    })
}

/// The reader with `form` in place of the tensor; none if it hands the tensor on.
fn adopt(
    reader: &Graph,
    producer: &Graph,
    tensor: &str,
    (form, element): (&str, Element),
    tail: &Tail,
    handed: &[Step],
) -> Result<Option<Graph>> {
    let mut graph = reader.clone();
    let Some(at) = graph.inputs.iter().position(|p| p.name == tensor) else { return Ok(None) };
    let value = graph.inputs[at].value;
    if graph.is_output(value) {
        return Ok(None);
    }
    let from = graph.add_value(producer.shape(tail.root), element);
    graph.inputs[at] = Port { name: form.into(), value: from };
    let result = replay(&mut graph, producer, handed, from);
    graph.replace(value, result);
    graph.sort();
    simplify(&mut graph)?;
    Ok(Some(graph))
}

/// Whether what a reader does first with an input is to dequantize it.
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

    fn unit(
        name: &str,
        input: (&str, &[usize]),
        build: impl FnOnce(&mut Graph, ValueId) -> Vec<(&'static str, ValueId)>,
    ) -> Unit {
        let mut graph = Graph::default();
        let x = graph.add_value(input.1, Element::F32);
        graph.inputs.push(Port { name: input.0.into(), value: x });
        let made = build(&mut graph, x);
        graph.outputs.extend(made.into_iter().map(|(name, value)| Port { name: name.into(), value }));
        simplify(&mut graph).unwrap();
        Unit { name: name.into(), graph }
    }

    /// Quantizes, moves channels last and multiplies.
    fn reader(name: &str, to: Quantization) -> Unit {
        unit(name, ("t", &[1, 2, 3, 4]), |g, x| {
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
    fn what_cancels_between_parts_is_left_out_and_made_only_on_request() {
        for quantizes in [true, false] {
            let producer = unit("a", ("x", &[1, 3, 4, 2]), |g, x| {
                let mut y = g.push("r", Op::Unary(Unary::Relu), &[x], &[1, 3, 4, 2], Element::F32);
                if quantizes {
                    let q = g.push("q", Op::Quantize(TO), &[y], &[1, 3, 4, 2], Element::U8);
                    y = g.push("d", Op::Dequantize(TO), &[q], &[1, 3, 4, 2], Element::F32);
                }
                vec![("t", g.push("t", Op::Transpose { order: vec![0, 3, 1, 2] }, &[y], &[1, 2, 3, 4], Element::F32))]
            });
            // A scale that another calibration rounded otherwise; one that is another.
            let near = Quantization { scale: 0.500_000_06, ..TO };
            let far = Quantization { scale: 0.51, ..TO };
            let mut parts = [producer, reader("b", TO), reader("c", near), reader("d", far)];
            let views = link(&mut parts).unwrap();
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
    fn floats_that_nobody_quantizes_stay_as_they_are() {
        let producer = unit("a", ("x", &[2, 2]), |g, x| {
            vec![("t", g.push("r", Op::Unary(Unary::Relu), &[x], &[2, 2], Element::F32))]
        });
        let reader = unit("b", ("t", &[2, 2]), |g, x| {
            vec![("y", g.push("s", Op::Unary(Unary::Sigmoid), &[x], &[2, 2], Element::F32))]
        });
        let mut parts = [producer, reader];
        assert!(link(&mut parts).unwrap().is_empty());
        assert_eq!(names(&parts[0].graph.outputs), names(&parts[1].graph.inputs));
    }

    /// An up-convolution that its part hands on as planes.
    fn spread(name: &str) -> Unit {
        unit(name, ("x", &[6, 2]), |g, x| {
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
    fn columns_are_ordered_for_channels_last_where_no_view_has_to_undo_it() {
        let bytes = || {
            unit("bytes", ("t", &[1, 3, 6, 4]), |g, x| {
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
            unit(name, ("t", &[1, 3, 6, 4]), |g, x| {
                vec![("z", g.push("r", Op::Unary(Unary::Tanh), &[x], &[1, 3, 6, 4], Element::F32))]
            })
        };
        for (readers, ordered) in [(vec![bytes()], true), (vec![bytes(), floats("a"), floats("b")], false)] {
            let mut parts = [vec![spread("p")], readers].concat();
            let views = link(&mut parts).unwrap();
            assert_eq!((names(&parts[1].graph.inputs), views.len()), (vec!["t (u8)"], 1));
            let steps = &parts[1].graph.steps;
            let moved = steps.iter().find(|s| matches!(s.op, Op::Transpose { .. })).expect("a shuffle");
            let shape = parts[1].graph.shape(moved.inputs[0]);
            // Three channels side by side, after the shuffle's two by two.
            assert_eq!(shape.last() == Some(&3) || shape.ends_with(&[2, 6]), ordered, "{shape:?}");
        }
    }
}
