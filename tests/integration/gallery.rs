//! `faceptor enroll`, `identify` and `gallery`: people, keys, refusals, and files that are no gallery.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use faceptor::stages::embedded_bundle;
use faceptor_nn::bundle::Bundle;
use faceptor_nn::manifest::Impostors;
use image::imageops;
use serde_json::Value;

use crate::gallery_place::Place;
use crate::pictures::{contact_sheet, gradient, png, portrait};
use crate::program::{Folder, Output, PORTRAIT, command, faceptor, finish};

impl Place {
    /// Enrols a photo with a threshold of its own, because the embedded network may have no table of impostor scores.
    fn enrol(&self, name: &str, photo: &str, more: &[&str]) -> Output {
        self.run(&[&["enroll", name, photo, "--threshold", "0.6"], more].concat())
    }

    fn names(&self) -> Vec<String> {
        let list = self.run(&["gallery", "list", "--json"]).expect(0).json().remove(0);
        let name = |person: &Value| person["name"].as_str().expect("a name").to_owned();
        list["people"].as_array().expect("a list").iter().map(name).collect()
    }
}

/// Returns the embedded network with the table of impostor scores that is given, or without any.
fn network(folder: &Folder, impostors: Option<Impostors>) -> String {
    let bundle = embedded_bundle().expect("a network is embedded");
    let mut manifest = bundle.manifest().clone();
    manifest.impostors = impostors;
    let text = toml::to_string(&manifest).expect("a manifest is TOML");
    folder.write("network.bundle", &bundle.with_manifest(&text).expect("it fits its parts"))
}

fn table() -> Impostors {
    let (rates, scores) = (vec![0.1, 0.01, 1e-3, 1e-4], vec![0.17, 0.31, 0.42, 0.51]);
    Impostors { task: "recognition".into(), measured_on: "a test".into(), people: 2, pairs: 1, rates, scores }
}

#[test]
fn a_person_is_enrolled_identified_and_removed() {
    let place = Place::new();
    let run = place.enrol("Eileen Collins", PORTRAIT, &["--purpose", "a test", "--expires", "1y", "--by", "tester"]);
    let run = run.expect(0);
    assert!(run.out.contains("astronaut.jpg: enrolled\n"), "{run:?}");
    assert!(
        run.out.ends_with("Eileen Collins: 1 photo added, 0 refused, 1 in all; 1 person in the gallery\n"),
        "{run:?}"
    );
    assert_eq!(fs::metadata(&place.gallery).expect("made").permissions().mode() & 0o777, 0o600);

    let run = place.run(&["identify", PORTRAIT, "--threshold", "0.6", "--json"]).expect(0);
    let found = &run.json()[0]["faces"][0]["recognition"];
    assert_eq!((&found["name"], &found["unknown"]), (&"Eileen Collins".into(), &Value::Null));
    assert!(found["similarity"].as_f64() > Some(0.99) && found["threshold"] == 0.6, "{found}");
    assert_eq!((&found["second_similarity"], found["embedding"].as_array().map(Vec::len)), (&Value::Null, Some(128)));

    // Another picture of the same person is near, and a threshold above its similarity makes a stranger of it.
    let mirrored = place.folder.write("mirrored.png", &png(imageops::flip_horizontal(&portrait())));
    let similarity = |run: Output| run.json()[0]["faces"][0]["recognition"]["similarity"].as_f64().expect("a number");
    let near = similarity(place.run(&["identify", &mirrored, "--threshold", "0.6", "--json"]).expect(0));
    assert!((0.6..0.9999).contains(&near), "{near}");
    let run = place.run(&["identify", &mirrored, "--threshold", "0.9999", "--json"]).expect(0);
    let found = &run.json()[0]["faces"][0]["recognition"];
    assert_eq!((&found["name"], &found["unknown"]), (&Value::Null, &"below_threshold".into()));
    let run = place.run(&["identify", &mirrored, "--threshold", "0.9999"]).expect(0);
    assert!(run.out.contains("unknown: below threshold (similarity 0."), "{run:?}");

    let shown = place.run(&["gallery", "show", "Eileen Collins", "--json"]).expect(0).json().remove(0);
    assert_eq!((&shown["purpose"], &shown["enrolled_by"]), (&"a test".into(), &"tester".into()));
    assert!(shown["expires"].is_string() && shown["photos"].as_array().is_some_and(|photos| photos.len() == 1));

    place.run(&["gallery", "remove", "Eileen Collins"]).expect(0);
    assert!(place.names().is_empty());
    let run = place.run(&["identify", PORTRAIT, "--threshold", "0.6", "--json"]).expect(0);
    assert_eq!(run.json()[0]["faces"][0]["recognition"]["unknown"], "empty_gallery");
    let events: Vec<Value> = place.run(&["gallery", "audit", "--json"]).expect(0).json();
    let events: Vec<&str> = events.iter().map(|event| event["event"].as_str().expect("a word")).collect();
    assert_eq!(events, ["created", "enrolled", "removed"]);
    place.run(&["gallery", "remove", "Eileen Collins"]).expect(1);
}

