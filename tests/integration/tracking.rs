//! Faces followed through staged clips, in which the demo's face goes in several ways; and faces of very large frames.

use anyhow::{Context, Result};
use faceptor::stages::{
    Analysis, FaceImage, Picture, Pipeline, Pixels, Prediction, Purpose, Similarity, TaskList, TrackerOptions,
    keypoints_of_landmarks, read_photo, select_tasks,
};
use faceptor_edge::capture::demo_clip::{DemoClip, HEIGHT, WIDTH};
use faceptor_edge::live::frame::{Allowance, Faces};
use faceptor_edge::live::virtual_clock::{LoopClock, Stage, VirtualClock};
use faceptor_edge::platform::clock;

const WALL: [u8; 3] = [128, 134, 140];
const FRAME_S: f32 = 1.0 / 30.0;
/// The frame of the demo clip at which the face begins to go.
const GOES: u64 = 64;

/// The contents of a frame.
struct Shown {
    ids: Vec<u32>,
    finder_ran: bool,
    /// Answers of the faces.
    known: usize,
}

fn faces(names: &str) -> Result<Faces> {
    faces_at(names, 250)
}

/// Returns the faces of a run whose tasks take this long; landmarks for following cost that and 350 us for the pixel decoder.
fn faces_at(names: &str, task_us: u64) -> Result<Faces> {
    let bundle = faceptor::stages::embedded_bundle()?;
    let chosen = select_tasks(bundle.manifest(), Some(names))?;
    let faces = Faces::new(Pipeline::new(bundle, &chosen)?, TrackerOptions { limit: 4, smoothing: true });
    // Costs as on an idle machine, so that what is decided by them is the same everywhere.
    let script = VirtualClock::new(move |stage, _| match stage {
        Stage::Find => 660,
        Stage::FindPart => 100,
        Stage::Align => 300,
        Stage::Part(_) => 350,
        Stage::Task(_) => task_us,
        Stage::Identify => 5,
        Stage::HandOver => 10,
    });
    let mut faces = faces.in_time(LoopClock::Virtual(script));
    faces.warm_up(&Picture::filled(WIDTH, HEIGHT, WALL).view(), 1)?;
    Ok(faces)
}

/// Plays the demo clip from its first frame on; `stage` changes frames before they are seen.
fn play(faces: &mut Faces, frames: u64, stage: &dyn Fn(u64, &mut Picture)) -> Result<Vec<Shown>> {
    play_within(None, faces, frames, stage)
}

fn play_within(
    budget_us: Option<u64>,
    faces: &mut Faces,
    frames: u64,
    stage: &dyn Fn(u64, &mut Picture),
) -> Result<Vec<Shown>> {
    let (demo, mut picture) = (DemoClip::new()?, Picture::default());
    let mut analysis = Analysis::default();
    let mut shown = Vec::new();
    for frame in 0..frames {
        demo.render(frame, &mut picture);
        stage(frame, &mut picture);
        let allowance = Allowance { started_us: faces.time().now_us(), budget_us, level: 0 };
        let done = faces.process(&picture.view(), FRAME_S, &allowance)?;
        faces.copy_to(&mut analysis, &allowance);
        shown.push(Shown {
            ids: analysis.faces.iter().map(|face| face.id).collect(),
            finder_ran: done.finder_ran,
            known: analysis.faces.iter().flat_map(|face| &face.results).filter(|result| result.known).count(),
        });
    }
    Ok(shown)
}

/// Mixes `other` into the pixels of columns `from..`: all of it at `share` 1.
fn paint(picture: &mut Picture, from: usize, share: f32, other: &dyn Fn(usize, usize) -> [u8; 3]) {
    for (index, pixel) in picture.bytes_mut().as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let (x, y) = (index % WIDTH, index / WIDTH);
        if x >= from {
            let other = other(x, y);
            for (value, other) in pixel.iter_mut().zip(other) {
                *value = (f32::from(*value) * (1.0 - share) + f32::from(other) * share) as u8;
            }
        }
    }
}

fn noise(x: usize, y: usize, frame: u64) -> [u8; 3] {
    let mixed = (x as u32).wrapping_mul(2_654_435_761) ^ (y as u32).wrapping_mul(2_246_822_519) ^ frame as u32;
    let mixed = (mixed ^ mixed >> 15).wrapping_mul(0x9e37_79b9);
    [mixed as u8, (mixed >> 8) as u8, (mixed >> 16) as u8]
}

