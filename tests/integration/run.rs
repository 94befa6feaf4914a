//! `faceptor run`: the demo clip, photos, and what is not there yet.

use std::fs;

use faceptor_edge::capture::demo_clip;
use faceptor_edge::capture::demo_clip::DemoClip;

use crate::pictures::{jpeg, portrait};
use crate::program::{Folder, PORTRAIT, faceptor};

#[test]
fn the_face_of_the_demo_is_followed_through_the_clip() {
    let run = faceptor(&["run", "--source", "demo", "--json", "--tasks", "none"]).expect(0);
    let lines = run.json();
    assert_eq!(lines.len() as u64, demo_clip::PERIOD, "the clip is shown once");
    let mut seen = 0;
    for (number, line) in lines.iter().enumerate() {
        assert_eq!((&line["frame"], &line["sequence"]), (&number.into(), &number.into()));
        assert_eq!((&line["width"], &line["height"]), (&640.into(), &480.into()));
        assert!(line["captured_us"].is_u64() && line.get("path").is_none());
        let ([x, y], scale) = DemoClip::face(number as u64);
        // The whole face is 130 px high at scale 1.
        let near = |face: &serde_json::Value| {
            let value = |index: usize| face["box"][index].as_f64().expect("four numbers");
            let middle = [value(0) + value(2) / 2.0, value(1) + value(3) / 2.0];
            (middle[0] - x).hypot(middle[1] - y) < 35.0 * scale
        };
        let faces = line["faces"].as_array().expect("a list");
        assert!(faces.iter().all(|face| face["id"] == 1), "frame {number}: {faces:?}");
        seen += usize::from(faces.iter().any(near));
    }
    assert!(seen >= 235, "found in {seen} of 240 frames");
    let table: Vec<&str> = run.err.lines().collect();
    assert_eq!(table[0], "240 frames");
    assert!(
        run.err.contains("finder: ran for 120 frames"),
        "without a task it runs on every second frame: {}",
        run.err
    );
    for stage in ["capture", "find", "present", "total"] {
        assert!(table.iter().any(|line| line.starts_with(stage)), "{stage}: {}", run.err);
    }
    assert!(!run.err.contains("encode"), "nothing was encoded, so nothing is counted: {}", run.err);
}

#[test]
fn landmarks_lead_the_way_and_the_finder_rarely_runs() {
    let run = faceptor(&["run", "--json", "--tasks", "landmarks,age", "--max-faces", "2"]).expect(0);
    let lines = run.json();
    assert_eq!(lines.len() as u64, demo_clip::PERIOD);
    let mut worst = 0.0f64;
    for (number, line) in lines.iter().enumerate() {
        let faces = line["faces"].as_array().expect("a list");
        assert_eq!((faces.len(), &faces[0]["id"]), (1, &1.into()), "frame {number}");
        assert!(line.get("deadline").is_none() && faces[0].get("stale_frames").is_none(), "nothing is put off");
        let points = faces[0]["landmarks"]["points"].as_array().expect("68 points");
        let mean = |axis: usize| points.iter().filter_map(|p| p[axis].as_f64()).sum::<f64>() / points.len() as f64;
        // The middle of the landmarks lies a little below the middle of the face; how much turns and grows with it.
        let ([x, y], scale) = DemoClip::face(number as u64);
        worst = worst.max((mean(0) - x).hypot(mean(1) - y) / scale);
    }
    assert!(worst < 25.0, "{worst} pixels of the portrait");
    let finder = run.err.lines().find_map(|line| line.strip_prefix("finder: ran for ")).expect("a line on the finder");
    let ran: u64 = finder.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
    assert!((16..40).contains(&ran), "{ran} of 240 frames");
}

