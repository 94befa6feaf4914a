//! Splits a parsing decoder before its last product, so that callers compute only the result that they need.
//!
//! The part ends with a product of queries and pixels, whose result is by far its largest value. After this pass the part
//! outputs the two factors, and each result is a view, a plan of its own, which runs only on request:
//!
//! - the class of each pixel, in one step that stores no scores;
//! - the scores cell by cell with classes innermost, where the product computes them in that order;
//! - the tensor of the ONNX file, plane by plane.

use anyhow::Result;

use crate::graph::Graph;
use crate::passes::layout::{AxisPiece, origin};
use crate::passes::part_handoff::PartGraph;
use crate::simplify;
use faceptor_nn::bundle::{Encoding, TensorName};
use faceptor_nn::plan::{BestClass, Element, MatMul, Op, Port, Step, ValueId, Walk};

/// Splits the part that computes `tensor`, logits `[1, classes, height, width]`. Returns the views; none if another part reads
/// the tensor, or if the part does not end with a product of queries and pixels.
pub fn split(parts: &mut [PartGraph], tensor: &str) -> Result<Vec<PartGraph>> {
    let is_read = parts.iter().any(|part| part.graph.inputs.iter().any(|port| port.name == tensor));
    let producer = parts.iter().position(|part| part.graph.outputs.iter().any(|port| port.name == tensor));
    let Some(producer) = producer.filter(|_| !is_read) else { return Ok(Vec::new()) };
    let graph = &parts[producer].graph;
    let Some(last) = FinalProduct::find(graph, tensor) else { return Ok(Vec::new()) };
    let views = last.views(graph, tensor)?;
    let graph = &mut parts[producer].graph;
    graph.outputs.retain(|port| port.name != tensor);
    let made = last.factors.iter().filter(|factor| !graph.inputs.contains(factor)).cloned().collect::<Vec<_>>();
    graph.outputs.extend(made);
    graph.drop_dead_steps();
    simplify(graph)?;
    Ok(views)
}

/// The product that a part ends with.
struct FinalProduct {
    /// The step, with `factors` as its inputs.
    product: Step,
    classes: BestClass,
    /// Queries and pixels, with the names that the views read them by.
    factors: [Port; 2],
    /// True if the result of the product is in cell order.
    by_cell: bool,
}

impl FinalProduct {
    fn find(graph: &Graph, tensor: &str) -> Option<FinalProduct> {
        let output = graph.outputs.iter().find(|port| port.name == tensor)?.value;
        let (root, axes) = origin(graph, output)?;
        let [batch, classes, rows, columns] = &axes[..] else { return None };
        let product = graph.steps[graph.producer(root)?].clone();
        let Op::MatMul(op) = &product.op else { return None };
        if !batch.is_empty() || graph.outputs.iter().filter(|p| p.value == output).count() > 1 {
            return None;
        }
        // Rows and columns of pixels are made of those of cells and those within a cell.
        let [class] = classes[..] else { return None };
        let one = AxisPiece { len: 1, stride: 0 };
        let split = |axis: &[AxisPiece]| match *axis {
            [cell] => Some((cell, one)),
            [cell, inner] => Some((cell, inner)),
            _ => None,
        };
        let ((row, inner_row), (column, inner_column)) = (split(rows)?, split(columns)?);
        let [class_on, inner_row_on, inner_column_on, row_on, column_on] =
            [class, inner_row, inner_column, row, column].map(|atom| factor_stride(op, atom));
        let (class_on, column_on, row_on) = (class_on?, column_on?, row_on?);
        let (queries_left, pixels_left) = (class_on.left?, column_on.left?);
        let inner = |on: Option<FactorStride>| on.filter(|on| on.left.is_none_or(|left| left == queries_left));
        let (inner_row_on, inner_column_on) = (inner(inner_row_on)?, inner(inner_column_on)?);
        let fits = queries_left != pixels_left
            && row_on.left == Some(pixels_left)
            && row_on.stride == column_on.stride * column.len
            && class.len <= usize::from(u8::MAX);
        if !fits {
            return None;
        }
        let side = |left: bool| if left { (product.inputs[0], op.k.a) } else { (product.inputs[1], op.k.b) };
        let (queries_value, queries_along) = side(queries_left);
        let (pixels_value, pixels_along) = side(pixels_left);
        let classes = BestClass {
            grid: [row.len, column.len],
            cell: [inner_row.len, inner_column.len],
            classes: class.len,
            depth: op.k.len,
            query_strides: [inner_row_on.stride, inner_column_on.stride, class_on.stride, queries_along],
            pixel_strides: [column_on.stride, pixels_along],
        };
        let queries = factor(graph, queries_value, TensorName::new(tensor, Encoding::Queries))?;
        let pixels = factor(graph, pixels_value, TensorName::new(tensor, Encoding::Pixels))?;
        let factors = [queries, pixels];
        if factors[0].value == factors[1].value {
            return None;
        }
        // From inner to outer: class, pixel within the cell, cell.
        let mut next = 1;
        let by_cell = [class, inner_column, inner_row, column, row].iter().all(|atom| {
            let follows = atom.len == 1 || atom.stride == next;
            next *= atom.len;
            follows
        });
        let ordered = if queries_left { [0, 1] } else { [1, 0] };
        let product = Step { inputs: ordered.map(|i| factors[i].value).to_vec(), ..product };
        Some(FinalProduct { product, classes, factors, by_cell })
    }