#[test]
fn the_threshold_follows_from_the_rate_and_the_size_of_the_gallery() {
    let place = Place::new();
    let with_table = network(&place.folder, Some(table()));
    let run = place.run(&["enroll", "Eileen Collins", PORTRAIT, "--model", &with_table]).expect(0);
    assert_eq!(run.err, "");
    let threshold = |more: &[&str]| {
        let run = place.run(&[&["identify", PORTRAIT, "--json", "--model", &with_table], more].concat()).expect(0);
        run.json()[0]["faces"][0]["recognition"]["threshold"].as_f64().expect("a number")
    };
    // One template: the rate is that of one comparison.
    assert!((threshold(&[]) - 0.31).abs() < 1e-3);
    assert!((threshold(&["--fpir", "0.001"]) - 0.42).abs() < 1e-3);
    let mirrored = place.folder.write("mirrored.png", &png(imageops::flip_horizontal(&portrait())));
    place.run(&["enroll", "Eileen Collins", &mirrored, "--model", &with_table]).expect(0);
    // Two: half of it each.
    assert!((threshold(&[]) - (0.31 + 0.11 * 2f64.log10())).abs() < 1e-3);

    // Without a table there is no threshold, and none is made up.
    let without = network(&place.folder, None);
    let run = place.run(&["identify", PORTRAIT, "--model", &without]).expect(2);
    assert!(run.err.contains("no table of impostor scores") && run.err.contains("--threshold"), "{run:?}");
    place.run(&["identify", PORTRAIT, "--model", &without, "--threshold", "0.5"]).expect(0);
    for bad in ["0", "1", "-0.1", "nan", "x"] {
        place.run(&["identify", PORTRAIT, &format!("--fpir={bad}")]).expect(2);
    }
}

#[test]
fn photos_that_are_not_good_enough_are_refused_with_their_reason() {
    let place = Place::new();
    let small = imageops::resize(&portrait(), 130, 130, imageops::FilterType::Triangle);
    let photos = [
        ("empty.png", png(gradient(320, 240)), "no_face"),
        ("many.png", png(contact_sheet(2, 2)), "several_faces"),
        ("small.png", png(small), "too_small"),
        ("broken.jpg", b"\xff\xd8\xff\xe0broken".to_vec(), "unreadable"),
    ];
    for (file, bytes, reason) in &photos {
        let path = place.folder.write(file, bytes);
        let run = place.enrol("Eileen Collins", &path, &["--json"]).expect(1);
        let reasons = run.json()[0]["reasons"].clone();
        assert!(reasons.as_array().is_some_and(|all| all.contains(&(*reason).into())), "{file}: {run:?}");
        assert!(!fs::exists(&place.gallery).expect("readable"), "{file} made a gallery");
    }
    // Overruled, the entry says so; what shows no face cannot be overruled.
    let many = place.folder.file("many.png");
    place.enrol("Eileen Collins", &many, &["--force"]).expect(0);
    let shown = place.run(&["gallery", "show", "Eileen Collins", "--json"]).expect(0).json().remove(0);
    assert_eq!((&shown["forced"], &shown["photos"][0]["forced"][0]), (&true.into(), &"several_faces".into()));
    place.enrol("Eileen Collins", &place.folder.file("empty.png"), &["--force"]).expect(1);
    // One person under two names.
    let run = place.enrol("Someone Else", PORTRAIT, &["--json"]).expect(1);
    assert_eq!(run.json()[0]["reasons"], serde_json::json!(["like_another_person"]));
    assert_eq!(place.names(), ["Eileen Collins"]);
}

