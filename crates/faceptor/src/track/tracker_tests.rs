use super::*;
use crate::geometry::TRACKING_LANDMARKS;
use crate::geometry::middle;
use crate::track::face_track::MAX_MISSES;

const TEMPLATE: [Point; 5] = [[0.4, 0.43], [0.6, 0.43], [0.5, 0.55], [0.42, 0.67], [0.58, 0.67]];
const FRAME_S: f32 = 1.0 / 30.0;

fn tracks(limit: usize) -> Tracker {
    Tracker::new(TrackerOptions { limit, smoothing: false }, &TEMPLATE)
}

/// Returns a face whose crop has its corner at x, y.
fn crop(x: f32, y: f32, side: f64) -> Similarity {
    Similarity { a: side, b: 0.0, tx: f64::from(x), ty: f64::from(y) }
}

fn detection(x: f32, y: f32, score: f32) -> Detection {
    let keypoints = TEMPLATE.map(|p| crop(x, y, 200.0).apply_point(p));
    Detection { score, edges: [x + 50.0, y + 50.0, x + 150.0, y + 170.0], keypoints }
}

/// Landmarks of which only the five that are looked at mean something; the others are the nose.
fn landmarks(keypoints: &[Point; 5]) -> [Point; TRACKING_LANDMARKS] {
    let mut points = [keypoints[2]; TRACKING_LANDMARKS];
    points[36..42].fill(keypoints[0]);
    points[42..48].fill(keypoints[1]);
    (points[30], points[48], points[54]) = (keypoints[2], keypoints[3], keypoints[4]);
    points
}

/// Returns the appearance of a crop, unless a test gives another.
fn appearance() -> AppearanceTemplate {
    let plane: Vec<f32> = (0..24 * 24).map(|i| (i / 3 % 5) as f32).collect();
    AppearanceTemplate::of(&plane, 24)
}

fn crop_of(tracks: &Tracker, slot: usize) -> Similarity {
    let keypoints = tracks.get(slot).expect("followed").keypoints();
    Similarity::fit(keypoints, &TEMPLATE).expect("distinct").inverse()
}

/// Tracks one frame, in which the finder runs if it must. Reports whether it did.
fn frame(tracks: &mut Tracker, faces: &[(f32, f32)]) -> bool {
    tracks.begin(FRAME_S);
    let asked = tracks.needs_finder(true, false);
    if asked {
        let found: Vec<Detection> = faces.iter().map(|&(x, y)| detection(x, y, 0.9)).collect();
        tracks.check(&found, true, MAX_TRACKS);
    }
    for slot in 0..MAX_TRACKS {
        let Some(track) = tracks.get(slot) else { continue };
        // The face whose landmarks the network would see is the one nearest to the crop.
        let at = middle(track.keypoints());
        let distance = |face: &&(f32, f32)| {
            let [x, y] = middle(&detection(face.0, face.1, 0.9).keypoints);
            (x - at[0]).hypot(y - at[1])
        };
        let nearest = faces.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
        if let Some(&(x, y)) = nearest.filter(|face| distance(face) < 60.0) {
            let to_picture = crop_of(tracks, slot);
            tracks.observe(slot, &mut landmarks(&detection(x, y, 0.9).keypoints), &to_picture, &appearance());
        }
    }
    tracks.settle(MAX_TRACKS);
    asked
}

#[test]
fn a_moving_face_is_followed_and_the_finder_rarely_asked() {
    let mut tracks = tracks(4);
    let mut asked = 0;
    for number in 0..150 {
        let x = 8.0 * number as f32;
        asked += u32::from(frame(&mut tracks, &[(x, 20.0)]));
        let (_, track) = tracks.iter().next().expect("followed");
        assert_eq!((track.id, tracks.count()), (1, 1));
        let edges = track.detection().edges;
        assert!((edges[0] - x - 50.0).abs() < 1.0 && (edges[3] - 190.0).abs() < 1.0, "{number}: {edges:?}");
    }
    assert_eq!(asked, 10);
}

