//! Names in the live loop: `faceptor run --gallery` on films of the portrait.

use std::fs::{self, File};
use std::io::Read;

use faceptor_gallery::{
    Decision, Details, Gallery, KeySource, Network, PassphraseCost, Platform, Roster, StoredTemplate, Template,
};
use image::{RgbImage, imageops};
use serde_json::Value;

use crate::control::Run;
use crate::gallery_place::Place;
use crate::pictures::{contact_sheet, gradient, jpeg, portrait};
use crate::program::{Folder, Output, PATIENCE, PORTRAIT, faceptor};

/// Returns the gallery of this many people whose templates are made up, in memory.
pub fn roster(people: u32) -> Roster {
    let folder = Folder::new();
    let platform = Platform {
        random: |bytes| File::open("/dev/urandom")?.read_exact(bytes),
        create: |path| File::options().read(true).write(true).create(true).truncate(true).open(path),
    };
    let key = KeySource::from_file_content(&std::array::from_fn::<u8, 32, _>(|index| index as u8)).expect("a key");
    let network = Network { name: "test".into(), recognition: [7; 32], dimension: 128 };
    let path = folder.path().join("gallery");
    let cost = PassphraseCost { memory_kib: 8, passes: 1 };
    let mut gallery = Gallery::create(&path, &key, &network, cost, platform, 0).expect("a new file");
    for person in 0..people {
        let numbers: Vec<f32> = (0..128u32).map(|index| ((person * 131 + index * 37) % 97) as f32 - 48.0).collect();
        let template = Template::of(&numbers, 128).expect("a direction");
        let stored = StoredTemplate { template, added_at: 0, eyes_px: 60.0, forced: Vec::new(), crop: None };
        let (name, by) = (format!("person {person}"), "test".to_owned());
        let details = Details { name, enrolled_at: 0, enrolled_by: by, purpose: String::new(), expires_at: None };
        gallery.enrol(details, vec![stored], 0).expect("enrolled");
    }
    gallery.roster(Decision::at(0.6), 0)
}

impl Place {
    /// Makes a gallery that holds the portrait.
    fn with_portrait() -> Place {
        let place = Place::new();
        place.run(&["enroll", "Eileen Collins", PORTRAIT, "--threshold", "0.5"]).expect(0);
        place
    }

    fn film(&self, name: &str, pictures: &[RgbImage]) -> String {
        self.folder.write(name, &pictures.iter().flat_map(jpeg).collect::<Vec<u8>>())
    }

    /// Runs a film with a threshold of its own, because the embedded network may have no table of impostor scores.
    fn play(&self, film: &str, more: &[&str]) -> Output {
        self.run(&[&["run", "--json", "--source", film, "--threshold", "0.5"], more].concat())
    }
}

/// Returns frames of the portrait, which moves to and fro and gets lighter and darker.
fn moving(frames: u32) -> Vec<RgbImage> {
    let frame = |number: u32| {
        let swing = |period: f32| (number as f32 * std::f32::consts::TAU / period).sin();
        let mut picture = imageops::crop_imm(&portrait(), (60.0 + 20.0 * swing(25.0)) as u32, 0, 320, 256).to_image();
        let light = 1.0 + 0.15 * swing(17.0);
        picture.pixels_mut().for_each(|pixel| pixel.0 = pixel.0.map(|value| (f32::from(value) * light) as u8));
        picture
    };
    (0..frames).map(frame).collect()
}

/// Returns the recognition of the only face of a frame.
fn recognition(line: &Value) -> &Value {
    &line["faces"][0]["recognition"]
}

fn name_of(line: &Value) -> Option<&str> {
    recognition(line)["name"].as_str()
}

