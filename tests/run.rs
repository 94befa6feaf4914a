//! `faceptor run`: the demo clip, photos, and what is not there yet.

mod util;

use std::fs;

use faceptor_edge::capture::demo::{self, Demo};
use util::files::{jpeg, portrait};
use util::{Folder, PORTRAIT, faceptor};

#[test]
fn the_face_of_the_demo_is_followed_through_the_clip() {
    let run = faceptor(&["run", "--source", "demo", "--json", "--tasks", "none"]).expect(0);
    let lines = run.json();
    assert_eq!(lines.len() as u64, demo::PERIOD, "the clip is shown once");
    let mut seen = 0;
    for (number, line) in lines.iter().enumerate() {
        assert_eq!((&line["frame"], &line["sequence"]), (&number.into(), &number.into()));
        assert_eq!((&line["width"], &line["height"]), (&640.into(), &480.into()));
        assert!(line["captured_us"].is_u64() && line.get("path").is_none());
        let ([x, y], scale) = Demo::face(number as u64);
        // The whole face is 130 px high at scale 1.
        let near = |face: &serde_json::Value| {
            let value = |index: usize| face["box"][index].as_f64().expect("four numbers");
            let middle = [value(0) + value(2) / 2.0, value(1) + value(3) / 2.0];
            (middle[0] - x).hypot(middle[1] - y) < 35.0 * scale
        };
        seen += usize::from(line["faces"].as_array().expect("a list").iter().any(near));
    }
    assert!(seen >= 235, "found in {seen} of 240 frames");
    let table: Vec<&str> = run.err.lines().collect();
    assert_eq!(table[0], "240 frames");
    for stage in ["capture", "find", "present", "total"] {
        assert!(table.iter().any(|line| line.starts_with(stage)), "{stage}: {}", run.err);
    }
    assert!(!run.err.contains("encode"), "nothing was encoded, so nothing is counted: {}", run.err);
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
fn what_a_later_version_brings_is_said_to_be_missing() {
    for source in ["/dev/video0", "-", "film.y4m", "film.mjpg"] {
        let run = faceptor(&["run", "--source", source]).expect(1);
        assert!(run.err.contains(source) && run.err.contains("not supported in this version"), "{}", run.err);
        assert_eq!(run.err.lines().count(), 1, "{}", run.err);
    }
    for option in ["--budget-ms", "--preview", "--display", "--record", "--control"] {
        let run = faceptor(&["run", option, "33"]).expect(2);
        assert!(run.err.contains(option) && run.err.contains("not supported in this version"), "{}", run.err);
    }
    let run = faceptor(&["run", "--source", "nowhere"]).expect(1);
    assert!(run.err.contains("source nowhere does not exist"), "{}", run.err);
    assert!(faceptor(&["run", "--max-faces", "17"]).expect(2).err.contains("max-faces"));
    assert!(faceptor(&["run", "--frames", "0"]).expect(2).err.contains("frames"));
}
