//! Decides which photos may be enrolled, with a reason for each refusal.

use faceptor::stages::{Face, Pose};
use faceptor_gallery::{Aggregation, Gallery, ImpostorScores, StoredTemplate, Template};

use crate::embedder::{Embedder, PhotoFaces};

/// Share of other people's photos that pass as the same person's. About one in forty of a person's own photos does not pass.
const RATE_OF_LIKE: f64 = 0.05;
/// Similarity above which two templates come from the same photo.
const SAME_PHOTO: f32 = 0.995;

/// Degrees of yaw and of pitch beyond which a photo is refused for an enrolment.
const MOST_YAW: f32 = 45.0;
const MOST_PITCH: f32 = 35.0;

/// The similarities that decide on an enrolment.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Photos of one person have at least this similarity.
    pub like: f32,
    /// Photos of different people have less than this.
    pub other: f32,
}

impl Limits {
    /// Returns the limits that follow from scores of impostors, for a gallery with this many templates.
    pub fn new(impostors: &ImpostorScores, fpir: f64, comparisons: usize) -> Limits {
        Limits { like: impostors.score_at(RATE_OF_LIKE), other: impostors.threshold(fpir, comparisons) }
    }

    /// Returns the limits of a network for a gallery with this many templates; `threshold` is the user's, in place of the
    /// table's. `None` if neither is given: photos are not compared then.
    pub fn of(
        impostors: Option<&ImpostorScores>,
        fpir: f64,
        threshold: Option<f32>,
        comparisons: usize,
    ) -> Option<Limits> {
        let limits = impostors.map(|table| Limits::new(table, fpir, comparisons));
        let Some(threshold) = threshold else { return limits };
        let like = limits.map_or(threshold, |limits| limits.like.min(threshold));
        Some(Limits { like, other: threshold })
    }
}

/// A photo that shows a face, with the reasons against it.
#[derive(Debug)]
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
    let own = gallery.and_then(|gallery| gallery.person(name));
    let own: Vec<Template> =
        own.map_or_else(Vec::new, |person| person.templates().iter().map(|stored| stored.template.clone()).collect());
    for index in 0..candidates.len() {
        let (before, rest) = candidates.split_at_mut(index);
        let Some(this) = rest.first_mut() else { break };
        let earlier = before.iter().filter(|candidate| !candidate.is_known).map(|candidate| &candidate.stored.template);
        this.is_known = own.iter().chain(earlier).any(|known| known.similarity(&this.stored.template) > SAME_PHOTO);
    }
    let Some(limits) = limits else { return };
    let unlike = unlike_the_others(candidates, &own, limits.like);
    for (candidate, unlike) in candidates.iter_mut().zip(unlike) {
        if unlike {
            candidate.reasons.push("unlike_other_photos");
        }
        if gallery.is_some_and(|gallery| is_like_another(gallery, &candidate.stored.template, name, limits.other, now))
        {
            candidate.reasons.push("like_another_person");
        }
    }
}

/// Reports for each candidate whether it is unlike the person's other photos.
///
/// The photos in the gallery decide. For a new person, the photo that is like most others decides, so that one wrong photo is
/// refused and not the others. Two photos that are unlike each other are both refused, because either may be the wrong one.
fn unlike_the_others(candidates: &[Candidate], own: &[Template], like: f32) -> Vec<bool> {
    let similarity = |a: usize, b: &Template| candidates[a].stored.template.similarity(b);
    if !own.is_empty() {
        return (0..candidates.len()).map(|a| own.iter().all(|known| similarity(a, known) < like)).collect();
    }
    // Only photos without another reason against them may decide, and each photo once.
    let good: Vec<usize> =
        (0..candidates.len()).filter(|&a| candidates[a].reasons.is_empty() && !candidates[a].is_known).collect();
    let alike =
        |a: usize| good.iter().filter(|&&b| b != a && similarity(a, &candidates[b].stored.template) >= like).count();
    let total = |a: usize| good.iter().map(|&b| similarity(a, &candidates[b].stored.template)).sum::<f32>();
    let middle = good.iter().copied().max_by(|&a, &b| alike(a).cmp(&alike(b)).then(total(a).total_cmp(&total(b))));
    let Some(middle) = middle else { return vec![false; candidates.len()] };
    if good.len() == 2 && alike(middle) == 0 {
        return (0..candidates.len()).map(|a| good.contains(&a)).collect();
    }
    let core: Vec<usize> = good
        .iter()
        .copied()
        .filter(|&b| b == middle || similarity(middle, &candidates[b].stored.template) >= like)
        .collect();
    let is_unlike = |a: usize| core.iter().all(|&b| a != b && similarity(a, &candidates[b].stored.template) < like);
    (0..candidates.len()).map(is_unlike).collect()
}

fn is_like_another(gallery: &Gallery, template: &Template, name: &str, limit: f32, now: u64) -> bool {
    let mut scores = gallery.scores(template, Aggregation::Best, now);
    scores.any(|(person, score)| person.name() != name && score >= limit)
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
        let limits = Limits { like: 30f32.to_radians().cos(), other: 1.0 };
        compare(&mut candidates, None, "Ada", Some(limits), 0);
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
