//! Films through the real program: they start over, change their size, cut from one scene to another, and come as
//! multipart streams.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::thread;

use anyhow::Result;
use image::{RgbImage, imageops};
use serde_json::Value;

use crate::pictures::{jpeg, portrait};
use crate::program::{Folder, Output, PATIENCE, PORTRAIT, command, faceptor, wait_until};

/// Pictures as YUV4MPEG2 in grey.
pub(crate) fn y4m(pictures: &[RgbImage]) -> Vec<u8> {
    let mut bytes = match pictures.first() {
        Some(first) => format!("YUV4MPEG2 W{} H{} F30:1 Cmono\n", first.width(), first.height()).into_bytes(),
        None => b"YUV4MPEG2 W64 H64 F30:1 Cmono\n".to_vec(),
    };
    for picture in pictures {
        bytes.extend_from_slice(b"FRAME\n");
        bytes.extend(imageops::grayscale(picture).into_raw());
    }
    bytes
}

fn mjpeg(pictures: &[RgbImage]) -> Vec<u8> {
    pictures.iter().flat_map(jpeg).collect()
}

/// Returns the portrait's upper half, with the face at about (225, 112).
fn head() -> RgbImage {
    imageops::crop_imm(&portrait(), 60, 0, 320, 256).to_image()
}

/// Runs a source with a number of frames.
fn run(source: &str, frames: u32) -> Output {
    faceptor(&["run", "--json", "--tasks", "none", "--source", source, "--frames", &frames.to_string()])
}

/// Sends bytes to the program's standard input.
fn fed(arguments: &[&str], bytes: Vec<u8>) -> Result<Output> {
    let mut command = command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut input = child.stdin.take().expect("a pipe");
    let writer = thread::spawn(move || input.write_all(&bytes));
    let output = child.wait_with_output()?;
    // The program may end before it has read everything.
    drop(writer.join().expect("the writer ends"));
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    Ok(Output { status: output.status.code(), out: text(output.stdout), err: text(output.stderr) })
}

/// Returns the ids in each frame.
fn ids(lines: &[Value]) -> Vec<Vec<u64>> {
    let ids = |line: &Value| {
        let faces = line["faces"].as_array().expect("a list");
        faces.iter().filter_map(|face| face["id"].as_u64()).collect()
    };
    lines.iter().map(ids).collect()
}

#[test]
fn films_start_over_with_new_ids() {
    let folder = Folder::new();
    for (name, bytes) in [("film.y4m", y4m(&vec![head(); 5])), ("film.mjpg", mjpeg(&vec![head(); 5]))] {
        let lines = run(&folder.write(name, &bytes), 12).expect(0).json();
        let numbers = lines.iter().map(|line| (line["frame"].as_u64(), line["sequence"].as_u64()));
        assert!(numbers.eq((0..12).map(|number| (Some(number), Some(number)))), "{name}");
        let expected: Vec<Vec<u64>> = (0..12).map(|number| vec![number / 5 + 1]).collect();
        assert_eq!(ids(&lines), expected, "{name}");
        // Without a number it is played once.
        let whole = faceptor(&["run", "--json", "--tasks", "none", "--source", &folder.file(name)]).expect(0);
        assert_eq!(whole.json().len(), 5, "{name}");
    }
    let one = folder.write("one.y4m", &y4m(&[head()]));
    assert_eq!(ids(&run(&one, 3).expect(0).json()), [[1], [2], [3]]);
    // A photo that is shown again is no other scene.
    assert_eq!(ids(&run(PORTRAIT, 3).expect(0).json()), [[1], [1], [1]]);
}

