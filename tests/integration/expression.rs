//! `--no-expression` and the feature of that name: nothing infers expressions any more, whatever is asked for.
//!
//! With `--features no-expression` the same tests find that nothing does without the switch either.

use serde_json::Value;

use crate::control::Run;
use crate::program::{Folder, PORTRAIT, faceptor};

/// Returns the names of the answers of a line's only face.
fn answers(line: &Value) -> Vec<&str> {
    let face = line["faces"][0].as_object().expect("a face");
    let tasks = ["landmarks", "parsing", "age", "expression", "attributes", "recognition"];
    tasks.into_iter().filter(|task| face.contains_key(*task)).collect()
}

/// The program was built without such tasks.
const IS_OUT: bool = cfg!(feature = "no-expression");
const OTHERS: [&str; 5] = ["landmarks", "parsing", "age", "attributes", "recognition"];

#[test]
fn no_command_infers_expressions() {
    let by_verb: [&[&str]; 2] = [&["image", PORTRAIT], &["run", "--source", PORTRAIT]];
    for how in by_verb {
        let lines = |more: &[&str]| faceptor(&[how, &["--json"], more].concat()).expect(0).json();
        assert_eq!(answers(&lines(&["--tasks", "all"])[0]).contains(&"expression"), !IS_OUT, "{how:?}");
        assert_eq!(answers(&lines(&["--no-expression", "--tasks", "all"])[0]), OTHERS, "{how:?}");
        assert_eq!(answers(&lines(&["--no-expression"])[0]), OTHERS[..4], "{how:?}");
        // With it, the others are the same.
        let whole = lines(&["--tasks", "age,attributes"]).remove(0);
        let without = lines(&["--no-expression", "--tasks", "age,attributes"]).remove(0);
        assert_eq!(whole["faces"], without["faces"]);
        for names in ["expression", "age,expression", " expression ,age"] {
            let run = faceptor(&[how, &["--json", "--no-expression", "--tasks", names]].concat()).expect(2);
            assert!(run.out.is_empty() && run.err.contains("taken out") && run.err.contains("Article 5"), "{run:?}");
        }
    }
    let tasks = faceptor(&["tasks", "--json", "--rounds", "1", "--no-expression"]).expect(0).json().remove(0);
    let names: Vec<&str> =
        tasks["tasks"].as_array().expect("a list").iter().filter_map(|t| t["name"].as_str()).collect();
    assert_eq!(names.len(), 5);
    assert!(!names.contains(&"expression"), "{names:?}");
    let bench = faceptor(&["bench", "--frames", "1", "--no-expression", "--tasks", "expression"]).expect(2);
    assert!(bench.err.contains("taken out"), "{bench:?}");
}

#[test]
fn a_program_without_the_tasks_does_not_know_them() {
    let status = if IS_OUT { 2 } else { 0 };
    for how in [&["image", PORTRAIT, "--json"][..], &["run", "--source", PORTRAIT, "--json"]] {
        let run = faceptor(&[how, &["--tasks", "expression"]].concat()).expect(status);
        assert_eq!(run.err.contains("taken out") && run.err.contains("Article 5"), IS_OUT, "{run:?}");
        assert_eq!(run.out.contains("\"expression\""), !IS_OUT, "{run:?}");
    }
    let tasks = faceptor(&["tasks", "--json", "--rounds", "1"]).expect(0).out;
    assert_eq!(tasks.contains("\"name\":\"expression\""), !IS_OUT, "{tasks}");
    let bench = faceptor(&["bench", "--frames", "1", "--warm-up", "1", "--tasks", "expression"]);
    assert_eq!(bench.err.contains("taken out"), IS_OUT, "{bench:?}");
    // The help is silent about them.
    for verb in [&["--help"][..], &["image", "--help"], &["run", "--help"], &["bench", "--help"], &["ctl", "--help"]] {
        let help = faceptor(verb).expect(0).out;
        assert!(!IS_OUT || !help.contains("expression"), "{verb:?}: {help}");
    }
    assert_eq!(faceptor(&["--help"]).expect(0).out.contains("expression"), !IS_OUT);
    // The library's answers.
    let photo = faceptor::Photo::open(PORTRAIT).expect("a photo");
    let mut analyzer = faceptor::Analyzer::embedded().expect("a network");
    let results = analyzer.analyze(&photo).expect("results");
    assert_eq!(results.faces.len(), 1);
    assert_eq!(results.faces[0].expression().is_some(), !IS_OUT);
    assert!(results.faces[0].age().is_some());
}

#[test]
fn a_running_loop_cannot_be_made_to_infer_expressions() {
    let folder = Folder::new();
    let config = folder.write("faceptor.toml", b"no-expression = true\n");
    // Without a deadline, every face has every answer on a loaded machine too.
    let how = ["--fps", "30", "--frames", "1000000", "--json", "--budget-ms", "100000"];
    for switch in [&["--no-expression"][..], &["--config", &config]] {
        let run = Run::with(Folder::new(), &[&how[..], &["--tasks", "all"], switch].concat(), true);
        run.frame_with(&["landmarks", "parsing", "age", "attributes", "recognition"]);
        let listed = run.ctl(&["tasks"]).expect(0).out;
        assert!(listed.contains("attributes") && !listed.contains("expression"), "{listed}");
        for names in ["expression", "age,expression"] {
            let refused = run.ctl(&["set-tasks", names]).expect(2);
            assert!(refused.err.contains("taken out") && refused.err.contains("Article 5"), "{refused:?}");
        }
        run.ctl(&["set-tasks", "all"]).expect(0);
        run.frame_with(&["landmarks", "parsing", "age", "attributes", "recognition"]);
    }
}