#[test]
fn broken_photos_among_many_are_reported_and_the_others_are_enrolled() {
    let place = Place::new();
    let crop = imageops::crop_imm(&portrait(), 100, 20, 250, 250).to_image();
    for number in 0..40u32 {
        let mut picture = imageops::resize(&crop, 250 + number, 250 + number, imageops::FilterType::Triangle);
        picture.pixels_mut().for_each(|pixel| pixel.0[0] = pixel.0[0].saturating_add(number as u8));
        let bytes = if number % 10 == 3 { b"no photo".to_vec() } else { png(picture) };
        place.folder.write(&format!("photos/{number:02}.png"), &bytes);
    }
    let run = place.enrol("Eileen Collins", &place.folder.file("photos"), &["--json", "--force"]).expect(1);
    let report = run.json().pop().expect("a summary");
    let [added, refused] = ["added", "refused"].map(|key| report[key].as_u64().expect("a number"));
    assert_eq!((refused, report["templates"].as_u64()), (4, Some(added)), "{report}");
    assert!(added > 1 && run.err.lines().count() == 4, "{run:?}");
    // The same photos again change nothing.
    let run = place.enrol("Eileen Collins", &place.folder.file("photos"), &["--json", "--force"]).expect(1);
    assert_eq!(run.json().pop().expect("a summary")["added"], 0);
}

#[test]
fn the_same_photo_twice_is_enrolled_once() {
    let place = Place::new();
    let run = place.run(&["enroll", "Eileen Collins", PORTRAIT, PORTRAIT, "--threshold", "0.6", "--json"]).expect(0);
    let lines = run.json();
    assert_eq!([&lines[0]["enrolled"], &lines[1]["enrolled"], &lines[1]["known"]], [true, false, true]);
    assert_eq!(lines[2]["templates"], 1);
}

#[test]
fn names_of_any_script_are_kept_and_bad_ones_are_refused() {
    let place = Place::new();
    let names = ["Ольга", "李小龍", "عائشة", "O'Brien \u{1f600}"];
    for name in names {
        // One face under several names: only --force allows that.
        place.enrol(name, PORTRAIT, &["--force"]).expect(0);
    }
    assert_eq!(place.names(), names);
    place.run(&["gallery", "rename", "Ольга", "Olga"]).expect(0);
    place.run(&["gallery", "merge", "Olga", "李小龍"]).expect(0);
    place.run(&["gallery", "rename", "Olga", "عائشة"]).expect(1);
    assert_eq!(place.names(), ["Olga", "عائشة", "O'Brien \u{1f600}"]);
    let long = "x".repeat(10_000);
    for (name, reason) in [
        ("", "empty"),
        (" ", "empty"),
        ("two\nlines", "one line"),
        (&long, "200 characters"),
        ("a\u{1b}[2J", "control"),
    ] {
        let run = place.enrol(name, PORTRAIT, &[]).expect(2);
        assert!(run.err.contains(reason) && run.err.len() < 200, "{run:?}");
        assert!(place.run(&["gallery", "rename", "Olga", name]).expect(2).err.contains(reason));
    }
}