#[test]
fn a_name_appears_after_some_frames_and_stays() {
    let place = Place::with_portrait();
    let film = place.film("film.mjpg", &moving(60));
    let lines = place.play(&film, &[]).expect(0).json();
    assert_eq!(lines.len(), 60);
    let first = lines.iter().position(|line| name_of(line).is_some()).expect("it is named");
    assert!((3..20).contains(&first), "frame {first}");
    for line in &lines[..first] {
        let found = recognition(line);
        assert_eq!((&found["name"], &found["unknown"]), (&Value::Null, &"too_little_evidence".into()));
    }
    assert!(lines[first..].iter().all(|line| name_of(line) == Some("Eileen Collins")), "it flickers");
    let found = recognition(&lines[59]);
    assert!(found["similarity"].as_f64() > Some(0.6) && found["threshold"] == 0.5, "{found}");
    assert_eq!((&found["unknown"], &found["second_similarity"]), (&Value::Null, &Value::Null));
    // With a gallery the recognition runs beside the tasks that run without one.
    assert!(lines[9]["faces"][0]["age"].is_object() && lines[9]["faces"][0]["landmarks"].is_object());
    // Without JSON the name stands in the line, and on the picture.
    let out = place.folder.file("last.png");
    let run = place.run(&["run", "--source", &film, "--threshold", "0.5", "--tasks", "recognition", "--out", &out]);
    let run = run.expect(0);
    let line = run.out.lines().find(|line| line.starts_with("frame 50:")).expect("a line a frame");
    assert!(line.contains(": Eileen Collins 0."), "{line}");
    assert!(run.out.lines().next().is_some_and(|line| line.contains("unknown: too little evidence")), "{run:?}");
    let plain = place.folder.file("plain.png");
    faceptor(&["run", "--source", &film, "--tasks", "recognition", "--out", &plain]).expect(0);
    assert_ne!(fs::read(&out).expect("written"), fs::read(&plain).expect("written"), "the name is on the picture");
}

#[test]
fn strangers_and_empty_galleries_give_a_reason() {
    let place = Place::with_portrait();
    let film = place.film("film.mjpg", &moving(25));
    let reasons = |more: &[&str]| {
        let lines = place.run(&[&["run", "--json", "--source", &film, "--tasks", "recognition"], more].concat());
        let lines = lines.expect(0).json();
        assert!(lines.iter().all(|line| recognition(line)["name"].is_null()), "{more:?}");
        recognition(&lines[24])["unknown"].as_str().map(str::to_owned)
    };
    assert_eq!(reasons(&["--threshold", "0.9999"]).as_deref(), Some("below_threshold"));
    place.run(&["gallery", "remove", "Eileen Collins"]).expect(0);
    assert_eq!(reasons(&["--threshold", "0.5"]).as_deref(), Some("empty_gallery"));
}

#[test]
fn a_cut_ends_the_name() {
    let place = Place::with_portrait();
    let mut pictures = moving(30);
    let length = pictures.len();
    pictures.extend(vec![gradient(320, 256); 12]);
    pictures.extend(moving(30));
    let film = place.film("film.mjpg", &pictures);
    let lines = place.play(&film, &["--tasks", "recognition"]).expect(0).json();
    assert_eq!(name_of(&lines[length - 1]), Some("Eileen Collins"));
    let again = (length..lines.len()).find(|&frame| name_of(&lines[frame]).is_some()).expect("it is named again");
    assert!(again >= length + 15, "frame {again}: the evidence of the former scene is gone");
    // A film that starts over is another scene too.
    let lines = place.play(&film, &["--tasks", "recognition", "--frames", "80"]).expect(0).json();
    assert!(name_of(&lines[71]).is_some() && name_of(&lines[72]).is_none(), "{:?}", recognition(&lines[72]));
}

#[test]
fn the_recognition_is_chosen_or_its_lack_is_named() {
    let place = Place::with_portrait();
    let film = place.film("film.mjpg", &moving(2));
    for tasks in ["age", "none", "landmarks,age"] {
        let run = place.play(&film, &["--tasks", tasks]).expect(2);
        assert!(run.err.contains("needs the task recognition") && run.err.contains("--tasks"), "{run:?}");
    }
    for tasks in ["all", "recognition", "age,recognition"] {
        place.play(&film, &["--tasks", tasks]).expect(0);
    }
    for option in [&["--key", &place.key][..], &["--passphrase"], &["--counter", &place.key], &["--threshold", "0.5"]] {
        let run = faceptor(&[&["run", "--source", &film], option].concat()).expect(2);
        assert!(run.err.contains(&format!("{} needs --gallery", option[0])), "{run:?}");
    }
}

#[test]
fn galleries_that_cannot_be_used_end_the_run_before_it_begins() {
    let place = Place::with_portrait();
    let film = place.film("film.mjpg", &moving(2));
    let other = place.folder.file("other");
    faceptor(&["gallery", "make-key", &other]).expect(0);
    let folder = place.folder.file("");
    for (gallery, key, reason) in [
        (place.gallery.as_str(), other.as_str(), "wrong key"),
        (&folder, &place.key, "folder"),
        ("/dev/null", &place.key, "device"),
        (&film, &place.key, "not a Faceptor gallery"),
        ("/nonexistent/people.gallery", &place.key, "No such file"),
    ] {
        let run = faceptor(&["run", "--source", &film, "--gallery", gallery, "--key", key, "--threshold", "0.5"]);
        let run = run.expect(1);
        assert!(run.err.contains(reason) && run.out.is_empty(), "{run:?}");
    }
    // No output replaces the gallery or its key.
    for file in [&place.gallery, &place.key] {
        let before = fs::read(file).expect("readable");
        for output in ["--record", "--out"] {
            place.play(&film, &[output, file, "--force"]).expect(1);
            assert_eq!(fs::read(file).expect("readable"), before, "{output}");
        }
    }
}

