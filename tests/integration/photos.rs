//! `faceptor image` on good pictures: answers, tasks, files written.

use image::imageops::{self, FilterType};
use image::{GenericImageView, Rgb, RgbImage};
use serde_json::Value;

use crate::pictures::{contact_sheet, gradient, jpeg, jpeg_with_orientation, noise, png, portrait};
use crate::program::{FACE, Folder, PORTRAIT, command, faceptor, finish, near, overlap};

fn only(json: Vec<Value>) -> Value {
    assert_eq!(json.len(), 1);
    json.into_iter().next().expect("one line")
}

fn keys(object: &Value) -> Vec<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn every_task_answers_for_the_portrait() {
    let run = faceptor(&["image", PORTRAIT, "--json", "--tasks", "all"]).expect(0);
    assert_eq!(run.err, "");
    let line = only(run.json());
    assert_eq!((&line["path"], &line["width"], &line["height"]), (&PORTRAIT.into(), &512.into(), &512.into()));
    for key in ["capture", "convert", "find", "align", "encode", "present", "total"] {
        assert!(line["timing_us"][key].is_u64(), "{key}");
    }
    let faces = line["faces"].as_array().expect("a list");
    assert_eq!(faces.len(), 1, "{line}");
    let face = &faces[0];
    assert_eq!(face["id"], 1);
    assert!(face["score"].as_f64().is_some_and(|s| (0.5..=1.0).contains(&s)));
    assert!(overlap(&face["box"], FACE) > 0.5, "{}", face["box"]);
    // Eyes, nose and mouth corners, by eye.
    let keypoints = serde_json::json!([[202, 101], [247, 103], [224, 122], [206, 145], [241, 145]]);
    assert!(near(&face["keypoints"], &keypoints, 12.0), "{}", face["keypoints"]);

    let points = face["landmarks"]["points"].as_array().expect("a list");
    assert_eq!(points.len(), 68);
    for point in points {
        let (x, y) = (point[0].as_f64().expect("x"), point[1].as_f64().expect("y"));
        assert!((150.0..300.0).contains(&x) && (50.0..215.0).contains(&y), "{point}");
    }
    // The outer eye corners lie outside of the pupils, on their height; the chin lies below the mouth.
    let at = |index: usize, axis: usize| points[index][axis].as_f64().expect("a number");
    assert!(at(36, 0) < 202.0 && at(45, 0) > 247.0 && (at(36, 1) - 101.0).abs() < 12.0);
    assert!(at(8, 1) > 160.0 && at(8, 1) > at(57, 1));

    let share = face["parsing"]["share"].as_array().expect("a list");
    assert_eq!((share.len(), face["parsing"]["classes"].as_array().map(Vec::len)), (19, Some(19)));
    let sum: f64 = share.iter().filter_map(Value::as_f64).sum();
    assert!((sum - 1.0).abs() < 0.01, "{sum}");
    assert!(share[1].as_f64().is_some_and(|skin| skin > 0.08), "skin: {share:?}");
    assert_eq!(face["parsing"]["mask"], Value::Null);

    assert!(face["age"]["years"].as_f64().is_some_and(|years| (18.0..65.0).contains(&years)), "{}", face["age"]);
    assert!(face["age"]["std"].as_f64().is_some_and(|std| (0.5..30.0).contains(&std)), "{}", face["age"]);

    let scores = face["expression"]["scores"].as_object().expect("an object");
    let sum: f64 = scores.values().filter_map(Value::as_f64).sum();
    assert!(scores.len() == 8 && (sum - 1.0).abs() < 0.01, "{scores:?}");
    assert_eq!(face["expression"]["label"], "happiness", "{scores:?}");

    let attributes = face["attributes"].as_object().expect("an object");
    assert_eq!(attributes.len(), 40);
    assert!(attributes["Smiling"].as_f64() > Some(0.5), "{attributes:?}");
    assert!(attributes["Eyeglasses"].as_f64() < Some(0.5), "{attributes:?}");

    let embedding = face["recognition"]["embedding"].as_array().expect("a list");
    let length: f64 = embedding.iter().filter_map(Value::as_f64).map(|v| v * v).sum();
    assert!((length - 1.0).abs() < 1e-3, "{length}");
    assert_eq!((&face["recognition"]["name"], &face["recognition"]["similarity"]), (&Value::Null, &Value::Null));
}

