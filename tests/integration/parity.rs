//! The shipped networks answer what ONNX Runtime (graph optimizations off) answers on the same QDQ files, and nearly what
//! the float networks answer. The fixtures are compared in the compiler's tests.
//!
//! They are compared over 64 real crops, whose answers `make -C models golden` writes to target/golden (or
//! `FACEPTOR_GOLDEN`), nano's to `nano` in it: `golden.toml` (count, size, manifest_sha256), `image.f32` (`[count, 3, size,
//! size]`, the network's input), and for each task `ort.<task>.f32` and `float.<task>.f32`, raw little-endian float32.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use faceptor_nn::bundle::Bundle;
use faceptor_nn::engine::Engine;
use faceptor_nn::manifest::TaskKind;
use faceptor_test_support::{read_floats, repository, skip};
use serde::Deserialize;

/// The largest allowed difference of a task, over all crops.
struct Tolerance {
    /// Mean of the absolute difference, in the task's unit: pixels of the crop, years, probabilities, one minus the cosine;
    /// logits of the parsing in units of their mean magnitude, which differs from one training to the next.
    mean: f64,
    /// Share of decisions that may turn out differently.
    flips: f64,
}

/// Compares with ONNX Runtime on the same QDQ files. Only float rounding differs; but a sum that it moves across the border of a
/// quantization step moves everything after it by up to that step, so that the answers differ by a part of what
/// quantization costs anyhow. (Part by part, on equal inputs, nearly all elements are equal to the last bits. ONNX Runtime with
/// its optimizations differs from itself without them by 0.0013 in the parsing's unit, 0.07 % of its pixels and 0.007 px.)
fn against_ort(kind: TaskKind) -> Tolerance {
    match kind {
        TaskKind::Landmarks => Tolerance { mean: 0.02, flips: 0.001 },
        TaskKind::Parsing => Tolerance { mean: 0.003, flips: 0.003 },
        TaskKind::Age => Tolerance { mean: 0.02, flips: 0.0 },
        TaskKind::Expression => Tolerance { mean: 0.001, flips: 0.0 },
        TaskKind::Attributes => Tolerance { mean: 0.001, flips: 0.001 },
        TaskKind::Recognition => Tolerance { mean: 0.0001, flips: 0.0 },
    }
}

/// Compares with the float network: what quantization costs.
fn against_float(kind: TaskKind) -> Tolerance {
    match kind {
        TaskKind::Landmarks => Tolerance { mean: 0.15, flips: 0.01 },
        TaskKind::Parsing => Tolerance { mean: 0.02, flips: 0.02 },
        TaskKind::Age => Tolerance { mean: 0.4, flips: 0.05 },
        TaskKind::Expression => Tolerance { mean: 0.01, flips: 0.02 },
        TaskKind::Attributes => Tolerance { mean: 0.008, flips: 0.01 },
        TaskKind::Recognition => Tolerance { mean: 0.003, flips: 0.0 },
    }
}

#[derive(Default)]
struct Difference {
    sum: f64,
    count: usize,
    flips: usize,
    decisions: usize,
}

impl Difference {
    fn add(&mut self, difference: f32) {
        self.sum += difference as f64;
        self.count += 1;
    }

    fn decide(&mut self, differs: bool) {
        self.flips += differs as usize;
        self.decisions += 1;
    }

    fn mean(&self) -> f64 {
        self.sum / self.count.max(1) as f64
    }

    fn share(&self) -> f64 {
        self.flips as f64 / self.decisions.max(1) as f64
    }
}

fn argmax(values: impl Iterator<Item = f32>) -> Option<usize> {
    values.enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(i, _)| i)
}

/// Compares one crop's answers; lengths in pixels of the crop, ages in years.
fn compare(
    kind: TaskKind,
    shape: &[usize],
    size: f32,
    bins: &[f32],
    found: &[f32],
    expected: &[f32],
    d: &mut Difference,
) {
    match kind {
        TaskKind::Landmarks => {
            for (a, b) in found.as_chunks::<2>().0.iter().zip(expected.as_chunks::<2>().0.iter()) {
                let moved = ((a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)).sqrt() * size;
                d.add(moved);
                d.decide(moved > 0.5);
            }
        }
        TaskKind::Parsing => {
            let (classes, pixels) = (shape[1], shape[2] * shape[3]);
            let magnitude = expected.iter().map(|v| v.abs() as f64).sum::<f64>() / expected.len() as f64;
            found.iter().zip(expected).for_each(|(a, b)| d.add(((a - b).abs() as f64 / magnitude) as f32));
            for p in 0..pixels {
                let label = |v: &[f32]| argmax((0..classes).map(|c| v[c * pixels + p]));
                d.decide(label(found) != label(expected));
            }
        }
        TaskKind::Age => {
            let years = |v: &[f32]| v.iter().zip(bins).map(|(p, b)| p * b).sum::<f32>();
            let difference = (years(found) - years(expected)).abs();
            d.add(difference);
            d.decide(difference > 1.0);
        }
        TaskKind::Expression => {
            found.iter().zip(expected).for_each(|(a, b)| d.add((a - b).abs()));
            d.decide(argmax(found.iter().copied()) != argmax(expected.iter().copied()));
        }
        TaskKind::Attributes => {
            for (a, b) in found.iter().zip(expected) {
                d.add((a - b).abs());
                d.decide((*a > 0.5) != (*b > 0.5));
            }
        }
        TaskKind::Recognition => {
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            d.add(1.0 - dot(found, expected) / (dot(found, found) * dot(expected, expected)).sqrt());
        }
    }
}