#[test]
fn one_name_in_two_spellings_is_one_person() {
    let place = Place::new();
    let (typed, folder) = ("Jos\u{e9} N\u{fa}\u{f1}ez", "Jose\u{301}  Nu\u{301}n\u{303}ez\u{a0}");
    let report = place.enrol(folder, PORTRAIT, &["--json"]).expect(0).json().pop().expect("a report");
    assert_eq!((&report["name"], &report["new"]), (&typed.into(), &true.into()));
    let report = place.enrol(typed, PORTRAIT, &["--json"]).expect(0).json().pop().expect("a report");
    assert_eq!((&report["new"], &report["templates"]), (&false.into(), &1.into()), "the photo is known");
    assert_eq!(place.names(), [typed]);
    let export = place.folder.file("export.json");
    for name in [typed, folder] {
        place.run(&["gallery", "show", name]).expect(0);
        fs::remove_file(&export).ok();
        place.run(&["gallery", "export", name, "--out", &export]).expect(0);
        place.run(&["gallery", "import", &export]).expect(1);
    }
    place.run(&["gallery", "rename", folder, "Ada"]).expect(0);
    place.run(&["gallery", "rename", "Ada", folder]).expect(0);
    assert_eq!(place.names(), [typed]);
    // An export of another program may have the other spelling.
    let text = fs::read_to_string(&export).expect("written").replace(typed, folder);
    fs::write(&export, text).expect("own file");
    place.run(&["gallery", "remove", folder]).expect(0);
    place.run(&["gallery", "import", &export]).expect(0);
    assert_eq!(place.names(), [typed]);
    for name in ["Jos\u{200b}\u{e9}", "Jos\u{e9}\u{202e}", "\u{feff}Jos\u{e9}", "A\u{200d}da"] {
        let run = place.enrol(name, PORTRAIT, &[]).expect(2);
        assert!(run.err.contains("cannot be seen") || run.err.contains("control"), "{run:?}");
        place.run(&["gallery", "rename", typed, name]).expect(2);
    }
}

#[test]
fn keys_that_others_can_read_and_other_keys_are_refused() {
    let place = Place::new();
    place.enrol("Eileen Collins", PORTRAIT, &[]).expect(0);
    fs::set_permissions(&place.key, fs::Permissions::from_mode(0o644)).expect("own file");
    let run = place.run(&["gallery", "list"]).expect(1);
    assert!(run.err.contains("chmod 0400"), "{run:?}");
    fs::set_permissions(&place.key, fs::Permissions::from_mode(0o400)).expect("own file");

    let other = place.folder.file("other");
    faceptor(&["gallery", "make-key", &other]).expect(0);
    faceptor(&["gallery", "make-key", &other]).expect(1);
    let with = |key: &str, verb: &[&str]| faceptor(&[verb, &["--gallery", &place.gallery, "--key", key]].concat());
    assert!(with(&other, &["gallery", "verify"]).expect(1).err.contains("wrong key"));
    place.run(&["gallery", "rotate-key", "--new-key", &other]).expect(0);
    assert!(place.run(&["gallery", "verify"]).expect(1).err.contains("wrong key"));
    with(&other, &["gallery", "verify"]).expect(0);

    // A service finds its key among its credentials; without any key the ways to one are named.
    let credentials = Folder::new();
    fs::copy(&other, credentials.path().join("faceptor.key")).expect("copied");
    let mut service = command(&["gallery", "verify", "--gallery", &place.gallery]);
    service.env("CREDENTIALS_DIRECTORY", credentials.path());
    finish(service).expect(0);
    let mut keyless = command(&["gallery", "verify", "--gallery", &place.gallery]);
    keyless.env_remove("CREDENTIALS_DIRECTORY").env_remove("FACEPTOR_PASSPHRASE");
    let run = finish(keyless).expect(2);
    assert!(
        ["--key", "--passphrase", "FACEPTOR_PASSPHRASE", "systemd"].iter().all(|way| run.err.contains(way)),
        "{run:?}"
    );
    for content in ["", "short", "text of no key"] {
        let path = place.folder.write("bad", content.as_bytes());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("own file");
        assert!(with(&path, &["gallery", "verify"]).expect(1).err.contains("make-key"));
    }
}

#[test]
fn a_passphrase_opens_the_gallery_that_it_made() {
    let folder = Folder::new();
    let gallery = folder.file("people.gallery");
    let with = |passphrase: &str, arguments: &[&str]| {
        let mut command = command(&[arguments, &["--gallery", &gallery, "--threshold", "0.6"]].concat());
        command.env("FACEPTOR_PASSPHRASE", passphrase).env_remove("CREDENTIALS_DIRECTORY");
        finish(command)
    };
    with("correct horse", &["enroll", "Eileen Collins", PORTRAIT]).expect(0);
    let run = with("correct horse", &["identify", PORTRAIT]).expect(0);
    assert!(run.out.contains("Eileen Collins"), "{run:?}");
    assert!(with("wrong horse", &["identify", PORTRAIT]).expect(1).err.contains("wrong key or passphrase"));
    assert!(with("short", &["identify", PORTRAIT]).expect(1).err.contains("at least 8 characters"));
}

