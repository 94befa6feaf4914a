//! The network on frames in cameras' own formats: what it sees there is what it sees in the RGB picture.

use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::thread;

use anyhow::Result;
use faceptor::stages::{
    Colour, Detection, FaceImage, ImageView, Picture, Pipeline, PixelFormat, Pixels, Prediction, Purpose, select_tasks,
};
use faceptor_edge::capture::demo_clip::DemoClip;
use serde_json::Value;

use crate::program::{Folder, Output, PORTRAIT, command, faceptor};

/// Returns a picture in BT.601, as a camera in this format and range would deliver it: rows padded to a multiple of 64 bytes.
fn camera_bytes(picture: &Picture, format: PixelFormat, full: bool) -> (usize, Vec<u8>) {
    let (width, height) = (picture.width(), picture.height());
    let stride = format.row_bytes(width).next_multiple_of(64);
    let mut bytes = vec![0; format.frame_bytes(stride, height)];
    let yuv = |x: usize, y: usize| {
        let [r, g, b] = picture.rgb(x.min(width - 1), y.min(height - 1)).map(f64::from);
        let luma = 0.299 * r + 0.587 * g + 0.114 * b;
        let (u, v) = ((b - luma) / 1.772, (r - luma) / 1.402);
        let (black, y_gain, c_gain) = if full { (0.0, 1.0, 1.0) } else { (16.0, 219.0 / 255.0, 224.0 / 255.0) };
        [luma * y_gain + black, u * c_gain + 128.0, v * c_gain + 128.0].map(|value| value.round() as u8)
    };
    let chroma = stride * height;
    for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
        let [luma, u, v] = yuv(x, y);
        // Chroma of the left, upper pixel of each pair or block.
        match format {
            PixelFormat::Rgb24 => bytes[y * stride + 3 * x..][..3].copy_from_slice(&picture.rgb(x, y)),
            PixelFormat::Yuyv | PixelFormat::Uyvy => {
                let first = usize::from(format == PixelFormat::Uyvy);
                bytes[y * stride + 2 * x + first] = luma;
                bytes[y * stride + 2 * x + 1 - first] = if x % 2 == 0 { u } else { yuv(x - 1, y)[2] };
            }
            PixelFormat::Grey => bytes[y * stride + x] = luma,
            _ => {
                bytes[y * stride + x] = luma;
                let half = stride / 2;
                match format {
                    PixelFormat::Nv12 if x % 2 + y % 2 == 0 => {
                        bytes[chroma + y / 2 * stride + x..][..2].copy_from_slice(&[u, v]);
                    }
                    PixelFormat::I420 if x % 2 + y % 2 == 0 => {
                        bytes[chroma + y / 2 * half + x / 2] = u;
                        bytes[chroma + half * height.div_ceil(2) + y / 2 * half + x / 2] = v;
                    }
                    _ => {}
                }
            }
        }
    }
    (stride, bytes)
}

/// Returns the best face, its 68 points and its age.
fn read(pipeline: &mut Pipeline, view: &ImageView) -> Result<(Detection, Vec<[f32; 2]>, f32)> {
    let found = pipeline.find(view, Purpose::Live, 1)?;
    let face = *found.first().expect("the portrait's face is found");
    let to_picture = pipeline.aligned_frame(&face.keypoints).expect("five distinct points");
    let windows = pipeline.windows(&to_picture, Some(&face));
    pipeline.sample(FaceImage::Frame(view), &windows)?;
    let (mut points, mut years) = (Vec::new(), 0.0);
    for task in 0..pipeline.decoders().len() {
        let mut answer = pipeline.decoders()[task].blank();
        if pipeline.tasks().contains(&(task as u8)) {
            pipeline.decode(task, &windows, &mut answer)?;
        }
        match answer {
            Prediction::Landmarks(found) if pipeline.tasks().contains(&(task as u8)) => {
                points = found.points.iter().map(|p| [p[0], p[1]]).collect();
            }
            Prediction::Age(found) if pipeline.tasks().contains(&(task as u8)) => years = found.years,
            _ => {}
        }
    }
    Ok((face, points, years))
}

