//! `faceptor image` finds faces at every roll, in pictures of every size.

use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use serde_json::Value;

use crate::pictures::{png, portrait};
use crate::program::{FACE, Folder, PORTRAIT, faceptor, overlap};

type Point = [f64; 2];

/// Turns a picture clockwise on a canvas that holds it.
struct Rolled {
    sin: f64,
    cos: f64,
    from: Point,
    to: Point,
}

impl Rolled {
    fn of(picture: &RgbImage, degrees: u32) -> (RgbImage, Rolled) {
        let (sin, cos) = f64::from(degrees).to_radians().sin_cos();
        let (width, height) = (f64::from(picture.width()), f64::from(picture.height()));
        let across = (width * cos.abs() + height * sin.abs() - 1e-6).ceil();
        let down = (width * sin.abs() + height * cos.abs() - 1e-6).ceil();
        let middle = |width: f64, height: f64| [(width - 1.0) / 2.0, (height - 1.0) / 2.0];
        let turn = Rolled { sin, cos, from: middle(width, height), to: middle(across, down) };
        let canvas = RgbImage::from_fn(across as u32, down as u32, |x, y| {
            let [x, y] = turn.back([f64::from(x), f64::from(y)]);
            imageops::interpolate_bilinear(picture, x as f32, y as f32).unwrap_or(Rgb([0; 3]))
        });
        (canvas, turn)
    }

    /// Returns where a point of the canvas lies in the picture.
    fn back(&self, [x, y]: Point) -> Point {
        let (x, y) = (x - self.to[0], y - self.to[1]);
        [self.cos * x + self.sin * y + self.from[0], self.cos * y - self.sin * x + self.from[1]]
    }
}

fn points(list: &Value) -> Vec<Point> {
    let number = |value: &Value| value.as_f64().expect("a number");
    list.as_array().expect("a list").iter().map(|point| [number(&point[0]), number(&point[1])]).collect()
}

/// Returns the mean distance of points from others.
fn apart(some: &[Point], others: &[Point]) -> f64 {
    assert_eq!(some.len(), others.len());
    some.iter().zip(others).map(|(a, b)| (a[0] - b[0]).hypot(a[1] - b[1])).sum::<f64>() / some.len() as f64
}

/// Runs the finder and chosen tasks on picture files; one JSON object each.
fn ask(tasks: &str, more: &[&str], files: &[String]) -> Vec<Value> {
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    faceptor(&[&["image", "--json", "--looks", "1", "--tasks", tasks], more, &files].concat()).expect(0).json()
}

fn faces(line: &Value) -> &Vec<Value> {
    line["faces"].as_array().expect("a list")
}

#[test]
fn a_face_at_any_roll_is_answered_as_if_upright() {
    let folder = Folder::new();
    let upright = &ask("landmarks,expression", &[], &[PORTRAIT.to_owned()])[0]["faces"][0];
    let expected = points(&upright["landmarks"]["points"]);
    let eyes = (expected[36][0] - expected[45][0]).hypot(expected[36][1] - expected[45][1]);
    let turned: Vec<(u32, Rolled, String)> = (30..360)
        .step_by(30)
        .map(|degrees| {
            let (picture, turn) = Rolled::of(&portrait(), degrees);
            (degrees, turn, folder.write(&format!("{degrees:03}.png"), &png(picture)))
        })
        .collect();
    let files: Vec<String> = turned.iter().map(|(_, _, file)| file.clone()).collect();
    let lines = ask("landmarks,expression", &[], &files);
    assert_eq!(lines.len(), turned.len());
    for ((degrees, turn, _), line) in turned.iter().zip(&lines) {
        assert_eq!(faces(line).len(), 1, "{degrees} degrees: {line}");
        let face = &line["faces"][0];
        let found: Vec<Point> =
            points(&face["landmarks"]["points"]).into_iter().map(|point| turn.back(point)).collect();
        let error = apart(&found, &expected) / eyes;
        assert!(error < 0.03, "{degrees} degrees: landmarks {error:.3} eye distances off");
        let keypoints: Vec<Point> = points(&face["keypoints"]).into_iter().map(|point| turn.back(point)).collect();
        let error = apart(&keypoints, &points(&upright["keypoints"])) / eyes;
        assert!(error < 0.08, "{degrees} degrees: keypoints {error:.3} eye distances off");
        assert_eq!((&face["expression"]["label"], &face["quality"]["trusted"]), (&"happiness".into(), &true.into()));
        let roll =
            face["quality"]["roll"].as_f64().expect("degrees") - upright["quality"]["roll"].as_f64().expect("degrees");
        let off = (roll - f64::from(*degrees) + 180.0).rem_euclid(360.0) - 180.0;
        assert!(off.abs() < 6.0, "{degrees} degrees: a roll of {roll}");
    }
}

