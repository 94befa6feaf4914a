//! Derives events from frames: a face has appeared, has got a name, has left.

use serde::Serialize;

use crate::outputs::buses::frame_faces::{FaceState, FrameFaces};

/// A face has left after this time without a sighting, microseconds.
const GRACE_US: u64 = 1_000_000;

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EventKind {
    Appeared,
    Named,
    Left,
}

/// An event of one face.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct FaceEvent {
    pub event: EventKind,
    pub id: u64,
    pub name: Option<String>,
    pub age: Option<f64>,
    pub expression: Option<String>,
    /// Time since the face appeared, s.
    pub seen_s: f64,
}

/// A face in view.
#[derive(Debug)]
struct Present {
    face: FaceState,
    first_us: u64,
    last_us: u64,
}

/// Derives events from frame after frame.
#[derive(Debug, Default)]
pub(crate) struct EventTracker {
    present: Vec<Present>,
}

impl EventTracker {
    /// Takes the faces of a frame, and appends their events.
    pub(crate) fn observe(&mut self, frame: FrameFaces, now_us: u64, events: &mut Vec<FaceEvent>) {
        for face in frame.faces {
            let known = self.present.iter_mut().find(|present| present.face.id == face.id);
            let (present, is_new) = match known {
                Some(present) => (present, false),
                None => {
                    let blank = FaceState { id: face.id, ..FaceState::default() };
                    self.present.push(Present { face: blank, first_us: now_us, last_us: now_us });
                    let Some(present) = self.present.last_mut() else { continue };
                    (present, true)
                }
            };
            let was_named = present.face.name.clone();
            present.last_us = now_us;
            // A task that did not run for this frame keeps its last answer, and so does a name.
            present.face.age = face.age.or(present.face.age);
            present.face.expression = face.expression.or(present.face.expression.take());
            present.face.name = face.name.or(present.face.name.take());
            if is_new {
                events.push(present.event(EventKind::Appeared));
            }
            if present.face.name.is_some() && present.face.name != was_named {
                events.push(present.event(EventKind::Named));
            }
        }
        self.pass(now_us, events);
    }

    /// Appends the faces that have left by this time.
    pub(crate) fn pass(&mut self, now_us: u64, events: &mut Vec<FaceEvent>) {
        self.present.retain(|present| {
            let stays = now_us.saturating_sub(present.last_us) < GRACE_US;
            if !stays {
                events.push(present.event(EventKind::Left));
            }
            stays
        });
    }

    /// Appends an event for every face in view, because the run ends.
    pub(crate) fn end(&mut self, events: &mut Vec<FaceEvent>) {
        events.extend(self.present.drain(..).map(|present| present.event(EventKind::Left)));
    }
}

impl Present {
    fn event(&self, event: EventKind) -> FaceEvent {
        let FaceState { id, age, expression, name } = self.face.clone();
        let seen_s = self.last_us.saturating_sub(self.first_us) as f64 / 1e6;
        FaceEvent { event, id, name, age, expression, seen_s }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(faces: &[(u64, Option<&str>)]) -> FrameFaces {
        let face =
            |&(id, name): &(u64, Option<&str>)| FaceState { id, name: name.map(str::to_owned), ..FaceState::default() };
        FrameFaces { faces: faces.iter().map(face).collect() }
    }

    #[test]
    fn faces_appear_are_named_once_and_leave_after_a_while() {
        let (mut tracker, mut events) = (EventTracker::default(), Vec::new());
        let mut seen = |faces: &[(u64, Option<&str>)], at_s: f64| {
            tracker.observe(frame(faces), (at_s * 1e6) as u64, &mut events);
            let shown: Vec<_> = events.drain(..).map(|e| (e.event, e.id, e.name, e.seen_s)).collect();
            shown
        };
        let name = |text: &str| Some(text.to_owned());
        assert_eq!(seen(&[(1, None)], 0.0), [(EventKind::Appeared, 1, None, 0.0)]);
        assert_eq!(seen(&[(1, None)], 0.1), []);
        assert_eq!(seen(&[(1, Some("Ada"))], 0.5), [(EventKind::Named, 1, name("Ada"), 0.5)]);
        assert_eq!(seen(&[(1, None), (2, None)], 0.6), [(EventKind::Appeared, 2, None, 0.0)]);
        assert_eq!(seen(&[(1, Some("Ada"))], 0.7), [], "named before");
        assert_eq!(seen(&[(2, None)], 1.5), []);
        assert_eq!(seen(&[(2, None)], 1.8), [(EventKind::Left, 1, name("Ada"), 0.7)]);
        tracker.pass(5_000_000, &mut events);
        assert_eq!(events.drain(..).map(|e| (e.event, e.id)).collect::<Vec<_>>(), [(EventKind::Left, 2)]);
        tracker.observe(frame(&[(3, None)]), 6_000_000, &mut events);
        tracker.end(&mut events);
        assert_eq!(events.iter().map(|e| e.event).collect::<Vec<_>>(), [EventKind::Appeared, EventKind::Left]);
    }
}