/// A way of going: its name, the first frame without a face, and what it does to a frame.
type Going<'a> = (&'a str, u64, Box<dyn Fn(u64, &mut Picture)>);

/// Returns the ways in which a face leaves.
fn goings() -> Vec<Going<'static>> {
    let plain = |_: usize, _: usize| WALL;
    let at_once = |frame: u64| if frame >= GOES { 0 } else { WIDTH };
    vec![
        ("to a wall", GOES, Box::new(move |frame, picture| paint(picture, at_once(frame), 1.0, &plain))),
        (
            "to noise",
            GOES,
            Box::new(move |frame, picture| paint(picture, at_once(frame), 1.0, &|x, y| noise(x, y, frame))),
        ),
        (
            "to stripes",
            GOES,
            Box::new(move |frame, picture| {
                paint(picture, at_once(frame), 1.0, &|x, y| [((x * 5 + y * 3) % 256) as u8, (y / 2) as u8, 90]);
            }),
        ),
        (
            "fading",
            GOES + 20,
            Box::new(move |frame, picture| {
                let share = (frame.saturating_sub(GOES) as f32 / 20.0).min(1.0);
                paint(picture, 0, share, &plain);
            }),
        ),
        (
            "behind a curtain",
            GOES + 16,
            Box::new(move |frame, picture| {
                let from = WIDTH.saturating_sub(40 * frame.saturating_sub(GOES) as usize);
                paint(picture, from, 1.0, &|x, _| [(x / 7 % 2 * 90 + 60) as u8, 40, 50]);
            }),
        ),
        (
            "out of the frame",
            GOES + 20,
            Box::new(move |frame, picture| {
                let shift = (32 * frame.saturating_sub(GOES) as usize).min(WIDTH);
                for row in picture.bytes_mut().as_chunks_mut::<{ 3 * WIDTH }>().0 {
                    row.copy_within(..3 * (WIDTH - shift), 3 * shift);
                    row[..3 * shift].as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| pixel.copy_from_slice(&WALL));
                }
            }),
        ),
    ]
}

#[test]
fn a_face_that_has_gone_is_not_shown_for_long() -> Result<()> {
    for names in ["landmarks", "age", "none"] {
        for (going, gone, stage) in goings() {
            let shown = play(&mut faces(names)?, gone + 20, &*stage)?;
            let before = &shown[..GOES as usize];
            assert!(before.iter().all(|frame| frame.ids == [1]), "{names}, {going}: it flickers");
            let after = &shown[gone as usize..];
            let ghosts = after.iter().filter(|frame| !frame.ids.is_empty()).count();
            println!("{names}, {going}: {ghosts} frames");
            assert!(ghosts <= 3, "{names}, {going}: shown in {ghosts} frames after it has gone");
            assert!(after[4..].iter().all(|frame| frame.ids.is_empty()), "{names}, {going}: something is seen later");
        }
    }
    Ok(())
}

#[test]
fn a_face_that_stays_never_flickers_and_the_finder_is_rarely_asked() -> Result<()> {
    // Landmarks are decoded for following also when only the age was asked for, and are not shown.
    for (names, runs, answers) in [("landmarks,age", 34, 2), ("age", 34, 1), ("none", 240, 0)] {
        let shown = play(&mut faces(names)?, 480, &|_, _| {})?;
        assert_eq!(shown.len(), 480);
        for (number, frame) in shown.iter().enumerate() {
            assert_eq!((frame.ids.as_slice(), frame.known), ([1].as_slice(), answers), "{names}: frame {number}");
        }
        let asked = shown.iter().filter(|frame| frame.finder_ran).count();
        println!("{names}: {asked} runs of the finder in 480 frames");
        assert!(asked <= runs, "{names}: the finder ran {asked} times");
    }
    Ok(())
}

#[test]
fn a_change_of_light_does_not_lose_a_face() -> Result<()> {
    let flicker = |frame: u64, picture: &mut Picture| {
        let light = if (frame / 3).is_multiple_of(2) { 256 } else { 150 };
        picture.bytes_mut().iter_mut().for_each(|value| *value = (u32::from(*value) * light / 256) as u8);
    };
    let shown = play(&mut faces("landmarks")?, 240, &flicker)?;
    assert!(shown.iter().all(|frame| frame.ids == [1]));
    assert!(shown.iter().filter(|frame| frame.finder_ran).count() < 40);
    Ok(())
}

