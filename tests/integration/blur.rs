//! `--blur`: looks for the pixels of faces in every output that carries pixels.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use faceptor::stages::{Analysis, Picture, Pipeline, TaskList, TrackerOptions};
use faceptor_edge::capture::demo_clip::{DemoClip, HEIGHT, PERIOD, WIDTH};
use faceptor_edge::live::frame::{Allowance, Faces};
use faceptor_edge::live::shield::{Blur, Whom};
use faceptor_results::cover::{SOLID, Style};
use faceptor_test_support::skip;
use image::{DynamicImage, Rgb, RgbImage, imageops};

use crate::control::Run;
use crate::gallery_place::Place;
use crate::pictures::{jpeg, png, portrait};
use crate::program::{FACE, Folder, PATIENCE, PORTRAIT, command, faceptor, wait_until};
use crate::streams::{NO_FFMPEG, has_ffmpeg};

/// Left, top, right, bottom.
type Edges = [u32; 4];

/// The middle of the portrait's face.
const EYES_AND_MOUTH: Edges = [190, 80, 260, 170];
/// The whole head, with the hair.
const HEAD: Edges = [165, 25, 290, 190];

/// Returns the share of an area, without the lines and dots that are drawn last, whose pixels are those of the solid cover.
fn covered(picture: &RgbImage, [left, top, right, bottom]: Edges) -> f64 {
    let pixels = || (top..bottom).flat_map(|y| (left..right).map(move |x| picture.get_pixel(x, y)));
    let is_cover = |pixel: &&Rgb<u8>| pixel.0.iter().zip(SOLID).all(|(value, cover)| value.abs_diff(cover) <= 14);
    // The box and the points are green.
    let is_drawn = |pixel: &&Rgb<u8>| pixel.0[1] > 60 && pixel.0[1] > pixel.0[0].saturating_add(25);
    let all = pixels().filter(|pixel| !is_drawn(pixel)).count();
    assert!(2 * all > pixels().count(), "most of the area is not drawn over");
    pixels().filter(is_cover).count() as f64 / all as f64
}

/// Returns the share of neighbours in an area that are equal: nearly all within large blocks, few in a photo.
fn flatness(picture: &RgbImage, [left, top, right, bottom]: Edges) -> f64 {
    let pairs = || (top..bottom).flat_map(|y| (left..right - 1).map(move |x| (x, y)));
    let equal = pairs().filter(|&(x, y)| picture.get_pixel(x, y) == picture.get_pixel(x + 1, y)).count();
    equal as f64 / pairs().count() as f64
}

fn open(path: &str) -> RgbImage {
    image::open(path).expect("a picture").into_rgb8()
}

/// Runs `faceptor image` on a photo and returns the annotated copy.
fn annotated(folder: &Folder, photo: &str, more: &[&str]) -> RgbImage {
    let out = folder.file("out");
    let run = faceptor(&[&["image", photo, "--json", "--force", "--out", &out], more].concat()).expect(0);
    open(run.json()[0]["annotated"].as_str().expect("a path"))
}

#[test]
fn photos_show_no_face() {
    let folder = Folder::new();
    for tasks in ["none", "parsing,landmarks"] {
        let plain = annotated(&folder, PORTRAIT, &["--tasks", tasks]);
        assert!(covered(&plain, EYES_AND_MOUTH) < 0.2 && flatness(&plain, EYES_AND_MOUTH) < 0.4, "{tasks}");
    }
    let solid = annotated(&folder, PORTRAIT, &["--tasks", "none", "--blur", "all", "--blur-style", "solid"]);
    assert!(covered(&solid, HEAD) > 0.97, "{}", covered(&solid, HEAD));
    // The rest of the photo is as it was.
    let photo = portrait();
    assert_eq!(solid.get_pixel(450, 60), photo.get_pixel(450, 60));
    let blocks = annotated(&folder, PORTRAIT, &["--tasks", "none", "--blur", "all"]);
    assert!(flatness(&blocks, EYES_AND_MOUTH) > 0.8, "{}", flatness(&blocks, EYES_AND_MOUTH));
    // No face on it is recognised any more.
    let file = folder.write("blocks.png", &png(blocks));
    let found = faceptor(&["image", &file, "--json", "--tasks", "none"]).expect(0).json();
    assert_eq!(found[0]["faces"].as_array().map(Vec::len), Some(0), "{}", found[0]);
}

