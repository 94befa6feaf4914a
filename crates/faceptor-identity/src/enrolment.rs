//! Decides which photos may be enrolled, with a reason for each refusal.

use faceptor::stages::{Face, Pose};
use faceptor_gallery::{Aggregation, Gallery, Person, PersonId, StoredTemplate, Template};

use crate::consistency::PhotoSet;
use crate::embedder::{Embedder, PhotoFaces};

pub use crate::consistency::Limits;

/// Similarity above which two templates come from the same photo.
const SAME_PHOTO: f32 = 0.995;

/// Degrees of yaw and of pitch beyond which a photo is refused for an enrolment.
const MOST_YAW: f32 = 45.0;
const MOST_PITCH: f32 = 35.0;

/// A photo that shows a face, with the reasons against it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The record for the gallery.
    pub stored: StoredTemplate,
    /// Reasons against the photo; the user may overrule them.
    pub reasons: Vec<&'static str>,
    /// The gallery holds this photo of the person already.
    pub is_known: bool,
}

impl Candidate {
    /// Reports whether the photo is enrolled; with `force` also if there are reasons against it.
    pub fn is_enrolled(&self, force: bool) -> bool {
        !self.is_known && (self.reasons.is_empty() || force)
    }
}

/// Returns the templates of the photos that are enrolled, with the reasons that were overruled.
pub fn templates(candidates: &[Candidate], force: bool) -> Vec<StoredTemplate> {
    let enrolled = candidates.iter().filter(|candidate| candidate.is_enrolled(force));
    let template = |candidate: &Candidate| StoredTemplate {
        forced: candidate.reasons.iter().map(|reason| (*reason).to_owned()).collect(),
        ..candidate.stored.clone()
    };
    enrolled.map(template).collect()
}

/// Takes the face with the largest box of a photo.
///
/// # Errors
/// The reason of a refusal that cannot be overruled: there is no face, or it has no embedding.
pub fn candidate(embedder: &Embedder, faces: &PhotoFaces, now: u64) -> Result<Candidate, &'static str> {
    let area = |face: &&Face| {
        let [_, _, width, height] = face.detection.xywh();
        width * height
    };
    let largest = faces.analysis.faces.iter().enumerate().max_by(|a, b| area(&a.1).total_cmp(&area(&b.1)));
    let (place, face) = largest.ok_or("no_face")?;
    let quality = face.quality();
    let mut reasons: Vec<&'static str> = quality.warnings().collect();
    if face.pose().is_some_and(|pose| is_turned(&pose)) && !reasons.contains(&"turned") {
        reasons.push("turned");
    }
    if faces.analysis.faces.len() > 1 {
        reasons.push("several_faces");
    }
    let template = Template::of(embedder.embedding(face), embedder.network().dimension).map_err(|_| "no_embedding")?;
    let crop = faces.crop(place).cloned();
    let stored = StoredTemplate { template, added_at: now, eyes_px: quality.eyes_px, forced: Vec::new(), crop };
    Ok(Candidate { stored, reasons, is_known: false })
}

/// Reports whether a head is turned or tilted too far for an enrolment.
fn is_turned(pose: &Pose) -> bool {
    pose.yaw_deg.abs() > MOST_YAW || pose.pitch_deg.abs() > MOST_PITCH
}

/// Compares the photos of a person with each other, with those that the gallery has of the person, and with other people.
pub fn compare(candidates: &mut [Candidate], gallery: Option<&Gallery>, name: &str, limits: Option<Limits>, now: u64) {
    // Someone whose enrolment is over is removed by the next one, and begins anew.
    let person = gallery.and_then(|gallery| gallery.person(name)).filter(|person| !person.is_expired(now));
    let own: Vec<&Template> =
        person.map_or_else(Vec::new, |person| person.templates().iter().map(|stored| &stored.template).collect());
    for index in 0..candidates.len() {
        let (before, rest) = candidates.split_at_mut(index);
        let Some(this) = rest.first_mut() else { break };
        let earlier = before.iter().filter(|candidate| !candidate.is_known).map(|candidate| &candidate.stored.template);
        let mut known = own.iter().copied().chain(earlier);
        this.is_known = known.any(|known| known.similarity(&this.stored.template) > SAME_PHOTO);
    }
    let Some(limits) = limits else { return };
    let unlike = unlike_the_others(candidates, &own, &limits);
    for (candidate, unlike) in candidates.iter_mut().zip(unlike) {
        if unlike {
            candidate.reasons.push("unlike_other_photos");
        }
        let is_like_another =
            |gallery| is_like_another(gallery, &candidate.stored.template, person.map(Person::id), limits.other, now);
        if gallery.is_some_and(is_like_another) {
            candidate.reasons.push("like_another_person");
        }
    }
}