#[test]
fn only_the_chosen_tasks_have_keys_and_their_answers_do_not_change() {
    let all = only(faceptor(&["image", PORTRAIT, "--json", "--tasks", "all"]).expect(0).json());
    let common = ["id", "score", "box", "keypoints", "quality"];
    let default = only(faceptor(&["image", PORTRAIT, "--json"]).expect(0).json());
    let tasks: Vec<&str> =
        keys(&default["faces"][0]).into_iter().filter(|key| !common.contains(key) && *key != "pose").collect();
    let mut sorted = tasks.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["age", "attributes", "expression", "landmarks", "parsing"]);
    let mut names = tasks;
    names.push("recognition");
    for name in names {
        let one = only(faceptor(&["image", PORTRAIT, "--json", "--tasks", name]).expect(0).json());
        let face = &one["faces"][0];
        // Landmarks give the pose too.
        assert_eq!(face["pose"].is_object(), name == "landmarks");
        assert_eq!(keys(face).len(), common.len() + if name == "landmarks" { 2 } else { 1 });
        assert_eq!(face[name], all["faces"][0][name], "{name} alone and with the others");
        assert_eq!(keys(&one["timing_us"]["decode"]), [name]);
    }
    let none = only(faceptor(&["image", PORTRAIT, "--json", "--tasks", "none"]).expect(0).json());
    assert_eq!(keys(&none["faces"][0]).len(), common.len());
}

#[test]
fn text_for_people_names_the_answers() {
    let run = faceptor(&["image", PORTRAIT]).expect(0);
    assert!(run.out.starts_with(&format!("{PORTRAIT}: 512 x 512, 1 face\n")), "{}", run.out);
    for word in ["happiness", "skin", "68 points", " y \u{b1}"] {
        assert!(run.out.contains(word), "{word}: {}", run.out);
    }
}

#[test]
fn pictures_without_a_face_are_no_error() {
    let folder = Folder::new();
    let files = [
        folder.write("gradient.png", &png(gradient(320, 240))),
        folder.write("noise.png", &png(noise(200, 160))),
        folder.write("dot.png", &png(gradient(1, 1))),
    ];
    let run = faceptor(&["image", "--json", &files[0], &files[1], &files[2]]).expect(0);
    assert!(run.json().iter().all(|line| line["faces"].as_array().is_some_and(Vec::is_empty)), "{}", run.out);
    assert_eq!(run.json().len(), 3);
}

#[test]
fn forty_faces_are_found_and_a_limit_is_kept() {
    let folder = Folder::new();
    let sheet = folder.write("sheet.jpg", &jpeg(&contact_sheet(8, 5)));
    let line = only(faceptor(&["image", "--json", "--tasks", "none", &sheet]).expect(0).json());
    let faces = line["faces"].as_array().expect("a list");
    assert!((36..=42).contains(&faces.len()), "{} faces", faces.len());
    assert!(faces.windows(2).all(|pair| pair[0]["score"].as_f64() >= pair[1]["score"].as_f64()));
    let line = only(faceptor(&["image", "--json", "--tasks", "age", "--max-faces", "3", &sheet]).expect(0).json());
    let best = line["faces"].as_array().expect("a list");
    assert_eq!(best.len(), 3);
    assert!(best.iter().all(|face| face["age"]["years"].is_f64()));
    assert_eq!(best[2]["box"], faces[2]["box"]);
}

