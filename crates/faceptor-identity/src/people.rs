//! A gallery together with its network, for programs that do what the command line does.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use faceptor::stages::{Analysis, Picture};
use faceptor_gallery::{Decision, Details, Gallery, GalleryError, KeySource, PassphraseCost};
use faceptor_nn::bundle::Bundle;
use faceptor_nn::thread_pool::Threads;

use crate::embedder::Embedder;
use crate::enrolment::{self, Limits};
use crate::enrolment_photos::{self, EnrolmentPhotos, UNREADABLE};
use crate::naming::{NO_TABLE, NamingOptions, OwnedIdentity, identities};
use crate::{PLATFORM, dates};

pub use crate::enrolment_photos::PhotoOutcome;

/// Options to open a gallery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// This process reads the state at opening; another process may change the gallery.
    Read,
    /// This process alone may change the gallery.
    Write,
    /// A new gallery is made.
    Create,
}

/// A gallery of people with the network that recognizes them.
pub struct People {
    gallery: Gallery,
    embedder: Embedder,
    access: Access,
}

/// A photo for an enrolment: its pixels, or why there are none.
pub type Photo = Result<Picture, String>;

/// Circumstances of an enrolment.
#[derive(Clone, Debug, PartialEq)]
pub struct Enrolment {
    /// The person's name.
    pub name: String,
    /// Who enrols the person.
    pub by: String,
    /// Purpose of the enrolment.
    pub purpose: String,
    /// End of the enrolment, as [`dates::end_of_enrolment`] reads it.
    pub expires: String,
    /// Enrol also photos that there are reasons against.
    pub force: bool,
    /// The limits of the comparison with other photos.
    pub limits: NamingOptions,
}

/// The outcome of an enrolment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// The person was not in the gallery before.
    pub is_new: bool,
    /// Number of photos that were added.
    pub added: usize,
    /// Templates of the person now.
    pub templates: usize,
    /// One for each photo.
    pub photos: Vec<PhotoOutcome>,
}

impl People {
    /// Opens or makes a gallery, for the recognition of a bundle.
    ///
    /// # Errors
    /// When the gallery cannot be opened or made, is of another network, or the bundle has no recognition.
    pub fn open(path: &Path, key: &KeySource, access: Access, bundle: &Arc<Bundle>) -> Result<People> {
        let within = || path.display().to_string();
        let embedder = Embedder::new(bundle, &Threads::default(), false)?;
        let gallery = match access {
            Access::Read => Gallery::open(path, key, PLATFORM),
            Access::Write => Gallery::open_for_writing(path, key, PLATFORM),
            Access::Create => {
                let cost = PassphraseCost::default();
                Gallery::create(path, key, embedder.network(), cost, PLATFORM, dates::now())
            }
        };
        let gallery = gallery.with_context(within)?;
        gallery.check_network(embedder.network()).with_context(within)?;
        Ok(People { gallery, embedder, access })
    }

    /// Returns the gallery.
    pub fn gallery(&self) -> &Gallery {
        &self.gallery
    }

    /// Returns the embedder, by whose decoders results are named.
    pub fn embedder(&self) -> &Embedder {
        &self.embedder
    }

    /// Names the faces of a picture, as `faceptor identify` does.
    ///
    /// # Errors
    /// When an option is out of its range, there is no threshold, or the network fails.
    pub fn identify(&mut self, picture: &Picture, options: &NamingOptions) -> Result<(Analysis, Vec<OwnedIdentity>)> {
        options.check().map_err(GalleryError::Refused)?;
        let now = dates::now();
        let threshold = options.threshold(self.embedder.impostors(), self.gallery.comparisons(now));
        let threshold = threshold.ok_or_else(|| GalleryError::Refused(format!("{NO_TABLE}: give a threshold")))?;
        let rule = Decision { margin: options.margin, ..Decision::at(threshold) };
        self.embedder.leave_pose();
        let faces = self.embedder.faces_of(picture, Vec::new())?;
        let found = identities(&self.gallery, &self.embedder, &faces.analysis, &rule, now)?;
        let found = found.into_iter().map(OwnedIdentity::from).collect();
        Ok((faces.analysis, found))
    }

    /// Enrols a person from photos that are good enough, or adds photos to the person, as `faceptor enroll` does. A photo that
    /// could not be read is refused as `unreadable`.
    ///
    /// # Errors
    /// When the gallery was opened for reading, a text cannot be stored, or the network or the disk fails. Photos that are not
    /// good enough are no error.
    pub fn enrol(&mut self, enrolment: &Enrolment, photos: &[Photo]) -> Result<Enrolled> {
        if self.access == Access::Read {
            // Also for photos that would be refused.
            return Err(GalleryError::ReadOnly.into());
        }
        let now = dates::now();
        let name = faceptor_gallery::check_name(&enrolment.name)?;
        enrolment.limits.check().map_err(GalleryError::Refused)?;
        let expires_at = dates::end_of_enrolment(&enrolment.expires, now)
            .map_err(|reason| GalleryError::Refused(format!("expires: {reason}")))?;
        self.embedder.measure_pose();
        let mut seen = EnrolmentPhotos::default();
        for photo in photos {
            seen.add(match photo {
                Ok(picture) => {
                    let faces = self.embedder.faces_of(picture, Vec::new())?;
                    enrolment::candidate(&self.embedder, &faces, now)
                }
                Err(_) => Err(UNREADABLE),
            });
        }
        let NamingOptions { fpir, threshold, .. } = enrolment.limits;
        let limits = Limits::of(self.embedder.impostors(), fpir, threshold, self.gallery.comparisons(now));
        seen.compare(Some(&self.gallery), &name, limits, now);
        let templates = seen.templates(enrolment.force);
        let (added, mut is_new) = (templates.len(), false);
        if added > 0 {
            let (enrolled_by, purpose) = (enrolment.by.clone(), enrolment.purpose.clone());
            let details = Details { name: name.clone(), enrolled_at: now, enrolled_by, purpose, expires_at };
            is_new = enrolment_photos::write(&mut self.gallery, details, templates, now)?;
        }
        let templates = self.gallery.person(&name).map_or(0, |person| person.templates().len());
        Ok(Enrolled { is_new, added, templates, photos: seen.outcomes(enrolment.force).collect() })
    }

    /// Removes a person: the file is written anew without the person's key and records.
    ///
    /// # Errors
    /// When there is no such person, the gallery was opened for reading, or the file cannot be written.
    pub fn remove(&mut self, name: &str) -> Result<()> {
        Ok(self.gallery.remove(name, dates::now())?)
    }

    /// Gives a person another name.
    ///
    /// # Errors
    /// As [`Gallery::rename`].
    pub fn rename(&mut self, name: &str, to: &str) -> Result<()> {
        Ok(self.gallery.rename(name, to, dates::now())?)
    }
}

/// Reads the key of a gallery: from a file, or of a passphrase.
///
/// # Errors
/// When both or none of them are given, or the key cannot be read.
pub fn key(file: Option<&Path>, passphrase: Option<&str>) -> Result<KeySource> {
    match (file, passphrase) {
        (Some(file), None) => crate::key_file::key(file),
        (None, Some(passphrase)) => Ok(KeySource::from_passphrase(passphrase)?),
        (Some(_), Some(_)) => {
            Err(anyhow!(GalleryError::Key("a key file and a passphrase are both given: give one".into())))
        }
        (None, None) => Err(anyhow!(GalleryError::Key(
            "a key is needed: a key file (`faceptor gallery make-key FILE` makes one) or a passphrase".into()
        ))),
    }
}
