//! Faces that are not to be trusted: cut off by the picture's border, blurred, or no faces at all.

use image::{Rgb, RgbImage, imageops};
use serde_json::Value;

use crate::pictures::{png, portrait};
use crate::program::{Folder, faceptor};

/// Left, top, right and bottom of the face in the portrait, from the hairline to the chin.
const EXTENT: [u32; 4] = [172, 60, 276, 176];

/// Cuts a part out of the portrait: left, top, right, bottom.
fn part([left, top, right, bottom]: [u32; 4]) -> RgbImage {
    imageops::crop_imm(&portrait(), left, top, right - left, bottom - top).to_image()
}

/// Answers for pictures: the `quality` of the best face of each; `None` where there is no face.
fn qualities(pictures: Vec<RgbImage>, options: &[&str]) -> Vec<Option<Value>> {
    let folder = Folder::new();
    let paths: Vec<String> = pictures
        .into_iter()
        .enumerate()
        .map(|(index, picture)| folder.write(&format!("{index:03}.png"), &png(picture)))
        .collect();
    let arguments: Vec<&str> = ["image", "--json", "--looks", "1"]
        .into_iter()
        .chain(options.iter().copied())
        .chain(paths.iter().map(String::as_str))
        .collect();
    let lines = faceptor(&arguments).expect(0).json();
    assert_eq!(lines.len(), paths.len());
    lines.iter().map(|line| line["faces"].get(0).map(|face| face["quality"].clone())).collect()
}

/// Returns the `quality` of the face in the last of `frames` frames that show one picture.
fn quality_in_run(picture: RgbImage) -> Value {
    let folder = Folder::new();
    for index in 0..4 {
        folder.write(&format!("{index}.png"), &png(picture.clone()));
    }
    let run = faceptor(&[
        "run",
        "--source",
        folder.path().to_str().expect("UTF-8"),
        "--frames",
        "4",
        "--json",
        "--tasks",
        "age",
    ]);
    run.expect(0).json().last().expect("four lines")["faces"][0]["quality"].clone()
}

fn doubts(quality: &Value, reason: &str) -> bool {
    assert_eq!(quality["trusted"] == true, quality["why"].as_array().is_some_and(Vec::is_empty), "{quality}");
    quality["why"].as_array().expect("a list").contains(&reason.into())
}

/// Returns the portrait without `share` of the face at one side (left, top, right, bottom); below 0 with a margin.
fn cut(side: usize, share: f64) -> RgbImage {
    let length = f64::from(EXTENT[(side + 2) % 4].abs_diff(EXTENT[side]));
    let mut edges = [0, 0, 512, 512];
    let inwards = if side < 2 { share * length } else { -share * length };
    edges[side] = (f64::from(EXTENT[side]) + inwards).round() as u32;
    part(edges)
}

#[test]
fn a_face_that_the_border_cuts_is_doubted_at_every_side_and_a_whole_one_is_not() {
    for tasks in ["landmarks,age", "age"] {
        let whole = (0..4).flat_map(|side| [0.1, 0.03].map(|margin| cut(side, -margin))).collect();
        for quality in qualities(whole, &["--tasks", tasks]) {
            let quality = quality.expect("a whole face is found");
            assert!(quality["trusted"] == true, "{tasks}: {quality}");
        }
        let shares = [0.3, 0.4, 0.5, 0.6];
        let cuts = (0..4).flat_map(|side| shares.map(|share| cut(side, share))).collect();
        let found = qualities(cuts, &["--tasks", tasks]);
        for (index, quality) in found.iter().enumerate() {
            let (side, share) = (index / shares.len(), shares[index % shares.len()]);
            // The forehead has no landmarks and little weight.
            let is_forehead = side == 1 && share == 0.3;
            if let Some(quality) = quality {
                assert!(is_forehead || doubts(quality, "cut_off"), "{tasks}, side {side}, {share}: {quality}");
            }
        }
        assert!(found.iter().flatten().count() >= 6, "{tasks}: some of them are found");
    }
    // The command: the eyes lie above the picture.
    let above = || part([0, 112, 512, 512]);
    let quality = qualities(vec![above()], &[]).remove(0).expect("it is found");
    assert!(doubts(&quality, "cut_off") && quality["landmarks_visible"].as_f64() < Some(0.9), "{quality}");
    assert!(doubts(&quality_in_run(above()), "cut_off"));
    assert!(!doubts(&quality_in_run(part([100, 30, 400, 330])), "cut_off"));
}

#[test]
fn a_corner_that_is_cut_off_is_doubted() {
    let [left, top, right, bottom] = EXTENT;
    let (width, height) = ((right - left) * 3 / 10, (bottom - top) * 3 / 10);
    let corners = [
        [left + width, top + height, 512, 512],
        [0, top + height, right - width, 512],
        [left + width, 0, 512, bottom - height],
        [0, 0, right - width, bottom - height],
    ];
    let found = qualities(corners.map(part).into(), &["--tasks", "landmarks"]);
    assert!(found.iter().flatten().count() >= 3, "{found:?}");
    assert!(found.iter().flatten().all(|quality| doubts(quality, "cut_off")), "{found:?}");
}

/// Averages `length` pixels along a direction.
fn motion(picture: &RgbImage, length: i32, [right, down]: [i32; 2]) -> RgbImage {
    let last = [picture.width() as i32 - 1, picture.height() as i32 - 1];
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let at = |step: i32| {
            let [x, y] = [(x as i32 + step * right).clamp(0, last[0]), (y as i32 + step * down).clamp(0, last[1])];
            picture.get_pixel(x as u32, y as u32).0.map(i32::from)
        };
        let sum =
            (-length / 2..length - length / 2).map(at).fold([0; 3], |sum, pixel| [0, 1, 2].map(|c| sum[c] + pixel[c]));
        Rgb(sum.map(|v| (v / length) as u8))
    })
}

