//! Names of tracks: the evidence of many frames gives a track its name, so that it does not change from frame to frame.
//!
//! Each slot of the tracker has a weighted sum of its track's embeddings; its direction is compared with the gallery. A frame
//! counts by the size and sharpness of the face and by how frontal it is, and not at all where its results are not to be
//! trusted. A name appears once enough frames support it, and stays until its similarity is clearly below the threshold. Three
//! things end the evidence: a cut, landmarks that form no face, and a face that is unlike the one before.
//!
//! All memory is allocated in the beginning; an update takes no lock and makes no system call but that of the clock.

use std::sync::Arc;

use faceptor::stages::{Face, MAX_TRACKS, Prediction, Suspicion, TaskResult};
use faceptor_gallery::{Roster, round_into};

use crate::recognition::identities::{Answer, Identities};

/// Weight of the frames that a name needs: four of a large, sharp, frontal face, more of others.
const ENOUGH: f32 = 4.0;
/// Weight that the frames of a track have at most; from then on older frames count less and less.
const MOST: f32 = 40.0;
/// A name stays while its similarity is at most this much below the threshold.
const SLACK: f32 = 0.06;
/// Similarity to the track's earlier frames below which a frame shows another face. In one of twenty pairs, photos of two people
/// are more alike; frames of one track nearly always are.
const UNLIKE: f32 = 0.22;
/// Frames in a row that are unlike the earlier ones, after which these no longer count.
const UNLIKE_FRAMES: u8 = 3;
/// Distance between the eyes, pixels, from which on a face counts fully.
const LARGE_EYES_PX: f32 = 40.0;
/// Sharpness from which on a face counts fully.
const SHARP: f32 = 0.8;
/// Offset of the nose tip at which a face counts half.
const HALF_TURN: f32 = 0.25;

/// The evidence about the track in a slot.
#[derive(Clone, Debug)]
struct Evidence {
    /// The number of the track; 0 without one.
    track: u32,
    /// Weighted sum of the unit embeddings.
    sum: Vec<f32>,
    weight: f32,
    /// Frames in a row that are unlike the sum.
    unlike: u8,
    /// The track may show another face: the next frame decides.
    is_suspected: bool,
    /// The place of the person in the roster.
    named: Option<usize>,
    answer: Answer,
    /// The sum or the gallery has changed since the answer.
    outdated: bool,
}

impl Evidence {
    fn new(dimension: usize) -> Evidence {
        Evidence {
            track: 0,
            sum: vec![0.0; dimension],
            weight: 0.0,
            unlike: 0,
            is_suspected: false,
            named: None,
            answer: Answer::NONE_YET,
            outdated: false,
        }
    }

    /// Forgets everything, and starts with a track.
    fn restart(&mut self, track: u32) {
        self.sum.fill(0.0);
        (self.track, self.weight, self.unlike) = (track, 0.0, 0);
        (self.is_suspected, self.named, self.answer, self.outdated) = (false, None, Answer::NONE_YET, false);
    }

    /// Adds a frame. One of weight 0 counts for nothing, but may show that the face is still the same.
    fn add(&mut self, embedding: &[f32], weight: f32) {
        let length = length_of(embedding);
        if embedding.len() != self.sum.len() || !(length > 0.0 && length.is_finite()) {
            return;
        }
        if self.weight > 0.0 {
            let product: f32 = self.sum.iter().zip(embedding).map(|(a, b)| a * b).sum();
            let is_like = product / (length_of(&self.sum) * length) >= UNLIKE;
            self.is_suspected &= !is_like;
            if !is_like && weight > 0.0 {
                self.unlike += 1;
                if !self.is_suspected && self.unlike < UNLIKE_FRAMES {
                    return;
                }
                self.restart(self.track);
            } else if is_like {
                self.unlike = 0;
            }
        }
        if weight <= 0.0 {
            return;
        }
        let keep = if self.weight + weight > MOST { (MOST - weight) / self.weight } else { 1.0 };
        for (sum, value) in self.sum.iter_mut().zip(embedding) {
            *sum = *sum * keep + value / length * weight;
        }
        self.weight = self.weight * keep + weight;
        (self.is_suspected, self.outdated) = (false, true);
    }

