//! `faceptor bench`, `reference` and `verify`: few frames through the real program.

use std::fs;

use serde_json::Value;

use crate::program::{Folder, Output, PORTRAIT, faceptor};

/// Returns a quick bench with its report.
fn bench(folder: &Folder, extra: &[&str]) -> (Output, Value) {
    let path = folder.file("report.json");
    let mut arguments = vec!["bench", "--frames", "20", "--warm-up", "2", "--tasks", "age,landmarks", "--json", &path];
    arguments.extend(extra);
    let run = faceptor(&arguments);
    let report =
        fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null);
    (run, report)
}

#[test]
fn the_report_has_the_fields_of_the_contract() {
    let folder = Folder::new();
    let (run, report) = bench(&folder, &[]);
    let run = run.expect(0);
    for stage in ["capture", "find", "align", "encode", "decode_age", "decode_landmarks"] {
        let (name, stage) = (stage, &report["stages"][stage]);
        // The finder runs on every fifteenth frame, as long as the face is followed.
        let n = if name == "find" { 1..6 } else { 20..21 };
        assert!(stage["n"].as_u64().is_some_and(|count| n.contains(&count)), "{name}: {stage}");
        let us = |key: &str| stage[key].as_u64().expect("a time");
        let rising = ["min_us", "p50_us", "p90_us", "p99_us", "p999_us", "max_us"].map(us);
        assert!(rising.is_sorted() && rising[5] > 0, "{rising:?}");
    }
    assert_eq!(report["stages"].as_object().map(serde_json::Map::len), Some(6));
    let us = |pointer: &str| report.pointer(pointer).and_then(Value::as_u64).expect(pointer);
    assert!(us("/frame/p50_us") >= us("/stages/encode/p50_us"));
    assert!(us("/load_us") > 0 && us("/first_us") > 0);
    assert_eq!(report["tasks"], serde_json::json!(["age", "landmarks"]));
    assert_eq!((&report["threads"], &report["frames"]), (&1.into(), &20.into()));
    assert_eq!(us("/deadline/budget_us"), 33_333);
    assert!(us("/deadline/missed") <= 20 && us("/deadline/longest_miss_run") <= us("/deadline/missed"));
    assert!(us("/rss_bytes/init") > 0 && us("/rss_bytes/steady") >= us("/rss_bytes/init"));
    assert!(us("/rss_bytes/peak") >= us("/rss_bytes/steady"));
    for task in ["age", "landmarks"] {
        let marginal = &report["task_marginal_us"][task];
        assert!(marginal["n"].as_u64() > Some(10) && marginal["p50_us"].is_i64(), "{marginal}");
    }
    for kind in ["ours", "engine", "capture"] {
        assert_eq!(report["allocations_per_frame"][kind].as_f64(), Some(0.0), "{kind}");
    }
    // 20 frames are too few, and the report says so.
    assert_eq!(report["valid"], false);
    assert!(report["invalid_because"].as_str().is_some_and(|why| why.contains("20 frames are too few for a p99: 662")));
    assert!(report["model"]["sha256"].as_str().is_some_and(|sha| sha.len() == 64));
    assert!(report["build"]["features"].as_array().is_some() && report["build"].get("git").is_some());
    assert!(report["build"]["program_sha256"].as_str().is_some_and(|sha| sha.len() == 64));
    for fact in ["cpu", "kernel", "cpus", "arch", "governor", "load_average", "before", "after"] {
        assert!(report["machine"].get(fact).is_some(), "{fact}");
    }
    assert!(run.out.contains("stage, ms") && run.out.contains("INVALID: "), "{}", run.out);
    assert!(run.out.contains("allocations per frame: ours 0, engine 0, source 0"), "{}", run.out);
}