#[test]
fn a_budget_puts_tasks_off_and_none_is_forgotten() {
    // Far too little: one face a frame, and now and then a task beyond the budget.
    let run = faceptor(&["run", "--json", "--tasks", "all", "--budget-ms", "0.1", "--frames", "200"]).expect(0);
    let lines = run.json();
    assert_eq!(lines.len(), 200, "no frame is lost: the source waits");
    let last = lines.last().expect("lines");
    for task in ["landmarks", "age", "expression", "attributes", "recognition", "parsing"] {
        assert!(lines.iter().any(|line| line["faces"][0].get(task).is_some()), "{task} starves");
    }
    assert_eq!((&last["deadline"]["budget_us"], &last["deadline"]["missed"]), (&100.into(), &true.into()));
    let deferred = |line: &serde_json::Value| line["deadline"]["deferred"].as_array().map_or(0, Vec::len);
    assert!(lines.iter().filter(|line| deferred(line) >= 4).count() > 150);
    let stale = lines.iter().filter_map(|line| line["faces"][0]["stale_frames"].as_object());
    let oldest = stale.flat_map(|ages| ages.values()).filter_map(serde_json::Value::as_u64).max();
    assert!(oldest > Some(5) && oldest <= Some(15 + 8 * 6 + 4), "{oldest:?}");
    assert!(run.err.contains("budget 0.10 ms: missed by 200, 200 in a row at most"), "{}", run.err);
    // More than enough.
    let run = faceptor(&["run", "--json", "--budget-ms", "60000", "--frames", "5"]).expect(0);
    assert!(run.json().iter().all(|line| deferred(line) == 0 && line["deadline"]["missed"] == false));
}

#[test]
fn at_a_pace_results_leave_at_their_time() {
    let run = faceptor(&["run", "--json", "--fps", "30", "--frames", "60", "--tasks", "landmarks", "--max-faces", "1"]);
    let run = run.expect(0);
    let sequences: Vec<u64> = run.json().iter().filter_map(|line| line["sequence"].as_u64()).collect();
    assert!(sequences.windows(2).all(|pair| pair[1] > pair[0]), "{sequences:?}");
    // A busy machine may lose frames, and counts them.
    let shown = sequences.len() as u64;
    let span = sequences.last().map_or(0, |last| last + 1);
    if span > shown {
        assert!(run.err.contains(&format!("{} passed over for a newer one", span - shown)), "{}", run.err);
    }
    assert!(run.json().iter().all(|line| line["deadline"]["budget_us"] == 33_333));
    assert!(run.err.contains(" ms after capture: ") && run.err.contains("publication jitter"), "{}", run.err);
    // The user's own latency.
    let run = faceptor(&["run", "--json", "--fps", "100", "--frames", "10", "--latency-ms", "40"]).expect(0);
    assert!(run.err.contains("published 40.0 ms after capture: "), "{}", run.err);
}

#[test]
fn the_same_frames_give_the_same_answers() {
    let faces = || {
        let run = faceptor(&["run", "--json", "--frames", "3"]).expect(0);
        run.json().into_iter().map(|mut line| line["faces"].take()).collect::<Vec<_>>()
    };
    assert_eq!(faces(), faces());
}

#[test]
fn the_last_frame_is_written_and_the_table_printed() {
    let folder = Folder::new();
    let out = folder.file("last.png");
    let run = faceptor(&["run", "--frames", "2", "--out", &out]).expect(0);
    assert!(run.out.starts_with("frame 0: face 1 at "), "{}", run.out);
    assert!(run.out.contains("\n2 frames\nstage, ms"), "{}", run.out);
    for stage in ["capture", "find", "align", "encode", "decode landmarks", "decode age", "total"] {
        assert!(run.out.lines().any(|line| line.starts_with(stage)), "{stage}: {}", run.out);
    }
    assert_eq!(run.err, "");
    let picture = image::open(&out).expect("a PNG").into_rgb8();
    assert_eq!(picture.dimensions(), (640, 480));
    let green = picture.pixels().filter(|pixel| pixel.0 == [70, 220, 110]).count();
    assert!(green > 200, "the box is drawn: {green} pixels");
    assert_eq!(folder.names(""), ["last.png"]);
}