    fn views(&self, graph: &Graph, tensor: &str) -> Result<Vec<PartGraph>> {
        let mut views = Vec::new();
        let [height, width] = [0, 1].map(|axis| self.classes.grid[axis] * self.classes.cell[axis]);
        let best = |view: &mut Graph, factors: [ValueId; 2]| {
            let op = Op::BestClass(self.classes.clone());
            view.push(&self.product.name, op, &factors, &[1, height, width], Element::U8)
        };
        views.push(self.view(graph, &TensorName::new(tensor, Encoding::Labels).to_string(), best)?);
        if self.by_cell {
            let BestClass { grid, cell, classes, .. } = &self.classes;
            let by_cell = [&grid[..], &cell[..], &[*classes]].concat();
            let cells = |view: &mut Graph, [queries, pixels]: [ValueId; 2]| {
                let is_left = self.product.inputs[0] == self.factors[0].value;
                let inputs = if is_left { [queries, pixels] } else { [pixels, queries] };
                let shape = graph.shape(self.product.outputs[0]);
                let scores = view.push(&self.product.name, self.product.op.clone(), &inputs, shape, Element::F32);
                view.push(&self.product.name, Op::Reshape, &[scores], &by_cell, Element::F32)
            };
            views.push(self.view(graph, &TensorName::new(tensor, Encoding::Cells).to_string(), cells)?);
        }
        views.push(self.view(graph, tensor, |view, factors| self.planes(view, factors))?);
        Ok(views)
    }

    /// Adds the product for each pixel of a cell by itself, and interleaves the results to planes.
    fn planes(&self, view: &mut Graph, factors: [ValueId; 2]) -> ValueId {
        let name = &self.product.name;
        let BestClass { grid: [h, w], cell: [dy, dx], classes, depth, query_strides: q, pixel_strides: p } =
            self.classes;
        let plane = h * w;
        let walk = |len, a, b, out| Walk { len, a, b, out };
        let op = MatMul {
            outer: vec![walk(dy, q[0], 0, dx * classes * plane), walk(dx, q[1], 0, classes * plane)],
            m: walk(classes, q[2], 0, plane),
            n: walk(plane, 0, p[0], 1),
            k: walk(depth, q[3], p[1], 0),
        };
        let scores = view.push(name, Op::MatMul(op), &factors, &[dy, dx, classes, h, w], Element::F32);
        let order = vec![2, 3, 0, 4, 1];
        let moved = view.push(name, Op::Transpose { order }, &[scores], &[classes, h, dy, w, dx], Element::F32);
        view.push(name, Op::Reshape, &[moved], &[1, classes, h * dy, w * dx], Element::F32)
    }

