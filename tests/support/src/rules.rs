//! Rules that the sources of all tests keep to.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{repository, skip_line};

/// Returns every Rust source file of the repository but this one.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["src", "crates", "tests", "benches", "examples"].iter().map(|name| repository().join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("the directory can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") && !path.ends_with("support/src/rules.rs") {
                let text = fs::read_to_string(&path).expect("sources are UTF-8");
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 100, "only {} files", found.len());
    found
}

/// The lines of the functions with `#[test]`, with their numbers.
fn test_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut end: Option<String> = None;
    let mut is_test = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        if let Some(brace) = &end {
            if line == brace {
                end = None;
            }
            return Some((number + 1, line));
        }
        is_test |= line.trim() == "#[test]";
        if is_test && line.trim_start().starts_with("fn ") {
            is_test = false;
            let indent = line.len() - line.trim_start().len();
            end = Some(format!("{}}}", " ".repeat(indent)));
        }
        None
    })
}

/// Reports whether a line ends a test early, other than through `skip`.
fn leaves_early(line: &str) -> bool {
    let line = line.trim();
    ["return;", "return Ok(());", "return,", "return }"].iter().any(|end| line.contains(end))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(repository()).unwrap_or(path).display().to_string()
}

#[test]
fn no_test_leaves_early_except_through_skip() {
    let mut tests = 0;
    let mut found = Vec::new();
    for (path, text) in sources() {
        tests += text.lines().filter(|line| line.trim() == "#[test]").count();
        let early = test_lines(&text).filter(|(_, line)| leaves_early(line));
        found.extend(early.map(|(number, line)| format!("{}:{number}: {}", shown(&path), line.trim())));
    }
    assert!(tests > 400, "only {tests} tests were read");
    assert!(found.is_empty(), "tests that cannot run call faceptor_test_support::skip:\n{}", found.join("\n"));
}

#[test]
fn no_test_is_ignored() {
    let found: Vec<String> =
        sources().iter().filter(|(_, text)| text.contains("#[ignore")).map(|(path, _)| shown(path)).collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn only_skip_prints_the_line_that_the_gate_looks_for() {
    let found: Vec<String> = sources()
        .iter()
        .filter(|(path, text)| text.contains("\"skipped: ") && !path.ends_with("support/src/lib.rs"))
        .map(|(path, _)| shown(path))
        .collect();
    assert!(found.is_empty(), "{found:?}");
    let gate = fs::read_to_string(repository().join(".ci/run")).expect("the gate");
    assert!(gate.contains("'^skipped"), "the gate looks for the line");
}

#[test]
fn early_ends_are_seen() {
    let text = "#[test]\nfn one() {\n    return;\n}\nfn other() {\n    return;\n}\n    #[test]\n    fn two() {\n        \
                if x {\n            return Ok(());\n        }\n        return skip(\"why\");\n    }\n";
    let found: Vec<usize> = test_lines(text).filter(|(_, line)| leaves_early(line)).map(|(number, _)| number).collect();
    assert_eq!(found, [3, 11]);
}

#[test]
fn a_skip_is_a_line_or_a_failure() {
    assert_eq!(skip_line(false, "no data"), "skipped: no data");
    let failed = std::panic::catch_unwind(|| skip_line(true, "no data")).expect_err("it fails");
    let text = failed.downcast_ref::<String>().expect("a text");
    assert!(text.ends_with("(FACEPTOR_REQUIRE_SHARED=1): no data"), "{text}");
}
