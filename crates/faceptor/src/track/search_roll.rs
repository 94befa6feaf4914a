//! Chooses the roll at which a frame is searched, and judges what was found there.
//!
//! The detector knows faces that are turned by less than about 35 degrees. A frame is searched at one roll, so that no frame
//! takes longer than another. Without tracks the rolls take turns, upright every second time. A new face with a low score is
//! looked for at both other rolls: it may be a turned one, whose keypoints are wrong upright. A track is confirmed at its own
//! roll, in turns with an upright search for new faces. A track whose place shows something else does not count: another face may
//! be there, at another roll. Once the detector has found one there, it is searched for at its roll until the track gives way.

use crate::detect::detection::{Detection, Detections};
use crate::track::face_track::Track;

/// Rolls of the searches without tracks, degrees clockwise.
const ROLLS: [f32; 4] = [0.0, 45.0, 0.0, -45.0];
/// Degrees of roll from which a track is searched for at its own roll.
const ROLLED: f32 = 25.0;
/// Most degrees of roll of a search.
const MOST: f32 = 60.0;
/// Degrees between the rolls of a track and a search up to which the search judges the track.
const JUDGED: f32 = 30.0;
/// A turned face has a roll and a score from these on, and one near that of the search: an upright face, seen at a roll of 45
/// degrees, seems to have one of about 25.
const TURNED: f32 = 30.0;
const TURNED_SCORE: f32 = 0.85;
/// Difference between two scores from which the higher one is believed.
const CLEARLY: f32 = 0.03;
/// Overlap of a detection and a track of one face.
const SAME_FACE: f32 = 0.3;

/// The roll of each search of a whole frame.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SearchRoll {
    searches: u32,
    roll: f32,
}

impl SearchRoll {
    /// Begins with an upright search again: the next frame shows another scene.
    pub fn restart(&mut self) {
        self.searches = 0;
    }

    /// Returns the roll of the next search, degrees clockwise.
    pub fn choose<'a>(&mut self, tracks: impl Iterator<Item = &'a Track> + Clone) -> f32 {
        let turn = self.searches as usize;
        self.searches = self.searches.wrapping_add(1);
        let untried = tracks.clone().filter(|track| !track.is_broken()).map(|track| track.untried_rolls).max();
        let stranger = tracks.clone().find_map(Track::stranger_roll);
        let rolled = tracks.map(|track| track.detection().roll()).find(|roll| roll.abs() > ROLLED);
        self.roll = match (untried, rolled) {
            _ if stranger.is_some() => {
                stranger.filter(|roll| roll.abs() > ROLLED).map_or(0.0, |roll| roll.clamp(-MOST, MOST))
            }
            (Some(2), _) => ROLLS[1],
            (Some(1), _) => ROLLS[3],
            (_, Some(roll)) if turn % 2 == 1 => roll.clamp(-MOST, MOST),
            (None, _) => ROLLS[turn % ROLLS.len()],
            _ => 0.0,
        };
        self.roll
    }

    /// Keeps the detections of the last search that can be believed at its roll.
    pub fn retain<'a>(&self, found: &mut Detections, tracks: impl Iterator<Item = &'a Track> + Clone) {
        found.retain(|face| {
            let shown = tracks.clone().filter(|track| !track.is_broken()).map(Track::detection);
            let track = shown.clone().find(|track| track.overlap(face) >= SAME_FACE);
            self.believes(face, track.as_ref())
        });
    }

    /// Reports whether a detection can be a new face, or that of a track in its place.
    fn believes(&self, face: &Detection, track: Option<&Detection>) -> bool {
        let roll = face.roll();
        let fits = apart(roll, self.roll) <= JUDGED && roll.abs() >= TURNED;
        match track {
            Some(track) if judges(self.roll, track) => true,
            Some(track) => (fits || self.roll == 0.0) && face.score > track.score + CLEARLY,
            None => self.roll == 0.0 || (fits && face.score >= TURNED_SCORE),
        }
    }
}

/// Reports whether a search at a roll can find a track's face: if it does not, that is a sign that the face has left.
pub(crate) fn judges(roll: f32, track: &Detection) -> bool {
    apart(roll, track.roll()) <= JUDGED
}

/// Reports whether a track is searched for at its own roll.
pub(crate) fn is_rolled(track: &Detection) -> bool {
    track.roll().abs() > ROLLED
}

