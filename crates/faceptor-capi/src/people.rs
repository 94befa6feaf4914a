//! Galleries of people.

use std::ffi::CString;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use faceptor::Photo;
use faceptor::stages::Pixels;
use faceptor_gallery::GalleryError;
use faceptor_identity::listing::List;
use faceptor_identity::naming::NamingOptions;
use faceptor_identity::people::{self, Access, Enrolled, Enrolment, People};
use faceptor_identity::{account, dates};
use faceptor_results::json::{Origin, OuterTiming};

use crate::failure::{Failure, Outcome, Status};
use crate::network::{Analyzer, Source};
use crate::outcome::{Legend, Results};

/// People in an encrypted file, with the network that recognizes them. Calls from several threads run one after the other.
pub struct Gallery {
    path: String,
    legend: Arc<Legend>,
    /// `None` after a defect.
    people: Mutex<Option<People>>,
    /// The last list; C programs read it until the next one.
    list: Mutex<CString>,
}

/// The options of an enrolment, which the header lets be absent.
#[derive(Default)]
pub struct EnrolmentTexts {
    pub by: Option<String>,
    pub purpose: Option<String>,
    pub expires: Option<String>,
    pub force: bool,
}

impl Gallery {
    pub fn open(
        analyzer: &Analyzer,
        path: &Path,
        key: Option<&Path>,
        passphrase: Option<&str>,
        access: u32,
    ) -> Outcome<Gallery> {
        let access = match access {
            0 => Access::Read,
            1 => Access::Write,
            2 => Access::Create,
            other => return Err(Failure::argument(format!("access is {other}: FACEPTOR_READ, _WRITE or _CREATE"))),
        };
        let people = People::open(path, &people::key(key, passphrase)?, access, analyzer.bundle())?;
        let legend = Arc::new(Legend::of(people.embedder().decoders()));
        let (path, people) = (path.display().to_string(), Mutex::new(Some(people)));
        Ok(Gallery { path, legend, people, list: Mutex::default() })
    }

    /// Calls `work` with the people; those of a call that panics are not put back. A failure of the gallery names the file.
    fn with<T>(&self, work: impl FnOnce(&mut People) -> anyhow::Result<T>) -> Outcome<T> {
        let mut slot = self.people.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = || Failure::new(Status::Defect, "a defect stopped this gallery: open it again");
        let mut people = slot.take().ok_or_else(gone)?;
        let outcome = work(&mut people);
        *slot = Some(people);
        outcome.map_err(|reason| match reason.downcast_ref::<GalleryError>() {
            Some(_) => Failure::from(reason.context(self.path.clone())),
            None => Failure::from(reason),
        })
    }

    pub fn identify(&self, source: Source<'_>, options: &NamingOptions) -> Outcome<Results> {
        let start = Instant::now();
        let (picture, path, warnings, capture_us) = source.into_picture();
        let (analysis, identities) = self.with(|people| people.identify(&picture, options))?;
        let total_us = capture_us + start.elapsed().as_micros() as u64;
        let outer_timing = OuterTiming { total_us, ..OuterTiming::default() };
        let (width, height) = (picture.width(), picture.height());
        let origin = Origin { path, width, height, frame: None, warnings };
        Ok(Results::new(analysis, self.legend.clone(), origin, outer_timing).with_identities(identities))
    }

    pub fn enrol(&self, name: String, texts: EnrolmentTexts, photos: &[people::Photo]) -> Outcome<Enrolled> {
        let enrolment = Enrolment {
            name,
            by: texts.by.unwrap_or_else(account::name),
            purpose: texts.purpose.unwrap_or_default(),
            expires: texts.expires.unwrap_or_else(|| "never".to_owned()),
            force: texts.force,
            limits: NamingOptions::default(),
        };
        self.with(|people| people.enrol(&enrolment, photos))
    }

    pub fn remove(&self, name: &str) -> Outcome<()> {
        self.with(|people| people.remove(name))
    }

    pub fn rename(&self, name: &str, to: &str) -> Outcome<()> {
        self.with(|people| people.rename(name, to))
    }

    /// Returns what `faceptor gallery list --json` prints; it lives until the next call or the gallery's end.
    pub fn json(&self) -> Outcome<*const std::ffi::c_char> {
        let text = self.with(|people| Ok(serde_json::to_string(&List::of(people.gallery(), dates::now()))?))?;
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        // JSON escapes zero bytes.
        *list = CString::new(text).unwrap_or_default();
        Ok(list.as_ptr())
    }
}

/// Reads a photo for an enrolment. Returns the reason for what is not a photo.
pub fn photo(path: &Path) -> people::Photo {
    Photo::open(path).map(Photo::into_picture).map_err(|reason| reason.to_string())
}
