//! `faceptor image --looks`: further looks at the face, mirrored and zoomed, and none for tasks whose answer has a side.

use image::{GrayImage, RgbImage, imageops};
use serde_json::Value;

use crate::pictures::{png, portrait};
#[cfg(feature = "compiler")]
use crate::program::EXPORT;
use crate::program::{Folder, faceptor};

const SIDE: u32 = 216;

/// The results for one aligned crop, with its mask.
struct Said {
    face: Value,
    mask: GrayImage,
}

impl Said {
    fn of(folder: &Folder, name: &str, crop: &RgbImage, looks: &str) -> Said {
        let file = folder.write(&format!("{name}.png"), &png(crop.clone()));
        let masks = folder.file(&format!("{name}-{looks}"));
        let how = ["--aligned", "--json", "--tasks", "all", "--looks", looks, "--masks", &masks];
        let lines = faceptor(&[&["image"], how.as_slice(), &[&file]].concat()).expect(0).json();
        let face = lines[0]["faces"][0].clone();
        let mask = image::open(face["parsing"]["mask"].as_str().expect("a path")).expect("a PNG").into_luma8();
        Said { face, mask }
    }

    fn numbers(&self, pointer: &str) -> Vec<f64> {
        let list = self.face.pointer(pointer).and_then(Value::as_array).expect("a list");
        list.iter().map(|v| v.as_f64().expect("a number")).collect()
    }

    fn point(&self, index: usize) -> [f64; 2] {
        let xy = self.numbers(&format!("/landmarks/points/{index}"));
        [xy[0], xy[1]]
    }

    fn years(&self) -> f64 {
        self.face["age"]["years"].as_f64().expect("a number")
    }

    fn happiness(&self) -> f64 {
        self.face["expression"]["scores"]["happiness"].as_f64().expect("a number")
    }
}

/// Returns the portrait's face as an aligned crop, and its mirror image about the frame's middle, which is the pixel in the middle.
fn crops() -> (RgbImage, RgbImage) {
    let crop = imageops::crop_imm(&portrait(), 117, 10, SIDE, SIDE).to_image();
    let mirrored = RgbImage::from_fn(SIDE, SIDE, |x, y| *crop.get_pixel((SIDE - x).min(SIDE - 1), y));
    (crop, mirrored)
}