/// Reports for each candidate whether it is unlike the person's other photos: those in the gallery or, for a new person, those
/// of the set that are alike. Where no photos stand for the person, all are refused, because any may be a wrong one.
fn unlike_the_others(candidates: &[Candidate], own: &[&Template], limits: &Limits) -> Vec<bool> {
    let set = PhotoSet::of(candidates.iter().map(|candidate| &candidate.stored.template).chain(own.iter().copied()));
    let count = candidates.len();
    // Only photos without another reason against them may decide, and each photo once.
    let good = (0..count).filter(|&photo| candidates[photo].reasons.is_empty() && !candidates[photo].is_known);
    let good: Vec<usize> = good.collect();
    let core = if own.is_empty() { set.core(&good, limits) } else { Some((count..count + own.len()).collect()) };
    let is_unlike = |photo: usize| match &core {
        Some(core) => !core.contains(&photo) && !set.is_like(photo, core, limits.like),
        None => good.contains(&photo),
    };
    (0..count).map(is_unlike).collect()
}

/// Reports whether a template is like a person of the gallery other than this one.
fn is_like_another(gallery: &Gallery, template: &Template, this: Option<PersonId>, limit: f32, now: u64) -> bool {
    let mut scores = gallery.scores(template, Aggregation::Best, now);
    scores.any(|(person, score)| Some(person.id()) != this && score >= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(angles: &[f32]) -> Vec<Candidate> {
        let one = |degrees: &f32| {
            let (sine, cosine) = degrees.to_radians().sin_cos();
            let template = Template::of(&[cosine, sine], 2).expect("a direction");
            let stored = StoredTemplate { template, added_at: 0, eyes_px: 60.0, forced: Vec::new(), crop: None };
            Candidate { stored, reasons: Vec::new(), is_known: false }
        };
        angles.iter().map(one).collect()
    }

    /// Photos are alike within 30 degrees.
    fn refused(mut candidates: Vec<Candidate>) -> Vec<usize> {
        let limits = Limits::of(None, 0.01, Some(30f32.to_radians().cos()), 0);
        compare(&mut candidates, None, "Ada", limits, 0);
        (0..candidates.len()).filter(|&place| !candidates[place].reasons.is_empty()).collect()
    }

    #[test]
    fn one_spoilt_photo_is_refused_and_not_the_others() {
        assert_eq!(refused(candidates(&[0.0, 10.0, 20.0, 90.0])), [3]);
        assert_eq!(refused(candidates(&[90.0, 0.0, 10.0, 20.0])), [0]);
        // Along a chain each is like a neighbour of the middle one.
        assert_eq!(refused(candidates(&[0.0, 25.0, 50.0])), [0usize; 0]);
        assert_eq!(refused(candidates(&[0.0])), [0usize; 0]);
        assert_eq!(refused(Vec::new()), [0usize; 0]);
    }

    #[test]
    fn two_photos_that_are_unlike_each_other_are_both_refused() {
        assert_eq!(refused(candidates(&[0.0, 90.0])), [0, 1]);
        assert_eq!(refused(candidates(&[0.0, 10.0])), [0usize; 0]);
    }

    #[test]
    fn a_photo_with_another_fault_does_not_decide() {
        let mut photos = candidates(&[0.0, 10.0, 90.0, 95.0, 85.0]);
        photos.iter_mut().skip(2).for_each(|photo| photo.reasons.push("too_small"));
        assert_eq!(refused(photos), [2, 3, 4]);
    }

    #[test]
    fn the_same_photo_twice_is_known() {
        let mut photos = candidates(&[0.0, 0.0, 10.0, 0.0]);
        compare(&mut photos, None, "Ada", None, 0);
        assert_eq!(photos.iter().map(|photo| photo.is_known).collect::<Vec<_>>(), [false, true, false, true]);
    }
}