#[test]
fn cold_frames_are_reported_beside_the_warm_ones() {
    let folder = Folder::new();
    let (run, report) = bench(&folder, &["--cold", "4", "--assert", "cold.frame.p99_us > 0 && cold.frame.n == 20"]);
    let run = run.expect(0);
    let cold = &report["cold"];
    assert_eq!(cold["passed_bytes"], 4 << 20);
    assert!(cold["last_level_cache_bytes"].is_null() || cold["last_level_cache_bytes"].as_u64() > Some(0), "{cold}");
    for stage in ["capture", "align", "encode", "decode_age", "decode_landmarks"] {
        assert_eq!(cold["stages"][stage]["n"], 20, "{stage}: {cold}");
    }
    for summary in [&cold["frame"], &report["frame"]] {
        let us = |key: &str| summary[key].as_u64().expect("a time");
        let rising = ["min_us", "p50_us", "p99_us", "p999_us"].map(us);
        assert!(us("n") == 20 && rising.is_sorted() && rising[0] > 0, "{summary}");
    }
    let ratio = cold["frame"]["p99_us"].as_f64().expect("a time") / report["frame"]["p50_us"].as_f64().expect("a time");
    assert!((cold["p99_to_warm_p50"].as_f64().expect("a ratio") - ratio).abs() < 0.006, "{cold}");
    // The other program's memory is not counted as this one's.
    let other = bench(&folder, &["--cold", "256", "--force"]).1;
    assert!(other["rss_bytes"]["peak"].as_u64() < Some(256 << 20), "{}", other["rss_bytes"]);
    // The warm figures are of the warm frames alone.
    assert_eq!((&report["deadline"]["frames"], &report["faces"]), (&20.into(), &1.0.into()));
    for (pointer, what) in [("/page_faults_per_frame", &report), ("/cold/page_faults_per_frame", &report)] {
        let faults = what.pointer(pointer).expect(pointer);
        assert!(faults["ours"].as_f64() >= Some(0.0) && faults["capture"].as_f64() >= Some(0.0), "{faults}");
    }
    for text in [
        "cold: 4.0 MiB of another program's memory",
        "(p50, p99, p99.9): warm ",
        "; cold ",
        "page faults per frame: ours ",
    ] {
        assert!(run.out.contains(text), "{text}: {}", run.out);
    }
    assert!(bench(&folder, &["--force"]).1.get("cold").is_none(), "only on request");
}

#[test]
fn assertions_decide_the_exit_status() {
    let folder = Folder::new();
    let holds = "frame.p99_us < 60000000 && allocations_per_frame.ours == 0 && !valid";
    let (run, report) = bench(&folder, &["--assert", holds]);
    assert!(run.expect(0).err.contains("INVALID"), "what holds of an invalid report is reported with a warning");
    let reference = folder.write("first.json", report.to_string().as_bytes());
    let assertions = ["encode.p50_us < 1", "ratio(frame.p50_us) > 0.000001", "ratio(encode.p50_us) > 1e9"];
    let options: Vec<&str> = assertions.iter().flat_map(|text| ["--assert", text]).collect();
    let run = bench(&folder, &[&["--reference", &reference][..], &options].concat()).0.expect(1);
    assert!(
        run.err.contains("encode.p50_us < 1 does not hold") && run.err.contains("ratio(encode.p50_us) > "),
        "{run:?}"
    );
    assert_eq!(run.err.matches("assertion failed").count(), 2, "{}", run.err);
    assert!(run.out.contains("times the reference"), "{}", run.out);
}

#[test]
fn mistakes_on_the_command_line_are_wrong_usage() {
    let short = ["bench", "--frames", "1", "--warm-up", "1", "--tasks", "none"];
    let wrong = |extra: &[&str], status: i32, reason: &str| {
        let run = faceptor(&[&short[..], extra].concat()).expect(status);
        assert!(run.err.contains(reason), "{extra:?}: {}", run.err);
    };
    wrong(&["--assert", "frame.p99_us <"], 2, "at character 15");
    wrong(&["--assert", "frame.p42_us < 1"], 2, "the report has no frame.p42_us: frame has");
    wrong(&["--assert", "ratio(frame.p50_us) < 2"], 2, "--reference");
    wrong(&["--assert", "frame < 1"], 2, "a group of values");
    wrong(&["--threads", "9"], 2, "threads");
    wrong(&["--budget-ms=-1"], 2, "--budget-ms -1");
    wrong(&["--source", "nowhere"], 1, "source nowhere");
    for size in ["0", "-1", "a lot", "1.5", "99999999999999999999"] {
        wrong(&[&format!("--cold={size}")], 2, "--cold");
    }
    wrong(&["--cold=1048576"], 1, "more than half of the memory that is available");
    wrong(&["--cold=1", "--profile"], 2, "--profile");
    let folder = Folder::new();
    wrong(&["--reference", &folder.file("no.json")], 1, "no.json");
    let other = folder.write("other.json", b"{\"frames\": 3}");
    wrong(&["--reference", &other], 1, "is not a bench report");
}

