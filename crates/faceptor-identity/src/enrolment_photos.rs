//! The photos of an enrolment, from the search for a face to the gallery.

use faceptor_gallery::{Details, Gallery, GalleryError, StoredTemplate};

use crate::enrolment::{self, Candidate, Limits};

/// Reason against a photo that cannot be read.
pub const UNREADABLE: &str = "unreadable";

/// The photos for the enrolment of one person, and what became of each.
#[derive(Debug, Default)]
pub struct EnrolmentPhotos {
    /// Those that show a face.
    candidates: Vec<Candidate>,
    /// For each photo its place among the candidates, or the reason of a refusal that cannot be overruled.
    found: Vec<Result<usize, &'static str>>,
}

/// The outcome for one photo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhotoOutcome {
    /// The photo was added.
    pub is_enrolled: bool,
    /// The gallery held this photo before.
    pub is_known: bool,
    /// Reasons against the photo; those of an enrolled one were overruled.
    pub reasons: Vec<&'static str>,
}

impl EnrolmentPhotos {
    /// Takes the next photo: a candidate, or the reason of a refusal that cannot be overruled.
    pub fn add(&mut self, photo: Result<Candidate, &'static str>) {
        self.found.push(photo.map(|candidate| {
            self.candidates.push(candidate);
            self.candidates.len() - 1
        }));
    }

    /// Decides on the photos: compares them with each other, with the person's in the gallery, and with other people.
    pub fn compare(&mut self, gallery: Option<&Gallery>, name: &str, limits: Option<Limits>, now: u64) {
        enrolment::compare(&mut self.candidates, gallery, name, limits, now);
    }

    /// Returns the templates of the photos that are enrolled, with the reasons that `force` overrules.
    pub fn templates(&self, force: bool) -> Vec<StoredTemplate> {
        enrolment::templates(&self.candidates, force)
    }

    /// Returns the outcome for each photo, in their order.
    pub fn outcomes(&self, force: bool) -> impl Iterator<Item = PhotoOutcome> {
        self.found.iter().map(move |found| match found.map(|place| &self.candidates[place]) {
            Ok(candidate) => PhotoOutcome {
                is_enrolled: candidate.is_enrolled(force),
                is_known: candidate.is_known,
                reasons: candidate.reasons.clone(),
            },
            Err(reason) => PhotoOutcome { is_enrolled: false, is_known: false, reasons: vec![reason] },
        })
    }
}

/// Writes the templates of a person into a gallery, after those whose time is over were removed from it. Returns whether the
/// person is new.
///
/// # Errors
/// As [`Gallery::enrol`].
pub fn write(
    gallery: &mut Gallery,
    details: Details,
    templates: Vec<StoredTemplate>,
    now: u64,
) -> Result<bool, GalleryError> {
    gallery.remove_expired(now)?;
    gallery.enrol(details, templates, now)
}
