//! Films of enrolled people and of strangers, and photos of turned heads: real people, through the real program.
//!
//! The people are those of the research photos beside the repository; without them these tests do not run. No message holds a
//! name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use faceptor::stages::{Pixels, read_photo};
use faceptor_test_support::{repository, skip};
use image::{RgbImage, imageops};
use serde_json::Value;

use crate::gallery_place::Place;
use crate::pictures::jpeg;

/// The least similarity for a name: two of 10,000 pairs of different people reach it.
const THRESHOLD: &str = "0.48";
/// People of the gallery, and strangers.
const PEOPLE: usize = 4;
/// Photos of each enrolled person; a further one is shown.
const ENROLLED: usize = 2;
const FRAMES: u32 = 40;

fn folder(name: &str) -> Option<PathBuf> {
    let folder = repository().join("../shared/faces/dev").join(name);
    if !folder.is_dir() {
        skip(format!("{} is missing", folder.display()));
        return None;
    }
    Some(folder)
}

/// Returns the aligned photos of each person, in the order of their numbers; people who have most come first.
fn photos_of_people(folder: &Path) -> Result<Vec<Vec<PathBuf>>> {
    let mut people: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.file_stem().context("a file")?.to_string_lossy().into_owned();
        let (name, _) = stem.rsplit_once('_').context("a name and a number")?;
        people.entry(name.to_owned()).or_default().push(path);
    }
    people.values_mut().for_each(|photos| photos.sort());
    let mut people: Vec<Vec<PathBuf>> = people.into_values().collect();
    people.sort_by_key(|photos| std::cmp::Reverse(photos.len().min(ENROLLED + 1)));
    Ok(people)
}

/// Returns a film of a photo that moves to and fro and gets lighter and darker, as Motion JPEG.
fn film(photo: &Path) -> Result<Vec<u8>> {
    let picture = read_photo(photo)?.into_picture();
    let [width, height] = [picture.width(), picture.height()].map(|side| side as u32);
    let pixels = RgbImage::from_raw(width, height, picture.bytes().to_vec()).context("three bytes a pixel")?;
    let pixels = imageops::resize(&pixels, 224, 224, imageops::FilterType::Triangle);
    let frame = |number: u32| {
        let swing = |period: f32| (number as f32 * std::f32::consts::TAU / period).sin();
        let mut frame = RgbImage::from_pixel(320, 256, image::Rgb([128, 134, 140]));
        imageops::replace(&mut frame, &pixels, (48.0 + 20.0 * swing(25.0)) as i64, 16);
        let light = 1.0 + 0.12 * swing(17.0);
        frame.pixels_mut().for_each(|pixel| pixel.0 = pixel.0.map(|value| (f32::from(value) * light) as u8));
        jpeg(&frame)
    };
    Ok((0..FRAMES).flat_map(frame).collect())
}

#[test]
fn strangers_get_no_name_and_enrolled_people_get_theirs() -> Result<()> {
    let Some(folder) = folder("lfw") else { return Ok(()) };
    let people = photos_of_people(&folder)?;
    let place = Place::new();
    for (number, photos) in people.iter().take(PEOPLE).enumerate() {
        let name = format!("person {number}");
        let mut how = vec!["enroll", &name, "--aligned", "--force", "--threshold", THRESHOLD];
        how.extend(photos[..ENROLLED].iter().filter_map(|path| path.to_str()));
        place.run(&how).expect(0);
    }
    let names = |photo: &Path| -> Result<Vec<Option<String>>> {
        let path = place.folder.write("film.mjpg", &film(photo)?);
        let how = ["run", "--source", &path, "--json", "--tasks", "recognition", "--threshold", THRESHOLD];
        let lines = place.run(&how).expect(0).json();
        assert_eq!(lines.len(), FRAMES as usize);
        let name = |line: &Value| line["faces"][0]["recognition"]["name"].as_str().map(str::to_owned);
        assert!(lines.iter().filter(|line| line["faces"][0].is_object()).count() > 30, "the face is found");
        Ok(lines.iter().map(name).collect())
    };
    let mut right = 0;
    for (number, photos) in people.iter().take(PEOPLE).enumerate() {
        let given = names(&photos[ENROLLED])?;
        let own = format!("person {number}");
        assert!(given.iter().flatten().all(|name| *name == own), "person {number} gets another's name");
        right += usize::from(given.iter().flatten().count() > 10);
    }
    assert!(right + 1 >= PEOPLE, "{right} of {PEOPLE} people get their names");
    for (number, photos) in people.iter().skip(PEOPLE).take(PEOPLE).enumerate() {
        assert!(names(&photos[0])?.iter().all(Option::is_none), "stranger {number} gets a name");
    }
    Ok(())
}