#[test]
fn a_blurred_face_is_doubted_and_a_sharp_one_is_not() {
    // 40 pixels between the eyes: 1.2 times the pixels of a crop of 160.
    let near = || part([100, 0, 400, 300]);
    let blurred: Vec<RgbImage> = [3.0f32, 4.0, 5.0].map(|sigma| imageops::blur(&near(), 1.2 * sigma)).into();
    let moved =
        [[1, 0], [0, 1], [1, 1], [1, -1]].map(|way| motion(&near(), if way[0] * way[1] == 0 { 20 } else { 15 }, way));
    let doubted: Vec<RgbImage> = blurred.into_iter().chain(moved).collect();
    let worst = doubted[0].clone();
    for quality in qualities(doubted, &["--tasks", "age"]) {
        let quality = quality.expect("a blurred face is found");
        assert!(doubts(&quality, "blurred"), "{quality}");
    }
    assert!(doubts(&quality_in_run(worst), "blurred"));
    // Sharp at any size; with light noise; a little soft.
    let sizes = [90, 150, 300, 900].map(|side| imageops::resize(&near(), side, side, imageops::FilterType::Triangle));
    let mut sharp: Vec<RgbImage> = sizes.into();
    sharp.push(imageops::blur(&near(), 0.8));
    for quality in qualities(sharp, &["--tasks", "age"]) {
        let quality = quality.expect("a sharp face is found");
        assert!(!doubts(&quality, "blurred") && quality["sharpness"].as_f64() > Some(0.3), "{quality}");
    }
    let quality = quality_in_run(near());
    assert!(quality["trusted"] == true, "{quality}");
}

/// Draws a round yellow head of `radius` pixels with two eyes, round or closed, and one of four mouths.
fn smiley(radius: f64, ground: [u8; 3], closed: bool, mouth: usize) -> RgbImage {
    let side = (4.0 * radius) as u32;
    let [wide, high] = if closed { [0.18, 0.06] } else { [0.1, 0.16] };
    RgbImage::from_fn(side, side, |x, y| {
        let [x, y] = [x, y].map(|v| (f64::from(v) - 2.0 * radius) / radius);
        let eye = ((x.abs() - 0.36) / wide).hypot((y + 0.25) / high) < 1.0;
        let arc = |middle: f64, bend: f64| x.abs() < 0.5 && (y - middle + bend * x * x).abs() < 0.07;
        let mouth = match mouth {
            0 => arc(0.45, 0.5),
            1 => (x / 0.15).hypot((y - 0.5) / 0.25) < 1.0,
            2 => arc(0.35, -0.5),
            _ => y > 0.2 && (x / 0.5).hypot((y - 0.2) / 0.4) < 1.0,
        };
        match (eye || mouth, x.hypot(y)) {
            (true, _) => Rgb([20, 15, 10]),
            (false, distance) if distance < 0.95 => Rgb([255, 214, 50]),
            (false, distance) if distance < 1.0 => Rgb([20, 15, 10]),
            _ => Rgb(ground),
        }
    })
}

#[test]
fn smileys_and_negatives_are_unlikely_faces_and_the_portrait_is_a_likely_one() {
    let whole = portrait();
    let negative = RgbImage::from_fn(512, 512, |x, y| Rgb(whole.get_pixel(x, y).0.map(|v| 255 - v)));
    let mut things = vec![negative.clone(), imageops::resize(&negative, 300, 300, imageops::FilterType::Triangle)];
    things.push(imageops::flip_horizontal(&imageops::crop_imm(&negative, 100, 0, 250, 250).to_image()));
    for ground in [[110, 45, 165], [75, 115, 25], [130, 15, 45]] {
        for (radius, closed) in [(50.0, false), (90.0, false), (50.0, true), (90.0, true)] {
            things.extend((0..4).map(|mouth| smiley(radius, ground, closed, mouth)));
        }
    }
    for tasks in ["age", "landmarks,expression"] {
        let found = qualities(things.clone(), &["--tasks", tasks]);
        assert!(found.iter().flatten().count() >= 12, "the finder takes many of them for faces: {found:?}");
        for quality in found.iter().flatten() {
            assert!(doubts(quality, "unlikely_face") && quality["likeness"].as_f64() < Some(0.5), "{quality}");
        }
    }
    let faces = [0u32, 60, 100].map(|left| imageops::crop_imm(&whole, left, 0, 300, 300).to_image());
    let faces = faces
        .into_iter()
        .chain([imageops::flip_horizontal(&whole), image::DynamicImage::from(imageops::grayscale(&whole)).into_rgb8()]);
    for quality in qualities(faces.collect(), &["--tasks", "age"]) {
        let quality = quality.expect("the portrait's face");
        assert!(quality["trusted"] == true && quality["likeness"].as_f64() > Some(0.9), "{quality}");
    }
    // Without a task the encoder has not run.
    let none = qualities(vec![whole], &["--tasks", "none"]).remove(0).expect("it is found");
    assert_eq!(none["likeness"], Value::Null, "{none}");
    let mut film = RgbImage::from_pixel(320, 240, Rgb([110, 45, 165]));
    imageops::overlay(&mut film, &smiley(50.0, [110, 45, 165], false, 1), 60, 20);
    let film = imageops::resize(&film, 160, 120, imageops::FilterType::Triangle);
    assert!(doubts(&quality_in_run(film), "unlikely_face"));
}