#[test]
fn a_look_is_prepared_in_the_frames_before_unless_there_is_a_doubt() {
    let mut tracks = tracks(4);
    let mut searches = Vec::new();
    for number in 0..34 {
        tracks.begin(FRAME_S);
        let search = tracks.search(true, false);
        searches.push(search);
        match search {
            Search::Whole => tracks.check(&[detection(0.0, 0.0, 0.9)], true, 4),
            // It is old: the face was somewhat to the left.
            Search::Prepared => tracks.compare(&[detection(-20.0, 0.0, 0.9)], 4),
            _ => {}
        }
        let to_picture = crop_of(&tracks, 0);
        // In frame 19 it looks different.
        let looks = if number == 19 { AppearanceTemplate::default() } else { appearance() };
        tracks.observe(0, &mut landmarks(&detection(0.0, 0.0, 0.9).keypoints), &to_picture, &looks);
    }
    let parts = |from: usize| (0..8).map(move |part| (from + part, Search::Part(part)));
    let mut expected = vec![Search::Nothing; 34];
    (expected[0], expected[15], expected[20]) = (Search::Whole, Search::Prepared, Search::Whole);
    parts(7).chain(parts(27).take(7)).for_each(|(frame, part)| expected[frame] = part);
    assert_eq!(searches, expected);
}

#[test]
fn a_prepared_look_that_disagrees_changes_nothing_but_calls_for_a_whole_one() {
    for found in [&[][..], &[detection(0.0, 0.0, 0.9), detection(400.0, 0.0, 0.9)]] {
        let mut tracks = tracks(4);
        frame(&mut tracks, &[(0.0, 0.0)]);
        tracks.begin(FRAME_S);
        tracks.compare(found, 4);
        assert_eq!((tracks.count(), tracks.get(0).map(Track::lost_score)), (1, Some(0.0)));
        tracks.begin(FRAME_S);
        assert_eq!(tracks.search(true, true), Search::Whole);
    }
    // A face beyond the limit does not count as missing.
    let mut tracks = tracks(1);
    frame(&mut tracks, &[(0.0, 0.0)]);
    tracks.begin(FRAME_S);
    tracks.compare(&[detection(0.0, 0.0, 0.9), detection(400.0, 0.0, 0.9)], 4);
    assert_eq!(tracks.search(true, false), Search::Nothing);
    let edges = tracks.get(0).expect("followed").detection().edges;
    assert!((edges[0] - 50.0).abs() < 0.1 && (edges[3] - 170.0).abs() < 0.1, "{edges:?}");
}

#[test]
fn the_next_crop_is_where_the_face_will_be() {
    let mut tracks = tracks(1);
    for number in 0..30 {
        frame(&mut tracks, &[(10.0 * number as f32, 0.0)]);
    }
    tracks.begin(FRAME_S);
    let expected = detection(300.0, 0.0, 0.9).keypoints[0];
    let predicted = tracks.get(0).expect("followed").keypoints()[0];
    assert!((predicted[0] - expected[0]).abs() < 1.0, "{predicted:?} {expected:?}");
}

