//! Views of a person in front of a camera, for an enrolment: which are still missing, and what the person should do.

use faceptor::stages::Pose;

use crate::recognition::enrolment::Candidate;

/// Degrees of yaw up to which a view is from the front, and beyond which it is turned too far.
const FRONT: f32 = 12.0;
const FAR: f32 = 40.0;
/// Frames between two views from one side, so that they differ.
const APART: u64 = 8;
/// Views from each side that are wanted: the front, the person's left, the person's right.
const WANTED: [usize; 3] = [2, 1, 1];
/// The instructions to a person for a view of each side.
const TURNS: [&str; 3] =
    ["look into the camera", "turn your head a little to your left", "turn your head a little to your right"];

/// The views so far.
#[derive(Default)]
pub(crate) struct Views {
    kept: Vec<Candidate>,
    counts: [usize; 3],
    last: [Option<u64>; 3],
}

impl Views {
    /// Takes a frame: its face, or the reason for which it cannot be enrolled. Returns what the person should do now; `None` when
    /// all views are there.
    pub fn take(&mut self, frame: u64, seen: Result<(Candidate, Option<Pose>), &'static str>) -> Option<&'static str> {
        let (candidate, pose) = match seen {
            Ok(seen) => seen,
            Err(reason) => return self.missing().map(|_| advice(reason)),
        };
        if let Some(reason) = candidate.reasons.first() {
            return self.missing().map(|_| advice(reason));
        }
        // Without landmarks every view counts as one from the front.
        let yaw = pose.map_or(0.0, |pose| pose.yaw_deg);
        let side = match yaw {
            _ if yaw.abs() <= FRONT => 0,
            // The person's left is on the right in the picture.
            _ if yaw > 0.0 => 1,
            _ => 2,
        };
        let is_new = self.last[side].is_none_or(|last| frame >= last + APART);
        if yaw.abs() <= FAR && self.counts[side] < WANTED[side] && is_new {
            self.counts[side] += 1;
            self.last[side] = Some(frame);
            self.kept.push(candidate);
        }
        self.missing().map(|side| TURNS[side])
    }

    /// Returns the side of which a view is missing.
    fn missing(&self) -> Option<usize> {
        (0..WANTED.len()).find(|&side| self.counts[side] < WANTED[side])
    }

    /// Returns the views, and what was missing in the end.
    pub fn into_parts(self) -> (Vec<Candidate>, Vec<&'static str>) {
        let missing = (0..WANTED.len()).filter(|&side| self.counts[side] < WANTED[side]).map(|side| TURNS[side]);
        let missing = missing.collect();
        (self.kept, missing)
    }
}

/// Returns what the person should do about a reason against a frame.
fn advice(reason: &'static str) -> &'static str {
    match reason {
        "no_face" => "step before the camera",
        "several_faces" => "one person alone before the camera, please",
        "too_small" => "come nearer",
        "cut_off" => "move into the middle of the picture",
        "turned" | "rolled" => TURNS[0],
        "too_dark" => "too dark: more light, please",
        "too_bright" => "too bright: less light, please",
        "low_contrast" => "too little contrast: no light from behind, please",
        "blurred" => "blurred: hold still",
        "unlikely_face" => "nothing before the face, please",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faceptor_gallery::{StoredTemplate, Template};

    fn seen(yaw_deg: f32, reasons: &[&'static str]) -> Result<(Candidate, Option<Pose>), &'static str> {
        let template = Template::of(&[1.0, 0.5], 2).expect("a direction");
        let stored = StoredTemplate { template, added_at: 0, eyes_px: 60.0, forced: Vec::new(), crop: None };
        let candidate = Candidate { stored, reasons: reasons.to_vec(), is_known: false };
        Ok((candidate, Some(Pose { yaw_deg, pitch_deg: 0.0, roll_deg: 0.0 })))
    }

    #[test]
    fn views_are_asked_for_until_all_sides_are_there() {
        let mut views = Views::default();
        assert_eq!(views.take(0, Err("no_face")), Some("step before the camera"));
        assert_eq!(views.take(1, seen(0.0, &["too_dark"])), Some("too dark: more light, please"));
        assert_eq!(views.take(2, seen(0.0, &[])), Some(TURNS[0]));
        // The next frame shows the same view.
        assert_eq!(views.take(3, seen(1.0, &[])), Some(TURNS[0]));
        assert_eq!(views.take(2 + APART, seen(2.0, &[])), Some(TURNS[1]));
        assert_eq!(views.take(20, seen(-20.0, &[])), Some(TURNS[1]), "the other side was not asked for, and is kept");
        assert_eq!(views.take(21, seen(60.0, &[])), Some(TURNS[1]), "too far");
        assert_eq!(views.take(22, seen(20.0, &[])), None);
        assert_eq!(views.take(23, Err("no_face")), None, "there is nothing left to ask for");
        let (kept, missing) = views.into_parts();
        assert_eq!((kept.len(), missing.len()), (4, 0));
    }

    #[test]
    fn what_is_missing_in_the_end_is_said() {
        let mut views = Views::default();
        views.take(0, seen(0.0, &[]));
        let (kept, missing) = views.into_parts();
        assert_eq!((kept.len(), missing), (1, TURNS.to_vec()));
        // Without landmarks every view counts as one from the front.
        let mut blind = Views::default();
        for frame in 0..40 {
            blind.take(frame, seen(50.0, &[]).map(|(candidate, _)| (candidate, None)));
        }
        assert_eq!(blind.into_parts().0.len(), WANTED[0]);
    }
}
