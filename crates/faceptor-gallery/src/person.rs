//! People: what is held on each of them.

use faceptor_nn::bundle::hexadecimal;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{GalleryError, Result};
use crate::name::{check_name, is_control};
use crate::template::Template;

/// Longest purpose and longest name of the enrolling person, characters.
const MOST_TEXT: usize = 500;

/// The number of a person: random, and of no meaning outside of one gallery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PersonId([u8; 16]);

impl PersonId {
    pub(crate) fn from_bytes(bytes: [u8; 16]) -> PersonId {
        PersonId(bytes)
    }

    /// Returns the bytes of the number.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Returns all 32 hexadecimal digits.
    pub fn digits(&self) -> String {
        hexadecimal(&self.0)
    }
}

impl std::fmt::Display for PersonId {
    /// Writes the first eight hexadecimal digits.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// Name and circumstances of an enrolment.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// The name, as [`check_name`] accepts it.
    pub name: String,
    /// Unix time of the enrolment, seconds.
    pub enrolled_at: u64,
    /// Who enrolled the person: an account of the machine, or what was given.
    pub enrolled_by: String,
    /// Purpose of the enrolment.
    pub purpose: String,
    /// Unix time from which on the person is not matched any more; `None` for never.
    pub expires_at: Option<u64>,
}

impl std::fmt::Debug for Details {
    /// Shows no name, so that none reaches a log.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Details(..)")
    }
}

impl Details {
    /// Checks the texts, and spells the name as the gallery stores it.
    pub(crate) fn checked(self) -> Result<Details> {
        let name = check_name(&self.name)?;
        check_text("purpose", &self.purpose)?;
        check_text("enrolling person", &self.enrolled_by)?;
        Ok(Details { name, ..self })
    }
}

/// A template with the circumstances of its photo.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredTemplate {
    /// The embedding.
    pub template: Template,
    /// Unix time at which it was added, seconds.
    pub added_at: u64,
    /// Pixels between the eyes in the photo.
    pub eyes_px: f32,
    /// Reasons against the photo that were overruled; empty for a good one.
    pub forced: Vec<String>,
    /// The aligned picture, if it is stored.
    #[serde(skip)]
    pub crop: Option<Crop>,
}

/// The aligned picture of a face, as the bytes of a JPEG or PNG file; erased from memory when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Crop(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Crop {
    /// Shows no bytes, so that they reach no log.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Crop({} bytes)", self.0.len())
    }
}

impl Crop {
    /// The most bytes of a crop.
    pub const MOST_BYTES: usize = 256 << 10;

    /// Takes the bytes of an image file.
    pub fn new(bytes: Vec<u8>) -> Crop {
        Crop(Zeroizing::new(bytes))
    }

    /// Returns the bytes of the image file.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl StoredTemplate {
    /// The most reasons of a template, and the most characters of each.
    const MOST_REASONS: [usize; 2] = [32, 100];

    /// Checks the reasons and the crop, which an import takes from outside.
    pub(crate) fn check(&self) -> Result<()> {
        if self.crop.as_ref().is_some_and(|crop| crop.bytes().is_empty() || crop.bytes().len() > Crop::MOST_BYTES) {
            return Err(GalleryError::Refused(format!("a crop is empty or has more than {} bytes", Crop::MOST_BYTES)));
        }
        let [count, length] = StoredTemplate::MOST_REASONS;
        let is_bad = |reason: &String| reason.chars().count() > length || reason.chars().any(is_control);
        match self.forced.len() > count || self.forced.iter().any(is_bad) {
            true => Err(GalleryError::Refused("a template has reasons that cannot be shown".into())),
            false => Ok(()),
        }
    }
}

/// A person of a gallery.
#[derive(Clone, Debug, PartialEq)]
pub struct Person {
    pub(crate) id: PersonId,
    pub(crate) details: Details,
    pub(crate) templates: Vec<StoredTemplate>,
}

impl Person {
    /// Returns the number of the person in this gallery.
    pub fn id(&self) -> PersonId {
        self.id
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.details.name
    }

    /// Returns name and circumstances.
    pub fn details(&self) -> &Details {
        &self.details
    }

    /// Returns the templates, in the order in which they were added.
    pub fn templates(&self) -> &[StoredTemplate] {
        &self.templates
    }

    /// Reports whether the time of the enrolment is over.
    pub fn is_expired(&self, now: u64) -> bool {
        self.details.expires_at.is_some_and(|end| end <= now)
    }

    /// Reports whether a photo was accepted despite reasons against it.
    pub fn is_forced(&self) -> bool {
        self.templates.iter().any(|stored| !stored.forced.is_empty())
    }
}

/// Checks a text of an entry.
pub(crate) fn check_text(what: &str, text: &str) -> Result<()> {
    match text.chars().count() > MOST_TEXT || text.chars().any(is_control) {
        true => {
            Err(GalleryError::Refused(format!("the {what} has more than {MOST_TEXT} characters or control characters")))
        }
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_holds_no_name() {
        let details = Details {
            name: "Ada".into(),
            enrolled_at: 1,
            enrolled_by: "root".into(),
            purpose: "door".into(),
            expires_at: None,
        };
        assert_eq!(format!("{details:?}"), "Details(..)");
    }
}