#[test]
fn without_a_face_and_without_tasks_there_is_still_a_report() {
    let folder = Folder::new();
    let photo = folder.write("photos/plain.png", &crate::pictures::png(crate::pictures::gradient(320, 240)));
    let run = faceptor(&["bench", "--source", &photo, "--frames", "3", "--warm-up", "1", "--json", "-"]).expect(0);
    let report = &run.json()[0];
    assert_eq!((&report["faces"], &report["frame"]["n"]), (&0.0.into(), &3.into()));
    assert!(report["stages"].get("encode").is_none(), "what did not run is not counted as free");
    assert_eq!(report["task_marginal_us"], serde_json::json!({}));
}

/// Returns a reference of two demo frames and the portrait.
fn reference(folder: &Folder) -> String {
    let path = folder.file("reference");
    let quick = ["--frames", "3", "--warm-up", "1", "--pictures", "2"];
    faceptor(&[&["reference", "--out", &path, PORTRAIT][..], &quick].concat()).expect(0);
    path
}

fn verify(reference: &str, extra: &[&str]) -> Output {
    faceptor(&[&["verify", "--reference", reference, "--frames", "0"][..], extra].concat())
}

#[test]
fn the_same_machine_differs_in_nothing() {
    let folder = Folder::new();
    let path = reference(&folder);
    let index: Value =
        serde_json::from_slice(&fs::read(folder.file("reference/reference.json")).expect("an index")).expect("JSON");
    assert!(!index.to_string().contains(env!("CARGO_MANIFEST_DIR")), "no path of this machine is in it");
    let (json, junit) = (folder.file("verify.json"), folder.file("verify.xml"));
    let assertions =
        ["landmarks.unequal == 0 && age.flips == 0 && end_to_end.tasks.parsing.max == 0", "ratio(frame.p50_us) > 0"];
    let extra = ["--frames", "2", "--warm-up", "1", "--json", &json, "--junit", &junit];
    let options: Vec<&str> = assertions.iter().flat_map(|text| ["--assert", text]).collect();
    let run = faceptor(&[&["verify", "--reference", &path][..], &extra, &options].concat()).expect(0);
    assert!(run.out.contains("times the reference") && run.out.contains(" checks passed"), "{}", run.out);
    let found: Value = serde_json::from_slice(&fs::read(&json).expect("written")).expect("JSON");
    assert_eq!(found["passed"], true);
    for task in ["landmarks", "parsing", "age", "expression", "attributes", "recognition"] {
        for measured in [&found["tasks"][task], &found["end_to_end"]["tasks"][task]] {
            assert!(measured["values"].as_u64() > Some(0), "{task}: {measured}");
            assert_eq!((&measured["unequal"], &measured["flips"]), (&0.into(), &0.into()), "{task}: {measured}");
        }
    }
    assert!(found["parts"].as_object().is_some_and(|parts| parts.values().all(|part| part["unequal"] == 0)));
    assert_eq!((&found["end_to_end"]["faces"], &found["end_to_end"]["missing"]), (&3.into(), &0.into()));
    assert_eq!(found["bench"]["frames"], 2);
    let xml = fs::read_to_string(&junit).expect("written");
    let xml = roxmltree::Document::parse(&xml).expect("XML");
    let tests = found["checks"].as_array().map_or(0, Vec::len).to_string();
    assert_eq!(xml.root_element().attribute("tests"), Some(&tests[..]));
    assert_eq!(xml.root_element().attribute("failures"), Some("0"));
    let assertions = |node: &roxmltree::Node| node.attribute("name") == Some("assertions");
    let suite = xml.root_element().children().find(assertions).expect("a suite of the assertions");
    assert_eq!(suite.attribute("tests"), Some("2"));
}