/// Returns the squared distance of two embeddings of unit length.
fn apart(a: &Said, b: &Said) -> f64 {
    let (a, b) = (a.numbers("/recognition/embedding"), b.numbers("/recognition/embedding"));
    a.iter().zip(&b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Returns the largest distance, in pixels, of a point from its twin in the mirror image: chin, nose, eyes, mouth and jaw.
fn crooked(a: &Said, b: &Said) -> f64 {
    let pairs = [(8, 8), (30, 30), (36, 45), (45, 36), (48, 54), (54, 48), (0, 16), (16, 0)];
    let distance = |(one, other)| {
        let ([x, y], [u, v]) = (a.point(one), b.point(other));
        (f64::from(SIDE) - x - u).hypot(y - v)
    };
    pairs.map(distance).into_iter().fold(0.0, f64::max)
}

/// Returns the share of pixels whose class is not that of their twin in the mirror image.
fn unlike(a: &Said, b: &Said) -> f64 {
    // Eyes, brows and ears: the person's left and right.
    let twin = |class: u8| match class {
        4 | 6 | 8 => class + 1,
        5 | 7 | 9 => class - 1,
        other => other,
    };
    let pixels = (1..SIDE).flat_map(|x| (0..SIDE).map(move |y| (x, y)));
    let wrong = pixels.filter(|&(x, y)| twin(a.mask.get_pixel(x, y)[0]) != b.mask.get_pixel(SIDE - x, y)[0]).count();
    wrong as f64 / f64::from((SIDE - 1) * SIDE)
}

#[test]
fn augmented_results_of_a_face_and_of_its_mirror_image_agree() {
    let folder = Folder::new();
    let (crop, mirrored) = crops();
    let both = |looks: &str| (Said::of(&folder, "a", &crop, looks), Said::of(&folder, "b", &mirrored, looks));
    // One look is not symmetric: otherwise this would say nothing of the second one.
    let (a, b) = both("1");
    assert!(apart(&a, &b) > 0.02 && crooked(&a, &b) > 0.5 && unlike(&a, &b) > 0.01);
    let once = a;
    for looks in ["2", "6", "10"] {
        let (a, b) = both(looks);
        assert!(apart(&a, &b) < 0.005, "{}", apart(&a, &b));
        assert!(crooked(&a, &b) < 0.3, "{}", crooked(&a, &b));
        assert!(unlike(&a, &b) < 0.006, "{}", unlike(&a, &b));
        assert!((a.years() - b.years()).abs() < 0.3 && (a.happiness() - b.happiness()).abs() < 0.02);
        // And they stay near to what one look says.
        let moved = |index| (a.point(index)[0] - once.point(index)[0]).hypot(a.point(index)[1] - once.point(index)[1]);
        assert!([0, 8, 16, 30, 36, 45, 48, 54].into_iter().all(|index| moved(index) < 8.0));
        assert!((a.years() - once.years()).abs() < 6.0 && apart(&a, &once) < 0.5);
        let said = |said: &Said, x, y| said.mask.get_pixel(x, y)[0];
        assert_eq!((said(&a, 107, 105), said(&once, 107, 105)), (2, 2), "the nose");
    }
}

#[test]
fn photos_are_looked_at_ten_times_for_the_parsing_and_six_for_the_rest_and_odd_numbers_are_refused() {
    let folder = Folder::new();
    let file = folder.write("crop.png", &png(crops().0));
    let faces = |more: &[&str]| {
        let arguments = [&["image", "--aligned", "--json", "--tasks", "all", &file], more].concat();
        faceptor(&arguments).expect(0).json()[0]["faces"].clone()
    };
    assert_eq!(faces(&[]), faces(&["--looks", "10"]));
    let [mut six, mut ten] = [faces(&["--looks", "6"]), faces(&[])];
    let [six_shares, ten_shares] = [&mut six, &mut ten].map(|faces| faces[0]["parsing"].take());
    assert!(six == ten && six_shares != ten_shares && ten_shares.is_object());
    assert_ne!(faces(&[]), faces(&["--looks", "1"]));
    assert_ne!(faces(&[]), faces(&["--looks", "2"]));
    for looks in ["0", "3", "8", "two"] {
        let run = faceptor(&["image", "--looks", looks, &file]).expect(2);
        assert!(run.err.contains("--looks"), "{}", run.err);
    }
}

#[cfg(feature = "compiler")]
#[test]
fn a_task_that_does_not_know_mirrored_faces_is_asked_once() {
    let folder = Folder::new();
    for entry in std::fs::read_dir(EXPORT).expect("the network is there") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|e| e == "onnx") {
            let name = path.file_name().expect("a file").to_string_lossy().into_owned();
            folder.write(&format!("sided/{name}"), &std::fs::read(&path).expect("readable"));
        }
    }
    let manifest = std::fs::read_to_string(format!("{}/manifest.toml", EXPORT)).expect("a manifest");
    // The age alone is asked once.
    let (before, age) = manifest.split_once("name = \"age\"").expect("a task of that name");
    let sided = format!("{before}name = \"age\"{}", age.replacen("mirror = true", "mirror = false", 1));
    folder.write("sided/manifest.toml", sided.as_bytes());
    let file = folder.write("crop.png", &png(crops().0));
    let face = |more: &[&str]| {
        let arguments = [&["image", "--aligned", "--json", "--tasks", "age,expression", &file], more].concat();
        faceptor(&arguments).expect(0).json()[0]["faces"][0].clone()
    };
    let bundle = folder.file("sided.bundle");
    faceptor(&["compile", &folder.file("sided"), "--out", &bundle]).expect(0);
    let (sided, once, six) = (face(&["--model", &bundle]), face(&["--looks", "1"]), face(&["--looks", "6"]));
    assert_eq!(sided["age"], once["age"]);
    assert_ne!(sided["age"], six["age"]);
    assert_eq!(sided["expression"], six["expression"]);
}