/// The middle of the face in the portrait, pixels.
const FACE: [f64; 2] = [225.0, 112.0];

/// Returns the portrait's face, `zoom` times as large, with a pattern over it that is finer than what the network sees.
fn close_up(zoom: usize, width: usize, height: usize, pattern: i32) -> Result<Picture> {
    let photo = read_photo("models/demo/astronaut.jpg".as_ref())?.into_picture();
    let corner = [FACE[0] - (width / zoom) as f64 / 2.0, FACE[1] - (height / zoom) as f64 / 2.0];
    let last = [photo.width() - 1, photo.height() - 1];
    let mut bytes = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let [u, v] = [(0, x), (1, y)].map(|(axis, at)| {
                let at: f64 = corner[axis] + (at as f64 + 0.5) / zoom as f64;
                (at.max(0.0) as usize).min(last[axis])
            });
            let change = if (x / 4 + y / 4) % 2 == 0 { pattern } else { -pattern };
            bytes.extend(photo.rgb(u, v).map(|value| (i32::from(value) + change).clamp(0, 255) as u8));
        }
    }
    Picture::from_rgb(width, height, bytes).context("three bytes a pixel")
}

#[test]
fn a_face_that_fills_a_4k_frame_is_seen_as_in_a_small_one() -> Result<()> {
    let bundle = faceptor::stages::embedded_bundle()?;
    let chosen = select_tasks(bundle.manifest(), Some("landmarks"))?;
    let guide = usize::from(chosen[0]);
    let mut pipeline = Pipeline::new(bundle, &chosen)?;
    let mut answer = pipeline.decoders()[guide].blank();
    let mut points: Vec<Vec<[f32; 2]>> = Vec::new();
    for (zoom, width, height) in [(2, 640, 480), (6, 1280, 720), (9, 1920, 1080), (18, 3840, 2160)] {
        let picture = close_up(zoom, width, height, if zoom > 2 { 40 } else { 0 })?;
        // The frame of a face of 105 pixels in the portrait.
        let side = 170.0 * zoom as f64;
        let corner = |frame: usize| frame as f64 / 2.0 - 0.5 * side;
        let to_picture = Similarity { a: side, b: 0.0, tx: corner(width), ty: corner(height) };
        let windows = pipeline.windows(&to_picture, None);
        let mut took_us = u64::MAX;
        for _ in 0..5 {
            let began_us = clock::now_us();
            pipeline.sample(FaceImage::Frame(&picture.view()), &windows)?;
            took_us = took_us.min(clock::now_us() - began_us);
        }
        println!("{width} x {height}: a crop of {side} pixels is sampled in {took_us} us");
        pipeline.decode(guide, &windows, &mut answer)?;
        let Prediction::Landmarks(landmarks) = &answer else { panic!("landmarks were asked for") };
        let to_crop = to_picture.inverse();
        points.push(landmarks.points.iter().map(|point| to_crop.apply_point(*point)).collect());
    }
    for other in &points[1..] {
        let apart = |(a, b): (&[f32; 2], &[f32; 2])| (a[0] - b[0]).hypot(a[1] - b[1]);
        let mean = points[0].iter().zip(other).map(apart).sum::<f32>() / 68.0;
        println!("landmarks differ by {mean} sides of the crop");
        assert!(mean < 0.01, "landmarks differ by {mean} sides of the crop");
    }
    Ok(())
}

#[test]
fn the_finder_sees_a_large_frame_as_it_sees_a_small_one() -> Result<()> {
    let mut pipeline = Pipeline::new(faceptor::stages::embedded_bundle()?, &TaskList::new())?;
    let mut boxes: Vec<[f32; 4]> = Vec::new();
    for (zoom, width, height) in [(2, 640, 480), (6, 1920, 1440), (9, 2880, 2160)] {
        let picture = close_up(zoom, width, height, if zoom > 2 { 40 } else { 0 })?;
        let mut took_us = u64::MAX;
        for _ in 0..5 {
            let began_us = clock::now_us();
            let found = pipeline.find(&picture.view(), Purpose::Live, 1)?;
            took_us = took_us.min(clock::now_us() - began_us);
            let edges = found.first().context("a face")?.edges;
            boxes.push(edges.map(|edge| edge / width as f32));
        }
        println!("{width} x {height}: the finder takes {took_us} us");
    }
    for edges in &boxes {
        let apart = edges.iter().zip(&boxes[0]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 0.02, "{edges:?} and {:?}", boxes[0]);
    }
    Ok(())
}

