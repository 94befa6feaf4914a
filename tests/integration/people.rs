//! `faceptor enroll --people`: a folder a person, many at once.

use std::fs;
use std::io::Read;
use std::process::Stdio;

use image::imageops;

use crate::enrolment::terminal;
use crate::gallery_place::Place;
use crate::pictures::{png, portrait};
use crate::program::{PORTRAIT, command, faceptor, wait_until};

/// Writes folders of people with photos of different sizes: one photo is broken, one is there twice.
fn write_people(place: &Place) -> String {
    let crop = imageops::crop_imm(&portrait(), 100, 20, 250, 250).to_image();
    for number in 0..20u32 {
        let mut picture = imageops::resize(&crop, 250 + number, 250 + number, imageops::FilterType::Triangle);
        picture.pixels_mut().for_each(|pixel| pixel.0[0] = pixel.0[0].saturating_add(5 * number as u8));
        let bytes = if number == 13 { b"no photo".to_vec() } else { png(picture) };
        for copy in 0..if number == 4 { 2 } else { 1 } {
            place.folder.write(&format!("people/Person {}/{number:02}-{copy}.png", number / 4), &bytes);
        }
    }
    place.folder.file("people")
}

#[test]
fn people_are_enrolled_from_a_folder_each_and_what_fails_is_counted_and_named() {
    let place = Place::new();
    let people = write_people(&place);
    place.folder.write("people/empty/notes.txt", b"none");
    place.folder.write("people/loose.png", b"lies in no folder");
    let enrol = ["enroll", "--people", &people, "--threshold", "0.6", "--force"];
    let run = place.run(&[&enrol[..], &["--json"]].concat()).expect(1);
    let lines = run.json();
    let total = lines.last().expect("a report");
    assert_eq!((&total["people"], &total["new"], &total["in_gallery"]), (&5.into(), &5.into(), &5.into()), "{total}");
    assert_eq!((&total["refused"], &total["failed"], &total["without_photo"]), (&1.into(), &2.into(), &0.into()));
    let [added, known] = ["added", "known"].map(|key| total[key].as_u64().expect("a number"));
    assert!(added + known == 20 && known >= 1, "{total}");
    assert_eq!(lines.iter().filter(|line| line["path"].is_string()).count(), 21, "a line a photo");
    assert_eq!(lines.iter().filter(|line| line["name"].is_string()).count(), 5, "a line a person");
    for named in ["13-0.png", "empty", "loose.png"] {
        assert!(run.err.contains(named), "{named}: {run:?}");
    }
    let list = place.run(&["gallery", "list", "--json"]).expect(0).json().remove(0);
    let templates: u64 =
        list["people"].as_array().expect("people").iter().filter_map(|one| one["templates"].as_u64()).sum();
    assert_eq!(templates, added, "{list}");

    // Again: nothing is added, a bar shows the progress on a terminal, and the text names what was refused.
    let (mut own, other) = terminal();
    let mut again = command(&[&enrol[..], &["--gallery", &place.gallery, "--key", &place.key]].concat());
    let out = place.folder.file("out");
    again.stdin(Stdio::null()).stdout(fs::File::create(&out).expect("a file")).stderr(Stdio::from(other));
    let mut child = again.spawn().expect("the binary can be started");
    // The descriptor of this process would keep the terminal open.
    drop(again);
    let (mut shown, mut part) = (Vec::new(), [0; 4096]);
    // The end of a terminal that no process has open is an error.
    while let Ok(length @ 1..) = own.read(&mut part) {
        shown.extend_from_slice(&part[..length]);
    }
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("=] 21 of 21 photos"), "{shown}");
    let text = fs::read_to_string(&out).expect("readable");
    assert!(text.contains("13-0.png: refused: unreadable"), "{text}");
    assert!(text.contains("0 photos added, 20 enrolled before, 1 refused"), "{text}");
    place.run(&["gallery", "verify"]).expect(0);
}

#[test]
fn interrupted_the_gallery_has_whole_people_and_the_same_command_goes_on() {
    let place = Place::new();
    let crop = imageops::crop_imm(&portrait(), 100, 20, 250, 250).to_image();
    let names = ["1 Ольга", "2 李小龍", "3 عائشة", "4 O'Brien \u{1f600}", "5 Zoë", "6 ไพลิน", "7 ", "8 %41"];
    for (number, name) in (0..).zip(names) {
        let picture = imageops::resize(&crop, 250 + 9 * number, 250 + 9 * number, imageops::FilterType::Triangle);
        place.folder.write(&format!("people/{name}/1.png"), &png(picture));
    }
    let people = place.folder.file("people");
    let enrol = ["enroll", "--people", &people, "--threshold", "0.6", "--force"];
    let enrolled = || {
        let report = place.run(&["gallery", "verify", "--json"]).expect(0).json().remove(0);
        report["people"].as_u64().expect("a number") as usize
    };
    let mut known = 0;
    for signal in [libc::SIGINT, libc::SIGKILL] {
        let length = || fs::metadata(&place.gallery).map_or(0, |data| data.len());
        let before = length();
        let mut run = command(&[&enrol[..], &["--gallery", &place.gallery, "--key", &place.key]].concat());
        let mut child = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary can be started");
        wait_until("a person is written", || length() > before);
        // SAFETY: no pointers; the child has not been waited for, so the number is still its own.
        assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, signal) }, 0);
        child.wait().expect("it ends");
        let now = enrolled();
        assert!(now >= known, "{now} people after {known}");
        known = now;
        if known == names.len() {
            break;
        }
    }
    place.run(&enrol).expect(0);
    assert_eq!(enrolled(), names.len());
    let list = place.run(&["gallery", "list", "--json"]).expect(0).json().remove(0);
    let found: Vec<&str> =
        list["people"].as_array().expect("people").iter().filter_map(|one| one["name"].as_str()).collect();
    assert!(names.iter().all(|name| found.contains(&name.trim())), "{found:?}");
}

#[test]
fn options_that_do_not_fit_and_folders_without_people_are_refused() {
    let place = Place::new();
    let empty = place.folder.file("empty");
    fs::create_dir(&empty).expect("a folder");
    let run = place.run(&["enroll", "--people", &empty]).expect(1);
    assert!(run.err.contains("one folder a person"), "{run:?}");
    for more in [&["Ada"][..], &["Ada", PORTRAIT], &["--source", "demo"]] {
        place.run(&[&["enroll", "--people", empty.as_str()], more].concat()).expect(2);
    }
    faceptor(&["enroll"]).expect(2);
    assert!(!fs::exists(&place.gallery).expect("known"));
}