#[test]
fn photos_of_many_people_are_not_enrolled_as_one() -> Result<()> {
    let Some(folder) = folder("lfw") else { return Ok(()) };
    let people = photos_of_people(&folder)?;
    let place = Place::new();
    let enrol = |name: &str, photos: Vec<&PathBuf>| {
        let how = ["enroll", name, "--aligned", "--json"].into_iter();
        place.run(&how.chain(photos.iter().filter_map(|path| path.to_str())).collect::<Vec<&str>>())
    };
    let one_of_each = people.iter().skip(100).take(24).filter_map(|photos| photos.first()).collect();
    let run = enrol("Ada", one_of_each).expect(1);
    let lines = run.json();
    let (report, photos) = lines.split_last().context("a report")?;
    assert_eq!((photos.len(), &report["added"], &report["refused"]), (24, &0.into(), &24.into()), "{report}");
    let is_unlike =
        |line: &Value| line["reasons"].as_array().is_some_and(|all| all.contains(&"unlike_other_photos".into()));
    assert!(photos.iter().all(is_unlike), "the reason");
    // Most photos of one person are enrolled, although there are others among them.
    let [first, second] = [&people[0], &people[1]];
    let report = enrol("Ada", first.iter().take(4).chain(&second[..1]).collect()).json().pop().context("a report")?;
    assert!(report["added"].as_u64().is_some_and(|added| added >= 2), "{report}");
    Ok(())
}

#[test]
fn turned_heads_are_refused_at_enrolment() -> Result<()> {
    let Some(dev) = folder("../scenes/dev") else { return Ok(()) };
    let scenes: Vec<Value> = serde_json::from_slice(&fs::read(dev.with_extension("json"))?)?;
    // Distance of the nose tip from the middle of the eyes, along their line, in distances of the eyes.
    let turn = |scene: &Value| {
        let point =
            |index: usize| [0, 1].map(|axis| scene["faces"][0]["keypoints"][index][axis].as_f64().unwrap_or(0.0));
        let (left, right, nose) = (point(0), point(1), point(2));
        let eyes = [right[0] - left[0], right[1] - left[1]];
        let along: f64 = (0..2).map(|axis| (nose[axis] - (left[axis] + right[axis]) / 2.0) * eyes[axis]).sum();
        (along / (eyes[0] * eyes[0] + eyes[1] * eyes[1])).abs()
    };
    let is_alone = |scene: &&Value| scene["source"] == "w300" && scene["faces"].as_array().map(Vec::len) == Some(1);
    let alone = scenes.iter().filter(is_alone);
    let mut alone: Vec<(f64, &str)> = alone.filter_map(|scene| Some((turn(scene), scene["path"].as_str()?))).collect();
    alone.sort_by(|a, b| a.0.total_cmp(&b.0));
    let place = Place::new();
    let refused = |scenes: &[(f64, &str)]| -> Result<usize> {
        let paths = scenes.iter().filter_map(|(_, path)| path.strip_prefix("scenes/").map(|path| dev.join(path)));
        let paths: Vec<String> = paths.map(|path| path.to_string_lossy().into_owned()).collect();
        let how = ["enroll", "Ada", "--json", "--threshold", THRESHOLD];
        let run = place.run(&how.into_iter().chain(paths.iter().map(String::as_str)).collect::<Vec<&str>>());
        let lines = run.json();
        assert!(lines.len() >= scenes.len(), "a line for each photo");
        let is_turned = |line: &&Value| line["reasons"].as_array().is_some_and(|all| all.contains(&"turned".into()));
        Ok(lines.iter().filter(is_turned).count())
    };
    assert!(refused(&alone[alone.len() - 6..])? >= 1, "a head that is turned far");
    assert_eq!(refused(&alone[..3])?, 0, "heads from the front");
    Ok(())
}