#[test]
fn upright_faces_are_the_same_with_and_without_the_search_for_turned_ones() {
    let both = ["--upright", "--max-faces=64"].map(|option| ask("age", &[option], &[PORTRAIT.to_owned()]));
    assert_eq!(both[0][0]["faces"], both[1][0]["faces"]);
    let folder = Folder::new();
    let file = folder.write("down.png", &png(imageops::rotate180(&portrait())));
    assert_eq!(faces(&ask("none", &[], &[file])[0]).len(), 1);
}

#[test]
fn a_face_that_the_edge_of_a_photo_cuts_is_found() {
    let folder = Folder::new();
    // The eyes lie above the upper edge, or the right half of the face beyond the left one.
    let cut = [(0, 112, 512, 400), (240, 0, 272, 400)].map(|(x, y, width, height)| {
        folder.write(&format!("{x}-{y}.png"), &png(imageops::crop_imm(&portrait(), x, y, width, height).to_image()))
    });
    for (line, edge) in ask("none", &[], &cut).iter().zip([[176.0, 0.0, 274.0, 78.0], [0.0, 60.0, 34.0, 190.0]]) {
        assert!(faces(line).iter().any(|face| overlap(&face["box"], edge) > 0.5), "{line}");
    }
}

#[test]
fn a_small_face_in_a_wide_picture_is_found() {
    let folder = Folder::new();
    // As a photo of 12000 x 2000 pixels with a face of 155 x 200 px at its end, at half the size.
    let mut wide = RgbImage::from_pixel(6000, 1000, Rgb([128; 3]));
    imageops::replace(&mut wide, &imageops::resize(&portrait(), 457, 457, FilterType::Triangle), 5400, 450);
    let file = folder.write("wide.png", &png(wide));
    let line = &ask("none", &[], std::slice::from_ref(&file))[0];
    let scale = 457.0 / 512.0;
    let [left, top, right, bottom] = FACE.map(|edge| edge * scale);
    let at = [left + 5400.0, top + 450.0, right + 5400.0, bottom + 450.0];
    assert_eq!((faces(line).len(), &line["searched_from_px"]), (1, &24.0.into()), "{line}");
    assert!(overlap(&line["faces"][0]["box"], at) > 0.5, "{line}");
    // Large faces alone are looked for in the whole picture, and this is said.
    let run = faceptor(&["image", "--tasks", "none", "--min-face", "400", &file]).expect(0);
    assert!(run.out.contains("6000 x 1000, no face, searched for faces of 400 pixels and more\n"), "{}", run.out);
    let run = faceptor(&["image", "--min-face", "3", &file]).expect(2);
    assert!(run.err.contains("16 to 10000 pixels are needed"), "{}", run.err);
}

#[test]
fn every_face_of_a_large_collage_is_found_once() {
    let folder = Folder::new();
    let mut collage = RgbImage::from_pixel(4000, 3000, Rgb([90, 110, 100]));
    // One large face, and rows of copies whose faces are 30 to 130 pixels high, wherever tiles begin and end.
    let large = imageops::resize(&portrait(), 1400, 1400, FilterType::Triangle);
    imageops::replace(&mut collage, &large, 2400, 1500);
    let mut places = vec![FACE.map(|edge| edge * 1400.0 / 512.0)];
    places[0] = [places[0][0] + 2400.0, places[0][1] + 1500.0, places[0][2] + 2400.0, places[0][3] + 1500.0];
    for (row, side) in [120u32, 180, 260, 512].into_iter().enumerate() {
        let small = imageops::thumbnail(&portrait(), side, side);
        for column in 0..5u32 {
            let (x, y) = (37 + 461 * column, 20 + 560 * row as u32);
            imageops::replace(&mut collage, &small, x.into(), y.into());
            let scale = f64::from(side) / 512.0;
            let [left, top, right, bottom] = FACE.map(|edge| edge * scale);
            places.push([left + f64::from(x), top + f64::from(y), right + f64::from(x), bottom + f64::from(y)]);
        }
    }
    let file = folder.write("collage.png", &png(collage));
    let line = &ask("none", &[], &[file])[0];
    for place in &places {
        let hits = faces(line).iter().filter(|face| overlap(&face["box"], *place) > 0.4).count();
        assert_eq!(hits, 1, "{place:?}: {line}");
    }
    assert_eq!(faces(line).len(), places.len(), "{line}");
}

