//! A gallery of people, for Python.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use faceptor::stages::Picture;
use faceptor_gallery::GalleryError;
use faceptor_identity::listing::List;
use faceptor_identity::naming::NamingOptions;
use faceptor_identity::people::{self, Access, Enrolled, Enrolment, People};
use faceptor_identity::{account, dates};
use faceptor_results::json::{Origin, OuterTiming};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::failure::{Failure, Outcome, contained};
use crate::image::{Image, elapsed_us};
use crate::interpreter_exit::unlocked;
use crate::record::Record;
use crate::session;

/// People in an encrypted file, with the network that recognizes them. Calls from several threads run one after the other.
#[pyclass(frozen, module = "faceptor._native")]
pub struct Gallery {
    path: String,
    /// `None` once it is closed, or after a defect.
    people: Mutex<Option<People>>,
}

/// `(is new, photos added, templates in all, [(is enrolled, is known, reasons)])`.
type EnrolledTuple = (bool, usize, usize, Vec<(bool, bool, Vec<&'static str>)>);

impl Gallery {
    /// Calls `work` with the people; those of a call that panicked are not put back.
    fn with<T>(&self, work: impl FnOnce(&mut People) -> Outcome<T>) -> Outcome<T> {
        let mut slot = self.people.lock().unwrap_or_else(PoisonError::into_inner);
        let mut people = slot.take().ok_or_else(|| Failure::gallery("this gallery is closed").within(&self.path))?;
        let (outcome, people) = contained(|| {
            let outcome = work(&mut people);
            Ok((outcome, people))
        })?;
        *slot = Some(people);
        outcome
    }

    /// Puts the file's name before what is wrong with the gallery.
    fn named<T>(&self, outcome: anyhow::Result<T>) -> Outcome<T> {
        outcome.map_err(|reason| {
            let is_of_gallery = reason.downcast_ref::<GalleryError>().is_some();
            let failure = Failure::from(reason);
            if is_of_gallery { failure.within(&self.path) } else { failure }
        })
    }
}

#[pymethods]
impl Gallery {
    /// Opens a gallery (`access` is `read` or `write`), or makes one (`create`).
    #[new]
    fn new(
        python: Python<'_>,
        model_path: Option<PathBuf>,
        model_content: Option<PyBackedBytes>,
        path: PathBuf,
        key: Option<PathBuf>,
        passphrase: Option<String>,
        access: &str,
    ) -> PyResult<Gallery> {
        let access = match access {
            "read" => Access::Read,
            "write" => Access::Write,
            "create" => Access::Create,
            other => return Err(Failure::argument(format!("{other}: no access to a gallery")).into()),
        };
        let open = || {
            let key = people::key(key.as_deref(), passphrase.as_deref())?;
            let bundle = session::open(model_path.as_deref(), model_content.as_deref())?;
            Ok(People::open(&path, &key, access, &bundle)?)
        };
        let people = Mutex::new(Some(unlocked(python, || contained(open))?));
        Ok(Gallery { path: path.display().to_string(), people })
    }

    /// Writes a new key into a file that only its owner may read.
    #[staticmethod]
    fn make_key(python: Python<'_>, path: PathBuf) -> PyResult<()> {
        let make = || Ok(faceptor_identity::key_file::make(&path)?);
        Ok(unlocked(python, || contained(make))?)
    }

    /// Names the faces of an image.
    fn identify(
        &self,
        python: Python<'_>,
        image: &Image,
        fpir: f64,
        threshold: Option<f32>,
        margin: f32,
    ) -> PyResult<Record> {
        let start = Instant::now();
        let options = NamingOptions { fpir, threshold, margin };
        let identify = |people: &mut People| {
            let mut memory = Picture::default();
            let found = image.with_picture(&mut memory, |picture| people.identify(picture, &options));
            let (analysis, identities) = self.named(found)?;
            let [width, height] = image.size();
            let (path, warnings) = (image.path.clone(), image.warnings.clone());
            let origin = Origin { path, width, height, frame: None, warnings };
            let total_us = image.capture_us + elapsed_us(start);
            let outer_timing = OuterTiming { total_us, ..OuterTiming::default() };
            let decoders = people.embedder().decoders().into();
            Ok(Record { analysis, decoders, origin, outer_timing, identities })
        };
        Ok(unlocked(python, || self.with(identify))?)
    }

    /// Enrols a person, or adds photos. An image that could not be read is `None`.
    #[expect(clippy::too_many_arguments, reason = "the arguments of faceptor.Gallery.enroll, one by one")]
    fn enroll(
        &self,
        python: Python<'_>,
        name: String,
        images: Vec<Option<Py<Image>>>,
        by: Option<String>,
        purpose: String,
        expires: String,
        force: bool,
        fpir: f64,
        threshold: Option<f32>,
    ) -> PyResult<EnrolledTuple> {
        let limits = NamingOptions { fpir, threshold, ..NamingOptions::default() };
        let by = by.unwrap_or_else(account::name);
        let enrolment = Enrolment { name, by, purpose, expires, force, limits };
        let copy = |image: &Option<Py<Image>>| match image {
            Some(image) => {
                let mut picture = Picture::default();
                image.get().view().to_picture(&mut picture);
                Ok(picture)
            }
            None => Err("unreadable".to_owned()),
        };
        let enrol = |people: &mut People| {
            let photos: Vec<people::Photo> = images.iter().map(copy).collect();
            self.named(people.enrol(&enrolment, &photos))
        };
        let Enrolled { is_new, added, templates, photos } = unlocked(python, || self.with(enrol))?;
        let photos = photos.into_iter().map(|photo| (photo.is_enrolled, photo.is_known, photo.reasons)).collect();
        Ok((is_new, added, templates, photos))
    }

    /// Returns what `faceptor gallery list --json` prints.
    fn listing(&self, python: Python<'_>) -> PyResult<String> {
        let list = |people: &mut People| {
            let list = List::of(people.gallery(), dates::now());
            serde_json::to_string(&list).map_err(|reason| Failure::gallery(reason.to_string()))
        };
        Ok(unlocked(python, || self.with(list))?)
    }

    /// Removes a person.
    fn remove(&self, python: Python<'_>, name: &str) -> PyResult<()> {
        Ok(unlocked(python, || self.with(|people| self.named(people.remove(name))))?)
    }

    /// Gives a person another name.
    fn rename(&self, python: Python<'_>, name: &str, to: &str) -> PyResult<()> {
        Ok(unlocked(python, || self.with(|people| self.named(people.rename(name, to))))?)
    }

    /// Closes the file; another process may change it then.
    fn close(&self, python: Python<'_>) {
        unlocked(python, || drop(self.people.lock().unwrap_or_else(PoisonError::into_inner).take()));
    }
}