#[test]
fn faces_that_are_not_reported_or_lie_anyhow_are_covered() {
    let folder = Folder::new();
    let solid = |photo: RgbImage, more: &[&str]| {
        let file = folder.write("photo.png", &png(photo));
        annotated(&folder, &file, &[&["--tasks", "none", "--blur", "all", "--blur-style", "solid"], more].concat())
    };
    // Two people, of whom one is reported.
    let mut two = RgbImage::new(1024, 512);
    imageops::replace(&mut two, &portrait(), 0, 0);
    imageops::replace(&mut two, &imageops::brighten(&portrait(), 12), 512, 0);
    let shown = solid(two, &["--max-faces", "1"]);
    assert!(covered(&shown, HEAD) > 0.97 && covered(&shown, [165 + 512, 25, 290 + 512, 190]) > 0.97);
    // At every roll.
    let turned = solid(imageops::rotate90(&portrait()), &[]);
    // Words beside the face cover a little of it.
    assert!(covered(&turned, [512 - 190, 165, 512 - 25, 290]) > 0.9);
    let turned = solid(imageops::rotate180(&portrait()), &[]);
    assert!(covered(&turned, [512 - 290, 512 - 190, 512 - 165, 512 - 25]) > 0.9);
    // At the edge of the picture.
    let cut = imageops::crop_imm(&portrait(), 195, 0, 317, 512).to_image();
    assert!(covered(&solid(cut, &[]), [0, 40, 90, 180]) > 0.9);
    // An aligned crop is a face as a whole.
    let crop = imageops::crop_imm(&portrait(), 150, 40, 150, 150).to_image();
    assert!(covered(&solid(crop, &["--aligned"]), [20, 20, 130, 130]) > 0.97);
}

/// Returns a film in which nothing moves, and the face of it.
fn film(folder: &Folder) -> (String, Edges) {
    let picture = imageops::crop_imm(&portrait(), 60, 0, 320, 256).to_image();
    let path = folder.write("film.mjpg", &std::iter::repeat_n(jpeg(&picture), 12).flatten().collect::<Vec<u8>>());
    (path, [EYES_AND_MOUTH[0] - 60, EYES_AND_MOUTH[1], EYES_AND_MOUTH[2] - 60, EYES_AND_MOUTH[3]])
}

#[test]
fn the_last_frame_of_a_run_shows_no_face() {
    let folder = Folder::new();
    let (film, face) = film(&folder);
    let out = folder.file("last.png");
    let run = |frames: &str, more: &[&str]| {
        let all = [&["run", "--source", &film, "--tasks", "none", "--frames", frames, "--out", &out], more].concat();
        faceptor(&all).expect(0);
        open(&out)
    };
    assert!(covered(&run("12", &[]), face) < 0.2);
    // The first frame, those between two runs of the detector, and one after the film has started over.
    for frames in ["1", "2", "9", "12", "13", "20"] {
        let shown = run(frames, &["--blur", "all", "--blur-style", "solid"]);
        assert!(covered(&shown, face) > 0.97, "{frames}: {}", covered(&shown, face));
        assert!(flatness(&run(frames, &["--blur", "all"]), face) > 0.75, "{frames}");
    }
}

#[test]
fn preview_and_snapshots_show_no_face() {
    let folder = Folder::new();
    let (film, face) = film(&folder);
    let (record, first, second) = (folder.file("r.jsonl"), folder.file("1.png"), folder.file("2.png"));
    let how = ["--source", &film, "--fps", "30", "--frames", "1000000", "--json", "--tasks", "none"];
    let shown = ["--preview", "127.0.0.1:0", "--record", &record, "--blur", "all", "--blur-style", "solid"];
    let mut run = Run::with(Folder::new(), &[&how[..], &shown].concat(), true);
    let mut log = run.child.stderr.take().expect("a pipe");
    let (mut text, mut piece) = (String::new(), [0; 256]);
    wait_until("the preview says where it is", || {
        let count = log.read(&mut piece).expect("readable");
        text += &String::from_utf8_lossy(&piece[..count]);
        text.split("127.0.0.1:").nth(1).is_some_and(|rest| rest.contains('/'))
    });
    let port = text.split("127.0.0.1:").nth(1).and_then(|rest| rest.split('/').next()).expect("a port");
    // The first frame after a while in which none was looked at.
    run.ctl(&["snapshot", &first]).expect(0);
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    write!(stream, "GET /stream.mjpg HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n").expect("sent");
    let mut bytes = Vec::new();
    let starts = |bytes: &[u8]| -> Vec<usize> {
        (0..bytes.len().saturating_sub(2)).filter(|&at| bytes[at..].starts_with(b"\xff\xd8\xff")).collect()
    };
    while starts(&bytes).len() < 12 {
        let mut piece = [0; 65_536];
        let count = stream.read(&mut piece).expect("a stream");
        assert!(count > 0, "the stream ends");
        bytes.extend_from_slice(&piece[..count]);
    }
    run.ctl(&["snapshot", &second]).expect(0);
    drop(run);
    for path in [&first, &second] {
        assert!(covered(&open(path), face) > 0.97, "{}", covered(&open(path), face));
    }
    let starts = starts(&bytes);
    for (number, pair) in starts.windows(2).enumerate() {
        let picture = image::load_from_memory(&bytes[pair[0]..pair[1]]).map(DynamicImage::into_rgb8).expect("a JPEG");
        assert!(covered(&picture, face) > 0.95, "picture {number}: {}", covered(&picture, face));
    }
    // A recording holds no pixels.
    assert!(fs::read(&record).expect("recorded").starts_with(b"{"));
}