#[test]
fn a_face_is_read_alike_in_every_format() -> Result<()> {
    let bundle = faceptor::stages::embedded_bundle()?;
    let chosen = select_tasks(bundle.manifest(), Some("landmarks,age"))?;
    let mut pipeline = Pipeline::new(bundle, &chosen)?;
    let mut picture = Picture::default();
    DemoClip::new()?.render(60, &mut picture);
    let (face, points, years) = read(&mut pipeline, &picture.view())?;
    assert_eq!(points.len(), 68);
    let width = face.edges[2] - face.edges[0];
    for (format, full) in [
        (PixelFormat::Rgb24, true),
        (PixelFormat::Yuyv, false),
        (PixelFormat::Yuyv, true),
        (PixelFormat::Uyvy, false),
        (PixelFormat::Nv12, false),
        (PixelFormat::I420, true),
        (PixelFormat::Grey, true),
    ] {
        let (stride, bytes) = camera_bytes(&picture, format, full);
        let colour = if full { Colour::Bt601Full } else { Colour::Bt601Limited };
        let view = ImageView::new(format, colour, [picture.width(), picture.height()], stride, &bytes)?;
        let (seen, seen_points, seen_years) = read(&mut pipeline, &view)?;
        let apart = |a: f32, b: f32| (a - b).abs() / width;
        let edges = face.edges.iter().zip(seen.edges).map(|(a, b)| apart(*a, b)).fold(0.0, f32::max);
        let worst = points.iter().zip(&seen_points).map(|(a, b)| apart(a[0], b[0]).max(apart(a[1], b[1])));
        let worst = worst.fold(0.0, f32::max);
        // Chroma at half the resolution changes little, no colour at all somewhat more.
        let (edge_limit, point_limit, year_limit) = match format {
            PixelFormat::Rgb24 => (0.0, 0.0, 0.0),
            PixelFormat::Grey => (0.05, 0.05, 8.0),
            _ => (0.02, 0.03, 3.0),
        };
        println!(
            "{format:?} full {full}: box {edges:.4}, points {worst:.4} of the face's width, {seen_years:.1} of {years:.1} years"
        );
        assert!(edges <= edge_limit, "{format:?}: the box moved by {edges} of its width");
        assert!(worst <= point_limit, "{format:?}: a point moved by {worst} of the face's width");
        assert!((seen_years - years).abs() <= year_limit, "{format:?}: {seen_years} instead of {years} years");
    }
    Ok(())
}

/// Returns demo frames 60, 61, ... as YUV4MPEG2.
fn film(frames: u64) -> Result<Vec<u8>> {
    let demo = DemoClip::new()?;
    let mut picture = Picture::default();
    let mut bytes = b"YUV4MPEG2 W640 H480 F25:1 Ip A1:1 C420jpeg XCOLORRANGE=FULL\n".to_vec();
    for frame in 60..60 + frames {
        demo.render(frame, &mut picture);
        bytes.extend_from_slice(b"FRAME\n");
        bytes.extend(camera_bytes(&picture, PixelFormat::I420, true).1);
    }
    Ok(bytes)
}

/// Returns (sequence, number of faces) of each line.
fn seen(output: &Output) -> Vec<(u64, usize)> {
    let faces = |line: &Value| line["faces"].as_array().map_or(0, Vec::len);
    output.json().iter().map(|line| (line["sequence"].as_u64().expect("a count"), faces(line))).collect()
}

#[test]
fn a_film_on_standard_input_is_read_frame_by_frame() -> Result<()> {
    let film = film(3)?;
    let mut command = command(&["run", "--source", "-", "--tasks", "age", "--json"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut input = child.stdin.take().expect("a pipe");
    // In pieces that end inside of lines and planes.
    let writer = thread::spawn(move || film.chunks(100_003).try_for_each(|piece| input.write_all(piece)));
    let output = child.wait_with_output()?;
    writer.join().expect("the writer ends")?;
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    let output = Output { status: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
    assert_eq!(seen(&output.expect(0)), [(0, 1), (1, 1), (2, 1)]);
    Ok(())
}

#[test]
fn a_film_that_is_cut_off_gives_its_whole_frames() -> Result<()> {
    let folder = Folder::new();
    let film = film(3)?;
    let path = folder.write("cut.y4m", &film[..film.len() - 1000]);
    let output = faceptor(&["run", "--source", &path, "--tasks", "age", "--json"]).expect(0);
    assert_eq!(seen(&output), [(0, 1), (1, 1)]);
    assert!(output.err.contains("cut.y4m: its last frame is cut off"), "{output:?}");
    Ok(())
}

#[test]
fn a_damaged_jpeg_in_a_stream_is_passed_over() -> Result<()> {
    let folder = Folder::new();
    let portrait = fs::read(PORTRAIT)?;
    let stream = [&portrait, &portrait[..portrait.len() / 2], &portrait].concat();
    let path = folder.write("stream.mjpg", &stream);
    let output = faceptor(&["run", "--source", &path, "--tasks", "age", "--json"]).expect(0);
    let faces: Vec<usize> = seen(&output).into_iter().map(|(_, faces)| faces).collect();
    assert_eq!(faces, [1, 1]);
    assert!(output.err.contains("stream.mjpg: damaged frame skipped: the frame is cut off"), "{output:?}");
    Ok(())
}

#[test]
fn a_file_of_another_kind_is_named_with_what_was_expected() {
    let folder = Folder::new();
    for (name, expected) in [("photo.y4m", "not YUV4MPEG2"), ("text.mjpg", "not concatenated JPEGs")] {
        let path = folder.write(name, b"something else\n");
        let output = faceptor(&["run", "--source", &path]).expect(1);
        assert!(output.line_about(name).contains(expected), "{output:?}");
    }
    let output = faceptor(&["run", "--source", "/dev/null"]).expect(1);
    assert!(output.line_about("/dev/null").contains("not a camera: `faceptor devices` lists them"), "{output:?}");
}
