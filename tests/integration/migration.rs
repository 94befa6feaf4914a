//! Crops that are kept on request, and a gallery that goes over to another network by them.

use std::fs;

use faceptor::stages::embedded_bundle;
use serde_json::Value;

use crate::gallery_place::Place;
use crate::program::{Folder, PORTRAIT, faceptor};

/// Returns the embedded network under another hash of its recognition: it sees slightly darker faces.
fn other_network(folder: &Folder) -> String {
    let bundle = embedded_bundle().expect("a network is embedded");
    let mut manifest = bundle.manifest().clone();
    manifest.name = "other".into();
    manifest.impostors = None;
    let input = manifest.input.as_mut().expect("one input");
    input.mean = input.mean.map(|mean| mean + 1.0);
    let text = toml::to_string(&manifest).expect("a manifest is TOML");
    folder.write("other.bundle", &bundle.with_manifest(&text).expect("it fits its parts"))
}

fn names(place: &Place) -> Vec<Value> {
    let list = place.run(&["gallery", "list", "--json"]).expect(0).json().remove(0);
    list["people"].as_array().expect("people").iter().map(|person| person["name"].clone()).collect()
}

#[test]
fn a_gallery_with_crops_goes_over_to_another_network_and_people_without_are_named() {
    let place = Place::new();
    let other = other_network(&place.folder);
    let enrol = |name: &str, more: &[&str]| {
        place.run(&[&["enroll", name, PORTRAIT, "--threshold", "0.6", "--force"], more].concat()).expect(0);
    };
    enrol("Eileen Collins", &["--keep-crops"]);
    enrol("Ada", &[]);
    let before = fs::read(&place.gallery).expect("readable");
    let identify = |more: &[&str]| place.run(&[&["identify", PORTRAIT, "--threshold", "0.6", "--json"], more].concat());
    let refused = identify(&["--model", &other]).expect(1);
    assert!(refused.err.contains("another network"), "{refused:?}");

    let run = place.run(&["gallery", "migrate", "--model", &other, "--json"]).expect(1);
    let report = run.json().remove(0);
    assert_eq!(
        (&report["migrated"], &report["without_crops"]),
        (&false.into(), &serde_json::json!(["Ada"])),
        "{report}"
    );
    assert_eq!(fs::read(&place.gallery).expect("readable"), before, "nothing was changed");

    let run = place.run(&["gallery", "migrate", "--model", &other, "--remove-others", "--json"]).expect(0);
    let report = run.json().remove(0);
    let numbers = ["people", "templates", "templates_left_out"].map(|key| report[key].as_u64());
    assert_eq!((report["migrated"].as_bool(), numbers), (Some(true), [Some(1), Some(1), Some(1)]), "{report}");
    assert_eq!(names(&place), ["Eileen Collins"]);
    let found = identify(&["--model", &other]).expect(0).json().remove(0);
    let answer = &found["faces"][0]["recognition"];
    assert_eq!(answer["name"], "Eileen Collins", "{answer}");
    // The crop is the face of the photo: what it lost in the copy is little.
    assert!(answer["similarity"].as_f64().is_some_and(|similarity| similarity > 0.95), "{answer}");
    assert!(identify(&[]).expect(1).err.contains("another network"));
    place.run(&["gallery", "verify"]).expect(0);
    let audit = place.run(&["gallery", "audit"]).expect(0);
    assert!(audit.out.contains("migrated"), "{audit:?}");
    // It is of this network now, and goes back by the same crop.
    let again = place.run(&["gallery", "migrate", "--model", &other]).expect(0);
    assert!(again.out.contains("already"), "{again:?}");
    place.run(&["gallery", "migrate"]).expect(0);
    assert_eq!(identify(&[]).expect(0).json()[0]["faces"][0]["recognition"]["name"], "Eileen Collins");
}

#[test]
fn crops_are_kept_on_request_only_encrypted_and_exported() {
    let place = Place::new();
    let crop = |name: &str| {
        let export = place.run(&["gallery", "export", name]).expect(0).json().remove(0);
        (export["templates"][0]["crop"].as_str().map(str::to_owned), export)
    };
    place.run(&["enroll", "Ada", PORTRAIT, "--threshold", "0.6"]).expect(0);
    assert_eq!(crop("Ada").0, None, "no picture is kept unless it is asked for");
    place.run(&["gallery", "remove", "Ada"]).expect(0);
    place.run(&["enroll", "Ada", PORTRAIT, "--threshold", "0.6", "--keep-crops"]).expect(0);
    let (kept, export) = crop("Ada");
    let kept = kept.expect("a crop is held, so it is exported");
    assert!(kept.starts_with("ffd8ff"), "a JPEG");
    let file = fs::read(&place.gallery).expect("readable");
    let bytes: Vec<u8> = (0..64).map(|at| u8::from_str_radix(&kept[2 * at..2 * at + 2], 16).expect("digits")).collect();
    assert!(!file.windows(16).any(|part| bytes.windows(16).any(|known| part == known)), "the file shows the crop");

    // An import keeps it; a damaged one is refused.
    let exported = place.folder.write("ada.json", export.to_string().as_bytes());
    place.run(&["gallery", "rename", "Ada", "Grace"]).expect(0);
    assert_eq!(crop("Grace").0.as_ref(), Some(&kept), "kept when the file is written anew");
    place.run(&["gallery", "import", &exported]).expect(0);
    assert_eq!(crop("Ada").0, Some(kept));
    for bad in [Value::from("xy"), Value::from("abc"), Value::from(""), Value::from("00".repeat(300_000))] {
        let mut export = export.clone();
        (export["name"], export["templates"][0]["crop"]) = ("Mary".into(), bad);
        let file = place.folder.write("bad.json", export.to_string().as_bytes());
        let run = place.run(&["gallery", "import", &file]).expect(1);
        assert!(run.err.contains("crop"), "{run:?}");
    }
    let none = place.run(&["gallery", "migrate", "--model", "/nowhere.bundle"]).expect(1);
    assert!(none.err.contains("nowhere"), "{none:?}");
    faceptor(&["gallery", "migrate"]).expect(2);
}
