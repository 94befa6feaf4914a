//! The steps of an enrolment: open the gallery, embed the faces, decide on the photos, write the templates.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::cli::UsageError;
use crate::cli::enroll::EnrollArguments;
use crate::cli::progress::Progress;
use crate::recognition::dates;
use crate::recognition::embedder::Embedder;
use crate::recognition::enrolment::{self, Candidate, Limits};
use crate::recognition::enrolment_photos::{self, EnrolmentPhotos, UNREADABLE};
use faceptor_gallery::{Details, Gallery, KeySource, Person};

/// Photos or views with their paths or names.
#[derive(Default)]
pub(super) struct EmbeddedPhotos {
    paths: Vec<PathBuf>,
    photos: EnrolmentPhotos,
}

/// The report on a photo.
#[derive(Serialize)]
pub(super) struct PhotoReport<'a> {
    path: &'a str,
    pub enrolled: bool,
    /// The gallery holds this photo already.
    pub known: bool,
    /// The reasons were overruled by --force.
    forced: bool,
    reasons: &'a [&'a str],
}

impl PhotoReport<'_> {
    /// Reports whether the photo was refused or cannot be read.
    pub fn is_refused(&self) -> bool {
        !self.enrolled && !self.known
    }

    /// Reports whether the photo cannot be read; the log has the error.
    pub fn is_unreadable(&self) -> bool {
        self.reasons == [UNREADABLE]
    }

    /// Returns a line with the outcome for the photo.
    pub fn text(&self) -> String {
        let reasons: Vec<String> = self.reasons.iter().map(|reason| reason.replace('_', " ")).collect();
        let outcome = match (self.enrolled, self.known) {
            (true, _) if self.forced => format!("enrolled despite: {}", reasons.join(", ")),
            (true, _) => "enrolled".to_owned(),
            (false, true) => "enrolled before".to_owned(),
            (false, false) => format!("refused: {}", reasons.join(", ")),
        };
        format!("{}: {outcome}\n", self.path)
    }
}

impl EmbeddedPhotos {
    /// Embeds the face of each photo.
    pub fn embed(paths: Vec<PathBuf>, embedder: &mut Embedder, now: u64, progress: &mut Progress) -> EmbeddedPhotos {
        let mut photos = EnrolmentPhotos::default();
        for path in &paths {
            photos.add(match embedder.faces(path) {
                Ok(faces) => enrolment::candidate(embedder, &faces, now),
                Err(reason) => {
                    progress.clear();
                    log::error!("{}: {reason:#}", path.display());
                    Err(UNREADABLE)
                }
            });
            progress.step();
        }
        EmbeddedPhotos { paths, photos }
    }

    /// Takes views of a person, which get their numbers as names.
    pub fn of_views(views: Vec<Candidate>) -> EmbeddedPhotos {
        let mut embedded = EmbeddedPhotos::default();
        for (number, view) in (1..).zip(views) {
            embedded.paths.push(PathBuf::from(format!("view {number}")));
            embedded.photos.add(Ok(view));
        }
        embedded
    }

    /// Calls `report` with the outcome for each photo.
    ///
    /// # Errors
    /// When `report` fails.
    pub fn each(&self, force: bool, mut report: impl FnMut(&PhotoReport) -> Result<()>) -> Result<()> {
        for (path, outcome) in self.paths.iter().zip(self.photos.outcomes(force)) {
            let (enrolled, known, reasons) = (outcome.is_enrolled, outcome.is_known, &outcome.reasons[..]);
            let forced = enrolled && !reasons.is_empty();
            report(&PhotoReport { path: &path.to_string_lossy(), enrolled, known, forced, reasons })?;
        }
        Ok(())
    }
}

/// The result of an enrolment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Enrolled {
    /// The person was not in the gallery before.
    pub new: bool,
    /// Photos that were added.
    pub added: usize,
}

