//! Tests of the names of tracks, with made-up embeddings.

use std::sync::Arc;

use crate::recognition::identities::TOO_LITTLE_EVIDENCE;
use crate::recognition::track_names::TrackNames;
use faceptor::stages::{Face, Prediction, Suspicion, TaskDecoder, TaskResult};
use faceptor_gallery::{
    Decision, Details, Gallery, KeySource, Network, PassphraseCost, Roster, StoredTemplate, Template,
};
use faceptor_identity::PLATFORM;
use faceptor_nn::manifest::{Task, TaskKind};
use faceptor_test_support::Folder;

const NOW: u64 = 1_000_000;

/// Returns people by name, direction in degrees and end of the enrolment.
fn roster(people: &[(&str, f32, Option<u64>)], threshold: f32) -> Arc<Roster> {
    let folder = Folder::new();
    let key = KeySource::from_file_content(&std::array::from_fn::<u8, 32, _>(|index| index as u8)).expect("a key");
    let network = Network { name: "test".into(), recognition: [7; 32], dimension: 2 };
    let cost = PassphraseCost { memory_kib: 8, passes: 1 };
    let mut gallery =
        Gallery::create(&folder.path().join("g"), &key, &network, cost, PLATFORM, NOW).expect("a new file");
    for &(name, degrees, expires_at) in people {
        let template = Template::of(&direction(degrees), 2).expect("a direction");
        let stored = StoredTemplate { template, added_at: NOW, eyes_px: 60.0, forced: Vec::new(), crop: None };
        let (enrolled_by, purpose) = (String::new(), String::new());
        let details = Details { name: name.into(), enrolled_at: NOW, enrolled_by, purpose, expires_at };
        gallery.enrol(details, vec![stored], NOW).expect("enrolled");
    }
    Arc::new(gallery.roster(Decision::at(threshold), NOW))
}

fn direction(degrees: f32) -> [f32; 2] {
    let (sine, cosine) = degrees.to_radians().sin_cos();
    [cosine, sine]
}

/// Returns a large frontal face with an embedding in this direction.
fn face(id: u32, degrees: f32) -> Face {
    let task = Task { name: "recognition".into(), ..Task::of_kind(TaskKind::Recognition) };
    let decoders = [TaskDecoder::new(&task, &[1, 2]).expect("two numbers")];
    let mut face = Face::blank(&decoders);
    let keypoints = [[0.4, 0.43], [0.6, 0.43], [0.5, 0.55], [0.42, 0.67], [0.58, 0.67]];
    face.detection.keypoints = keypoints.map(|[x, y]: [f32; 2]| [x * 300.0, y * 300.0]);
    (face.id, face.results[0]) = (id, TaskResult::fresh(Prediction::Recognition(direction(degrees).to_vec())));
    face
}

/// Shows a face in the first slot for some frames. Returns the name and the reason of each.
fn show(
    names: &mut TrackNames,
    face: &Face,
    suspicion: Suspicion,
    frames: usize,
) -> Vec<(Option<String>, Option<&'static str>)> {
    let frame = |_| {
        names.update([(0, face, suspicion)].into_iter(), NOW);
        let identities = names.identities();
        let answer = identities.answer(0).expect("an answer a face");
        (identities.name(0).map(str::to_owned), answer.unknown)
    };
    (0..frames).map(frame).collect()
}