#[test]
fn a_turned_photo_is_put_upright_by_its_exif_orientation() {
    let folder = Folder::new();
    let upright = only(faceptor(&["image", "--json", "--tasks", "none", PORTRAIT]).expect(0).json());
    let cut = imageops::crop_imm(&portrait(), 0, 0, 512, 400).to_image();
    // 6: the viewer turns it clockwise by a right angle, so it is stored turned the other way. 3: upside down.
    let stored = [(6, imageops::rotate270(&cut)), (3, imageops::rotate180(&cut)), (8, imageops::rotate90(&cut))];
    for (orientation, picture) in stored {
        let file = folder.write(&format!("{orientation}.jpg"), &jpeg_with_orientation(&picture, orientation));
        let line = only(faceptor(&["image", "--json", "--tasks", "none", &file]).expect(0).json());
        assert_eq!((&line["width"], &line["height"]), (&512.into(), &400.into()), "orientation {orientation}");
        let keypoints = &line["faces"][0]["keypoints"];
        assert!(near(keypoints, &upright["faces"][0]["keypoints"], 6.0), "orientation {orientation}: {keypoints}");
    }
}

#[test]
fn an_aligned_crop_skips_the_finder() {
    let folder = Folder::new();
    // The template at 192 px has the eyes 40 px apart; they are 45 px apart in the portrait.
    let crop = imageops::crop_imm(&portrait(), 117, 10, 216, 216).to_image();
    let file = folder.write("crop.png", &png(crop));
    let masks = folder.file("masks");
    let line = only(faceptor(&["image", "--aligned", "--json", "--masks", &masks, &file]).expect(0).json());
    let face = &line["faces"][0];
    assert_eq!((face["score"].as_f64(), &face["box"]), (Some(1.0), &serde_json::json!([0.0, 0.0, 216.0, 216.0])));
    let eye = &face["keypoints"][0];
    assert!(near(eye, &serde_json::json!([85.5, 92.4]), 0.1), "{eye}");
    assert_eq!(line["timing_us"]["decode"].as_object().map(|d| d.len()), Some(5));
    let mask = image::open(face["parsing"]["mask"].as_str().expect("a path")).expect("a PNG").into_luma8();
    assert_eq!(mask.dimensions(), (216, 216));
    assert!(mask.pixels().all(|pixel| pixel[0] < 19), "the whole file is the crop");
    let oblong = folder.write("oblong.png", &png(gradient(64, 48)));
    let run = faceptor(&["image", "--aligned", "--json", &oblong, &file]).expect(1);
    assert!(run.line_about("oblong").contains("an aligned crop is square, this picture has 64 x 48 pixels"));
    assert_eq!(run.json().len(), 1);
}

#[test]
fn masks_follow_the_face_and_shares_agree_with_them() {
    let folder = Folder::new();
    let masks = folder.file("masks");
    let line = only(faceptor(&["image", "--json", "--tasks", "parsing", "--masks", &masks, PORTRAIT]).expect(0).json());
    let parsing = &line["faces"][0]["parsing"];
    let path = parsing["mask"].as_str().expect("a path");
    assert!(path.starts_with(&masks));
    let mask = image::open(path).expect("a PNG").into_luma8();
    assert_eq!(mask.dimensions(), (512, 512));
    assert_eq!((mask.get_pixel(5, 500)[0], mask.get_pixel(510, 5)[0]), (255, 255), "far from the face");
    assert_eq!(mask.get_pixel(224, 115)[0], 2, "the nose");
    // Shares are of the crop; where it leaves the photo the mask has no pixels, so they agree roughly.
    let inside = mask.pixels().filter(|pixel| pixel[0] != 255).count() as f64;
    for class in [1u8, 13] {
        let counted = mask.pixels().filter(|pixel| pixel[0] == class).count() as f64 / inside;
        let share = parsing["share"][usize::from(class)].as_f64().expect("a number");
        assert!((counted - share).abs() < 0.06, "class {class}: {counted} and {share}");
    }
}