    /// Builds a view that reads both factors.
    fn view(
        &self,
        graph: &Graph,
        name: &str,
        build: impl FnOnce(&mut Graph, [ValueId; 2]) -> ValueId,
    ) -> Result<PartGraph> {
        let mut view = Graph::default();
        let factors = self.factors.each_ref().map(|factor| {
            let value = view.add_value(graph.shape(factor.value), Element::F32);
            view.inputs.push(Port { name: factor.name.clone(), value });
            value
        });
        let value = build(&mut view, factors);
        view.outputs.push(Port { name: name.into(), value });
        simplify(&mut view)?;
        Ok(PartGraph { name: name.into(), graph: view })
    }
}

/// The factor that an axis piece of the result walks along, with its stride there.
#[derive(Debug, Clone, Copy)]
struct FactorStride {
    /// True if it is the left factor; `None` if the piece has one step only.
    left: Option<bool>,
    stride: usize,
}

/// Returns the factor that a piece of the result walks along, if it is one factor only.
fn factor_stride(op: &MatMul, atom: AxisPiece) -> Option<FactorStride> {
    if atom.len == 1 {
        return Some(FactorStride { left: None, stride: 0 });
    }
    let holds = |walk: &&Walk| {
        let within = walk.out > 0 && atom.stride >= walk.out && atom.stride.is_multiple_of(walk.out);
        within && atom.stride * atom.len <= walk.out * walk.len
    };
    let walk = op.outer.iter().chain([&op.m, &op.n]).find(holds)?;
    let steps = atom.stride / walk.out;
    match (walk.a, walk.b) {
        (a, 0) if a > 0 => Some(FactorStride { left: Some(true), stride: a * steps }),
        (0, b) if b > 0 => Some(FactorStride { left: Some(false), stride: b * steps }),
        _ => None,
    }
}