#[test]
fn films_with_a_broken_frame_start_over_too() {
    let folder = Folder::new();
    let good = jpeg(&head());
    let path = folder.write("broken.mjpg", &[&good, &good[..good.len() / 2], &good].concat());
    let output = run(&path, 7).expect(0);
    assert_eq!(output.json().len(), 7);
    assert!(output.err.contains("broken.mjpg: damaged frame skipped"), "{}", output.err);
    let film = y4m(&vec![head(); 3]);
    let path = folder.write("cut.y4m", &film[..film.len() - 100]);
    let output = run(&path, 7).expect(0);
    assert_eq!(output.json().len(), 7);
    assert!(output.err.contains("cut.y4m: its last frame is cut off"), "{}", output.err);
    // One bad photo of a folder is counted in each round, and the run goes on.
    folder.write("photos/1.jpg", b"broken");
    folder.write("photos/2.jpg", &good);
    let output = run(&folder.file("photos"), 6).expect(1);
    let frames: Vec<_> = output.json().iter().filter_map(|line| line["frame"].as_u64()).collect();
    assert_eq!(frames, [1, 3, 5]);
    assert!(output.err.contains("1.jpg") && output.err.contains("3 unreadable"), "{}", output.err);
}

#[test]
fn films_without_a_frame_end_with_a_reason() {
    let folder = Folder::new();
    let good = jpeg(&head());
    for (name, bytes, expected) in [
        ("header.y4m", y4m(&[]), "gave no frame"),
        ("cut.y4m", y4m(&[head()])[..1000].to_vec(), "gave no frame"),
        ("cut.mjpg", good[..good.len() / 2].to_vec(), "gave no frame"),
        ("empty.y4m", Vec::new(), "it is empty"),
        ("empty.mjpg", Vec::new(), "it is empty"),
    ] {
        let path = folder.write(name, &bytes);
        for arguments in [["run", "--source", &path, "--frames", "9"], ["bench", "--source", &path, "--frames", "9"]] {
            let output = faceptor(&arguments).expect(1);
            let no_frame =
                if arguments[0] == "bench" { expected.replace("gave no", "no") } else { expected.to_owned() };
            let said = output.err.lines().last().is_some_and(|line| line.contains(name) && line.contains(&no_frame));
            assert!(said, "{arguments:?}: {}", output.err);
        }
    }
}

#[test]
fn pipes_cannot_start_over_and_say_so() -> Result<()> {
    let film = y4m(&vec![head(); 5]);
    let output = fed(&["run", "--json", "--tasks", "none", "--source", "-", "--frames", "12"], film.clone())?.expect(1);
    assert_eq!(output.json().len(), 5);
    assert!(output.err.contains("source - ended after 5 of 12 frames and cannot start over"), "{}", output.err);
    let output = fed(&["run", "--json", "--tasks", "none", "--source", "-", "--frames", "5"], film.clone())?.expect(0);
    assert_eq!(output.json().len(), 5);
    let output = fed(&["bench", "--tasks", "none", "--source", "-", "--frames", "12"], film.clone())?.expect(1);
    assert!(output.err.contains("ended after 5 frames and cannot start over"), "{}", output.err);
    // Standard input that is a file starts over.
    let folder = Folder::new();
    let path = folder.write("film.y4m", &film);
    let mut command = command(&["run", "--json", "--tasks", "none", "--source", "-", "--frames", "12"]);
    command.stdin(fs::File::open(path)?);
    assert_eq!(crate::program::finish(command).expect(0).json().len(), 12);
    Ok(())
}

#[test]
fn a_bench_repeats_a_short_film() {
    let folder = Folder::new();
    let path = folder.write("film.y4m", &y4m(&vec![head(); 5]));
    let arguments = ["bench", "--source", &path, "--frames", "20", "--warm-up", "7", "--tasks", "none", "--json", "-"];
    let report: Value = serde_json::from_str(&faceptor(&arguments).out).expect("a report");
    assert_eq!((&report["frames"], &report["frame"]["n"]), (&20.into(), &20.into()), "{report}");
}

#[test]
fn another_size_is_another_scene() {
    let folder = Folder::new();
    let small = imageops::resize(&head(), 240, 192, imageops::FilterType::Triangle);
    let both = |pictures: fn(&[RgbImage]) -> Vec<u8>| [pictures(&vec![head(); 3]), pictures(&vec![small.clone(); 3])];
    folder.write("photos/1.jpg", &jpeg(&head()));
    folder.write("photos/2.jpg", &jpeg(&small));
    for (path, expected) in [
        (folder.write("film.y4m", &both(y4m).concat()), [1, 1, 1, 2, 2, 2]),
        (folder.write("film.mjpg", &both(mjpeg).concat()), [1, 1, 1, 2, 2, 2]),
        (folder.file("photos"), [1, 2, 3, 4, 5, 6]),
    ] {
        let lines = run(&path, 6).expect(0).json();
        assert_eq!(ids(&lines).concat(), expected, "{path}");
    }
}