fn last_name(shown: Vec<(Option<String>, Option<&'static str>)>) -> Option<String> {
    shown.into_iter().next_back().expect("a frame").0
}

fn two() -> TrackNames {
    TrackNames::new(0, roster(&[("Ada", 0.0, None), ("Grace", 90.0, None)], 0.9))
}

#[test]
fn a_name_needs_enough_frames_and_a_stranger_gets_none() {
    let mut names = two();
    let shown = show(&mut names, &face(1, 5.0), Suspicion::None, 20);
    let first = shown.iter().position(|(name, _)| name.is_some()).expect("a name");
    assert!((3..6).contains(&first), "frame {first}");
    assert!(shown[..first].iter().all(|(_, reason)| *reason == Some(TOO_LITTLE_EVIDENCE)));
    assert!(shown[first..].iter().all(|(name, reason)| name.as_deref() == Some("Ada") && reason.is_none()));
    let shown = show(&mut names, &face(2, 45.0), Suspicion::None, 20);
    assert_eq!(shown[19], (None, Some("below_threshold")));
    let mut lenient = TrackNames::new(0, roster(&[("Ada", 0.0, None), ("Grace", 90.0, None)], 0.5));
    assert_eq!(show(&mut lenient, &face(1, 45.0), Suspicion::None, 20)[19], (None, Some("ambiguous")));
    let mut empty = TrackNames::new(0, roster(&[], 0.5));
    assert_eq!(show(&mut empty, &face(1, 45.0), Suspicion::None, 20)[19], (None, Some("empty_gallery")));
}

#[test]
fn small_blurred_and_turned_faces_count_less_or_nothing() {
    let first = |face: &Face| {
        let shown = show(&mut two(), face, Suspicion::None, 60);
        shown.iter().position(|(name, _)| name.is_some())
    };
    let large = first(&face(1, 5.0)).expect("a name");
    let mut small = face(1, 5.0);
    small.detection.keypoints = small.detection.keypoints.map(|point| point.map(|value| value / 3.0));
    assert!(first(&small).expect("a name") > large);
    let mut turned = face(1, 5.0);
    turned.detection.keypoints[2][0] += 0.25 * 60.0;
    assert!(first(&turned).expect("a name") > large);
    let mut blurred = face(1, 5.0);
    blurred.sharpness = Some(0.5);
    assert!(first(&blurred).expect("a name") > large);
    // An untrusted face gives no name, however long it is seen.
    blurred.sharpness = Some(0.1);
    assert_eq!(first(&blurred), None);
    turned.detection.keypoints[2][0] += 0.2 * 60.0;
    assert_eq!(first(&turned), None);
}

#[test]
fn a_name_does_not_flicker_about_the_threshold() {
    let mut names = two();
    show(&mut names, &face(1, 20.0), Suspicion::None, 30);
    // A cosine of 0.9 is 25.8 degrees, and 0.84 is 32.8 degrees.
    for frame in 0..200 {
        let degrees = if frame % 2 == 0 { 24.0 } else { 31.0 };
        assert_eq!(last_name(show(&mut names, &face(1, degrees), Suspicion::None, 1)).as_deref(), Some("Ada"));
    }
    // Far below it the name goes, once.
    let shown = show(&mut names, &face(1, 45.0), Suspicion::None, 200);
    let changes = shown.windows(2).filter(|pair| pair[0].0 != pair[1].0).count();
    assert_eq!((changes, shown[199].0.as_deref()), (1, None));
}

#[test]
fn another_face_in_the_track_ends_the_name() {
    let mut names = two();
    assert_eq!(last_name(show(&mut names, &face(1, 0.0), Suspicion::None, 30)).as_deref(), Some("Ada"));
    // One odd frame changes nothing.
    assert_eq!(last_name(show(&mut names, &face(1, 95.0), Suspicion::None, 1)).as_deref(), Some("Ada"));
    assert_eq!(last_name(show(&mut names, &face(1, 0.0), Suspicion::None, 1)).as_deref(), Some("Ada"));
    let shown = show(&mut names, &face(1, 90.0), Suspicion::None, 20);
    let ada = shown.iter().filter(|(name, _)| name.as_deref() == Some("Ada")).count();
    assert!(ada < 3, "{ada} frames");
    assert!(shown[3].0.is_none() && shown[19].0.as_deref() == Some("Grace"), "{shown:?}");
    // Another track in the slot begins anew.
    assert_eq!(last_name(show(&mut names, &face(2, 90.0), Suspicion::None, 1)), None);
}

#[test]
fn suspicion_and_cuts_end_the_name() {
    let mut names = two();
    show(&mut names, &face(1, 0.0), Suspicion::None, 30);
    // A face that looks different and still is like itself keeps its name.
    assert_eq!(last_name(show(&mut names, &face(1, 10.0), Suspicion::Appearance, 1)).as_deref(), Some("Ada"));
    // Without an embedding it is in doubt, so no name stays on it, until an embedding shows whose it is.
    let mut stale = face(1, 0.0);
    stale.results[0].stale_frames = 2;
    assert_eq!(last_name(show(&mut names, &stale, Suspicion::Appearance, 3)), None);
    assert_eq!(last_name(show(&mut names, &face(1, 0.0), Suspicion::None, 1)).as_deref(), Some("Ada"));
    // Another face loses it with the first frame.
    assert_eq!(last_name(show(&mut names, &face(1, 90.0), Suspicion::Appearance, 1)), None);
    assert_eq!(last_name(show(&mut names, &face(1, 0.0), Suspicion::None, 1)), None);
    assert_eq!(last_name(show(&mut names, &face(1, 0.0), Suspicion::None, 30)).as_deref(), Some("Ada"));
    assert_eq!(last_name(show(&mut names, &face(1, 0.0), Suspicion::Shape, 1)), None);
    assert_eq!(last_name(show(&mut names, &face(1, 0.0), Suspicion::None, 2)), None);
    assert_eq!(last_name(show(&mut names, &face(1, 0.0), Suspicion::None, 30)).as_deref(), Some("Ada"));
    names.cut();
    assert_eq!(last_name(show(&mut names, &face(1, 0.0), Suspicion::None, 2)), None);
}

#[test]
fn people_whose_time_is_over_lose_their_names() {
    let mut names = TrackNames::new(0, roster(&[("Ada", 0.0, Some(NOW + 10)), ("Grace", 90.0, None)], 0.9));
    let ada = face(1, 0.0);
    assert_eq!(last_name(show(&mut names, &ada, Suspicion::None, 30)).as_deref(), Some("Ada"));
    let mut at = |now| {
        names.update([(0, &ada, Suspicion::None)].into_iter(), now);
        names.identities().name(0).map(str::to_owned)
    };
    assert_eq!((at(NOW + 9).as_deref(), at(NOW + 10), at(NOW + 11)), (Some("Ada"), None, None));
}

#[test]
fn another_state_of_the_gallery_changes_names_at_the_next_frame() {
    let mut names = two();
    let ada = face(1, 0.0);
    show(&mut names, &ada, Suspicion::None, 30);
    let mut stale = ada.clone();
    stale.results[0].stale_frames = 1;
    names.set_roster(roster(&[("Grace", 90.0, None)], 0.9));
    assert_eq!(show(&mut names, &stale, Suspicion::None, 1)[0], (None, Some("below_threshold")));
    names.set_roster(roster(&[("Grace", 90.0, None), ("Countess", 1.0, None)], 0.9));
    assert_eq!(last_name(show(&mut names, &stale, Suspicion::None, 1)).as_deref(), Some("Countess"));
    // A gallery of another length of templates cannot be used.
    let other = Arc::new(Roster::default());
    names.set_roster(other);
    assert_eq!(last_name(show(&mut names, &stale, Suspicion::None, 1)).as_deref(), Some("Countess"));
}

#[test]
fn embeddings_without_direction_are_no_evidence() {
    let mut names = two();
    for bad in [vec![0.0, 0.0], vec![f32::NAN, 1.0], vec![f32::INFINITY, 1.0], vec![1.0], Vec::new()] {
        let mut face = face(1, 0.0);
        face.results[0] = TaskResult::fresh(Prediction::Recognition(bad));
        assert_eq!(show(&mut names, &face, Suspicion::None, 20)[19], (None, Some(TOO_LITTLE_EVIDENCE)));
    }
    assert_eq!(last_name(show(&mut names, &face(1, 0.0), Suspicion::None, 20)).as_deref(), Some("Ada"));
    // A face whose recognition is not chosen has no name.
    let mut unknown = face(1, 0.0);
    unknown.results[0].known = false;
    assert_eq!(last_name(show(&mut names, &unknown, Suspicion::None, 1)), None);
}
