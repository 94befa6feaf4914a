//! Collects views of the face in front of a running loop, for its enrolment.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use faceptor::stages::{Analysis, Face, Prediction, TaskResult};

/// Views that an enrolment averages.
const VIEWS: usize = 8;
/// Fewest views of an enrolment when the time is over.
const FEWEST_VIEWS: usize = 3;

/// A view of the face.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct View {
    pub embedding: Vec<f32>,
    /// Pixels between the eyes.
    pub eyes_px: f32,
}

/// The faces that were seen since the views were asked for.
#[derive(Debug, Default)]
struct Seen {
    track: u32,
    views: Vec<View>,
    /// Reasons against the last frame.
    reasons: Vec<&'static str>,
}

/// Hands the face in view from the publisher to an enrolment. Without an enrolment it costs one atomic load a frame.
#[derive(Debug, Default)]
pub(crate) struct FaceInView {
    wanted: AtomicBool,
    seen: Mutex<Seen>,
    changed: Condvar,
}

impl FaceInView {
    /// Takes the faces of a frame; `task` is the recognition's index.
    pub fn observe(&self, analysis: &Analysis, task: usize) {
        if !self.wanted.load(Ordering::Acquire) {
            return;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.add(&analysis.faces, task);
        self.changed.notify_all();
    }

    /// Waits for views of the one face in view. One caller at a time.
    ///
    /// # Errors
    /// When there were not enough good frames in that time: the reasons against the last one.
    pub fn collect(&self, patience: Duration) -> Result<Vec<View>, Vec<&'static str>> {
        let until = Instant::now() + patience;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = Seen { reasons: vec!["no_frame"], ..Seen::default() };
        self.wanted.store(true, Ordering::Release);
        while seen.views.len() < VIEWS {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            seen = self.changed.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        self.wanted.store(false, Ordering::Release);
        let Seen { views, reasons, .. } = std::mem::take(&mut *seen);
        match views.len() >= FEWEST_VIEWS {
            true => Ok(views),
            false if reasons.is_empty() => Err(vec!["too_few_views"]),
            false => Err(reasons),
        }
    }
}

impl Seen {
    fn add(&mut self, faces: &[Face], task: usize) {
        let [face] = faces else {
            // Who comes into view or leaves it may be the other one.
            let reason = if faces.is_empty() { "no_face" } else { "several_faces" };
            *self = Seen { reasons: vec![reason], ..Seen::default() };
            return;
        };
        if face.id != self.track {
            *self = Seen { track: face.id, ..Seen::default() };
        }
        let quality = face.quality();
        self.reasons = quality.warnings().collect();
        if !self.reasons.is_empty() || self.views.len() >= VIEWS {
            return;
        }
        match face.results.get(task) {
            Some(TaskResult {
                known: true, stale_frames: 0, prediction: Prediction::Recognition(embedding), ..
            }) => {
                self.views.push(View { embedding: embedding.clone(), eyes_px: quality.eyes_px });
            }
            Some(result) if result.known => {}
            _ => self.reasons = vec!["recognition_not_chosen"],
        }
    }
}

/// Returns the direction of the mean of the views, and the mean distance between the eyes.
pub(crate) fn mean(views: &[View]) -> View {
    let mut embedding = vec![0.0; views.first().map_or(0, |view| view.embedding.len())];
    for view in views {
        let length = view.embedding.iter().map(|value| value * value).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        embedding.iter_mut().zip(&view.embedding).for_each(|(sum, value)| *sum += value / length);
    }
    let eyes_px = views.iter().map(|view| view.eyes_px).sum::<f32>() / views.len().max(1) as f32;
    View { embedding, eyes_px }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faceptor::stages::TaskDecoder;
    use faceptor_nn::manifest::{Task, TaskKind};

    fn face(id: u32, x: f32) -> Face {
        let task = Task { name: "recognition".into(), ..Task::of_kind(TaskKind::Recognition) };
        let decoders = [TaskDecoder::new(&task, &[1, 2]).expect("two numbers")];
        let mut face = Face::blank(&decoders);
        let keypoints = [[0.4, 0.43], [0.6, 0.43], [0.5, 0.55], [0.42, 0.67], [0.58, 0.67]];
        face.detection.keypoints = keypoints.map(|[x, y]: [f32; 2]| [x * 300.0, y * 300.0]);
        (face.id, face.results[0]) = (id, TaskResult::fresh(Prediction::Recognition(vec![x, 1.0])));
        face
    }

    #[test]
    fn one_good_face_gives_views_and_others_reasons() {
        let mut seen = Seen::default();
        (0..5).for_each(|_| seen.add(&[face(1, 0.5)], 0));
        assert_eq!((seen.views.len(), seen.reasons.len()), (5, 0));
        // Another person beside the first one ends the views, and so does another track.
        seen.add(&[face(1, 0.5), face(2, 0.1)], 0);
        assert_eq!((seen.views.len(), &seen.reasons[..]), (0, &["several_faces"][..]));
        seen.add(&[face(1, 0.5)], 0);
        seen.add(&[face(2, 0.5)], 0);
        assert_eq!((seen.views.len(), seen.track), (1, 2));
        seen.add(&[], 0);
        assert_eq!((seen.views.len(), &seen.reasons[..]), (0, &["no_face"][..]));
        let mut turned = face(3, 0.5);
        turned.detection.keypoints[2][0] += 40.0;
        seen.add(&[turned], 0);
        assert_eq!((seen.views.len(), &seen.reasons[..]), (0, &["turned"][..]));
        let mut without = face(3, 0.5);
        without.results[0].known = false;
        seen.add(&[without], 0);
        assert_eq!(seen.reasons, ["recognition_not_chosen"]);
        (0..20).for_each(|_| seen.add(&[face(3, 0.5)], 0));
        assert_eq!(seen.views.len(), VIEWS);
    }

    #[test]
    fn views_are_asked_for_and_given_up() {
        let view = FaceInView::default();
        let mut analysis = Analysis::default();
        analysis.faces.push(face(1, 0.5));
        view.observe(&analysis, 0);
        assert_eq!(view.collect(Duration::ZERO), Err(vec!["no_frame"]), "nothing is kept before it is asked for");
        let views = std::thread::scope(|scope| {
            let collected = scope.spawn(|| view.collect(Duration::from_secs(60)));
            while !collected.is_finished() {
                view.observe(&analysis, 0);
            }
            collected.join().expect("it ends")
        });
        let views = views.expect("enough");
        assert_eq!(views.len(), VIEWS);
        let mean = mean(&views);
        assert!((mean.embedding[0] / mean.embedding[1] - 0.5).abs() < 1e-5 && mean.eyes_px > 50.0);
    }
}