/// Returns the degrees between two rolls, 0 to 180.
fn apart(one: f32, other: f32) -> f32 {
    ((one - other + 180.0).rem_euclid(360.0) - 180.0).abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::track::likeness::tests::{likeness, person};

    fn face(score: f32, degrees: f32) -> Detection {
        let upright = [[-10.0, -12.0], [10.0, -12.0], [0.0, 0.0], [-8.0, 12.0], [8.0, 12.0]];
        let (sin, cos) = degrees.to_radians().sin_cos();
        let keypoints = upright.map(|[x, y]| [cos * x - sin * y + 50.0, sin * x + cos * y + 50.0]);
        Detection { score, edges: [25.0, 25.0, 75.0, 75.0], keypoints }
    }

    fn rolls(tracks: &[Track], searches: usize) -> Vec<f32> {
        let mut rolls = SearchRoll::default();
        (0..searches).map(|_| rolls.choose(tracks.iter())).collect()
    }

    #[test]
    fn rolls_take_turns_without_tracks_and_follow_them() {
        assert_eq!(rolls(&[], 6), [0.0, 45.0, 0.0, -45.0, 0.0, 45.0]);
        assert_eq!(rolls(&[Track::new(1, &face(0.97, 10.0))], 3), [0.0; 3]);
        let mut cut = SearchRoll::default();
        cut.choose([].iter());
        cut.restart();
        assert_eq!(cut.choose([].iter()), 0.0, "another scene is searched upright first");
        let rolled = rolls(&[Track::new(1, &face(0.97, -80.0)), Track::new(2, &face(0.97, 0.0))], 3);
        assert_eq!(rolled, [0.0, -60.0, 0.0]);
        let mut unsure = Track::new(1, &face(0.8, 0.0));
        assert_eq!(rolls(std::slice::from_ref(&unsure), 1), [45.0]);
        unsure.untried_rolls = 1;
        assert_eq!(rolls(&[unsure], 1), [-45.0]);
    }

    #[test]
    fn a_track_whose_place_shows_something_else_does_not_count() {
        let seen = |number| likeness(&person(number), 0.0);
        for (degrees, expected) in [(0.0, [0.0, 45.0, 0.0, -45.0]), (-80.0, [0.0, -60.0, 0.0, -60.0])] {
            let mut track = Track::new(1, &face(0.8, degrees));
            track.memorize(seen(1));
            track.look(&seen(2), 0.8);
            assert!(track.is_broken());
            assert_eq!(rolls(std::slice::from_ref(&track), 4), expected);
            // Another person may be upright there.
            let mut found: Detections = [face(0.7, 0.0)].into_iter().collect();
            SearchRoll::default().retain(&mut found, std::iter::once(&track));
            assert_eq!(found.len(), 1);
        }
    }

    #[test]
    fn another_face_in_the_place_of_a_track_is_searched_for_at_its_roll() {
        let seen = |number| likeness(&person(number), 0.0);
        for (degrees, expected) in [(5.0, [0.0; 4]), (50.0, [50.0; 4]), (-80.0, [-60.0; 4])] {
            let mut track = Track::new(1, &face(0.95, 0.0));
            track.memorize(seen(1));
            track.look(&seen(2), 0.8);
            track.gives_way(&face(0.9, degrees), Some(seen(2)));
            let found = rolls(std::slice::from_ref(&track), 4);
            assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 0.1), "{found:?}");
            // The face itself is back.
            track.confirm(&face(0.95, 0.0), true);
            assert_eq!(rolls(std::slice::from_ref(&track), 2), [0.0; 2]);
        }
    }

    #[test]
    fn turned_faces_are_believed_where_they_are_seen_upright() {
        let at = |roll| SearchRoll { searches: 0, roll };
        assert!(at(0.0).believes(&face(0.73, 0.0), None));
        assert!(at(45.0).believes(&face(0.9, 60.0), None));
        assert!(!at(45.0).believes(&face(0.8, 60.0), None), "a low score");
        assert!(!at(45.0).believes(&face(0.9, 20.0), None), "an upright face");
        // A track that was taken for an upright face, and one at its own roll.
        assert!(at(45.0).believes(&face(0.95, 60.0), Some(&face(0.8, 0.0))));
        assert!(!at(45.0).believes(&face(0.95, 25.0), Some(&face(0.8, 0.0))));
        assert!(at(60.0).believes(&face(0.75, 50.0), Some(&face(0.95, 55.0))));
        assert!(!at(0.0).believes(&face(0.8, 5.0), Some(&face(0.95, 60.0))));
        assert!(judges(0.0, &face(0.9, 20.0)) && !judges(0.0, &face(0.9, 50.0)) && judges(-60.0, &face(0.9, -85.0)));
    }
}
