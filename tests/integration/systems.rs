//! Every verb that runs a network, on imports of published systems (`models/faceptor_models/published`). Their numbers are compared with
//! ONNX Runtime's in the compiler's tests.

use std::fs;
use std::path::PathBuf;

use faceptor_nn::manifest::{Manifest, TaskKind};
use faceptor_test_support as support;
use serde_json::Value;

use crate::program::{Folder, PORTRAIT, faceptor};

/// Returns a bundle of a fixture together with the face detector of this repository, as `faceptor-models import` puts it in.
fn bundle_with_finder(fixture: &str, folder: &Folder) -> (String, Manifest) {
    let (export, finder) = (support::fixture("systems").join(fixture), support::repository().join("models/edge"));
    let made = folder.path().join("export");
    fs::create_dir_all(&made).expect("a folder");
    for file in [&export, &finder].iter().flat_map(|from| fs::read_dir(from).expect("a folder")) {
        let file = file.expect("a file").path();
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        // Only the detector's files of `models/edge`.
        if name.ends_with(".onnx") && (file.starts_with(&export) || name.starts_with("finder_")) {
            fs::copy(&file, made.join(name)).expect("a copy");
        }
    }
    let text = |path: PathBuf| fs::read_to_string(path).expect("a text");
    let manifest = text(export.join("manifest.toml")) + "\n" + &text(finder.join("finder.toml"));
    fs::write(made.join("manifest.toml"), &manifest).expect("writable");
    let path = folder.file("system.bundle");
    faceptor(&["compile", &folder.file("export"), "--out", &path]).expect(0);
    (path, Manifest::parse(&manifest).expect("a manifest"))
}

/// Reports whether a face of the JSON has a task's result with the names and number of the manifest.
fn assert_answer(face: &Value, task: &faceptor_nn::manifest::Task) {
    let answer = &face[&task.name];
    let names = |value: &Value| -> Vec<String> {
        value.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default()
    };
    let sorted = |labels: &[String]| {
        let mut labels = labels.to_vec();
        labels.sort();
        labels
    };
    match task.kind {
        TaskKind::Landmarks => {
            let points = answer["points"].as_array().expect("points");
            let expected = if task.queries[1] > task.queries[0] { task.queries[1] - task.queries[0] } else { 5 };
            assert_eq!(points.len(), expected, "{}", task.name);
        }
        TaskKind::Parsing => assert_eq!(answer["classes"], serde_json::json!(task.labels), "{}", task.name),
        TaskKind::Age => assert!(answer["years"].is_f64() && answer["std"].is_f64(), "{answer}"),
        TaskKind::Expression => {
            assert_eq!(names(&answer["scores"]), sorted(&task.labels), "{}", task.name);
            assert!(task.labels.iter().any(|label| answer["label"] == label.as_str()), "{answer}");
        }
        TaskKind::Attributes => assert_eq!(names(answer), sorted(&task.labels), "{}", task.name),
        TaskKind::Recognition => assert!(answer["embedding"].is_array(), "{answer}"),
    }
}