#[test]
fn landmarks_that_cost_too_much_for_following_give_way_to_the_finder() -> Result<()> {
    let runs = |task_us: u64, budget_us| -> Result<usize> {
        let shown = play_within(budget_us, &mut faces_at("age", task_us)?, 120, &|_, _| {})?;
        assert!(shown.iter().all(|frame| frame.ids == [1] && frame.known == 1));
        Ok(shown.iter().filter(|frame| frame.finder_ran).count())
    };
    // Two looks of the finder take 1320 us.
    assert!(runs(900, Some(33_333))? <= 10);
    assert_eq!(runs(3000, Some(33_333))?, 60);
    assert!(runs(3000, None)? <= 10, "without a budget the same frames give the same answers everywhere");
    Ok(())
}

/// Returns the standard deviation.
fn scatter(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}

/// Returns the mean change from one to the next.
fn step(values: &[f64]) -> f64 {
    values.windows(2).map(|pair| (pair[1] - pair[0]).abs()).sum::<f64>() / (values.len() - 1) as f64
}

#[test]
fn crops_from_landmarks_lie_steadier_than_the_finders() -> Result<()> {
    let bundle = faceptor::stages::embedded_bundle()?;
    let chosen = select_tasks(bundle.manifest(), Some("landmarks,age"))?;
    let mut pipeline = Pipeline::new(bundle, &chosen)?;
    let mut answers: Vec<Prediction> = pipeline.decoders().iter().map(|decoder| decoder.blank()).collect();
    let (demo, mut picture) = (DemoClip::new()?, Picture::default());
    let mut table = Vec::new();
    // Every how many frames the finder runs; 0 is by landmarks.
    for every in [0, 1, 2, 3] {
        let mut keypoints = [[0.0f32; 2]; 5];
        let (mut last, mut speed) = (None::<[f32; 2]>, [0.0f32; 2]);
        let (mut middles, mut sizes, mut ages) = (Vec::new(), Vec::new(), Vec::new());
        for frame in 0..240u64 {
            demo.render(frame, &mut picture);
            if frame == 0 || (every > 0 && frame.is_multiple_of(every)) {
                keypoints = pipeline.find(&picture.view(), Purpose::Live, 1)?.first().context("a face")?.keypoints;
                if every > 0 {
                    speed = last.map_or(speed, |[x, y]| [keypoints[2][0] - x, keypoints[2][1] - y]);
                    speed = speed.map(|step| step / every as f32);
                    last = Some(keypoints[2]);
                }
            } else {
                keypoints = keypoints.map(|[x, y]| [x + speed[0], y + speed[1]]);
            }
            let to_picture = pipeline.aligned_frame(&keypoints).context("distinct keypoints")?;
            let windows = pipeline.windows(&to_picture, None);
            // The distance between the eyes in the portrait is about 41 pixels.
            let ([x, _], scale) = DemoClip::face(frame);
            middles.push((to_picture.apply(0.5, 0.5).0 - x) / (41.0 * scale));
            sizes.push((to_picture.scale() / scale).ln());
            pipeline.sample(FaceImage::Frame(&picture.view()), &windows)?;
            for &task in &chosen {
                let task = usize::from(task);
                pipeline.decode(task, &windows, &mut answers[task])?;
                match &answers[task] {
                    Prediction::Age(age) => ages.push(f64::from(age.years)),
                    Prediction::Landmarks(landmarks) if every == 0 => {
                        let seen = keypoints_of_landmarks(&landmarks.points).context("68 points")?;
                        speed = last.map_or(speed, |[x, y]| [seen[2][0] - x, seen[2][1] - y]);
                        (keypoints, last) = (seen, Some(seen[2]));
                    }
                    _ => {}
                }
            }
        }
        println!(
            "every {every}: middle {:.3} distances between the eyes, size {:.1} %, age {:.1} years a frame",
            scatter(&middles),
            100.0 * scatter(&sizes),
            step(&ages)
        );
        table.push([scatter(&middles), scatter(&sizes), step(&ages)]);
    }
    for row in &table[1..] {
        assert!(row.iter().zip(&table[0]).all(|(finder, landmarks)| *finder > 2.0 * landmarks), "{table:?}");
    }
    Ok(())
}