/// Enrols people in a gallery, and creates it for the first of them.
pub(super) struct EnrolmentWriter<'a> {
    arguments: &'a EnrollArguments,
    gallery: Option<Gallery>,
    /// The key of a gallery that does not exist yet.
    key: Option<KeySource>,
    pub embedder: Embedder,
    expires_at: Option<u64>,
    now: u64,
}

impl<'a> EnrolmentWriter<'a> {
    /// Opens the gallery and the network.
    ///
    /// # Errors
    /// When the gallery, its key or the network cannot be used. No photo has been read then.
    pub fn open(arguments: &'a EnrollArguments, now: u64) -> Result<EnrolmentWriter<'a>> {
        let expires_at = dates::end_of_enrolment(&arguments.enrolment.expires, now)
            .map_err(|reason| UsageError(format!("--expires: {reason}")))?;
        let gallery = arguments.gallery.open_if_present()?;
        let key = match gallery {
            Some(_) => None,
            None => {
                arguments.gallery.check_place()?;
                Some(arguments.gallery.key(true)?)
            }
        };
        let mut embedder = arguments.embedder.open()?;
        embedder.measure_pose();
        if arguments.keep_crops {
            embedder.keep_crops();
        }
        let path = arguments.gallery.path()?;
        if let Some(gallery) = &gallery {
            gallery.check_network(embedder.network()).context(path.display().to_string())?;
        }
        let writer = EnrolmentWriter { arguments, gallery, key, embedder, expires_at, now };
        if writer.limits().is_none() {
            log::warn!("this network has no table of impostor scores: the photos are not compared; give --threshold");
        }
        Ok(writer)
    }

    /// Returns the person of that name.
    pub fn person(&self, name: &str) -> Option<&Person> {
        self.gallery.as_ref()?.person(name)
    }

    /// Reports whether `--expires` or `--purpose` was given for a person who is enrolled already, where they change nothing.
    pub fn ignores_details(&self, name: &str) -> bool {
        let is_present = self.person(name).is_some_and(|person| !person.is_expired(self.now));
        is_present && (self.expires_at.is_some() || !self.arguments.enrolment.purpose.is_empty())
    }

    /// Returns the number of people whose enrolment is not over.
    pub fn people(&self) -> usize {
        self.gallery.as_ref().map_or(0, |gallery| gallery.size(self.now))
    }

    /// Decides which photos of a person are enrolled, and writes their templates.
    ///
    /// # Errors
    /// When the gallery cannot be written.
    pub fn enrol(&mut self, name: &str, embedded: &mut EmbeddedPhotos) -> Result<Enrolled> {
        let limits = self.limits();
        embedded.photos.compare(self.gallery.as_ref(), name, limits, self.now);
        let templates = embedded.photos.templates(self.arguments.force);
        let added = templates.len();
        if added == 0 {
            return Ok(Enrolled::default());
        }
        let (now, arguments) = (self.now, self.arguments);
        let (enrolled_by, purpose) = (arguments.enrolment.by(), arguments.enrolment.purpose.clone());
        let details =
            Details { name: name.to_owned(), enrolled_at: now, enrolled_by, purpose, expires_at: self.expires_at };
        let mut gallery = match (self.gallery.take(), &self.key) {
            (Some(gallery), _) => gallery,
            (None, Some(key)) => arguments.gallery.create(key, self.embedder.network(), now)?,
            (None, None) => anyhow::bail!("the gallery's key was not read"),
        };
        let change = enrolment_photos::write(&mut gallery, details, templates, now);
        let gallery = self.gallery.insert(gallery);
        let new = change.context(arguments.gallery.path()?.display().to_string())?;
        arguments.gallery.count(gallery)?;
        Ok(Enrolled { new, added })
    }

    /// Returns the similarities that decide on a photo; `None` if neither the network nor the user gives any.
    fn limits(&self) -> Option<Limits<'_>> {
        let threshold = &self.arguments.threshold;
        let comparisons = self.gallery.as_ref().map_or(0, |gallery| gallery.comparisons(self.now));
        Limits::of(self.embedder.impostors(), threshold.fpir, threshold.threshold, comparisons)
    }
}
