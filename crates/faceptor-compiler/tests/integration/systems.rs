//! Imports of published systems (`models/faceptor_models/published`) compile and answer as ONNX Runtime does: several preprocessing
//! groups, files shared under other names, grey input, resizing and pooling as products and slices.
//!
//! `FACEPTOR_EXPORTS=DIR:DIR` checks other exports, prepared by `tests/fixtures/make_systems.py DIR...`, as well.

use std::path::{Path, PathBuf};

use faceptor_compiler::compile_folder;
use faceptor_nn::bundle::Bundle;
use faceptor_nn::engine::Engine;
use faceptor_test_support::{fixture, read_floats};

/// Largest difference, relative to an answer's scale when that is above one.
const TOLERANCE: f32 = 1e-3;

/// Names between `prefix` and `.f32` of the folder's files.
fn names(folder: &Path, prefix: &str) -> Vec<String> {
    let files = std::fs::read_dir(folder).expect("a folder").map(|f| f.expect("a file").file_name());
    let files = files.map(|f| f.to_string_lossy().into_owned());
    let mut names: Vec<String> =
        files.filter_map(|f| Some(f.strip_prefix(prefix)?.strip_suffix(".f32")?.to_owned())).collect();
    names.sort();
    names
}

fn check(folder: &Path) {
    let bytes = compile_folder(folder).unwrap_or_else(|e| panic!("{}: {e:#}", folder.display()));
    let bundle = Bundle::from_bytes(&bytes).expect("what was written is read");
    let mut engine = Engine::new(bundle.clone()).expect("it can be run");
    for name in names(folder, "in.") {
        let values = read_floats(&folder.join(format!("in.{name}.f32")));
        engine.input(&name).expect("an input").copy_from_slice(&values);
    }
    let outputs = names(folder, "ort.");
    assert!(!outputs.is_empty(), "{} has no answers", folder.display());
    for name in outputs {
        let expected = read_floats(&folder.join(format!("ort.{name}.f32")));
        let found = engine.output(&name).expect("an output");
        assert_eq!(found.len(), expected.len(), "{name}");
        let scale = expected.iter().fold(1.0f32, |m, v| m.max(v.abs()));
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs() / scale).fold(0.0, f32::max);
        println!("{} {name}: {worst:.1e}", folder.display());
        assert!(worst <= TOLERANCE, "{} {name}: {worst}", folder.display());
    }
    // Tasks of one group share its encoder: with all of them asked for, every part runs once.
    for counter in engine.counters().filter(|counter| !counter.part.starts_with("finder")) {
        assert_eq!(counter.runs, 1, "{}: {}", folder.display(), counter.part);
    }
    let manifest = bundle.manifest();
    for task in &manifest.tasks {
        assert!(manifest.group_of(task).is_some(), "{} looks through no group", task.name);
    }
}

#[test]
fn imports_answer_as_onnx_runtime_does() {
    let below = fixture("systems");
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(below).expect("the fixtures").map(|f| f.expect("a folder").path()).collect();
    folders.sort();
    assert_eq!(folders.len(), 4, "{folders:?}");
    let more = std::env::var_os("FACEPTOR_EXPORTS");
    folders.extend(more.iter().flat_map(std::env::split_paths));
    folders.iter().for_each(|folder| check(folder));
}
