//! Cuts from one person to another in the middle of a film, and what is not a cut: through the real program.
//!
//! The people are those of the research photos beside the repository; without them the tests of cuts do not run.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use faceptor::stages::{Picture, Pixels, read_photo};
use faceptor_edge::capture::demo_clip::{DemoClip, HEIGHT, WIDTH};
use faceptor_test_support::{repository, skip};
use image::{RgbImage, imageops};
use serde_json::Value;

use crate::program::{Folder, faceptor};

/// Frames of each person.
const SHOWN: usize = 4;

/// Photos of faces with their eyes in the same places, 192 x 192, of different people; `None` where they are missing.
fn people(count: usize) -> Result<Option<Vec<RgbImage>>> {
    let folder = repository().join("../shared/faces/dev/w300");
    if !folder.is_dir() {
        skip(format!("{} is missing", folder.display()));
        return Ok(None);
    }
    let mut paths = fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    paths.sort();
    let photo = |path: &PathBuf| -> Result<RgbImage> {
        let picture = read_photo(path)?.into_picture();
        let [width, height] = [picture.width(), picture.height()].map(|side| side as u32);
        let pixels = RgbImage::from_raw(width, height, picture.bytes().to_vec()).context("three bytes a pixel")?;
        Ok(imageops::resize(&pixels, 192, 192, imageops::FilterType::Triangle))
    };
    paths.iter().take(count).map(photo).collect::<Result<_>>().map(Some)
}

/// Puts each picture into a frame with a wall of one colour about it, as YUV4MPEG2 in 4:4:4.
fn film<'a>(pictures: impl IntoIterator<Item = &'a RgbImage>) -> Vec<u8> {
    let mut bytes = b"YUV4MPEG2 W256 H256 F30:1 C444 XCOLORRANGE=FULL\n".to_vec();
    for picture in pictures {
        let mut frame = RgbImage::from_pixel(256, 256, image::Rgb([128, 134, 140]));
        imageops::replace(&mut frame, picture, 32, 32);
        bytes.extend_from_slice(b"FRAME\n");
        bytes.extend(planes(frame.as_raw()));
    }
    bytes
}

/// Returns the planes Y, U, V of RGB pixels, full range.
fn planes(rgb: &[u8]) -> Vec<u8> {
    let plane = |weights: [f32; 3], offset: f32| {
        rgb.as_chunks::<3>().0.iter().map(move |pixel| {
            let sum: f32 = pixel.iter().zip(weights).map(|(value, weight)| f32::from(*value) * weight).sum();
            (sum + offset).round() as u8
        })
    };
    let luma = plane([0.299, 0.587, 0.114], 0.0);
    luma.chain(plane([-0.1687, -0.3313, 0.5], 128.0)).chain(plane([0.5, -0.4187, -0.0813], 128.0)).collect()
}

fn run(folder: &Folder, name: &str, film: &[u8], tasks: &str) -> Vec<Value> {
    let path = folder.write(name, film);
    faceptor(&["run", "--json", "--tasks", tasks, "--max-faces", "1", "--source", &path]).expect(0).json()
}

fn faces(line: &Value) -> &[Value] {
    line["faces"].as_array().map(Vec::as_slice).expect("a list")
}

#[test]
fn no_two_people_share_an_id() -> Result<()> {
    let Some(people) = people(41)? else { return Ok(()) };
    let frames = people.iter().flat_map(|person| std::iter::repeat_n(person, SHOWN));
    let film = film(frames);
    // With landmarks for tracking, and without them.
    for tasks in ["landmarks", "none"] {
        let lines = run(&Folder::new(), "people.y4m", &film, tasks);
        assert_eq!(lines.len(), people.len() * SHOWN);
        let mut owners = HashMap::new();
        let mut at_once = 0;
        for (number, line) in lines.iter().enumerate() {
            for face in faces(line) {
                let owner = *owners.entry(face["id"].as_u64()).or_insert(number / SHOWN);
                assert_eq!(owner, number / SHOWN, "{tasks}, frame {number}: {}", face["id"]);
                at_once += usize::from(number % SHOWN == 0);
            }
        }
        assert!(at_once >= people.len() - 2, "{tasks}: {at_once} of {} in their first frame", people.len());
        assert!(owners.len() >= people.len() - 1, "{tasks}: {} ids", owners.len());
    }
    Ok(())
}

