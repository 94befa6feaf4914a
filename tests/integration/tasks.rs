//! `faceptor tasks` and `faceptor compile`: what a bundle holds, and that an unselected task costs nothing.

#[cfg(feature = "compiler")]
use std::fs;
use std::sync::OnceLock;

use serde_json::Value;

use crate::program::faceptor;
#[cfg(feature = "compiler")]
use crate::program::{EXPORT, Folder, PORTRAIT};

/// Returns the bundle that is embedded, as a file.
#[cfg(feature = "compiler")]
fn bundle(folder: &Folder) -> String {
    let path = folder.file("edge.bundle");
    let run = faceptor(&["compile", EXPORT, "--out", &path]).expect(0);
    assert!(run.out.contains("task_age") && run.out.contains("finder"), "{}", run.out);
    assert_eq!(folder.names(""), ["edge.bundle"]);
    path
}

/// Runs `faceptor tasks --json`, once for all tests.
fn report() -> &'static Value {
    static REPORT: OnceLock<Value> = OnceLock::new();
    REPORT.get_or_init(|| {
        let mut lines = faceptor(&["tasks", "--json", "--rounds", "1"]).expect(0).json();
        assert_eq!(lines.len(), 1);
        lines.remove(0)
    })
}

#[test]
fn every_task_has_its_size_and_cost() {
    let tasks = report()["tasks"].as_array().expect("a list");
    let names: Vec<&str> = tasks.iter().filter_map(|task| task["name"].as_str()).collect();
    assert_eq!(names.len(), 6, "{names:?}");
    for task in tasks {
        let name = task["name"].as_str().expect("a name");
        assert_eq!(task["default"].as_bool(), Some(name != "recognition"));
        assert!(task["parameter_bytes"].as_u64() > Some(0) && task["macs"].as_u64() > Some(0), "{task}");
        assert!(task["operators"].as_u64() > Some(0) && task["marginal_us"].is_i64() | task["marginal_us"].is_u64());
        assert!(task["alone_us"].as_u64() > Some(0), "{task}");
    }
    let queries: Vec<_> = tasks.iter().map(|task| &task["queries"]).collect();
    assert_eq!(queries[0], &serde_json::json!([0, 68]));
    assert!(report()["shared_macs"].as_u64() > Some(1_000_000));
}

#[test]
fn a_task_that_is_not_chosen_does_not_run() {
    let report = report();
    let tasks = report["tasks"].as_array().expect("a list");
    let own: Vec<&str> = tasks.iter().filter_map(|task| task["part"].as_str()).collect();
    let all: u64 = report["parts"].as_array().expect("a list").iter().filter_map(|p| p["operators"].as_u64()).sum();
    for task in tasks {
        let runs = task["runs_alone"].as_object().expect("an object");
        let ran = |part: &str| runs[part].as_u64();
        for part in &own {
            let expected = u64::from(task["part"] == **part);
            assert_eq!(ran(part), Some(expected), "{} alone: {part}", task["name"]);
        }
        assert_eq!(ran("encoder"), Some(1), "once a face");
        assert!(runs.iter().filter(|(part, _)| part.starts_with("finder")).all(|(_, count)| count == 0));
        assert!(task["operators_alone"].as_u64() < Some(all));
    }
}

#[test]
fn the_table_is_for_people() {
    let run = faceptor(&["tasks", "--rounds", "1"]).expect(0);
    for word in ["landmarks", "recognition", "marginal ms", "queries", "interpreter", "encoder, memory, task_age"] {
        assert!(run.out.contains(word), "{word}: {}", run.out);
    }
}

#[cfg(feature = "compiler")]
#[test]
fn a_compiled_bundle_answers_as_the_embedded_one() {
    let folder = Folder::new();
    let path = bundle(&folder);
    let faces = |arguments: &[&str]| -> Value { faceptor(arguments).expect(0).json().remove(0)["faces"].take() };
    let embedded = faces(&["image", "--json", PORTRAIT]);
    assert_eq!(embedded, faces(&["image", "--json", "--model", &path, PORTRAIT]));
    assert_eq!(embedded, faces(&["image", "--json", "--model", EXPORT, PORTRAIT]), "compiled on the way");
    let info = faceptor(&["compile", "--info", &path]).expect(0).out;
    for word in ["faceptor-", "sha256", "landmarks, parsing, age", "finder", "Non-commercial", "encoder"] {
        assert!(info.contains(word), "{word}: {info}");
    }
    assert!(info.contains(report()["sha256"].as_str().expect("text")), "the very code that made the embedded one");
}

#[cfg(feature = "compiler")]
#[test]
fn bundles_that_are_not_for_this_program() {
    let folder = Folder::new();
    let whole = fs::read(bundle(&folder)).expect("just written");
    let version = |number: u32| {
        let mut bytes = whole.clone();
        bytes[8..12].copy_from_slice(&number.to_le_bytes());
        bytes
    };
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let cases = [
        ("older", version(0), "older"),
        ("newer", version(99), "version 99 is newer"),
        ("cut", whole[..whole.len() / 3].to_vec(), "truncated"),
        ("damaged", damaged, "checksum"),
        ("empty", Vec::new(), ""),
        ("other", b"something else entirely, long enough to be read".to_vec(), "not a Faceptor bundle"),
    ];
    for (name, bytes, reason) in &cases {
        let path = folder.write(name, bytes);
        for arguments in [["image", "--model", &path, PORTRAIT].as_slice(), &["compile", "--info", &path]] {
            let run = faceptor(arguments).expect(1);
            assert_eq!(run.err.lines().count(), 1, "{}", run.err);
            let line = run.line_about(&path);
            assert!(line.starts_with("faceptor: ") && line.contains(reason), "{name}: {line}");
            assert_eq!(run.out, "");
        }
    }
    let run = faceptor(&["tasks", "--model", &folder.file("missing")]).expect(1);
    assert!(run.line_about("missing").contains("No such file"), "{}", run.err);
}

#[cfg(feature = "compiler")]
#[test]
fn folders_that_are_no_export() {
    let folder = Folder::new();
    let out = folder.file("x.bundle");
    let run = faceptor(&["compile", &folder.file(""), "--out", &out]).expect(1);
    assert!(run.err.contains("manifest.toml"), "{}", run.err);
    folder.write("manifest.toml", b"format = 7\n");
    let run = faceptor(&["compile", &folder.file(""), "--out", &out]).expect(1);
    assert!(run.err.contains("format 7"), "{}", run.err);
    assert_eq!(folder.names(""), ["manifest.toml"], "no half bundle is left");
    assert!(faceptor(&["compile", &folder.file("")]).expect(2).err.contains("--out"));
    assert!(faceptor(&["compile"]).expect(2).err.contains("DIR"));
}
