//! Names of photos and of their results: every extension, every byte, standard input.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

use serde_json::Value;

use crate::pictures::{contact_sheet, gradient, jpeg, png, portrait};
use crate::program::{Folder, Output, PORTRAIT, command, faceptor, finish};

fn plain() -> Vec<u8> {
    jpeg(&gradient(64, 48))
}

fn with_input(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = command(arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    // A program that does not read its input is seen by what it says.
    let _ = child.stdin.take().expect("piped").write_all(input);
    let ended = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Output { status: ended.status.code(), out: text(ended.stdout), err: text(ended.stderr) }
}

#[test]
fn photos_of_every_extension_are_found_in_folders() {
    let folder = Folder::new();
    let extensions =
        ["BMP", "JFIF", "JPG", "Mpo", "TIFF", "bmp", "gif", "jfif", "jpe", "jpeg", "jpg", "mpo", "png", "tif", "webp"];
    for extension in extensions {
        // The content decides.
        folder.write(&format!("d/{extension}.{extension}"), &plain());
    }
    for name in ["jpg", "a.jpg.txt", "a.jpgx", "a.mp4"] {
        folder.write(&format!("d/{name}"), &plain());
    }
    let here = folder.file("d");
    for run in [
        faceptor(&["image", "--json", "--tasks", "none", &here]).expect(0),
        faceptor(&["run", "--json", "--tasks", "none", "--source", &here]).expect(0),
    ] {
        let found: Vec<Value> = run.json().iter().map(|line| line["path"].clone()).collect();
        let expected = extensions.map(|extension| Value::from(folder.file(&format!("d/{extension}.{extension}"))));
        assert_eq!(found, expected);
    }
}

#[test]
fn a_photo_comes_on_standard_input() {
    let folder = Folder::new();
    let out = folder.file("out");
    let arguments = ["image", "--json", "--tasks", "parsing", "--out", &out, "--masks", &out, "-"];
    let portrait = fs::read(PORTRAIT).expect("the portrait");
    for _ in 0..2 {
        let run = with_input(&arguments, &portrait).expect(0);
        let line = &run.json()[0];
        assert_eq!(
            (&line["path"], &line["width"], line["faces"].as_array().map(Vec::len)),
            (&"-".into(), &512.into(), Some(1))
        );
        assert_eq!(line["annotated"], folder.file("out/stdin.png"));
        assert_eq!(line["faces"][0]["parsing"]["mask"], folder.file("out/stdin.face1.parsing.png"));
    }
    // Another photo is another result.
    let run = with_input(&["image", "--json", "--tasks", "none", "--out", &out, "-"], &plain()).expect(0);
    assert_eq!(run.json()[0]["annotated"], folder.file("out/stdin-2.png"));
    assert!(with_input(&["image", "-"], &png(portrait_crop())).expect(0).out.starts_with("-: 40 x 30"));
    let both = with_input(&["image", "--json", "--tasks", "none", PORTRAIT, "-"], b"no photo").expect(1);
    assert_eq!(both.json().len(), 1);
    assert!(both.err.starts_with("faceptor: -: "), "{}", both.err);
    // The second time it is empty.
    let twice = with_input(&["image", "--json", "--tasks", "none", "-", "-"], &plain()).expect(1);
    assert!(twice.json().len() == 1 && twice.err.contains("empty"), "{}", twice.err);
}

fn portrait_crop() -> image::RgbImage {
    image::imageops::crop_imm(&portrait(), 0, 0, 40, 30).to_image()
}

#[test]
fn control_characters_in_names_do_not_reach_the_terminal() {
    let folder = Folder::new();
    let hostile = "a\u{1b}]0;owned\u{7}\u{1b}[2J\r\nfaceptor: b\u{9b}31m\u{7f}\u{202e}gpj";
    let good = folder.write(&format!("{hostile}.jpg"), &plain());
    let bad = folder.write(&format!("{hostile}.png"), b"no picture");
    let out = folder.file(&format!("out{hostile}"));
    let is_clean = |run: &Output| {
        let text = run.out.clone() + &run.err;
        let mut obeyed =
            text.chars().filter(|c| (c.is_control() && *c != '\n') || ('\u{202a}'..='\u{202e}').contains(c));
        assert_eq!(obeyed.next(), None, "{run:?}");
    };
    let run = faceptor(&["image", "--tasks", "none", "--out", &out, &good, &bad]).expect(1);
    is_clean(&run);
    // One line a message and a photo: no name forges one.
    assert_eq!((run.out.lines().count(), run.err.lines().count()), (2, 1), "{run:?}");
    assert!(run.out.contains("\\u{1b}]0;owned\\u{7}") && run.out.contains("annotated: "), "{}", run.out);
    let run = faceptor(&["image", "--json", "--tasks", "none", "--out", &out, &good]).expect(0);
    is_clean(&run);
    let line = &run.json()[0];
    assert_eq!(line["path"], good.as_str());
    assert!(fs::exists(line["annotated"].as_str().expect("a path")).expect("readable"));
    for json in [&["--json"][..], &[]] {
        is_clean(&faceptor(
            &[&["run", "--tasks", "none", "--source", folder.path().to_str().expect("UTF-8")], json].concat(),
        ));
    }
    for arguments in [
        ["run", "--source", hostile],
        ["run", "--out", &format!("/nonexistent/{hostile}")],
        ["image", "--jsn", hostile],
        ["image", "--tasks", hostile],
        ["compile", "--info", hostile],
        ["ctl", "--control", &format!("{hostile}/s")],
        ["bench", "--reference", hostile],
    ] {
        let run = faceptor(&[&arguments[..], if arguments[0] == "ctl" { &["tasks"] } else { &[] }].concat());
        assert_ne!(run.status, Some(0));
        is_clean(&run);
    }
}

#[test]
fn results_of_names_that_are_not_text_exist_under_the_path_in_the_json() {
    let folder = Folder::new();
    let masks = folder.file("masks");
    for name in [b"caf\xe9.jpg".as_slice(), b"\xff\xfe.jpg", &[&[0xc3; 251][..], b".jpg"].concat()] {
        let photo = folder.path().join(OsStr::from_bytes(name));
        fs::copy(PORTRAIT, &photo).expect("a copy");
        let mut run = command(&["image", "--json", "--tasks", "parsing", "--masks", &masks, "--out", &masks]);
        run.arg(&photo);
        let line = finish(run).expect(0).json().remove(0);
        for path in [&line["annotated"], &line["faces"][0]["parsing"]["mask"]] {
            assert!(fs::read(path.as_str().expect("a path")).is_ok(), "{path}");
        }
    }
    assert!(folder.names("masks").contains(&"caf%E9.png".to_owned()), "{:?}", folder.names("masks"));
    let mut run = command(&["image", "--json", PORTRAIT, "--masks"]);
    run.arg(folder.path().join(OsStr::from_bytes(b"d\xff")));
    let refused = finish(run).expect(2);
    assert!(refused.err.contains("is not UTF-8"), "{}", refused.err);
}

#[test]
fn masks_without_a_task_that_makes_them_are_warned_of() {
    let folder = Folder::new();
    let masks = folder.file("masks");
    for tasks in ["age", "none", "age,expression"] {
        let run = faceptor(&["image", "--tasks", tasks, "--masks", &masks, PORTRAIT]).expect(0);
        assert!(run.line_about("--masks").contains("warning: --masks: no mask is written"), "{}", run.err);
    }
    assert_eq!(folder.names("masks"), [""; 0]);
    let run = faceptor(&["image", "--tasks", "age,parsing", "--masks", &masks, PORTRAIT]).expect(0);
    assert_eq!((run.err.as_str(), folder.names("masks").len()), ("", 1));
}

#[test]
fn text_and_json_say_which_file_belongs_to_which_photo() {
    let folder = Folder::new();
    let out = folder.file("out");
    let run = faceptor(&["image", "--tasks", "parsing", "--out", &out, "--masks", &out, PORTRAIT]).expect(0);
    assert!(run.out.contains(&format!("    mask: {out}/astronaut.face1.parsing.png\n")), "{}", run.out);
    assert!(run.out.ends_with(&format!("  annotated: {out}/astronaut.png\n")), "{}", run.out);
    let line = faceptor(&["image", "--json", "--tasks", "none", PORTRAIT]).expect(0).json().remove(0);
    assert!(line.get("annotated").is_none() && line.get("faces_left_out").is_none(), "{line}");
}

#[test]
fn annotated_pictures_have_the_size_of_their_photo() {
    let folder = Folder::new();
    let whole = portrait();
    for side in [32, 96, 200, 320] {
        let small = image::imageops::resize(&whole, side, side, image::imageops::FilterType::Triangle);
        let photo = folder.write(&format!("{side}.png"), &png(small));
        let line = faceptor(&["image", "--json", "--out", &folder.file("out"), &photo]).expect(0).json().remove(0);
        let drawn = image::open(line["annotated"].as_str().expect("a path")).expect("a PNG");
        assert_eq!((drawn.width(), drawn.height()), (side, side));
        let last = folder.file("last.png");
        faceptor(&["run", "--source", &photo, "--tasks", "none", "--out", &last]).expect(0);
        assert_eq!(image::image_dimensions(last).expect("a PNG"), (side, side));
    }
}

#[test]
fn faces_beyond_the_limit_are_counted() {
    let folder = Folder::new();
    let crowd = folder.write("crowd.jpg", &jpeg(&contact_sheet(12, 8)));
    let run = faceptor(&["image", "--json", "--tasks", "none", &crowd]).expect(0);
    let line = &run.json()[0];
    assert_eq!(line["faces"].as_array().map(Vec::len), Some(64));
    let left_out = line["faces_left_out"].as_u64().expect("a number");
    assert!((16..=40).contains(&left_out), "{left_out}");
    assert!(
        run.line_about("crowd.jpg").contains(&format!("warning: {}: at least {left_out} more faces", crowd)),
        "{}",
        run.err
    );
    // A limit that was asked for needs no warning.
    let run = faceptor(&["image", "--json", "--tasks", "none", "--max-faces", "3", PORTRAIT, &crowd]).expect(0);
    let lines = run.json();
    assert_eq!((lines[0].get("faces_left_out"), run.err.as_str()), (None, ""));
    assert!(lines[1]["faces_left_out"].as_u64() >= Some(61), "{}", lines[1]["faces_left_out"]);
    let text = faceptor(&["image", "--tasks", "none", "--max-faces", "3", &crowd]).expect(0).out;
    assert!(
        text.lines().next().is_some_and(|line| line.contains("3 faces, at least ") && line.ends_with(" more left out")),
        "{text}"
    );
}
