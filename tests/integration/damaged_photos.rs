//! Photos that break decoders, lack a part or are huge: one line each, and the others are answered.

use std::fs;

use crate::pictures::portrait;
use crate::program::{Folder, PORTRAIT, command, faceptor, finish};

fn fixture(name: &str) -> String {
    let path = faceptor_test_support::fixture("jpeg").join(format!("{name}.jpg"));
    path.to_str().expect("test paths are UTF-8").to_owned()
}

/// Returns the start of the portrait's file, ended as if it were whole.
fn ended_after(length: usize) -> Vec<u8> {
    let file = fs::read(PORTRAIT).expect("the portrait is there");
    [&file[..length.min(file.len())], &[0xff, 0xd9]].concat()
}

#[test]
fn unusual_layouts_are_read_in_a_batch_and_as_a_source() {
    // A decoder panicked on the first of these, and gave stripes for the others.
    let names = ["planes_fine_chroma", "planes_420", "planes_440", "planes_410", "luma_chroma_422", "fine_chroma"];
    let files: Vec<String> = names.iter().map(|name| fixture(name)).collect();
    let mut arguments = vec!["image", "--json", "--tasks", "none", PORTRAIT];
    arguments.extend(files.iter().map(String::as_str));
    arguments.push(PORTRAIT);
    let run = faceptor(&arguments).expect(0);
    assert_eq!((run.err.as_str(), run.json().len()), ("", names.len() + 2));
    let folder = Folder::new();
    for (name, file) in names.iter().zip(&files) {
        folder.write(&format!("{name}.jpg"), &fs::read(file).expect("the fixture is there"));
    }
    let source = folder.file("");
    let run = faceptor(&["run", "--source", &source, "--frames", "6", "--json", "--tasks", "none"]).expect(0);
    assert_eq!(run.json().len(), names.len(), "{}", run.err);
}

#[test]
fn photos_that_lack_a_part_are_refused_or_answered_with_a_warning() {
    let folder = Folder::new();
    let whole = fs::read(PORTRAIT).expect("the portrait is there");
    let most = folder.write("most.jpg", &ended_after(whole.len() - 800));
    let part = folder.write("part.jpg", &ended_after(16_000));
    let zeros = [&whole[..16_000], &vec![0; whole.len() - 16_002], &[0xff, 0xd9]].concat();
    let zeros = folder.write("zeros.jpg", &zeros);
    let behind = folder.write("behind.jpg", &[&whole[..16_000], whole.as_slice()].concat());
    let run = faceptor(&["image", "--json", "--tasks", "none", &most, &part, &zeros, &behind, PORTRAIT]).expect(1);
    // Zeros are the code of a few more blocks.
    for (name, percent) in [("part.jpg", 22), ("zeros.jpg", 23), ("behind.jpg", 22)] {
        let (line, end) = (run.line_about(name), format!(", {percent} % of the picture is there"));
        assert!(line.contains(": truncated JPEG: its ") && line.ends_with(&end), "{line}");
    }
    let lines = run.json();
    assert_eq!(lines.len(), 2, "{}", run.out);
    let warning = lines[0]["warnings"][0].as_str().expect("a text");
    assert!(warning.contains("ends early, 9") && run.line_about("most.jpg").ends_with(warning), "{warning}");
    assert!(lines[1].get("warnings").is_none(), "a sound photo has none");
}

#[test]
fn frames_that_lack_a_part_are_not_shown() {
    let folder = Folder::new();
    let whole = fs::read(PORTRAIT).expect("the portrait is there");
    let stream = [whole.as_slice(), &ended_after(16_000), &whole, &ended_after(30_000), &whole].concat();
    let film = folder.write("film.mjpg", &stream);
    let run = faceptor(&["run", "--source", &film, "--frames", "3", "--json", "--tasks", "none"]).expect(0);
    let frames = run.json();
    assert_eq!(frames.len(), 3, "{}", run.out);
    assert!(frames.iter().all(|frame| frame["faces"].as_array().is_some_and(|faces| faces.len() == 1)), "{}", run.out);
    assert!(run.err.contains("the frame is cut off: 2") && run.err.contains(" % of it is there"), "{}", run.err);
}

#[test]
fn photos_beyond_the_limit_of_pixels_are_refused_by_their_header() {
    let run = faceptor(&["image", "--tasks", "none", "--max-pixels", "262143", PORTRAIT]).expect(1);
    let line = run.line_about("astronaut.jpg");
    assert!(line.contains("512 x 512 pixels are more than the 262143 that are read"), "{line}");
    faceptor(&["image", "--tasks", "none", "--max-pixels", "262144", PORTRAIT]).expect(0);
    faceptor(&["image", "--tasks", "none", "--max-pixels", "0", PORTRAIT]).expect(2);
}

#[test]
fn huge_pictures_do_not_end_a_batch_under_a_memory_limit() {
    let folder = Folder::new();
    let wide = image::GrayImage::from_pixel(7000, 7000, image::Luma([128]));
    let huge = folder.write("huge.png", &crate::pictures::png(wide));
    let small = folder.write("small.png", &crate::pictures::png(portrait()));
    // 49 million pixels are 140 MiB of RGB; with 120 MiB to spare they do not fit.
    let limited = |kib: u32, files: &str| {
        let script =
            format!("ulimit -v {kib} && exec {} image --json --tasks none {files}", env!("CARGO_BIN_EXE_faceptor"));
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &script]);
        finish(shell)
    };
    let alone = (1..40).map(|step| step * 25_000).find(|&kib| limited(kib, &small).status == Some(0));
    let enough = alone.expect("a photo of 512 x 512 pixels takes less than a gigabyte");
    let run = limited(enough + 120_000, &format!("{huge} {small}"));
    assert_eq!((run.status, run.json().len()), (Some(1), 1), "{run:#?}");
    assert!(run.line_about("huge.png").contains("fit into the memory that is left"), "{}", run.err);
    finish(command(&["image", "--tasks", "none", &huge])).expect(0);
}