/// Changes a stored file and its checksum in the index, as a device with other answers would have written it.
fn alter(folder: &Folder, name: &str, change: impl Fn(&mut [u8])) {
    use sha2::{Digest, Sha256};
    let path = folder.file(&format!("reference/{name}"));
    let mut bytes = fs::read(&path).expect("it is there");
    change(&mut bytes);
    fs::write(&path, &bytes).expect("writable");
    let index = folder.file("reference/reference.json");
    let mut text: Value = serde_json::from_slice(&fs::read(&index).expect("an index")).expect("JSON");
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    text["files"][name]["sha256"] = digest.into();
    fs::write(&index, text.to_string()).expect("writable");
}

#[test]
fn an_answer_that_differs_fails_and_is_named() {
    let folder = Folder::new();
    let path = reference(&folder);
    // A probability of the first face's first age bin: 0.5 more.
    alter(&folder, "task.age.f32", |bytes| {
        let first = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        bytes[..4].copy_from_slice(&(first + 0.5).to_le_bytes());
    });
    let junit = folder.file("verify.xml");
    let run = verify(&path, &["--junit", &junit]).expect(1);
    assert!(run.out.contains("FAILED stored input, tasks, age: "), "{}", run.out);
    assert!(
        run.out.contains("FAILED from the picture, age: ") && run.out.contains("2 of 18 checks failed"),
        "{}",
        run.out
    );
    assert!(run.out.contains("1/63"), "one of 63 numbers differs: {}", run.out);
    let xml = fs::read_to_string(&junit).expect("written");
    let xml = roxmltree::Document::parse(&xml).expect("XML");
    assert_eq!(xml.root_element().attribute("failures"), Some("2"));
    // A value that is not a number fails too.
    alter(&folder, "task.age.f32", |bytes| bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes()));
    assert!(verify(&path, &[]).expect(1).out.contains("FAILED stored input, tasks, age: "));
    // An assertion fails by itself, and a wrong one is wrong usage.
    assert!(
        verify(&path, &["--assert", "landmarks.max > 1"])
            .expect(1)
            .out
            .contains("FAILED assertions, landmarks.max > 1")
    );
    assert!(verify(&path, &["--assert", "lamdmarks.max > 1"]).expect(2).err.contains("lamdmarks"));
}

#[test]
fn a_bad_reference_folder_is_told_apart() {
    let folder = Folder::new();
    let bad = |path: &str, reason: &str| {
        let run = verify(path, &[]).expect(1);
        assert!(run.err.contains(reason) && run.err.lines().count() == 1, "{reason}: {}", run.err);
    };
    bad(&folder.file("nowhere"), "is not a reference folder");
    let path = reference(&folder);
    let tensor = folder.file("reference/task.landmarks.f32");
    let whole = fs::read(&tensor).expect("it is there");
    fs::write(&tensor, &whole[..100]).expect("writable");
    bad(&path, "task.landmarks.f32: 100 bytes instead of 1632");
    fs::write(&tensor, vec![0; whole.len()]).expect("writable");
    bad(&path, "task.landmarks.f32 is damaged");
    fs::remove_file(&tensor).expect("removable");
    bad(&path, "task.landmarks.f32 is missing");
    fs::write(&tensor, &whole).expect("writable");
    let index = folder.file("reference/reference.json");
    let text = fs::read_to_string(&index).expect("an index");
    let other = text.replace("\"network_sha256\": \"", "\"network_sha256\": \"0");
    assert_ne!(other, text);
    fs::write(&index, other).expect("writable");
    bad(&path, "use the same bundle on both machines");
    fs::write(&index, &text[..text.len() / 2]).expect("writable");
    bad(&path, "reference.json: ");
    // A folder with other files is not overwritten.
    folder.write("mine/thesis.txt", b"x");
    let run = faceptor(&["reference", "--out", &folder.file("mine"), "--frames", "1", "--warm-up", "1"]).expect(1);
    assert!(run.err.contains("is not empty"), "{}", run.err);
    assert_eq!(folder.names("mine"), ["thesis.txt"]);
}