#[test]
fn boxes_lie_in_the_picture_while_a_face_slides_out() {
    let folder = Folder::new();
    // Twelve pixels a frame, upwards and to the left, until nothing of the face is left.
    for (across, down) in [(0, 12), (12, 0), (9, 9)] {
        let slid = |number: u32| {
            let mut picture = RgbImage::from_pixel(320, 256, image::Rgb([128, 134, 140]));
            let (x, y) = (i64::from(across * number), i64::from(down * number));
            imageops::replace(&mut picture, &head(), -x, -y);
            picture
        };
        let path = folder.write("film.mjpg", &mjpeg(&(0..30).map(slid).collect::<Vec<_>>()));
        let output = faceptor(&["run", "--json", "--tasks", "landmarks,age", "--source", &path]).expect(0);
        let lines = output.json();
        for (number, line) in lines.iter().enumerate() {
            for face in line["faces"].as_array().expect("a list") {
                let [x, y, width, height] = [0, 1, 2, 3].map(|index| face["box"][index].as_f64().expect("a number"));
                let inside = x >= 0.0 && y >= 0.0 && x + width <= 320.01 && y + height <= 256.01;
                assert!(inside && width > 0.0 && height > 0.0 && face["id"] == 1, "{number}: {face}");
            }
        }
        let seen = ids(&lines).iter().filter(|ids| !ids.is_empty()).count();
        assert!((6..20).contains(&seen), "{across}, {down}: seen in {seen} frames");
        assert!(ids(&lines)[seen..].iter().all(Vec::is_empty), "{across}, {down}: gone for good");
    }
    // A photo in which the face is cut off.
    let cut = imageops::crop_imm(&portrait(), 0, 90, 512, 400).to_image();
    let path = folder.write("cut.png", &crate::pictures::png(cut));
    for line in faceptor(&["image", "--json", "--tasks", "none", &path]).expect(0).json() {
        let edges = line["faces"][0]["box"].as_array().expect("a box").iter().filter_map(Value::as_f64);
        assert!(edges.clone().all(|edge| edge >= 0.0) && edges.count() == 4, "{line}");
    }
}

#[test]
fn the_programs_own_preview_is_a_source() -> Result<()> {
    let mut server = command(&["run", "--source", PORTRAIT, "--fps", "20", "--frames", "100000", "--tasks", "none"]);
    server.args(["--preview", "127.0.0.1:0"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut server = server.spawn()?;
    let mut log = server.stderr.take().expect("a pipe");
    let (mut text, mut piece) = (String::new(), [0; 256]);
    wait_until("the preview says where it is", || {
        let count = log.read(&mut piece).expect("readable");
        text += &String::from_utf8_lossy(&piece[..count]);
        text.split("127.0.0.1:").nth(1).is_some_and(|rest| rest.contains('\n'))
    });
    let address = text.split("127.0.0.1:").nth(1).expect("a port").split(|c: char| !c.is_ascii_digit()).next();
    let address = format!("127.0.0.1:{}", address.expect("a port"));
    let mut stream = TcpStream::connect(&address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /stream.mjpg HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
    let mut bytes = Vec::new();
    while bytes.windows(3).filter(|window| window == b"\xff\xd8\xff").count() < 4 {
        let mut piece = [0; 65_536];
        let count = stream.read(&mut piece)?;
        assert!(count > 0, "the stream ends");
        bytes.extend_from_slice(&piece[..count]);
    }
    server.kill()?;
    server.wait()?;
    // As `curl -i` and as `curl` give it: with the head of the response, and without.
    let body = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    for stream in [bytes.clone(), bytes[body..].to_vec()] {
        let output = fed(&["run", "--json", "--tasks", "none", "--source", "-"], stream)?.expect(0);
        assert!(output.json().len() >= 3, "{output:?}");
        assert!(output.json().iter().all(|line| line["faces"].as_array().map(Vec::len) == Some(1)), "{output:?}");
    }
    Ok(())
}