    /// Decides anew whose face it is.
    fn decide(&mut self, roster: &Roster, query: &mut [i8], now: u64) {
        self.outdated = false;
        if self.weight < ENOUGH || !round_into(&self.sum, query) {
            (self.named, self.answer) = (None, Answer::NONE_YET);
            return;
        }
        let rule = roster.rule();
        let ranking = roster.rank(query, now);
        let similarity = ranking.best.map(|(_, similarity)| similarity);
        let mut answer = Answer { person: None, similarity, second: ranking.second, unknown: None };
        let named = self.named.and_then(|place| Some((place, roster.score_of(place, query, now)?)));
        match (ranking.unknown(&rule), named) {
            (None, _) => answer.person = ranking.best.map(|(place, _)| place),
            // The name stays as long as it is the best one, or as good as it, and not clearly too unlike.
            (Some(_), Some((place, own)))
                if own >= rule.threshold - SLACK && similarity.is_some_and(|best| best - own < rule.margin) =>
            {
                (answer.person, answer.similarity) = (Some(place), Some(own));
            }
            (Some(reason), _) => answer.unknown = Some(reason.name()),
        }
        (self.named, self.answer) = (answer.person, answer);
    }
}

fn length_of(values: &[f32]) -> f32 {
    values.iter().map(|value| value * value).sum::<f32>().sqrt()
}

/// Names the tracks of a loop.
#[derive(Debug)]
pub struct TrackNames {
    /// The recognition's index among the network's tasks.
    task: usize,
    roster: Arc<Roster>,
    slots: Vec<Evidence>,
    query: Vec<i8>,
    identities: Identities,
}

impl TrackNames {
    /// Allocates the memory for every track; `task` is the recognition's index among the tasks.
    pub fn new(task: usize, roster: Arc<Roster>) -> TrackNames {
        let dimension = roster.dimension();
        TrackNames {
            task,
            slots: vec![Evidence::new(dimension); MAX_TRACKS],
            query: vec![0; dimension],
            identities: Identities::default(),
            roster,
        }
    }

    /// Returns the names of another source's tracks, of which none is known yet, by the same gallery.
    pub fn of_another_source(&self) -> TrackNames {
        TrackNames::new(self.task, self.roster.clone())
    }

    /// Returns the recognition's index among the tasks.
    pub fn task(&self) -> usize {
        self.task
    }

    /// Takes another state of the gallery. The evidence stays; each track is compared anew at its next frame.
    ///
    /// The former state is not freed here, because its owner keeps it.
    pub fn set_roster(&mut self, roster: Arc<Roster>) {
        if roster.dimension() == self.query.len() {
            for slot in &mut self.slots {
                slot.named = slot.named.and_then(|place| roster.place_of(self.roster.id(place)?));
                slot.outdated = true;
            }
            self.roster = roster;
        }
    }

    /// Ends all evidence: the next frame shows another scene.
    pub fn cut(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.restart(0));
    }

    /// Takes the faces of a frame in their order, each with its slot and the suspicion against its track; `now` is the Unix time.
    pub fn update<'a>(&mut self, faces: impl Iterator<Item = (usize, &'a Face, Suspicion)>, now: u64) {
        self.identities.restart(&self.roster);
        for (slot, face, suspicion) in faces {
            let Some(evidence) = self.slots.get_mut(slot) else { continue };
            if evidence.track != face.id || suspicion == Suspicion::Shape {
                evidence.restart(face.id);
            }
            evidence.is_suspected |= suspicion == Suspicion::Appearance;
            let result = face.results.get(self.task).filter(|result| result.known);
            if let Some(TaskResult { prediction: Prediction::Recognition(embedding), stale_frames: 0, .. }) = result
                && suspicion != Suspicion::Shape
            {
                evidence.add(embedding, weight(face));
            }
            let expired = evidence.named.is_some_and(|place| !self.roster.is_valid(place, now));
            if evidence.outdated || expired {
                evidence.decide(&self.roster, &mut self.query, now);
            }
            // While it is in doubt whose face it is, no name stays on it.
            let is_sure = result.is_some() && !evidence.is_suspected;
            self.identities.push(if is_sure { evidence.answer } else { Answer::NONE_YET });
        }
    }

    /// Returns the answers for the faces of the last update.
    pub fn identities(&self) -> &Identities {
        &self.identities
    }
}

/// Returns what a frame of a face counts: 1 for a large, sharp, frontal face, 0 where its results are not to be trusted.
fn weight(face: &Face) -> f32 {
    let quality = face.quality();
    if !quality.is_trusted() {
        return 0.0;
    }
    let size = (quality.eyes_px / LARGE_EYES_PX).clamp(0.0, 1.0);
    let sharpness = quality.sharpness.map_or(1.0, |sharpness| (sharpness / SHARP).clamp(0.0, 1.0));
    let frontal = 1.0 / (1.0 + (quality.turn / HALF_TURN).powi(2));
    size * sharpness * frontal
}
