//! The names of a gallery for the faces of photos.

use anyhow::{Context, Result, anyhow};

use crate::cli::run_gallery::RunGalleryArguments;
use crate::outputs::format::identity::Identity;
use crate::recognition::dates;
use crate::recognition::recognizer::Recognizer;
use faceptor::stages::{Analysis, Prediction};
use faceptor_gallery::{Decision, Gallery};
use faceptor_nn::bundle::Bundle;

/// A gallery with the rule by which it names faces.
pub(crate) struct PhotoNames {
    gallery: Gallery,
    rule: Decision,
    /// The recognition's index among the tasks.
    task: usize,
    now: u64,
}

impl PhotoNames {
    /// Opens the gallery of a command; `None` without one.
    ///
    /// # Errors
    /// When it cannot be opened, is of another network, or there is no threshold.
    pub fn open(arguments: &RunGalleryArguments, bundle: &Bundle) -> Result<Option<PhotoNames>> {
        if !arguments.gallery.is_named() {
            return Ok(None);
        }
        let Recognizer { task, network, impostors } = Recognizer::of(bundle)?;
        let gallery = arguments.gallery.open()?;
        gallery.check_network(&network).context(arguments.gallery.path()?.display().to_string())?;
        let now = dates::now();
        let threshold = arguments.threshold.needed(impostors.as_ref(), gallery.comparisons(now))?;
        Ok(Some(PhotoNames { gallery, rule: Decision::at(threshold), task, now }))
    }

    /// Returns the answer for each face.
    ///
    /// # Errors
    /// When a face has no embedding, or one of another length than the gallery's.
    pub fn identities(&self, analysis: &Analysis) -> Result<Vec<Identity<'_>>> {
        let faces = analysis.faces.iter().map(|face| {
            let result = face.results.get(self.task).filter(|result| result.known);
            let Some(Prediction::Recognition(embedding)) = result.map(|result| &result.prediction) else {
                return Err(anyhow!("face {} was not recognised", face.id));
            };
            let found = self.gallery.identify(embedding, &self.rule, self.now)?;
            Ok(Identity {
                name: found.person.map(|person| person.name()),
                similarity: found.similarity,
                unknown: found.unknown.map(|reason| reason.name()),
                second: found.second,
                threshold: found.threshold,
            })
        });
        faces.collect()
    }
}
