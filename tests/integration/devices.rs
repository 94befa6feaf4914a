//! `faceptor devices` on whatever machine this is: build machines have no camera, and some developers do.

use serde_json::Value;

use crate::program::faceptor;

#[test]
fn cameras_are_listed_or_advice_is_given() {
    let listed = faceptor(&["devices", "--json"]);
    let [report] = listed.json().try_into().expect("one object");
    let (cameras, unusable) = (&report["cameras"], &report["unusable"]);
    let count = |list: &Value| list.as_array().expect("a list").len();
    assert_eq!(listed.status, Some(if count(cameras) == 0 && count(unusable) > 0 { 1 } else { 0 }));
    for camera in cameras.as_array().expect("a list") {
        assert!(camera["path"].as_str().is_some_and(|path| path.starts_with("/dev/video")), "{camera}");
        assert!(camera["driver"].is_string() && camera["card"].is_string() && camera["formats"].is_array(), "{camera}");
    }
    let text = faceptor(&["devices"]);
    for camera in cameras.as_array().expect("a list") {
        assert!(text.out.contains(camera["path"].as_str().expect("checked")), "{text:?}");
    }
    if count(cameras) + count(unusable) == 0 {
        assert!(text.out.contains("no camera") && text.out.contains("--source demo"), "{text:?}");
    }
}