/// Runs every verb that runs a network on one system, as a user calls them.
fn walk(fixture: &str) {
    let folder = Folder::new();
    let (bundle, manifest) = bundle_with_finder(fixture, &folder);
    let tasks = &manifest.tasks;

    // A photo: every task answers in its system's own words, with a mask for each parsing.
    let (masks, drawn) = (folder.file("masks"), folder.file("drawn"));
    let image = ["image", PORTRAIT, "--model", &bundle, "--tasks", "all", "--json", "--masks", &masks, "--out", &drawn];
    let line = faceptor(&image).expect(0).json().remove(0);
    let face = &line["faces"][0];
    tasks.iter().for_each(|task| assert_answer(face, task));
    let parsings = tasks.iter().filter(|task| task.kind == TaskKind::Parsing).count();
    assert_eq!((folder.names("masks").len(), folder.names("drawn").len()), (parsings, 1), "{fixture}");

    // One task alone: parts of its own group run, those of the others do not.
    let report = faceptor(&["tasks", "--model", &bundle, "--json", "--rounds", "1"]).expect(0).json().remove(0);
    for (task, said) in tasks.iter().zip(report["tasks"].as_array().expect("a list")) {
        assert_eq!(said["name"], task.name.as_str());
        assert_eq!(said["labels"], serde_json::json!(task.labels));
        let own = manifest.group_of(task).expect("a group");
        for (part, runs) in said["runs_alone"].as_object().expect("an object") {
            let of_group = |name: &str| part.ends_with(&format!("_{name}"));
            if manifest.groups.iter().any(|group| group.name != own.name && of_group(&group.name)) {
                assert_eq!(runs, 0, "{}: {part}", task.name);
            }
        }
        assert_eq!(said["runs_alone"][&task.part], 1, "{}", task.name);
    }

    // The loop and its bench, all tasks, without an allocation.
    let bench = ["bench", "--model", &bundle, "--tasks", "all", "--frames", "4", "--warm-up", "2", "--json", "-"];
    let report: Value = serde_json::from_str(&faceptor(&bench).expect(0).out).expect("a report");
    for task in tasks {
        let stage = &report["stages"][format!("decode_{}", task.name)];
        assert_eq!(stage["n"], 4, "{}", task.name);
        assert!(report["task_marginal_us"][&task.name]["n"].as_u64() > Some(0), "{}", task.name);
    }
    for kind in ["ours", "engine", "capture"] {
        assert_eq!(report["allocations_per_frame"][kind].as_f64(), Some(0.0), "{fixture}: {kind}");
    }
    let run = ["run", "--model", &bundle, "--source", "demo", "--frames", "5", "--tasks", "all", "--json"];
    let lines = faceptor(&run).expect(0).json();
    assert_eq!(lines.len(), 5);
    lines.iter().for_each(|line| tasks.iter().for_each(|task| assert_answer(&line["faces"][0], task)));

    // A reference with an input for each group, and this machine beside it; a changed answer is reported.
    let (reference, frames) = (folder.file("reference"), ["--frames", "3", "--warm-up", "1"]);
    let write = ["reference", "--model", &bundle, "--out", &reference, "--pictures", "2"];
    faceptor(&[&write[..], &frames].concat()).expect(0);
    let index: Value =
        serde_json::from_str(&fs::read_to_string(folder.path().join("reference/reference.json")).expect("an index"))
            .expect("JSON");
    let inputs: Vec<&str> =
        index["inputs"].as_array().expect("a list").iter().filter_map(|i| i["tensor"].as_str()).collect();
    assert_eq!(inputs, manifest.groups.iter().map(|group| group.tensor.as_str()).collect::<Vec<_>>());
    let verify = ["verify", "--model", &bundle, "--reference", &reference, "--frames", "0", "--json"];
    let verified: Value = serde_json::from_str(&faceptor(&verify).expect(0).out).expect("JSON");
    for task in tasks {
        assert_eq!(verified["tasks"][&task.name]["unequal"], 0, "{}", task.name);
        assert_eq!(verified["end_to_end"]["tasks"][&task.name]["unequal"], 0, "{}", task.name);
    }

    // The check of a board names it, and does not take an untrained network for a broken machine.
    let doctor = faceptor(&["doctor", "--model", &bundle, "--json"]).json().remove(0);
    let states: Vec<(&Value, &Value)> =
        doctor["checks"].as_array().expect("a list").iter().map(|check| (&check["check"], &check["state"])).collect();
    assert!(states.contains(&(&"network".into(), &"ok".into())), "{doctor}");
    assert!(states.iter().any(|(name, state)| *name == "answers" && *state != "fail"), "{doctor}");
}

#[test]
fn every_verb_runs_an_import_of_faceptor_with_four_landmark_sets() {
    walk("faceptor");
}

#[test]
fn every_verb_runs_an_import_of_naive_faceptor() {
    walk("naive");
}

#[test]
fn every_verb_runs_an_import_of_dml_csr() {
    walk("dmlcsr");
}

#[test]
fn every_verb_runs_an_import_of_tcdcn() {
    walk("tcdcn");
}

#[test]
fn a_bundle_replaces_a_bundle_and_is_written_to_a_device() {
    let folder = Folder::new();
    let (bundle, _) = bundle_with_finder("tcdcn", &folder);
    let first = fs::read(&bundle).expect("a bundle");
    let (export, link) = (folder.file("export"), folder.file("link"));
    faceptor(&["compile", &export, "--out", &bundle]).expect(0);
    assert!(fs::read(&bundle).expect("a bundle") == first);
    // A bundle in the folder is not a part of the export, also the second time.
    for _ in 0..2 {
        faceptor(&["compile", &export, "--out", &folder.file("export/own.bundle")]).expect(0);
    }
    std::os::unix::fs::symlink("/dev/null", &link).expect("a link");
    let compiled = faceptor(&["compile", &export, "--out", &link]).expect(0);
    assert!(compiled.out.contains("inputs -> outputs"), "{}", compiled.out);
    assert!(fs::symlink_metadata(&link).expect("it is there").is_symlink());
}