#[test]
fn a_face_that_the_finder_misses_four_times_is_lost_and_never_comes_back_under_its_number() {
    let mut tracks = tracks(4);
    frame(&mut tracks, &[(0.0, 0.0)]);
    for _ in 0..CHECK_FRAMES - 1 {
        frame(&mut tracks, &[]);
        assert_eq!(tracks.count(), 1, "the detector has not run");
    }
    // From now on it is in suspicion, and the finder is asked at every frame.
    for _ in 0..MAX_MISSES {
        assert_eq!(tracks.count(), 1);
        assert!(frame(&mut tracks, &[]));
    }
    assert_eq!(tracks.count(), 0);
    frame(&mut tracks, &[(0.0, 0.0)]);
    assert_eq!(tracks.iter().map(|(_, f)| f.id).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_face_missed_once_is_kept() {
    let mut tracks = tracks(4);
    frame(&mut tracks, &[(0.0, 0.0)]);
    tracks.begin(FRAME_S);
    tracks.check(&[], true, 4);
    assert!(frame(&mut tracks, &[(0.0, 0.0)]), "asked again at once");
    assert!(!frame(&mut tracks, &[(0.0, 0.0)]));
    assert_eq!(tracks.iter().map(|(_, f)| f.id).collect::<Vec<_>>(), [1]);
}

#[test]
fn landmarks_that_are_no_face_call_the_finder() {
    let mut tracks = tracks(4);
    frame(&mut tracks, &[(0.0, 0.0)]);
    let to_picture = crop_of(&tracks, 0);
    let mut scrambled = detection(0.0, 0.0, 0.9).keypoints;
    scrambled.swap(0, 4);
    tracks.begin(FRAME_S);
    assert!(!tracks.needs_finder(true, false));
    tracks.observe(0, &mut landmarks(&scrambled), &to_picture, &appearance());
    assert!(tracks.needs_finder(true, false));
    // Two misses lose it then, and the crop stays where it was until they do.
    let before = *tracks.get(0).expect("followed").keypoints();
    assert!(tracks.is_visible(0, true), "the finder has not missed it yet");
    for left in [1, 0] {
        tracks.begin(FRAME_S);
        tracks.check(&[], true, 4);
        assert_eq!((tracks.count(), tracks.is_visible(0, true)), (left, false));
    }
    assert_eq!(before, detection(0.0, 0.0, 0.9).keypoints);
}

#[test]
fn a_track_beside_the_face_that_the_finder_sees_elsewhere_is_not_shown() {
    let mut tracks = tracks(4);
    frame(&mut tracks, &[(0.0, 0.0)]);
    let to_picture = crop_of(&tracks, 0);
    let mut points = landmarks(&detection(120.0, 0.0, 0.9).keypoints);
    tracks.begin(FRAME_S);
    tracks.check(&[detection(120.0, 0.0, 0.9)], true, 4);
    assert_eq!(tracks.count(), 2);
    // The old crop's landmarks are drawn to the face at its edge.
    tracks.observe(0, &mut points, &to_picture, &appearance());
    let shown = |slot| tracks.is_visible(slot, true);
    assert_eq!([shown(0), shown(1)], [false, true]);
}

#[test]
fn a_crop_that_looks_different_calls_the_finder_once() {
    let mut tracks = tracks(4);
    frame(&mut tracks, &[(0.0, 0.0)]);
    let to_picture = crop_of(&tracks, 0);
    let mut points = landmarks(&detection(0.0, 0.0, 0.9).keypoints);
    tracks.begin(FRAME_S);
    tracks.observe(0, &mut points, &to_picture, &AppearanceTemplate::default());
    assert!(tracks.get(0).is_some_and(|track| track.lost_score() == 0.25));
    assert!(tracks.needs_finder(true, false));
    // It confirms the face, whose new looks are those that count.
    tracks.begin(FRAME_S);
    tracks.check(&[detection(0.0, 0.0, 0.9)], true, 4);
    tracks.observe(0, &mut points, &to_picture, &appearance());
    assert!(!tracks.needs_finder(true, false));
    // Three misses lose a face that looks different.
    tracks.begin(FRAME_S);
    tracks.observe(0, &mut points, &to_picture, &AppearanceTemplate::default());
    for left in [1, 1, 0] {
        tracks.begin(FRAME_S);
        tracks.check(&[], true, 4);
        assert_eq!(tracks.count(), left);
    }
}

#[test]
fn two_faces_keep_their_numbers_while_they_pass_and_duplicates_go() {
    let mut tracks = tracks(4);
    for number in 0..60 {
        let step = 5.0 * number as f32;
        frame(&mut tracks, &[(step, 0.0), (300.0 - step, 150.0)]);
    }
    let mut all: Vec<(u32, f32)> = tracks.iter().map(|(_, f)| (f.id, f.detection().edges[0])).collect();
    all.sort_by_key(|(id, _)| *id);
    assert_eq!(all.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2]);
    assert!((all[0].1 - 345.0).abs() < 2.0 && (all[1].1 - 55.0).abs() < 2.0, "{all:?}");
    // Both drift onto one face: the older one stays.
    for step in 1..=40u8 {
        tracks.begin(FRAME_S);
        for (slot, from) in [(295.0, 0.0), (5.0, 150.0)].into_iter().enumerate() {
            let part = f32::from(step) / 40.0;
            let (x, y) = (from.0 + (150.0 - from.0) * part, from.1 + (75.0 - from.1) * part);
            let to_picture = crop_of(&tracks, slot);
            let mut points = landmarks(&detection(x, y, 0.9).keypoints);
            tracks.observe(slot, &mut points, &to_picture, &appearance());
        }
    }
    tracks.settle(4);
    assert_eq!(tracks.iter().map(|(_, f)| f.id).collect::<Vec<_>>(), [1]);
}

#[test]
fn the_limit_holds_and_may_fall() {
    let mut tracks = tracks(3);
    let faces: Vec<(f32, f32)> = (0..5).map(|i| (300.0 * i as f32, 0.0)).collect();
    frame(&mut tracks, &faces);
    assert_eq!(tracks.count(), 3);
    tracks.settle(1);
    assert_eq!(tracks.iter().map(|(_, f)| f.id).collect::<Vec<_>>(), [1]);
}

#[test]
fn without_landmarks_the_finder_runs_on_every_second_frame_and_faces_are_moved_on_in_between() {
    let mut tracks = tracks(2);
    let mut asked = 0;
    for number in 0..40 {
        tracks.begin(FRAME_S);
        // A face with a lower score is looked for at other rolls first.
        let found = [detection(6.0 * number as f32, 0.0, 0.98)];
        if tracks.needs_finder(false, false) {
            tracks.check(&found, false, 2);
            asked += 1;
        }
        let known = tracks.get(0).expect("followed").detection();
        let off = (known.edges[0] - found[0].edges[0]).abs();
        assert!(tracks.is_visible(0, false) && (number < 12 || off < 1.0), "{number}: {off}");
    }
    assert_eq!(asked, 20);
    // A missed face is looked for in every frame, is not shown, and keeps its number for a while.
    for _ in 0..UNSEEN_LOOKS - 1 {
        tracks.begin(FRAME_S);
        let asked = tracks.needs_finder(false, false);
        tracks.check(&[], false, 2);
        assert!(!tracks.is_visible(0, false) && (asked || tracks.get(0).is_some_and(|f| f.misses == 1)));
    }
    tracks.begin(FRAME_S);
    tracks.check(&[detection(240.0, 0.0, 0.8)], false, 2);
    assert_eq!(tracks.iter().map(|(_, f)| f.id).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_cut_ends_every_track() {
    let mut tracks = tracks(2);
    frame(&mut tracks, &[(0.0, 0.0), (400.0, 0.0)]);
    tracks.cut();
    // A face in the same place is another person's.
    assert!(frame(&mut tracks, &[(400.0, 0.0)]));
    assert_eq!(ids(&tracks), [3]);
}

fn ids(tracks: &Tracker) -> Vec<u32> {
    tracks.iter().map(|(_, track)| track.id).collect()
}

#[test]
fn tracks_end_when_the_size_of_the_picture_changes() {
    let mut tracks = tracks(2);
    assert!(!tracks.resize([640, 480]));
    frame(&mut tracks, &[(0.0, 0.0)]);
    assert!(!tracks.resize([640, 480]) && tracks.count() == 1);
    for size in [[640, 360], [641, 360]] {
        assert!(tracks.resize(size));
        assert!(frame(&mut tracks, &[(0.0, 0.0)]), "the finder runs at once");
    }
    assert_eq!(ids(&tracks), [3]);
}

#[test]
fn a_face_that_slides_out_of_the_picture_ends_its_track() {
    for (step, steps) in [([-9.0, 0.0], 11), ([9.0, 0.0], 22), ([0.0, -9.0], 12), ([0.0, 9.0], 21), ([-9.0, -9.0], 9)] {
        let mut tracks = tracks(2);
        let mut last = 0;
        for number in 0..60 {
            tracks.resize([300, 300]);
            let at = step.map(|step| step * number as f32);
            frame(&mut tracks, &[(at[0], at[1])]);
            if let Some((_, track)) = tracks.iter().next() {
                last = number;
                assert!(track.id == 1 && track.detection().share_inside([300, 300]) >= 0.5, "{step:?}: {number}");
            }
        }
        assert_eq!(last, steps, "{step:?}");
    }
}

#[test]
fn a_face_that_is_mostly_outside_begins_no_track_and_calls_no_finder() {
    let mut tracks = tracks(2);
    tracks.resize([300, 300]);
    // The box is 100 pixels wide; its left half is outside.
    frame(&mut tracks, &[(100.0, 0.0), (-100.0, 0.0)]);
    assert_eq!(ids(&tracks), [1]);
    tracks.compare(&[detection(100.0, 0.0, 0.9), detection(-100.0, 0.0, 0.9)], 2);
    tracks.begin(FRAME_S);
    assert!(!tracks.needs_finder(true, false));
    // A face larger than the picture stays.
    tracks.resize([40, 30]);
    frame(&mut tracks, &[(-80.0, -90.0)]);
    assert_eq!(ids(&tracks), [2]);
}