#[test]
fn the_profile_has_every_step_of_the_parts_that_ran() {
    let folder = Folder::new();
    let picture = folder.file("profile.svg");
    let options = ["bench", "--tasks", "age,landmarks", "--frames", "5", "--warm-up", "1", "--profile", &picture];
    let holds = "encoder.percent_of_peak > 0 && encoder.percent_of_peak < 130 && whole.percent == 100";
    let run = faceptor(&[&options[..], &["--json", "-", "--assert", holds]].concat()).expect(0);
    let found = &run.json()[0];
    let parts = found["parts"].as_array().expect("parts");
    let names: Vec<&str> = parts.iter().filter_map(|part| part["name"].as_str()).collect();
    assert!(["encoder", "memory", "task_age", "task_landmarks"].iter().all(|name| names.contains(name)), "{names:?}");
    assert!(!names.contains(&"task_parsing"), "what was not asked for has no figures: {names:?}");
    let number = |value: &Value, key: &str| value[key].as_f64().expect("a number");
    let mut percent = 0.0;
    for part in parts {
        let steps = part["steps"].as_array().expect("steps");
        let sum = |key: &str| steps.iter().map(|step| number(step, key)).sum::<f64>();
        assert_eq!(sum("macs"), number(part, "macs"), "{}", part["name"]);
        assert!((sum("time_us") - number(part, "time_us")).abs() < 1e-6 && number(part, "time_us") > 0.0);
        percent += sum("percent");
        // Products have work and so a share of the peak; what moves data has neither.
        for step in steps {
            assert_eq!(number(step, "macs") > 0.0, step["percent_of_peak"].is_f64(), "{step}");
            if let Some(percent) = step["percent_of_peak"].as_f64() {
                let expected = number(step, "macs") / number(step, "time_us") / 1e3 / number(found, "int8_peak_gmacs");
                assert!((percent / (100.0 * expected) - 1.0).abs() < 1e-3, "{percent} of {expected}: {step}");
            }
            assert!(step["name"].is_string() && step["output"].as_array().is_some_and(|shape| !shape.is_empty()));
        }
    }
    assert!((percent - 100.0).abs() < 1e-6, "{percent}");
    assert!(number(found, "int8_peak_gmacs") > 0.0 && found["frames"] == 5);

    // The numbers of the bundle are those of the profile.
    let encoder = parts.iter().find(|part| part["name"] == "encoder").expect("it ran");
    let parts = faceptor::stages::embedded_bundle().expect("a network").parts().cloned().collect::<Vec<_>>();
    let expected = parts.iter().find(|part| part.name == "encoder").expect("it is inside");
    assert_eq!(encoder["macs"].as_u64(), Some(expected.macs));
    // The face check reads an output as float numbers, by one more step, which moves data.
    let steps = encoder["steps"].as_array().expect("steps");
    assert_eq!(steps.len(), expected.ops + 1);
    assert_eq!((steps[expected.ops]["op"].as_str(), number(&steps[expected.ops], "macs")), (Some("transpose"), 0.0));

    let drawn = fs::read_to_string(&picture).expect("the picture is written");
    assert!(drawn.starts_with("<svg ") && drawn.trim_end().ends_with("</svg>"));
    assert_eq!(drawn.matches("<g>").count(), drawn.matches("</g>").count());
    // All, each part, each step, and the slowest ones once more.
    let cells = 1 + found["parts"]
        .as_array()
        .map_or(0, |p| p.iter().map(|p| 1 + p["steps"].as_array().map_or(0, Vec::len)).sum());
    assert_eq!(drawn.matches("<g>").count(), cells + 32);
}

#[test]
fn a_profile_without_a_file_is_a_table() {
    let run = faceptor(&["bench", "--tasks", "age", "--frames", "2", "--warm-up", "1", "--profile"]).expect(0);
    assert!(run.out.contains("[encoder]") && run.out.contains("convolution int8"), "{}", run.out);
    assert!(run.out.contains("the encoder alone: ") && run.out.contains(" % of the int8 peak"), "{}", run.out);
    let wrong = |more: &[&str], status: i32, reason: &str| {
        let run = faceptor(&[&["bench", "--warm-up", "1", "--profile"][..], more].concat()).expect(status);
        assert!(run.err.contains(reason), "{more:?}: {}", run.err);
    };
    wrong(&["--frames", "20001"], 2, "--frames 20000 at most");
    let folder = Folder::new();
    let photo = folder.write("plain.png", &crate::pictures::png(crate::pictures::gradient(320, 240)));
    wrong(&["--frames", "2", "--source", &photo], 1, "no frame shows a face");
}