#[derive(Deserialize)]
struct Golden {
    count: usize,
    size: usize,
    manifest_sha256: String,
}

#[test]
fn shipped_network_equals_onnx_runtime_on_real_crops() {
    if let Some(folder) = golden_folder("") {
        compare_with_golden(faceptor::stages::embedded_bundle().unwrap(), &folder, 1.0);
    }
}

#[test]
#[cfg(feature = "compiler")]
fn nano_equals_onnx_runtime_on_real_crops() {
    if let Some(folder) = golden_folder("nano") {
        let export = repository().join("models/nano");
        let bundle = Bundle::from_bytes(&faceptor_compiler::compile_folder(&export).unwrap()).unwrap();
        // Half as many channels average the borderline roundings out less.
        compare_with_golden(bundle, &folder, 1.5);
    }
}

/// Returns the folder with the golden answers of a network, if they were written.
fn golden_folder(network: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("FACEPTOR_GOLDEN").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| repository().join("target/golden")).join(network);
    if !folder.join("golden.toml").exists() {
        skip(format_args!("{} is absent (`make -C models golden` writes it)", folder.display()));
        return None;
    }
    Some(folder)
}

/// Compares with ONNX Runtime. The mean difference may be `times` what edge's may be.
fn compare_with_golden(bundle: Arc<Bundle>, folder: &Path, times: f64) {
    let golden: Golden = toml::from_str(&std::fs::read_to_string(folder.join("golden.toml")).unwrap()).unwrap();
    let manifest = bundle.manifest().clone();
    let digest = <sha2::Sha256 as sha2::Digest>::digest(bundle.manifest_text());
    let digest: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(
        golden.manifest_sha256, digest,
        "the golden answers are of another network: run `make -C models golden` again"
    );
    let input = manifest.input.as_ref().expect("a network with tasks has an input");
    assert_eq!(golden.size, input.size);
    let mut engine = Engine::new(bundle).unwrap();
    let images = read_floats(&folder.join("image.f32"));
    let len = engine.input(&input.tensor).unwrap().len();
    assert_eq!(images.len(), golden.count * len);
    assert!(golden.count >= 64, "{} crops are too few", golden.count);

    let references = ["ort", "float"];
    let mut differences: Vec<[Difference; 2]> = manifest.tasks.iter().map(|_| Default::default()).collect();
    let expected: Vec<[Vec<f32>; 2]> = manifest
        .tasks
        .iter()
        .map(|task| references.map(|reference| read_floats(&folder.join(format!("{reference}.{}.f32", task.name)))))
        .collect();
    for (i, image) in images.chunks_exact(len).enumerate() {
        engine.input(&input.tensor).unwrap().copy_from_slice(image);
        for (t, task) in manifest.tasks.iter().enumerate() {
            let shape = engine.shape(&task.output).unwrap().to_vec();
            let found = engine.output(&task.output).unwrap();
            assert!(found.iter().all(|v| v.is_finite()), "{}: crop {i} has answers that are not finite", task.name);
            for (reference, difference) in differences[t].iter_mut().enumerate() {
                let expected = &expected[t][reference][i * found.len()..][..found.len()];
                compare(task.kind, &shape, input.size as f32, &task.bins, found, expected, difference);
            }
        }
    }
    let mut failures = Vec::new();
    println!("{:12} {:6} {:>10} {:>10} {:>9} {:>9}", "task", "to", "mean", "tolerated", "flips", "tolerated");
    for (task, differences) in manifest.tasks.iter().zip(&differences) {
        let ort = against_ort(task.kind);
        let tolerances = [Tolerance { mean: times * ort.mean, ..ort }, against_float(task.kind)];
        for ((reference, d), tolerance) in references.iter().zip(differences).zip(tolerances) {
            let flips = format!("{}/{}", d.flips, d.decisions);
            println!(
                "{:12} {reference:6} {:10.5} {:10.5} {flips:>9} {:>8.1}%",
                task.name,
                d.mean(),
                tolerance.mean,
                tolerance.flips * 100.0
            );
            if d.mean() > tolerance.mean || d.share() > tolerance.flips {
                failures.push(format!("{} against {reference}", task.name));
            }
        }
    }
    assert!(failures.is_empty(), "beyond the tolerance: {}", failures.join(", "));
}
