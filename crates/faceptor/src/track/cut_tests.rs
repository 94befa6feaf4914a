//! Tests of the tracker on cuts from one person to another, and on faces that are covered for a while.

use super::*;
use crate::geometry::TRACKING_LANDMARKS;
use crate::track::likeness::tests::{behind_a_hand, likeness, person};

const TEMPLATE: [Point; 5] = [[0.4, 0.43], [0.6, 0.43], [0.5, 0.55], [0.42, 0.67], [0.58, 0.67]];
const FRAME_S: f32 = 1.0 / 30.0;

/// The content of one place in a scripted scene.
#[derive(Clone, Copy)]
enum Shows {
    Person(usize),
    /// A person behind a hand that covers this share of the face, from the left; below 0 from the right.
    Behind(usize, f32),
    /// Also covered, but the detector finds the face.
    Emerging(usize, f32),
    /// A hand before the face.
    Hand,
}

fn detection(x: f32) -> Detection {
    let keypoints = TEMPLATE.map(|[u, v]| [x + 200.0 * u, 200.0 * v]);
    Detection { score: 0.9, edges: [x + 50.0, 50.0, x + 150.0, 170.0], keypoints }
}

/// Returns the pattern of a face's crop.
fn striped() -> AppearanceTemplate {
    let plane: Vec<f32> = (0..24 * 24).map(|i| (i / 3 % 5) as f32).collect();
    AppearanceTemplate::of(&plane, 24)
}

/// Plays one frame in which each place (pixels from the left) shows something. Returns the visible tracks' ids and whether
/// the detector ran.
fn play(tracker: &mut Tracker, guided: bool, scene: &[(f32, Shows)]) -> (Vec<u32>, bool) {
    let look = |keypoints: &[Point; 5]| {
        // The place that the crop is nearest to.
        let place = |x: &f32| (detection(*x).keypoints[2][0] - keypoints[2][0]).abs();
        let nearest = scene.iter().min_by(|a, b| place(&a.0).total_cmp(&place(&b.0)))?;
        // Beside the face there is something else.
        let shows = if place(&nearest.0) < 40.0 { nearest.1 } else { Shows::Hand };
        Some(match shows {
            Shows::Person(number) => likeness(&person(number), 1.0),
            Shows::Behind(number, share) | Shows::Emerging(number, share) => {
                likeness(&behind_a_hand(number, share), 1.0)
            }
            Shows::Hand => likeness(&person(99), 0.0),
        })
    };
    // The detector finds a face that is covered by about a third at most.
    let is_found = |shows: &Shows| match shows {
        Shows::Person(_) | Shows::Emerging(..) => true,
        Shows::Behind(_, share) => share.abs() < 0.35,
        Shows::Hand => false,
    };
    let faces = scene.iter().filter(|(_, shows)| is_found(shows));
    let found: Vec<Detection> = faces.map(|(x, _)| detection(*x)).collect();
    tracker.begin(FRAME_S);
    tracker.look(&look);
    let asked = tracker.needs_finder(guided, false);
    if asked {
        tracker.end_cut(&found, &look);
        tracker.check(&found, guided, MAX_TRACKS);
    }
    if guided {
        let visible: Vec<usize> = (0..MAX_TRACKS).filter(|&slot| tracker.is_visible(slot, true)).collect();
        for slot in visible {
            let Some(keypoints) = tracker.get(slot).map(|track| *track.keypoints()) else { continue };
            let mut points = [keypoints[2]; TRACKING_LANDMARKS];
            points[36..42].fill(keypoints[0]);
            points[42..48].fill(keypoints[1]);
            (points[30], points[48], points[54]) = (keypoints[2], keypoints[3], keypoints[4]);
            let to_picture = Similarity::fit(&keypoints, &TEMPLATE).expect("distinct").inverse();
            let hidden = scene.iter().any(|(_, shows)| !is_found(shows));
            let flat = AppearanceTemplate::default();
            let appearance = if hidden { flat } else { striped() };
            tracker.observe(slot, &mut points, &to_picture, &appearance);
        }
    }
    tracker.memorize(&look);
    tracker.settle(MAX_TRACKS);
    let ids = tracker.iter().filter(|(slot, _)| tracker.is_visible(*slot, guided)).map(|(_, track)| track.id);
    (ids.collect(), asked)
}

fn tracker(limit: usize) -> Tracker {
    Tracker::new(TrackerOptions { limit, smoothing: true }, &TEMPLATE)
}

#[test]
fn a_cut_to_another_person_gives_a_new_id_in_its_first_frame() {
    for guided in [true, false] {
        let mut tracker = tracker(2);
        for number in 0..40 {
            let person = number / 5;
            let (ids, asked) = play(&mut tracker, guided, &[(0.0, Shows::Person(person))]);
            assert_eq!(ids, [person as u32 + 1], "guided {guided}: frame {number}");
            assert!(asked || number % 5 > 0, "the detector runs on the first frame of a cut");
        }
    }
}

#[test]
fn a_cut_of_one_place_leaves_the_other_faces_alone() {
    let mut tracker = tracker(4);
    for number in 0..20 {
        let right = if number < 10 { 1 } else { 2 };
        let (ids, _) = play(&mut tracker, true, &[(0.0, Shows::Person(0)), (300.0, Shows::Person(right))]);
        let expected = if number < 10 { vec![1, 2] } else { vec![1, 3] };
        assert_eq!(ids, expected, "frame {number}");
    }
}