#[test]
fn what_is_held_on_a_person_is_exported_and_imported() {
    let place = Place::new();
    place.enrol("Eileen Collins", PORTRAIT, &["--purpose", "a test"]).expect(0);
    let export: Value = place.run(&["gallery", "export", "Eileen Collins"]).expect(0).json().remove(0);
    assert_eq!((&export["name"], &export["purpose"]), (&"Eileen Collins".into(), &"a test".into()));
    assert_eq!(export["templates"][0]["numbers"].as_array().map(Vec::len), Some(128));
    let file = place.folder.file("export.json");
    place.run(&["gallery", "export", "Eileen Collins", "--out", &file]).expect(0);
    assert_eq!(fs::metadata(&file).expect("written").permissions().mode() & 0o777, 0o600);
    place.run(&["gallery", "export", "Eileen Collins", "--out", &file]).expect(1);
    let none = place.folder.file("none.json");
    place.run(&["gallery", "export", "Absent", "--out", &none]).expect(1);
    assert!(!fs::exists(&none).expect("readable"));
    place.run(&["gallery", "import", &file]).expect(1);
    place.run(&["gallery", "remove", "Eileen Collins"]).expect(0);
    place.run(&["gallery", "import", &file]).expect(0);
    let run = place.run(&["identify", PORTRAIT, "--threshold", "0.6"]).expect(0);
    assert!(run.out.contains("Eileen Collins"), "{run:?}");
    // Another network's, damaged and foreign files.
    let other = export.to_string().replace(export["recognition"].as_str().expect("a hash"), &"0".repeat(64));
    for (text, reason) in [
        (other.as_str(), "another network"),
        ("{}", "not an export"),
        ("", "not an export"),
        ("\u{7f}ELF", "not an export"),
    ] {
        let path = place.folder.write("bad.json", text.as_bytes());
        assert!(place.run(&["gallery", "import", &path]).expect(1).err.contains(reason), "{text}");
    }
}

#[test]
fn a_gallery_of_another_network_is_refused() {
    let place = Place::new();
    place.enrol("Eileen Collins", PORTRAIT, &[]).expect(0);
    // Another name or another table is the same network, another normalization of the face is not.
    let bundle = embedded_bundle().expect("a network is embedded");
    let mut manifest = bundle.manifest().clone();
    manifest.name = "renamed".into();
    let write = |name: &str, manifest: &faceptor_nn::manifest::Manifest| {
        let text = toml::to_string(manifest).expect("a manifest is TOML");
        place.folder.write(name, &bundle.with_manifest(&text).expect("it fits its parts"))
    };
    let renamed = write("renamed.bundle", &manifest);
    place.run(&["identify", PORTRAIT, "--threshold", "0.6", "--model", &renamed]).expect(0);
    manifest.input.as_mut().expect("one input").mean[0] += 1.0;
    let other = write("other.bundle", &manifest);
    let identity = |path: &str| {
        let bundle = Bundle::open(path.as_ref()).expect("a bundle");
        bundle.task_identity(bundle.manifest().task("recognition").expect("a task"))
    };
    assert_ne!(identity(&renamed), identity(&other));
    for verb in [&["identify", PORTRAIT][..], &["enroll", "Ada", PORTRAIT]] {
        let run = place.run(&[verb, &["--threshold", "0.6", "--model", &other]].concat()).expect(1);
        assert!(run.err.contains("belongs to another network"), "{run:?}");
    }
}