#[test]
fn no_log_line_of_a_run_holds_a_name() {
    let place = Place::with_portrait();
    let film = place.film("film.mjpg", &moving(25));
    let record = place.folder.file("faces.jsonl");
    let run = place.play(&film, &["--verbose", "--record", &record]).expect(0);
    assert!(run.out.contains("Eileen") && !run.err.contains("Eileen") && !run.err.contains("Collins"), "{}", run.err);
    assert!(run.err.contains("gallery: 1 enrolled, 1 templates"), "{}", run.err);
    assert!(fs::read_to_string(&record).expect("recorded").contains("Eileen Collins"));
}

#[test]
fn the_gallery_is_a_key_of_the_configuration() {
    let place = Place::with_portrait();
    let film = place.film("film.mjpg", &moving(25));
    let text = format!(
        "source = \"{film}\"\ngallery = \"{}\"\nkey = \"{}\"\nthreshold = 0.5\njson = true\n",
        place.gallery, place.key
    );
    let config = place.folder.write("faceptor.toml", text.as_bytes());
    let run = faceptor(&["run", "--config", &config]).expect(0);
    assert_eq!(name_of(&run.json()[24]), Some("Eileen Collins"));
}

/// Runs the loop on a film that starts over, with a control socket. Slowly and without haste: also on a loaded machine each
/// frame has its recognition.
fn live(place: &Place, film: &str, more: &[&str]) -> Run {
    let pace = ["--fps", "5", "--budget-ms", "10000", "--frames", "1000000"];
    let arguments = [&pace[..], &["--json", "--tasks", "recognition", "--source", film]].concat();
    let gallery = ["--gallery", &place.gallery, "--key", &place.key, "--threshold", "0.5"];
    Run::with(Folder::new(), &[&arguments[..], &gallery, more].concat(), true)
}

/// Frames until one has this name, or none.
fn frame_named(run: &Run, name: Option<&str>) {
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        let frame = run.frame();
        let is_there = recognition(&frame).is_object();
        if is_there
            && name_of(&frame) == name
            && (name.is_some() || recognition(&frame)["unknown"] != "too_little_evidence")
        {
            return;
        }
        assert!(std::time::Instant::now() < until, "no frame with the name {name:?}: {frame}");
    }
}

#[test]
fn a_running_loop_takes_changes_of_the_gallery() {
    let place = Place::with_portrait();
    let film = place.film("film.mjpg", &moving(60));
    let run = live(&place, &film, &[]);
    frame_named(&run, Some("Eileen Collins"));
    place.run(&["gallery", "rename", "Eileen Collins", "E. Collins"]).expect(0);
    let report = run.ctl(&["gallery", "reload", "--json"]).expect(0).json().remove(0);
    assert_eq!((&report["people"], &report["templates"]), (&1.into(), &1.into()));
    frame_named(&run, Some("E. Collins"));
    place.run(&["gallery", "remove", "E. Collins"]).expect(0);
    run.ctl(&["gallery", "reload"]).expect(0);
    frame_named(&run, None);
    // The face in view is enrolled, and its name appears.
    let report =
        run.ctl(&["enroll", "Colonel Collins", "--purpose", "a test", "--expires", "1y", "--by", "me", "--json"]);
    let report = report.expect(0).json().remove(0);
    assert_eq!((&report["new"], &report["people"], &report["templates"]), (&true.into(), &1.into(), &1.into()));
    frame_named(&run, Some("Colonel Collins"));
    let shown = place.run(&["gallery", "show", "Colonel Collins", "--json"]).expect(0).json().remove(0);
    assert_eq!((&shown["purpose"], &shown["enrolled_by"]), (&"a test".into(), &"me".into()));
    assert!(shown["expires"].is_string());
    // One face under two names is refused, and so are names that cannot be stored.
    let refused = run.ctl(&["enroll", "Another Name"]).expect(1);
    assert!(refused.err.contains("like another person"), "{refused:?}");
    for name in ["", "two\nlines", &"x".repeat(10_000)] {
        run.ctl(&["enroll", name]).expect(2);
    }
    run.ctl(&["enroll", "Ada", "--expires", "yesterday"]).expect(2);
    // A gallery that cannot be read leaves the loop with what it had.
    let content = fs::read(&place.gallery).expect("readable");
    fs::write(&place.gallery, b"no gallery").expect("writable");
    let refused = run.ctl(&["gallery", "reload"]).expect(1);
    assert!(refused.err.contains("not a Faceptor gallery"), "{refused:?}");
    frame_named(&run, Some("Colonel Collins"));
    fs::write(&place.gallery, content).expect("writable");
    // Without the recognition no face can be enrolled.
    run.ctl(&["set-tasks", "age"]).expect(0);
    // Results that the loop handed over before wait for their time.
    run.frame_with(&["age"]);
    let refused = run.ctl(&["enroll", "Ada"]).expect(1);
    assert!(refused.err.contains("recognition not chosen"), "{refused:?}");
    run.ctl(&["quit"]).expect(0);
    let (ended, _) = run.end();
    assert!(!ended.err.contains("Collins") && !ended.err.contains("Ada"), "{}", ended.err);
}