/// Returns a factor with its name among the parts: an input of the part has one already, others get the given one.
fn factor(graph: &Graph, mut value: ValueId, name: TensorName<'_>) -> Option<Port> {
    while let Some(step) = graph.producer(value).map(|p| &graph.steps[p])
        && step.op == Op::Reshape
    {
        value = step.inputs[0];
    }
    if let Some(port) = graph.inputs.iter().find(|port| port.value == value) {
        return Some(port.clone());
    }
    let free = graph.slot(value).constant.is_none() && !graph.is_output(value);
    let is_float = graph.slot(value).element == Element::F32;
    (free && is_float).then(|| Port { name: name.to_string(), value })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use faceptor_test_support::sample;
    use proptest::collection::vec;
    use tract_onnx::tract_hir::internal::{IntoRunnable, IntoTValue, Tensor};

    use super::*;
    use crate::{compile_folder, tract_bridge};
    use faceptor_nn::bundle::Bundle;
    use faceptor_nn::cpu::Kernel;
    use faceptor_nn::engine::Engine;
    use faceptor_nn::plan::{Quantization, Unary};

    const CLASSES: usize = 3;
    const DEPTH: usize = 5;
    const GRID: [usize; 2] = [4, 6];

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        sample(seed, vec(-1.0..1.0f32, count))
    }

    /// Returns a part with two inputs, whose product of both is moved to `[1, classes, height, width]`.
    fn part(cell: [usize; 2], queries_left: bool) -> PartGraph {
        let mut graph = Graph::default();
        let (queries, pixels) = (CLASSES * cell[0] * cell[1], GRID[0] * GRID[1]);
        let q = graph.add_value(&[queries, DEPTH], Element::F32);
        let p = graph.add_value(&[pixels, DEPTH], Element::F32);
        graph.inputs.push(Port { name: "q".into(), value: q });
        graph.inputs.push(Port { name: "p".into(), value: p });
        // Only the pixels are an input as they are.
        let q = graph.push("tanh", Op::Unary(Unary::Tanh), &[q], &[queries, DEPTH], Element::F32);
        let walk = |len, a, b, out| Walk { len, a, b, out };
        let k = walk(DEPTH, 1, 1, 0);
        let (places, right) = (cell[0] * cell[1], |b, out| walk(CLASSES, 0, b, out));
        let (op, inputs, shape) = if queries_left {
            let (m, n) = (walk(queries, DEPTH, 0, pixels), walk(pixels, 0, DEPTH, 1));
            (MatMul { outer: vec![], m, n, k }, [q, p], [queries, pixels])
        } else {
            // As a network has them whose queries have an embedding for each pixel of a cell.
            let (m, n) = (walk(pixels, DEPTH, 0, queries), right(places * DEPTH, 1));
            (MatMul { outer: vec![walk(places, 0, DEPTH, CLASSES)], m, n, k }, [p, q], [pixels, queries])
        };
        let scores = graph.push("scores", Op::MatMul(op), &inputs, &shape, Element::F32);
        let [h, w] = GRID;
        let (apart, order): ([usize; 5], _) = match queries_left {
            true => ([cell[0], cell[1], CLASSES, h, w], vec![2, 3, 0, 4, 1]),
            false => ([h, w, cell[0], cell[1], CLASSES], vec![4, 0, 2, 1, 3]),
        };
        let moved: Vec<usize> = order.iter().map(|axis| apart[*axis]).collect();
        let apart = graph.push("apart", Op::Reshape, &[scores], &apart, Element::F32);
        let moved = graph.push("moved", Op::Transpose { order }, &[apart], &moved, Element::F32);
        let whole = [1, CLASSES, h * cell[0], w * cell[1]];
        let logits = graph.push("logits", Op::Reshape, &[moved], &whole, Element::F32);
        graph.outputs.push(Port { name: "logits".into(), value: logits });
        simplify(&mut graph).expect("simple");
        PartGraph { name: "part".into(), graph }
    }

    /// Runs a graph in tract; the outputs' bytes by name.
    fn run(graph: &Graph, known: &mut Vec<(String, Tensor)>) {
        let model = tract_bridge::model(graph).expect("a model");
        let input = |port: &Port| {
            let (_, tensor) = known.iter().find(|(name, _)| *name == port.name).expect("known");
            tensor.clone().into_tvalue()
        };
        let inputs = graph.inputs.iter().map(input).collect();
        let outputs = model.into_runnable().expect("a plan").run(inputs).expect("an answer");
        let named = graph.outputs.iter().zip(&outputs);
        known.extend(named.map(|(port, tensor)| (port.name.clone(), (**tensor).clone())));
    }

    fn best(logits: &[f32], classes: usize) -> Vec<u8> {
        let plane = logits.len() / classes;
        let score = |class: usize, pixel: usize| logits[class * plane + pixel];
        let larger = |pixel| move |best, class| if score(class, pixel) > score(best, pixel) { class } else { best };
        (0..plane).map(|pixel| (0..classes).fold(0, larger(pixel)) as u8).collect()
    }

    fn floats(tensor: &Tensor) -> Vec<f32> {
        tensor.try_as_plain_ram().expect("plain").as_slice::<f32>().expect("floats").to_vec()
    }

    #[test]
    fn views_equal_the_output_of_the_whole_part() {
        for (cell, queries_left) in [([2, 2], false), ([1, 1], false), ([1, 1], true), ([2, 3], true), ([3, 1], false)]
        {
            let mut whole = vec![part(cell, queries_left)];
            let shape = |i: usize| whole[0].graph.shape(whole[0].graph.inputs[i].value).to_vec();
            let tensors = [0, 1].map(|i| {
                let count: usize = shape(i).iter().product();
                Tensor::from_shape(&shape(i), &numbers(count, i as u64 + 1)).expect("a tensor")
            });
            let inputs: Vec<_> = ["q", "p"].map(String::from).into_iter().zip(tensors).collect();
            let mut known = inputs.clone();
            run(&whole[0].graph, &mut known);
            let expected = floats(&known[2].1);

            let views = split(&mut whole, "logits").expect("splits");
            let names: Vec<&str> = views.iter().map(|view| view.name.as_str()).collect();
            let by_cell = ["logits (labels)", "logits (cells)", "logits"];
            assert_eq!(names, if queries_left { &["logits (labels)", "logits"][..] } else { &by_cell });
            let handed: Vec<&str> = whole[0].graph.outputs.iter().map(|port| port.name.as_str()).collect();
            assert_eq!(handed, ["logits (queries)"], "pixels are there already");
            assert!(matches!(views[0].graph.steps[..], [Step { op: Op::BestClass(_), .. }]));
            let mut known = inputs;
            run(&whole[0].graph, &mut known);
            views.iter().for_each(|view| run(&view.graph, &mut known));
            let found = |name: &str| &known.iter().find(|(known, _)| known == name).expect("made").1;
            assert_eq!(floats(found("logits")), expected, "{cell:?} {queries_left}");
            let labels = found("logits (labels)");
            assert_eq!(labels.shape(), [1, GRID[0] * cell[0], GRID[1] * cell[1]]);
            let labels = labels.try_as_plain_ram().expect("plain").as_slice::<u8>().expect("bytes").to_vec();
            assert_eq!(labels, best(&expected, CLASSES), "{cell:?} {queries_left}");
        }
    }

    #[test]
    fn other_products_and_outputs_read_by_another_part_stay_whole() {
        let mut graph = part([2, 2], false).graph;
        let last = graph.outputs[0].value;
        let shape = graph.shape(last).to_vec();
        graph.outputs[0].value = graph.push("after", Op::Unary(Unary::Relu), &[last], &shape, Element::F32);
        let mut parts = vec![PartGraph { name: "part".into(), graph }];
        assert!(split(&mut parts, "logits").expect("looks").is_empty());

        let mut reader = Graph::default();
        let x = reader.add_value(&shape, Element::F32);
        reader.inputs.push(Port { name: "logits".into(), value: x });
        let to = Quantization { scale: 1.0, zero_point: 0 };
        let y = reader.push("y", Op::Quantize(to), &[x], &shape, Element::U8);
        reader.outputs.push(Port { name: "y".into(), value: y });
        let mut parts = vec![part([2, 2], false), PartGraph { name: "reader".into(), graph: reader }];
        assert!(split(&mut parts, "logits").expect("looks").is_empty());
        assert_eq!(parts[0].graph.outputs[0].name, "logits");
    }

    /// Checks that every family picks the class of its own first largest logit, and that only the labels are computed.
    #[test]
    fn a_network_labels_pixels_as_its_logits_do() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tiny");
        let bundle = Bundle::from_bytes(&compile_folder(&folder).expect("compiles")).expect("a bundle");
        let image = bundle.manifest().image_tensors().next().expect("an image").to_owned();
        let task = bundle.manifest().tasks.iter().find(|task| task.kind == faceptor_nn::manifest::TaskKind::Parsing);
        let logits = task.expect("parsing").output.clone();
        for kernel in Kernel::available() {
            let mut engine = Engine::with_kernel(bundle.clone(), kernel).expect("an engine");
            let labels = engine.labels_id(&logits).expect("a product of queries and pixels");
            let pixels = numbers(engine.shape(&image).expect("a shape").iter().product(), 7);
            engine.input(&image).expect("an input").copy_from_slice(&pixels);
            let found = engine.bytes(labels).expect("labels").to_vec();
            let ran: Vec<_> = engine.step_costs().into_iter().filter(|cost| cost.runs > 0).collect();
            let count: usize = engine.shape(&logits).expect("a shape").iter().product();
            assert!(ran.iter().any(|cost| cost.op == "best class f32"));
            assert!(
                ran.iter().all(|cost| cost.output.iter().product::<usize>() != count),
                "scores were stored: {ran:?}"
            );
            let classes = engine.shape(&logits).expect("a shape")[1];
            let expected = best(engine.output(&logits).expect("logits"), classes);
            assert_eq!(found, expected, "{}", kernel.name());
            assert!(found.iter().any(|class| *class != found[0]), "the picture shows several");
        }
    }
}