#[test]
fn a_covered_face_is_hidden_and_keeps_its_id() {
    for guided in [true, false] {
        let mut tracker = tracker(1);
        for number in 0..60 {
            let covered = (20..40).contains(&number);
            let shows = if covered { Shows::Hand } else { Shows::Person(4) };
            let (ids, _) = play(&mut tracker, guided, &[(0.0, shows)]);
            assert_eq!(ids, if covered { vec![] } else { vec![1] }, "guided {guided}: frame {number}");
        }
    }
}

#[test]
fn a_hand_that_passes_slowly_is_not_taken_for_the_face() {
    for guided in [true, false] {
        let mut tracker = tracker(1);
        for number in 0..60 {
            // It covers a tenth more in each frame, and goes as slowly to the other side.
            let share = match number {
                10..20 => (number - 9) as f32 / 10.0,
                20..30 => 1.0,
                30..40 => (number - 40) as f32 / 10.0,
                _ => 0.0,
            };
            let (ids, _) = play(&mut tracker, guided, &[(0.0, Shows::Behind(4, share))]);
            assert!(ids.iter().all(|id| *id == 1), "guided {guided}: frame {number}: {ids:?}");
            let visible = !(10..40).contains(&number);
            assert!(!visible || !ids.is_empty(), "guided {guided}: frame {number}");
            assert!(!(20..30).contains(&number) || ids.is_empty(), "guided {guided}: frame {number}");
        }
    }
}

#[test]
fn a_covered_face_may_move_meanwhile() {
    for guided in [true, false] {
        let mut tracker = tracker(1);
        for number in 0..40 {
            let place = match number {
                0..10 => (0.0, Shows::Person(4)),
                10..20 => (0.0, Shows::Hand),
                _ => (85.0, Shows::Person(4)),
            };
            let (ids, _) = play(&mut tracker, guided, &[place]);
            let expected: &[u32] = if (10..20).contains(&number) { &[] } else { &[1] };
            assert_eq!(ids, expected, "guided {guided}: frame {number}");
        }
    }
}

#[test]
fn a_face_that_comes_out_slowly_behind_the_hand_is_waited_for() {
    let mut tracker = tracker(1);
    for number in 0..50 {
        let shows = match number {
            0..10 => Shows::Person(4),
            10..15 => Shows::Hand,
            // The detector finds it from a third on, and it looks like itself only when most of it is seen.
            15..29 => Shows::Emerging(4, 0.95 - 0.07 * (number - 15) as f32),
            _ => Shows::Person(4),
        };
        let (ids, _) = play(&mut tracker, true, &[(0.0, shows)]);
        assert!(ids.iter().all(|id| *id == 1), "frame {number}: {ids:?}");
        assert!((10..29).contains(&number) || !ids.is_empty(), "frame {number}");
    }
    assert_eq!(tracker.count(), 1);
}

#[test]
fn after_a_gap_in_the_film_a_face_may_look_different() {
    let mut tracker = tracker(1);
    tracker.begin(FRAME_S);
    assert_eq!([tracker.least(SAME), tracker.least(SAME_FOUND)], [SAME, SAME_FOUND]);
    tracker.begin(0.2);
    assert_eq!([tracker.least(SAME), tracker.least(SAME_FOUND)], [SAME_AFTER_GAP; 2]);
}

#[test]
fn another_person_after_the_hand_has_a_new_id() {
    let mut tracker = tracker(1);
    for number in 0..40 {
        let shows = match number {
            0..10 => Shows::Person(4),
            10..20 => Shows::Hand,
            _ => Shows::Person(5),
        };
        let (ids, _) = play(&mut tracker, true, &[(0.0, shows)]);
        let expected: &[u32] = match number {
            0..10 => &[1],
            // At first it might be the face itself, covered in part.
            10..25 => &[],
            _ => &[2],
        };
        assert_eq!(ids, expected, "frame {number}");
    }
}

#[test]
fn another_person_who_looks_different_in_each_frame_takes_the_place_after_twelve() {
    let mut tracker = tracker(1);
    for number in 0..45 {
        let shows = match number {
            0..10 => Shows::Person(4),
            10..16 => Shows::Hand,
            _ => Shows::Emerging(5, if number % 2 == 0 { 0.3 } else { -0.3 }),
        };
        let (ids, _) = play(&mut tracker, true, &[(0.0, shows)]);
        assert!(number < 30 || ids == [2], "frame {number}: {ids:?}");
    }
}

#[test]
fn a_face_that_is_covered_for_long_ends_and_makes_room_before() {
    let mut tracker = tracker(1);
    play(&mut tracker, true, &[(0.0, Shows::Person(4))]);
    for _ in 0..MAX_COVERED_MISSES {
        assert_eq!(tracker.count(), 1);
        play(&mut tracker, true, &[(0.0, Shows::Hand)]);
    }
    assert_eq!(tracker.count(), 0);
    // The only place is given to a face that is there.
    play(&mut tracker, true, &[(0.0, Shows::Person(4))]);
    play(&mut tracker, true, &[(0.0, Shows::Hand)]);
    assert_eq!(play(&mut tracker, true, &[(0.0, Shows::Hand), (400.0, Shows::Person(6))]).0, [3]);
}