/// The middle of the face in a frame of the demo clip: eyes, nose and mouth.
fn demo_face(frame: usize) -> Edges {
    let ([x, y], scale) = DemoClip::face(frame as u64);
    let half = [0, 1].map(|axis| 0.3 * (FACE[axis + 2] - FACE[axis]) * scale);
    [x - half[0], y - half[1], x + half[0], y + half[1]].map(|edge| edge as u32)
}

/// Returns the face on each frame of the demo clip, as a YUV4MPEG2 stream in 4:2:0 shows it.
fn faces_of(stream: &[u8]) -> Vec<RgbImage> {
    let end = stream.iter().position(|byte| *byte == b'\n').expect("a header");
    assert!(String::from_utf8_lossy(&stream[..end]).starts_with(&format!("YUV4MPEG2 W{WIDTH} H{HEIGHT} ")));
    let (luma, chroma) = (WIDTH * HEIGHT, WIDTH / 2 * (HEIGHT / 2));
    let frames = stream[end + 1..].chunks_exact(6 + luma + 2 * chroma);
    assert!(frames.remainder().is_empty(), "{} bytes are no frame", frames.remainder().len());
    let decode = |(number, frame): (usize, &[u8])| {
        let planes = frame.strip_prefix(b"FRAME\n").expect("a frame");
        let [left, top, right, bottom] = demo_face(number);
        RgbImage::from_fn(right - left, bottom - top, |x, y| {
            let (x, y) = ((left + x) as usize, (top + y) as usize);
            let at = |plane: usize| f64::from(planes[luma + plane * chroma + y / 2 * (WIDTH / 2) + x / 2]) - 128.0;
            let (light, blue, red) = (1.164 * (f64::from(planes[y * WIDTH + x]) - 16.0), at(0), at(1));
            Rgb([light + 1.596 * red, light - 0.813 * red - 0.391 * blue, light + 2.018 * blue]
                .map(|value| value as u8))
        })
    };
    frames.enumerate().map(decode).collect()
}

