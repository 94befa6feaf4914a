//! The fixtures answer what ONNX Runtime (graph optimizations off) answers on the same QDQ files, on every kernel.

use faceptor_compiler::compile_folder;
use faceptor_nn::bundle::Bundle;
use faceptor_nn::cpu::Kernel;
use faceptor_nn::engine::Engine;
use faceptor_test_support::{fixture, read_floats};

fn compare_fixture(name: &str, input: &str, outputs: &[&str]) {
    let folder = fixture(name);
    let bundle = Bundle::from_bytes(&compile_folder(&folder).unwrap()).unwrap();
    let images = read_floats(&folder.join(format!("in.{input}.f32")));
    for kernel in Kernel::available() {
        let mut engine = Engine::with_kernel(bundle.clone(), kernel).unwrap();
        let len = engine.input(input).unwrap().len();
        for (sample, image) in images.chunks_exact(len).enumerate() {
            engine.input(input).unwrap().copy_from_slice(image);
            for output in outputs {
                let found = engine.output(output).unwrap();
                let expected = read_floats(&folder.join(format!("ort.{output}.f32")));
                let expected = &expected[sample * found.len()..][..found.len()];
                let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
                let errors = found.iter().zip(expected).map(|(a, b)| (a - b).abs() / largest);
                // A sum that lies on the border of two quantization steps may round to the other one: rare and small.
                let off = errors.clone().filter(|e| *e > 1e-4).count();
                let worst = errors.fold(0f32, f32::max);
                let what = format!("{name}, {}, sample {sample}, {output}", kernel.name());
                assert!(off * 200 <= found.len(), "{what}: {off} of {} elements differ", found.len());
                assert!(worst < 0.02, "{what}: differs by {worst} of the largest");
            }
        }
    }
}

#[test]
fn network_like_fixture_equals_onnx_runtime() {
    let names = ["landmarks", "parsing", "age", "expression", "attributes", "recognition"];
    let tasks: Vec<String> = names.iter().map(|t| format!("out_{t}")).collect();
    let mut outputs = vec!["feature4", "feature8", "feature16", "key0", "value0", "key1", "value1", "pixel"];
    outputs.extend(tasks.iter().map(String::as_str));
    compare_fixture("tiny", "image", &outputs);
}

#[test]
fn odd_shapes_equal_onnx_runtime() {
    compare_fixture("odd", "x", &["y", "z"]);
}

#[test]
fn signed_activations_and_one_scale_per_tensor_equal_onnx_runtime() {
    compare_fixture("odd_int8", "x", &["y", "z"]);
}

#[test]
fn integer_results_are_equal_on_every_kernel() {
    let folder = fixture("tiny");
    let bundle = Bundle::from_bytes(&compile_folder(&folder).unwrap()).unwrap();
    let image = read_floats(&folder.join("in.image.f32"));
    let mut answers: Vec<Vec<u32>> = Vec::new();
    for kernel in Kernel::available() {
        let mut engine = Engine::with_kernel(bundle.clone(), kernel).unwrap();
        let input = engine.input("image").unwrap();
        let len = input.len();
        input.copy_from_slice(&image[..len]);
        // The encoder has nothing but integer products.
        answers.push(engine.output("feature16").unwrap().iter().map(|v| v.to_bits()).collect());
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_task_that_is_not_asked_for_costs_nothing() {
    let folder = fixture("tiny");
    let bundle = Bundle::from_bytes(&compile_folder(&folder).unwrap()).unwrap();
    let mut engine = Engine::new(bundle).unwrap();
    assert!(engine.output("out_age").is_err(), "no image has been written");
    let runs = |engine: &Engine| engine.counters().filter(|c| c.runs > 0).map(|c| c.part.clone()).collect::<Vec<_>>();
    engine.input("image").unwrap().fill(0.5);
    let alone = engine.output("out_age").unwrap().to_vec();
    assert_eq!(runs(&engine), ["encoder", "memory", "task_age"]);
    engine.output("out_landmarks").unwrap();
    engine.output("out_landmarks").unwrap();
    assert_eq!(runs(&engine), ["encoder", "memory", "pixel", "task_landmarks", "task_age"]);
    assert!(engine.counters().all(|c| c.runs <= 1), "what was computed for this image is not computed again");
    assert_eq!(engine.output("out_age").unwrap(), alone, "alone and beside others the answer is the same");
    engine.input("image").unwrap().fill(-0.5);
    assert_ne!(engine.output("out_age").unwrap(), alone);
    assert_eq!(engine.counters().find(|c| c.part == "encoder").map(|c| c.runs), Some(2));
    assert!(engine.input("feature4").is_err() && engine.output("nothing").is_err());
}
