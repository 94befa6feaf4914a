//! Compares the steps of small ONNX graphs, one or two operators each, with tract.

use faceptor_test_support::sample;
use proptest::collection::vec;
use proptest::prelude::Strategy;
use tract_onnx::pb::{self, tensor_shape_proto, type_proto};
use tract_onnx::tract_hir::internal::*;

use crate::graph::Graph;
use crate::{lower, optimize, typed};
use faceptor_nn::Kernel;
use faceptor_nn::evaluate::{TensorData, evaluate};
use faceptor_nn::manifest::Part;
use faceptor_nn::plan::check_plan;

/// A graph under construction; the output of its last node is its output.
#[derive(Default)]
struct Onnx {
    graph: pb::GraphProto,
    inputs: Vec<(String, Vec<usize>)>,
}

enum Attribute<'a> {
    Int(i64),
    Ints(&'a [i64]),
    Float(f32),
    Text(&'a str),
}

use Attribute::{Float, Int, Ints, Text};

impl Onnx {
    fn input(mut self, name: &str, shape: &[usize]) -> Onnx {
        let dim = |d: &usize| tensor_shape_proto::Dimension {
            value: Some(tensor_shape_proto::dimension::Value::DimValue(*d as i64)),
            ..Default::default()
        };
        let tensor = type_proto::Tensor {
            elem_type: 1,
            shape: Some(pb::TensorShapeProto { dim: shape.iter().map(dim).collect() }),
        };
        let r#type = pb::TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
        let info = pb::ValueInfoProto { name: name.into(), r#type: Some(r#type), ..Default::default() };
        self.graph.input.push(info);
        self.inputs.push((name.into(), shape.to_vec()));
        self
    }

    fn floats(mut self, name: &str, shape: &[usize], values: &[f32]) -> Onnx {
        let dims = shape.iter().map(|d| *d as i64).collect();
        let float_data = values.to_vec();
        let tensor = pb::TensorProto { dims, data_type: 1, name: name.into(), float_data, ..Default::default() };
        self.graph.initializer.push(tensor);
        self
    }

    fn ints(mut self, name: &str, shape: &[usize], values: &[i64]) -> Onnx {
        let dims = shape.iter().map(|d| *d as i64).collect();
        let int64_data = values.to_vec();
        let tensor = pb::TensorProto { dims, data_type: 7, name: name.into(), int64_data, ..Default::default() };
        self.graph.initializer.push(tensor);
        self
    }

    fn node(mut self, op_type: &str, inputs: &[&str], output: &str, attributes: &[(&str, Attribute)]) -> Onnx {
        let attribute = attributes.iter().map(|(name, value)| {
            let mut proto = pb::AttributeProto { name: (*name).into(), ..Default::default() };
            match value {
                Int(i) => (proto.r#type, proto.i) = (2, *i),
                Ints(ints) => (proto.r#type, proto.ints) = (7, ints.to_vec()),
                Float(f) => (proto.r#type, proto.f) = (1, *f),
                Text(s) => (proto.r#type, proto.s) = (3, s.as_bytes().to_vec()),
            }
            proto
        });
        self.graph.node.push(pb::NodeProto {
            input: inputs.iter().map(|i| i.to_string()).collect(),
            output: vec![output.into()],
            name: format!("{op_type}_{output}"),
            op_type: op_type.into(),
            attribute: attribute.collect(),
            ..Default::default()
        });
        self
    }

    /// Compares the answer of our steps with tract's. Returns the names of the steps.
    fn check(self) -> Vec<&'static str> {
        let Onnx { mut graph, inputs } = self;
        let what = graph.node.iter().map(|n| n.name.clone()).collect::<Vec<_>>().join(" ");
        let output = graph.node.last().unwrap().output[0].clone();
        graph.output.push(pb::ValueInfoProto { name: output.clone(), ..Default::default() });
        let proto = pb::ModelProto {
            ir_version: 8,
            opset_import: vec![pb::OperatorSetIdProto { domain: String::new(), version: 17 }],
            graph: Some(graph),
            ..Default::default()
        };
        let part = Part {
            name: "part".into(),
            file: String::new(),
            sha256: String::new(),
            inputs: inputs.iter().map(|(name, _)| name.clone()).collect(),
            outputs: vec![output],
            graph_inputs: Vec::new(),
            graph_outputs: Vec::new(),
        };
        let inference = tract_onnx::onnx().model_for_proto_model(&proto).unwrap_or_else(|e| panic!("{what}: {e:#}"));
        let model = typed(inference, &part).unwrap_or_else(|e| panic!("{what}: {e:#}"));
        let mut graph = lower::lower(&model, &part).unwrap_or_else(|e| panic!("{what}: {e:#}"));
        optimize(&mut graph).unwrap();
        let number = (-2000..=2000i16).prop_map(|thousandths| f32::from(thousandths) / 1000.0);
        let values: Vec<Vec<f32>> = (inputs.iter().zip(0..))
            .map(|((_, shape), seed)| sample(seed, vec(number.clone(), shape.iter().product::<usize>())))
            .collect();
        let tensors = inputs.iter().zip(&values).map(|((_, shape), v)| {
            let tensor: Tensor = Tensor::from_shape(shape, v).unwrap();
            tensor.into_tvalue()
        });
        let expected =
            model.into_runnable().unwrap().run(tensors.collect()).unwrap_or_else(|e| panic!("{what}: {e:#}"));
        let expected = expected[0].cast_to::<f32>().unwrap().into_owned();
        let expected = expected.try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec();
        let names = graph.steps.iter().map(|s| s.op.name()).collect();
        for kernel in Kernel::available() {
            let found = run(&graph, &inputs, &values, kernel);
            assert_eq!(found.len(), expected.len(), "{what}");
            for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
                let same = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-5 * b.abs().max(1.0);
                assert!(same, "{what} on {}: element {i} is {a}, tract has {b}", kernel.name());
            }
        }
        names
    }
}

/// Runs a graph as the engine does, after the check that the plan of a bundle has to pass.
fn run(graph: &Graph, inputs: &[(String, Vec<usize>)], values: &[Vec<f32>], kernel: Kernel) -> Vec<f32> {
    let (mut constants, mut shapes) = (Vec::new(), Vec::new());
    let plan = graph.clone().into_plan("part", |slot, constant| {
        constants.push(TensorData::from_le_bytes(slot.element, &constant.bytes));
        shapes.push((slot.element, slot.shape.clone()));
        (shapes.len() - 1) as u32
    });
    let lookup = |i: u32| shapes.get(i as usize).map(|(element, shape)| (*element, &shape[..]));
    assert_eq!(check_plan(&plan, lookup), Ok(()));
    let inputs: Vec<TensorData> = plan
        .inputs
        .iter()
        .map(|port| {
            let index = inputs.iter().position(|(name, _)| *name == port.name).unwrap();
            TensorData::F32(values[index].clone())
        })
        .collect();
    match &evaluate(&plan, &constants, &inputs, kernel).unwrap()[..] {
        [TensorData::F32(found)] => found.clone(),
        other => panic!("{other:?} is not a float32 output"),
    }
}

fn image(shape: &[usize]) -> Onnx {
    Onnx::default().input("x", shape)
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect()
}

#[test]
fn resize() {
    for coordinates in ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"] {
        for mode in ["nearest", "linear", "cubic"] {
            for sizes in [[1, 3, 10, 14], [1, 3, 3, 5], [1, 3, 5, 13]] {
                let attributes = [("mode", Text(mode)), ("coordinate_transformation_mode", Text(coordinates))];
                let graph = image(&[1, 3, 5, 7]).ints("sizes", &[4], &sizes);
                graph.node("Resize", &["x", "", "", "sizes"], "y", &attributes).check();
            }
        }
    }
    let graph = image(&[1, 3, 5, 7]).floats("scales", &[4], &[1.0, 1.0, 2.0, 2.0]);
    let attributes = [("mode", Text("nearest")), ("nearest_mode", Text("floor"))];
    graph.node("Resize", &["x", "", "scales"], "y", &attributes).check();
}

#[test]
fn pooling() {
    for (kernel, strides, pads) in
        [([2, 2], [2, 2], [0, 0, 0, 0]), ([3, 3], [2, 2], [1, 1, 1, 1]), ([3, 2], [1, 2], [0, 1, 2, 0])]
    {
        for ceil in [0, 1] {
            let attributes = || {
                let (kernel, strides): (&[i64], &[i64]) =
                    if kernel == [2, 2] { (&[2, 2], &[2, 2]) } else { (&[3, 2], &[2, 1]) };
                [("kernel_shape", Ints(kernel)), ("strides", Ints(strides)), ("ceil_mode", Int(ceil))]
            };
            image(&[1, 3, 9, 8]).node("MaxPool", &["x"], "y", &attributes()).check();
            image(&[1, 3, 9, 8]).node("AveragePool", &["x"], "y", &attributes()).check();
        }
        for include in [0, 1] {
            let (kernel, strides, pads): (Vec<i64>, Vec<i64>, Vec<i64>) =
                (kernel.map(i64::from).to_vec(), strides.map(i64::from).to_vec(), pads.map(i64::from).to_vec());
            let mut attributes = vec![("count_include_pad", Int(include))];
            attributes.extend([("kernel_shape", Ints(&kernel)), ("strides", Ints(&strides)), ("pads", Ints(&pads))]);
            image(&[1, 2, 7, 10]).node("AveragePool", &["x"], "y", &attributes).check();
            attributes.remove(0);
            image(&[1, 2, 7, 10]).node("MaxPool", &["x"], "y", &attributes).check();
        }
    }
    image(&[1, 5, 4, 6]).node("GlobalAveragePool", &["x"], "y", &[]).check();
    image(&[1, 5, 4, 6]).node("GlobalMaxPool", &["x"], "y", &[]).check();
}

#[test]
fn element_wise() {
    for op in ["Relu", "Sigmoid", "Tanh", "Erf", "Abs", "Neg", "Exp", "Floor", "Ceil", "HardSwish", "Softplus", "Elu"] {
        image(&[2, 3, 5]).node(op, &["x"], "y", &[]).check();
    }
    image(&[2, 3, 5]).node("LeakyRelu", &["x"], "y", &[("alpha", Float(0.1))]).check();
    image(&[2, 3, 5]).node("HardSigmoid", &["x"], "y", &[]).check();
    let graph = image(&[1, 3, 4, 2]).floats("slope", &[3, 1, 1], &[0.1, -0.5, 2.0]);
    graph.node("PRelu", &["x", "slope"], "y", &[]).check();
    let graph = image(&[2, 3]).floats("low", &[], &[-0.5]).floats("high", &[], &[0.75]);
    graph.node("Clip", &["x", "low", "high"], "y", &[]).check();
    let graph = image(&[2, 3]).floats("zero", &[], &[0.0]).floats("b", &[3], &[1.0, f32::NEG_INFINITY, 3.0]);
    graph.node("Greater", &["x", "zero"], "c", &[]).node("Where", &["c", "x", "b"], "y", &[]).check();
    let graph = image(&[1, 3]).ints("shape", &[3], &[2, 4, 3]);
    graph.node("Expand", &["x", "shape"], "y", &[]).check();
}

#[test]
fn softmax_over_any_axis() {
    for axis in [0, 1, 2, -1] {
        image(&[3, 4, 5]).node("Softmax", &["x"], "y", &[("axis", Int(axis))]).check();
        image(&[3, 4, 5]).node("LogSoftmax", &["x"], "y", &[("axis", Int(axis))]).check();
    }
}

#[test]
fn normalisations() {
    let constants = |graph: Onnx| {
        graph
            .floats("scale", &[3], &[1.0, 0.5, 2.0])
            .floats("bias", &[3], &[0.1, -0.2, 0.3])
            .floats("mean", &[3], &[0.0, 0.3, -0.4])
            .floats("variance", &[3], &[1.0, 0.6, 2.5])
    };
    let inputs = ["x", "scale", "bias", "mean", "variance"];
    constants(image(&[1, 3, 4, 5])).node("BatchNormalization", &inputs, "y", &[]).check();
    constants(image(&[1, 3, 4, 5])).node("InstanceNormalization", &inputs[..3], "y", &[]).check();
    let graph = image(&[1, 2, 6, 6]).floats("w", &[3, 2, 3, 3], &numbers(54)).node("Conv", &["x", "w"], "c", &[]);
    let inputs = ["c", "scale", "bias", "mean", "variance"];
    let steps = constants(graph).node("BatchNormalization", &inputs, "y", &[]).check();
    assert!(steps.iter().all(|s| ["convolution f32", "transpose", "reshape"].contains(s)), "not folded: {steps:?}");
}

#[test]
fn convolutions() {
    for (groups, channels, columns) in [(1, 4, 6), (2, 4, 6), (4, 4, 4)] {
        let weights = numbers(columns * channels / groups * 9);
        let shape = [columns, channels / groups, 3, 3];
        let bias = numbers(columns);
        for (strides, pads) in [([1, 1], [1, 1, 1, 1]), ([2, 1], [0, 2, 1, 0])] {
            let attributes = [("group", Int(groups as i64)), ("strides", Ints(&strides)), ("pads", Ints(&pads))];
            let graph = image(&[1, channels, 7, 6]).floats("w", &shape, &weights).floats("b", &[columns], &bias);
            graph.node("Conv", &["x", "w", "b"], "y", &attributes).check();
        }
        for (size, strides, pads, extra) in
            [(2, [2, 2], [0, 0, 0, 0], [0, 0]), (3, [2, 2], [1, 1, 1, 1], [1, 1]), (4, [2, 3], [1, 0, 1, 2], [0, 0])]
        {
            let weights = numbers(channels * columns / groups * size * size);
            let shape = [channels, columns / groups, size, size];
            let attributes = [
                ("group", Int(groups as i64)),
                ("strides", Ints(&strides)),
                ("pads", Ints(&pads)),
                ("output_padding", Ints(&extra)),
            ];
            let graph = image(&[1, channels, 5, 4]).floats("w", &shape, &weights).floats("b", &[columns], &bias);
            graph.node("ConvTranspose", &["x", "w", "b"], "y", &attributes).check();
        }
    }
}

#[test]
fn gathers_slices_and_pads() {
    let graph = || image(&[3, 4, 5]);
    graph().ints("i", &[2], &[3, -3]).node("Gather", &["x", "i"], "y", &[("axis", Int(1))]).check();
    graph().ints("i", &[], &[1]).node("Gather", &["x", "i"], "y", &[("axis", Int(2))]).check();
    graph().ints("i", &[2, 2], &[0, 2, 1, 1]).node("Gather", &["x", "i"], "y", &[("axis", Int(0))]).check();
    graph().ints("r", &[3], &[1, 2, 3]).node("Tile", &["x", "r"], "y", &[]).check();
    for mode in ["constant", "reflect", "edge"] {
        let pads = graph().ints("p", &[6], &[0, 1, 2, 0, 2, 3]);
        pads.node("Pad", &["x", "p"], "y", &[("mode", Text(mode))]).check();
    }
    for (start, end, step) in [(0, 100, 2), (1, 4, 3), (4, -100, -1), (3, 0, -2), (-1, -100, -2)] {
        let graph = graph().ints("s", &[1], &[start]).ints("e", &[1], &[end]).ints("a", &[1], &[2]);
        graph.ints("t", &[1], &[step]).node("Slice", &["x", "s", "e", "a", "t"], "y", &[]).check();
    }
    let graph = graph().ints("split", &[2], &[3, 2]);
    let mut graph = graph.node("Split", &["x", "split"], "a", &[("axis", Int(2))]);
    graph.graph.node[0].output.push("b".into());
    graph.node("Concat", &["b", "a"], "y", &[("axis", Int(2))]).check();
}

#[test]
fn reductions() {
    for op in ["ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare"] {
        for axes in [&[0][..], &[1], &[2], &[0, 2], &[1, 2], &[0, 1, 2]] {
            for keep in [0, 1] {
                let attributes = [("axes", Ints(axes)), ("keepdims", Int(keep))];
                image(&[3, 4, 5]).node(op, &["x"], "y", &attributes).check();
            }
        }
    }
}

#[test]
fn attention_and_soft_argmax_become_one_step_each() {
    let graph = Onnx::default()
        .input("q", &[1, 2, 9, 8])
        .input("k", &[1, 2, 13, 8])
        .input("v", &[1, 2, 13, 6])
        .floats("factor", &[], &[0.35])
        .node("Transpose", &["k"], "kt", &[("perm", Ints(&[0, 1, 3, 2]))])
        .node("MatMul", &["q", "kt"], "s", &[])
        .node("Mul", &["s", "factor"], "f", &[])
        .node("Softmax", &["f"], "p", &[("axis", Int(-1))])
        .node("MatMul", &["p", "v"], "y", &[]);
    assert_eq!(graph.check(), ["attention f32"]);
    let (rows, columns): (Vec<f32>, Vec<f32>) = (numbers(7), numbers(6));
    let graph = Onnx::default()
        .input("q", &[1, 5, 8])
        .input("pixels", &[1, 8, 42])
        .floats("rows", &[7], &rows)
        .floats("columns", &[6], &columns)
        .ints("flat", &[4], &[1, 5, 7, 6])
        .ints("two", &[1], &[2])
        .ints("three", &[1], &[3])
        .node("MatMul", &["q", "pixels"], "s", &[])
        .node("Softmax", &["s"], "p", &[("axis", Int(-1))])
        .node("Reshape", &["p", "flat"], "map", &[])
        .node("ReduceSum", &["map", "two"], "down", &[("keepdims", Int(0))])
        .node("Mul", &["down", "columns"], "weighted_x", &[])
        .node("ReduceSum", &["weighted_x", "two"], "mean_x", &[("keepdims", Int(0))])
        .node("Unsqueeze", &["mean_x", "two"], "mean_x1", &[])
        .node("ReduceSum", &["map", "three"], "across", &[("keepdims", Int(0))])
        .node("Mul", &["across", "rows"], "weighted_y", &[])
        .node("ReduceSum", &["weighted_y", "two"], "mean_y", &[("keepdims", Int(0))])
        .node("Unsqueeze", &["mean_y", "two"], "mean_y1", &[])
        .node("Concat", &["mean_x1", "mean_y1"], "y", &[("axis", Int(-1))]);
    assert_eq!(graph.check(), ["attention f32"]);
}