#[test]
fn annotated_pictures_never_collide_nor_replace_an_input() {
    let folder = Folder::new();
    let bytes = std::fs::read(PORTRAIT).expect("the portrait");
    folder.write("a.jpg", &bytes);
    let input = folder.write("a.png", &png(portrait()));
    folder.write("sub/a.jpg", &bytes);
    let before = std::fs::read(&input).expect("just written");
    let here = folder.file("");
    let run = faceptor(&["image", "--out", &here, &here]).expect(0);
    assert_eq!(run.out.matches("1 face").count(), 3, "{}", run.out);
    assert_eq!(std::fs::read(&input).expect("still there"), before);
    let out = folder.file("out");
    faceptor(&["image", "--out", &out, &folder.file("a.jpg"), &input, &folder.file("sub")]).expect(0);
    assert_eq!(folder.names("out"), ["a-2.png", "a-3.png", "a.png"]);
    let drawn = image::open(folder.file("out/a.png")).expect("a PNG");
    assert_eq!(drawn.dimensions(), (512, 512));
    let (drawn, plain) = (drawn.into_rgb8(), portrait());
    let changed = |x0: u32, y0: u32, x1: u32, y1: u32| {
        let area = (x0..x1).flat_map(|x| (y0..y1).map(move |y| (x, y)));
        area.filter(|&(x, y)| drawn.get_pixel(x, y)[1].abs_diff(plain.get_pixel(x, y)[1]) > 40).count()
    };
    assert!(changed(180, 60, 270, 190) > 300, "something is drawn on the face");
    assert_eq!(changed(0, 400, 100, 512), 0, "and nothing far from it");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let mut child = command(&["image", "--json", "--tasks", "none", PORTRAIT, PORTRAIT, PORTRAIT]);
    child.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = child.spawn().expect("the binary can be started");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told() {
    let mut full = command(&["image", "--json", "--tasks", "none", PORTRAIT]);
    full.stdout(std::fs::File::create("/dev/full").expect("Linux has it"));
    let run = finish(full).expect(1);
    assert!(run.err.contains("cannot write to standard output: No space left"), "{}", run.err);
}

#[test]
fn a_face_that_cannot_be_seen_well_is_not_to_be_trusted() {
    let folder = Folder::new();
    let whole = portrait();
    let dark = RgbImage::from_fn(512, 512, |x, y| Rgb(whole.get_pixel(x, y).0.map(|v| v / 20)));
    let pale = RgbImage::from_fn(512, 512, |x, y| Rgb(whole.get_pixel(x, y).0.map(|v| 100 + v / 30)));
    let small = imageops::resize(&whole, 128, 128, FilterType::Triangle);
    let crop = |picture: &RgbImage| imageops::crop_imm(picture, 128, 36, 192, 192).to_image();
    let quality = |name: &str, picture: RgbImage, more: &[&str]| {
        let path = folder.write(name, &png(picture));
        let arguments = [&["image", &path, "--json", "--tasks", "age"], more].concat();
        only(faceptor(&arguments).expect(0).json())["faces"][0]["quality"].clone()
    };
    let good = quality("good.png", whole.clone(), &[]);
    assert_eq!((&good["trusted"], &good["why"]), (&true.into(), &serde_json::json!([])), "{good}");
    let near = |key: &str, expected: f64, off: f64| (good[key].as_f64().expect("a number") - expected).abs() < off;
    assert!(near("eyes_px", 40.0, 5.0) && near("turn", 0.0, 0.1) && near("brightness", 170.0, 30.0), "{good}");
    let small = quality("small.png", small, &[]);
    assert_eq!((&small["trusted"], &small["why"]), (&false.into(), &serde_json::json!(["too_small"])), "{small}");
    let dark = quality("dark.png", crop(&dark), &["--aligned"]);
    assert!(dark["why"].as_array().is_some_and(|why| why.contains(&"too_dark".into())), "{dark}");
    let pale = quality("pale.png", crop(&pale), &["--aligned"]);
    assert_eq!(pale["why"], serde_json::json!(["low_contrast"]), "{pale}");
    let said = faceptor(&["image", &folder.file("small.png")]).expect(0);
    assert!(said.out.contains("not to be trusted: too small"), "{}", said.out);
    // Without a task nothing was looked at.
    let none = only(faceptor(&["image", PORTRAIT, "--json", "--tasks", "none"]).expect(0).json());
    assert_eq!(none["faces"][0]["quality"]["brightness"], Value::Null);
}