#[test]
fn no_frame_of_a_film_shows_a_face() {
    let folder = Folder::new();
    let demo = ["run", "--source", "demo", "--tasks", "none", "--frames"];
    let solid = ["--blur", "all", "--blur-style", "solid"];
    let pipe = |frames: &str, more: &[&str]| {
        let output = command(&[&demo[..], &[frames, "--video", "-"], more].concat()).output();
        let output = output.expect("it can be started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let faces = faces_of(&output.stdout);
        assert_eq!(faces.len().to_string(), frames);
        faces
    };
    let whole = |face: &RgbImage| [0, 0, face.width(), face.height()];
    let shares = |faces: &[RgbImage]| -> Vec<f64> { faces.iter().map(|face| covered(face, whole(face))).collect() };
    let plain = shares(&pipe("3", &[]));
    assert!(plain.iter().all(|share| *share < 0.2), "without covers every frame shows her: {plain:?}");
    for (frame, share) in shares(&pipe("40", &solid)).into_iter().enumerate() {
        assert!(share > 0.97, "frame {frame}: {share}");
    }
    // Blocks have few edges.
    for (frame, face) in pipe("10", &solid[..2]).iter().enumerate() {
        assert!(flatness(face, whole(face)) > 0.75, "frame {frame}");
    }
    if !has_ffmpeg() {
        return skip(NO_FFMPEG);
    }
    let path = folder.file("film.mp4");
    faceptor(&[&demo[..], &["40", "--record-video", &path], &solid].concat()).expect(0);
    let how = ["-nostdin", "-loglevel", "error", "-i", &path, "-fps_mode", "passthrough", "-pix_fmt", "yuv420p"];
    let output = Command::new("ffmpeg").args(how).args(["-f", "yuv4mpegpipe", "-"]).output();
    let output = output.expect("ffmpeg can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let film = shares(&faces_of(&output.stdout));
    assert_eq!(film.len(), 40);
    for (frame, share) in film.into_iter().enumerate() {
        assert!(share > 0.95, "frame {frame} of the film: {share}");
    }
}

#[test]
fn people_with_names_are_shown_and_others_are_not() {
    let place = Place::new();
    place.run(&["enroll", "Eileen Collins", PORTRAIT, "--threshold", "0.5"]).expect(0);
    let hidden = ["--blur", "unknown", "--blur-style", "solid"];
    let (film, face) = film(&place.folder);
    let out = place.folder.file("last.png");
    let run = |frames: &str, threshold: &str| {
        let how = [
            "run",
            "--source",
            &film,
            "--tasks",
            "recognition",
            "--frames",
            frames,
            "--out",
            &out,
            "--threshold",
            threshold,
        ];
        place.run(&[&how[..], &hidden].concat()).expect(0);
        covered(&open(&out), face)
    };
    assert!(run("2", "0.5") > 0.9, "her name is not known yet");
    assert!(run("12", "0.5") < 0.5, "she is known");
    assert!(run("12", "0.9999") > 0.9, "a stranger");
    let picture = imageops::crop_imm(&portrait(), 60, 0, 320, 256).to_image();
    let seen = place.folder.write("seen.png", &png(picture));
    let photo = |threshold: &str| {
        let folder = place.folder.file("photos");
        let how =
            ["image", &seen, "--json", "--tasks", "recognition", "--force", "--out", &folder, "--threshold", threshold];
        let line = place.run(&[&how[..], &hidden].concat()).expect(0).json().remove(0);
        let name = line["faces"][0]["recognition"]["name"].as_str().map(str::to_owned);
        (covered(&open(line["annotated"].as_str().expect("a path")), face), name)
    };
    let (share, name) = photo("0.5");
    assert!(share < 0.5 && name.as_deref() == Some("Eileen Collins"), "{share}");
    let (share, name) = photo("0.9999");
    assert!(share > 0.9 && name.is_none(), "{share}");
}

#[test]
fn options_of_blur_are_checked() {
    for verb in ["image", "run"] {
        let source: &[&str] = if verb == "image" { &[PORTRAIT] } else { &["--frames", "1"] };
        let refused = |more: &[&str], reason: &str| {
            let run = faceptor(&[&[verb], source, more].concat()).expect(2);
            assert!(run.err.contains(reason) && run.out.is_empty(), "{run:?}");
        };
        refused(&["--blur", "unknown"], "--blur unknown needs --gallery");
        refused(&["--blur", "some"], "all");
        refused(&["--blur-style", "solid"], "--blur");
        refused(&["--blur", "all", "--blur-style", "soft"], "pixelate");
    }
}

/// Every frame of the demo clip, in which the face moves, turns and changes its size: the covers contain the face.
#[test]
fn the_moving_face_of_the_demo_clip_is_covered_in_every_frame() -> anyhow::Result<()> {
    let bundle = faceptor::stages::embedded_bundle()?;
    let demo = DemoClip::new()?;
    let mut picture = Picture::default();
    let mut faces = Faces::new(Pipeline::new(bundle, &TaskList::new())?, TrackerOptions { limit: 4, smoothing: true })
        .blurred(Some(Blur { whom: Whom::All, style: Style::Solid }));
    let mut analysis = Analysis::default();
    let mut largest = 0.0f32;
    for frame in 0..PERIOD {
        demo.render(frame, &mut picture);
        faces.watch_closely(true);
        let allowance = Allowance { started_us: faces.time().now_us(), budget_us: None, level: 5 };
        let done = faces.process(&picture.view(), 1.0 / 30.0, &allowance)?;
        assert!(done.finder_ran, "frame {frame}");
        faces.copy_to(&mut analysis, &allowance);
        let covers = faces.covers().expect("heads are covered");
        assert!(!covers.is_whole(), "frame {frame}");
        let ([x, y], scale) = DemoClip::face(frame);
        // The face's box in the portrait, about its middle.
        let half = [0, 1].map(|axis| (FACE[axis + 2] - FACE[axis]) / 2.0 * scale);
        let is_inside = covers.areas().iter().any(|area| {
            let [left, top, right, bottom] = area.edges.map(f64::from);
            left <= x - half[0] && top <= y - half[1] && right >= x + half[0] && bottom >= y + half[1]
        });
        assert!(is_inside, "frame {frame}: {:?}", covers.areas());
        let area = |edges: [f32; 4]| (edges[2] - edges[0]) * (edges[3] - edges[1]);
        let all: f32 = covers.areas().iter().map(|cover| area(cover.edges)).sum();
        largest = largest.max(all / area(analysis.faces[0].detection.edges));
    }
    assert!(largest < 16.0, "covers are {largest} times as large as the face");
    assert_eq!((picture.view().width(), picture.view().height()), (WIDTH, HEIGHT));
    Ok(())
}