#[test]
fn faces_that_cannot_be_enrolled_are_refused_with_their_reason() {
    let place = Place::with_portrait();
    place.run(&["gallery", "remove", "Eileen Collins"]).expect(0);
    let small = imageops::resize(&portrait(), 130, 130, imageops::FilterType::Triangle);
    for (name, picture, reason) in [
        ("none", gradient(320, 240), "no face"),
        ("many", contact_sheet(2, 1), "several faces"),
        ("small", small, "too small"),
    ] {
        let film = place.film(&format!("{name}.mjpg"), &vec![picture; 30]);
        let run = live(&place, &film, &[]);
        run.frame();
        let refused = run.ctl(&["enroll", "Eileen Collins"]).expect(1);
        assert!(refused.err.contains("nothing was enrolled") && refused.err.contains(reason), "{name}: {refused:?}");
        run.ctl(&["quit"]).expect(0);
        run.end();
    }
    let list = place.run(&["gallery", "list", "--json"]).expect(0).json().remove(0);
    assert!(list["people"].as_array().is_some_and(Vec::is_empty), "{list}");
    // A run without a gallery says so.
    let run = Run::start("landmarks");
    for verb in [&["gallery", "reload"][..], &["enroll", "Ada"]] {
        let refused = run.ctl(verb).expect(1);
        assert!(refused.err.contains("--gallery"), "{refused:?}");
    }
    run.ctl(&["quit"]).expect(0);
    run.end();
}

#[test]
fn a_person_before_a_camera_is_enrolled_from_views_or_told_what_is_missing() {
    let place = Place::with_portrait();
    place.run(&["gallery", "remove", "Eileen Collins"]).expect(0);
    let enrol = |film: &str| place.run(&["enroll", "Eileen Collins", "--source", film, "--threshold", "0.5", "--json"]);
    // The portrait looks at the camera only, so other views are asked for.
    let film = place.film("film.mjpg", &moving(30));
    let run = enrol(&film).expect(0);
    assert!(
        run.err.contains("turn your head a little to your") && run.err.contains("fewer views than wanted"),
        "{run:?}"
    );
    assert!(!run.err.contains("Collins"), "{run:?}");
    let report = run.json().pop().expect("a summary");
    assert!(report["added"].as_u64() >= Some(1) && report["refused"] == 0, "{report}");
    let lines = place.play(&film, &["--tasks", "recognition"]).expect(0).json();
    assert_eq!(name_of(&lines[29]), Some("Eileen Collins"));
    for (name, picture, advice) in [
        ("none", gradient(320, 240), "step before the camera"),
        ("many", contact_sheet(2, 1), "one person alone"),
        ("dark", darkened(&moving(1)[0]), "too dark"),
    ] {
        let run = enrol(&place.film(&format!("{name}.mjpg"), &vec![picture; 4])).expect(1);
        assert!(run.err.contains("no good view") && run.err.contains(advice), "{name}: {run:?}");
    }
    place.run(&["enroll", "Ada", "--source", "/nonexistent.mjpg", "--threshold", "0.5"]).expect(1);
    place.run(&["enroll", "Ada", "--threshold", "0.5"]).expect(2);
    place.run(&["enroll", "Ada", PORTRAIT, "--source", &film, "--threshold", "0.5"]).expect(2);
}

fn darkened(picture: &RgbImage) -> RgbImage {
    let mut dark = picture.clone();
    dark.pixels_mut().for_each(|pixel| pixel.0 = pixel.0.map(|value| value / 9));
    dark
}