#[test]
fn photos_are_frames_too_and_bad_ones_are_passed_over() {
    let folder = Folder::new();
    folder.write("photos/1.jpg", &fs::read(PORTRAIT).expect("the portrait"));
    folder.write("photos/2.jpg", b"broken");
    folder.write("photos/3.jpg", &jpeg(&portrait()));
    let run = faceptor(&["run", "--json", "--source", &folder.file("photos"), "--tasks", "age"]).expect(1);
    let frames: Vec<_> = run.json().iter().map(|line| (line["frame"].as_u64(), line["path"].clone())).collect();
    assert_eq!(frames, [(Some(0), folder.file("photos/1.jpg").into()), (Some(2), folder.file("photos/3.jpg").into())]);
    assert!(run.line_about("2.jpg").contains("not a JPEG"), "{}", run.err);
    // One photo is shown as often as is asked.
    let run = faceptor(&["run", "--json", "--source", PORTRAIT, "--frames", "3", "--tasks", "none"]).expect(0);
    assert_eq!(run.json().iter().filter_map(|line| line["sequence"].as_u64()).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn wrong_values_and_sources_that_are_not_there_are_told() {
    for source in ["/dev/video99", "-", "film.y4m", "nowhere"] {
        let run = faceptor(&["run", "--source", source]).expect(1);
        assert!(run.err.contains(&format!(" {source}: ")), "{}", run.err);
        assert_eq!(run.err.lines().count(), 1, "{}", run.err);
    }
    for (option, value) in [
        ("--budget-ms", "0"),
        ("--fps", "none"),
        ("--display", "fb0"),
        ("--preview", "here"),
        ("--size", "640"),
        ("--format", "rgb"),
    ] {
        let run = faceptor(&["run", option, value]).expect(2);
        assert!(run.err.contains(option), "{}", run.err);
    }
    assert!(faceptor(&["run", "--max-faces", "17"]).expect(2).err.contains("max-faces"));
    assert!(faceptor(&["run", "--frames", "0"]).expect(2).err.contains("frames"));
}

#[test]
fn age_expression_and_attributes_are_steadied_as_the_time_constant_says_and_landmarks_are_not() {
    let run = |ms: &str| {
        let tasks = "landmarks,age,expression,attributes";
        let lines =
            faceptor(&["run", "--json", "--frames", "60", "--tasks", tasks, "--steady-ms", ms]).expect(0).json();
        lines.into_iter().map(|mut line| line["faces"][0].take()).collect::<Vec<_>>()
    };
    let (raw, steady) = (run("0"), run("300"));
    let number = |face: &serde_json::Value, path: &str| face.pointer(path).and_then(|v| v.as_f64()).expect("a number");
    let scores = |path: &str| {
        let names = raw[0].pointer(path).and_then(|v| v.as_object()).expect("scores").keys().cloned();
        names.map(|name| format!("{path}/{name}")).collect::<Vec<_>>()
    };
    // 30 frames a second; the first answer of a face is its own. Both sides are rounded to two and four digits. Of a task's
    // scores some hardly move in the clip, so that rounding would hide whether they are smoothed: the one that is farthest
    // from its mean decides.
    let share = 1.0 - (-1.0f64 / 30.0 / 0.3).exp();
    let expression = scores("/expression/scores");
    for (paths, rounding) in
        [(vec!["/age/years".to_owned()], 0.012), (expression, 0.00012), (scores("/attributes"), 0.00012)]
    {
        let mut farthest = 0.0f64;
        for path in &paths {
            let mut expected = number(&raw[0], path);
            for (raw, steady) in raw.iter().zip(&steady) {
                expected += share * (number(raw, path) - expected);
                let found = number(steady, path);
                assert!((found - expected).abs() < rounding, "{path}: {found} {expected}");
                farthest = farthest.max((number(raw, path) - expected).abs());
            }
        }
        assert!(farthest > 2.0 * rounding, "{paths:?}: nothing was smoothed, {farthest}");
    }
    assert!(raw.iter().zip(&steady).all(|(raw, steady)| raw["landmarks"] == steady["landmarks"]));
    faceptor(&["run", "--steady-ms", "-1"]).expect(2);
}