#[test]
fn filters_start_anew_at_a_cut() -> Result<()> {
    let Some(people) = people(6)? else { return Ok(()) };
    let folder = Folder::new();
    for pair in people.windows(2) {
        let cut = film(std::iter::repeat_n(&pair[0], 20).chain(std::iter::repeat_n(&pair[1], 3)));
        let cut = run(&folder, "cut.y4m", &cut, "landmarks,age,expression");
        let alone = run(&folder, "alone.y4m", &film(std::iter::repeat_n(&pair[1], 3)), "landmarks,age,expression");
        for (one, other) in cut[20..].iter().zip(&alone) {
            let [one, other] = [one, other].map(|line| faces(line).first().context("a face"));
            let (one, other) = (one?, other?);
            assert_eq!((&one["id"], &other["id"]), (&2.into(), &1.into()));
            for task in ["age", "expression", "landmarks", "box"] {
                assert_eq!(one[task], other[task], "{task}: nothing is left of the other person");
            }
        }
    }
    Ok(())
}

/// The demo clip's frame with a hand that covers the face while `share`, its way across the frame, is about a half.
fn with_hand(picture: &mut Picture, [x, y]: [f64; 2], share: f64) {
    let middle = [x + (share - 0.5) * 520.0, y + 10.0];
    for (index, pixel) in picture.bytes_mut().as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let [across, down] = [(index % WIDTH) as f64 - middle[0], (index / WIDTH) as f64 - middle[1]];
        let fingers = down < 0.0 && down > -190.0 && across.abs() < 90.0 && (across.abs() as usize / 12) % 4 != 3;
        if fingers || (across / 90.0).hypot(down / 110.0) < 1.0 {
            let shade = 1.0 + 0.2 * (across / 11.0).sin() * (down / 17.0).cos();
            pixel.copy_from_slice(&[170.0, 125.0, 100.0].map(|value: f64| (value * shade) as u8));
        }
    }
}

#[test]
fn no_id_is_lost_when_a_hand_passes_or_the_light_changes() -> Result<()> {
    let (demo, mut picture) = (DemoClip::new()?, Picture::default());
    // Frames in which the hand crosses the picture: fast and slowly.
    for (name, frames) in [("fast", 10u64), ("slow", 30)] {
        let mut film = format!("YUV4MPEG2 W{WIDTH} H{HEIGHT} F30:1 C444 XCOLORRANGE=FULL\n").into_bytes();
        for number in 0..70u64 {
            demo.render(number, &mut picture);
            if (20..20 + frames).contains(&number) {
                with_hand(&mut picture, DemoClip::face(number).0, (number - 20) as f64 / (frames - 1) as f64);
            }
            // A flash, and a step of the exposure.
            let gain = if number == 58 {
                2.0
            } else if number > 62 {
                0.6
            } else {
                1.0
            };
            picture.bytes_mut().iter_mut().for_each(|value| *value = (f64::from(*value) * gain).min(255.0) as u8);
            film.extend_from_slice(b"FRAME\n");
            film.extend(planes(picture.bytes()));
        }
        for tasks in ["landmarks", "none"] {
            let lines = run(&Folder::new(), "hand.y4m", &film, tasks);
            let ids: Vec<Vec<u64>> =
                lines.iter().map(|line| faces(line).iter().filter_map(|face| face["id"].as_u64()).collect()).collect();
            assert!(ids.concat().iter().all(|id| *id == 1), "{name}, {tasks}: {ids:?}");
            let hidden = ids.iter().filter(|ids| ids.is_empty()).count();
            assert!(hidden >= 2 && hidden as u64 <= frames + 4, "{name}, {tasks}: hidden in {hidden} frames");
            assert!(ids[55..].iter().filter(|ids| ids.is_empty()).count() <= 1, "{name}, {tasks}: {ids:?}");
        }
    }
    Ok(())
}