/// Returns a film of grey frames of 640 x 480 pixels, 30 a second.
fn film(frames: impl Iterator<Item = RgbImage>) -> Vec<u8> {
    let mut film = b"YUV4MPEG2 W640 H480 F30:1 Ip A1:1 Cmono\n".to_vec();
    for frame in frames {
        film.extend(b"FRAME\n");
        film.extend(imageops::grayscale(&frame).into_raw());
    }
    film
}

/// Returns the portrait, turned clockwise, with the middle of its face in the middle of a frame; and where its points lie in the portrait.
fn rolled_frame(degrees: f64) -> (RgbImage, Rolled) {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let turn = Rolled { sin, cos, from: [224.0, 122.0], to: [320.0, 240.0] };
    let whole = portrait();
    let frame = RgbImage::from_fn(640, 480, |x, y| {
        let [x, y] = turn.back([f64::from(x), f64::from(y)]);
        imageops::interpolate_bilinear(&whole, x as f32, y as f32).unwrap_or(Rgb([110; 3]))
    });
    (frame, turn)
}

fn run(name: &str, film: &[u8], frames: usize) -> Vec<Value> {
    let folder = Folder::new();
    let file = folder.write(name, film);
    let frames = frames.to_string();
    faceptor(&["run", "--source", &file, "--frames", &frames, "--json", "--tasks", "landmarks"]).expect(0).json()
}

#[test]
fn the_live_loop_finds_faces_up_to_sixty_degrees_of_roll() {
    let upright = &ask("landmarks", &[], &[PORTRAIT.to_owned()])[0]["faces"][0];
    let expected = points(&upright["landmarks"]["points"]);
    let eyes = (expected[36][0] - expected[45][0]).hypot(expected[36][1] - expected[45][1]);
    // The portrait itself is turned by five degrees.
    for degrees in [0.0, 30.0, 45.0, 54.0, -45.0, -60.0] {
        let (frame, turn) = rolled_frame(degrees);
        let lines = run("rolled.y4m", &film(std::iter::repeat_n(frame, 24)), 24);
        // A new face is looked for at three rolls in four frames, and its keypoints settle in a few.
        for line in &lines[10..] {
            assert_eq!(faces(line).len(), 1, "{degrees} degrees: {line}");
            let face = &line["faces"][0];
            let found: Vec<Point> =
                points(&face["landmarks"]["points"]).into_iter().map(|point| turn.back(point)).collect();
            let error = apart(&found, &expected) / eyes;
            assert!(error < 0.05, "{degrees} degrees: landmarks {error:.3} eye distances off");
            assert_eq!(
                (&face["id"], &face["quality"]["why"]),
                (&1.into(), &serde_json::json!([])),
                "{degrees}: {line}"
            );
        }
    }
}

#[test]
fn a_face_that_rolls_on_in_the_live_loop_is_doubted() {
    let film = film((0..60).map(|frame| rolled_frame(f64::from(frame.min(40)) * 2.0).0));
    let lines = run("rolling.y4m", &film, 60);
    for (frame, line) in lines.iter().enumerate() {
        let face = &line["faces"][0];
        assert_eq!(face["id"], 1, "frame {frame}: {line}");
        let doubted = face["quality"]["why"].as_array().is_some_and(|why| why.contains(&"rolled".into()));
        let degrees = frame.min(40) * 2;
        // The portrait itself is turned by five degrees.
        assert!(doubted || degrees < 66, "frame {frame}: {line}");
        assert!(!doubted || degrees > 46, "frame {frame}: {line}");
    }
}
