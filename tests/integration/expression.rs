//! `--no-expression`: nothing infers expressions any more, whatever is asked for.

use serde_json::Value;

use crate::control::Run;
use crate::program::{Folder, PORTRAIT, faceptor};

/// Returns the names of the answers of a line's only face.
fn answers(line: &Value) -> Vec<&str> {
    let face = line["faces"][0].as_object().expect("a face");
    let tasks = ["landmarks", "parsing", "age", "expression", "attributes", "recognition"];
    tasks.into_iter().filter(|task| face.contains_key(*task)).collect()
}

const OTHERS: [&str; 5] = ["landmarks", "parsing", "age", "attributes", "recognition"];

#[test]
fn no_command_infers_expressions() {
    let by_verb: [&[&str]; 2] = [&["image", PORTRAIT], &["run", "--source", PORTRAIT]];
    for how in by_verb {
        let lines = |more: &[&str]| faceptor(&[how, &["--json"], more].concat()).expect(0).json();
        assert!(answers(&lines(&["--tasks", "all"])[0]).contains(&"expression"), "{how:?}");
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