#[test]
fn paths_that_lead_to_no_gallery_and_full_disks_are_reported() {
    let place = Place::new();
    let photo = place.folder.write("photo.jpg", b"\xff\xd8\xff\xe0");
    let folder = place.folder.file("");
    let pipe = place.folder.file("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("it starts").success());
    let [nowhere, below] = ["none/gallery", "photo.jpg/gallery"].map(|path| place.folder.file(path));
    let nowhere_link = place.folder.file("link");
    std::os::unix::fs::symlink("none", &nowhere_link).expect("a link");
    for (path, reason) in [
        (pipe.as_str(), "pipe"),
        (&nowhere, "check the path"),
        (&below, "is no folder"),
        (&nowhere_link, "check the path"),
        (folder.as_str(), "folder"),
        ("/dev/null", "device"),
        ("/dev/zero", "device"),
        (&photo, "not a Faceptor gallery"),
    ] {
        for verb in [&["gallery", "list"][..], &["identify", PORTRAIT], &["enroll", "Ada", PORTRAIT]] {
            let run = faceptor(&[verb, &["--gallery", path, "--key", &place.key]].concat()).expect(1);
            assert!(run.err.contains(reason) && run.err.contains(path), "{run:?}");
        }
    }
    place.run(&["gallery", "list"]).expect(1);
    faceptor(&["gallery", "list", "--key", &place.key]).expect(2);
    place.enrol("Eileen Collins", PORTRAIT, &[]).expect(0);
    let before = fs::read(&place.gallery).expect("readable");
    // A limit of one or two blocks of 1024 bytes fails as a full disk does: within the new records.
    for blocks in ["0", "1", "2"] {
        let mut limited = std::process::Command::new("bash");
        let script = format!("ulimit -f {blocks}; exec \"$@\" 2>&1 | cat; exit ${{PIPESTATUS[0]}}");
        limited.args(["-c", &script, "bash", env!("CARGO_BIN_EXE_faceptor"), "enroll", "Ada", PORTRAIT, "--force"]);
        limited.args(["--threshold", "0.6", "--gallery", &place.gallery, "--key", &place.key]);
        let run = finish(limited).expect(1);
        assert!(run.out.contains("cannot write the gallery"), "{blocks}: {run:?}");
        assert!(run.out.contains(&place.gallery) && run.out.contains("make room"), "{blocks}: {run:?}");
        assert!(!run.out.contains(": enrolled"), "{blocks}: {run:?}");
        let run = place.run(&["gallery", "verify", "--json"]);
        assert_eq!(run.json()[0]["people"], 1, "{blocks}: {run:?}");
    }
    assert_eq!(
        fs::read(&place.gallery).expect("readable"),
        before,
        "what was written of a failed change is taken back"
    );
    place.enrol("Ada", PORTRAIT, &["--force"]).expect(0);
    place.run(&["gallery", "verify"]).expect(0);
}

#[test]
fn an_older_gallery_that_is_put_back_is_refused() {
    let place = Place::new();
    let counter = place.folder.file("counter");
    place.enrol("Eileen Collins", PORTRAIT, &["--counter", &counter]).expect(0);
    let older = fs::read(&place.gallery).expect("readable");
    place.run(&["gallery", "remove", "Eileen Collins", "--counter", &counter]).expect(0);
    fs::write(&place.gallery, older).expect("written");
    let run = place.run(&["identify", PORTRAIT, "--threshold", "0.6", "--counter", &counter]).expect(1);
    assert!(run.err.contains("an older file was put in its place"), "{run:?}");
    place.run(&["identify", PORTRAIT, "--threshold", "0.6"]).expect(0);
}

#[test]
fn no_log_line_holds_a_name_or_an_embedding() {
    let place = Place::new();
    let name = "Zebulon Quixote";
    let runs = [
        place.enrol(name, PORTRAIT, &["--verbose"]),
        place.enrol("Other Person", PORTRAIT, &["--verbose"]),
        place.run(&["identify", PORTRAIT, "--threshold", "0.6", "--verbose"]),
        place.run(&["gallery", "remove", "No Such Person Zebulon", "--verbose"]),
        place.run(&["gallery", "rename", name, name, "--verbose"]),
        place.run(&["gallery", "export", name, "--verbose"]),
    ];
    let export = &runs[5].json()[0];
    let numbers: Vec<String> =
        export["templates"][0]["numbers"].as_array().expect("numbers").iter().map(Value::to_string).collect();
    let sequence = numbers[..4].join(",");
    for run in &runs {
        assert!(
            !run.err.contains("Zebulon") && !run.err.contains("Quixote") && !run.err.contains(&sequence),
            "{run:?}"
        );
    }
    // Nor does the file, without its key.
    let file = fs::read(&place.gallery).expect("readable");
    assert!(!file.windows(7).any(|window| window == b"Zebulon"));
}
