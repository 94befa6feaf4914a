//! Holds the answers of a gallery for the faces of a frame.

use std::sync::Arc;

use faceptor::stages::MAX_TRACKS;
use faceptor_gallery::Roster;
use faceptor_results::identity::Identity;

/// Reason for the lack of a name: the face was not seen well enough for long enough.
pub(crate) const TOO_LITTLE_EVIDENCE: &str = "too_little_evidence";

/// The answer for one face.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// The place of the person in the roster; `None` for a stranger.
    pub person: Option<usize>,
    /// Similarity of the best person, or of the person who is named.
    pub similarity: Option<f32>,
    /// Similarity of the second-best person.
    pub second: Option<f32>,
    /// The reason for the lack of a name.
    pub unknown: Option<&'static str>,
}

impl Answer {
    /// The answer for a face that has not been seen well enough yet.
    pub const NONE_YET: Answer =
        Answer { person: None, similarity: None, second: None, unknown: Some(TOO_LITTLE_EVIDENCE) };
}

/// The answers for the faces of a frame, in the order of the faces; none without a gallery.
#[derive(Clone, Debug, Default)]
pub struct Identities {
    roster: Option<Arc<Roster>>,
    answers: heapless::Vec<Answer, MAX_TRACKS>,
}

impl Identities {
    /// Forgets the answers, and takes the roster of the next ones.
    pub(crate) fn restart(&mut self, roster: &Arc<Roster>) {
        self.roster = Some(roster.clone());
        self.answers.clear();
    }

    /// Appends the answer of the next face.
    pub(crate) fn push(&mut self, answer: Answer) {
        // It has room for every face.
        let _ = self.answers.push(answer);
    }

    /// Returns the answer for a face by place.
    pub fn answer(&self, face: usize) -> Option<&Answer> {
        self.answers.get(face)
    }

    /// Returns the answers with names, by face; none without a gallery.
    pub fn list(&self) -> heapless::Vec<Identity<'_>, MAX_TRACKS> {
        let Some(roster) = &self.roster else { return heapless::Vec::new() };
        let identity = |answer: &Answer| Identity {
            name: answer.person.and_then(|place| roster.name(place)),
            similarity: answer.similarity,
            unknown: answer.unknown,
            second: answer.second,
            threshold: roster.rule().threshold,
        };
        self.answers.iter().map(identity).collect()
    }

    /// Returns the name for a face by place; `None` for a stranger and without a gallery.
    pub fn name(&self, face: usize) -> Option<&str> {
        self.roster.as_ref()?.name(self.answers.get(face)?.person?)
    }
}
