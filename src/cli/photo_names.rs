//! The names of a gallery for the faces of photos.

use anyhow::{Context, Result, anyhow, ensure};

use crate::cli::run_gallery::RunGalleryArguments;
use crate::outputs::format::identity::Identity;
use crate::recognition::dates;
use crate::recognition::recognizer::Recognizer;
use faceptor::stages::{Analysis, Prediction};
use faceptor_gallery::{Decision, Roster, round_into};
use faceptor_nn::bundle::Bundle;

/// The people of a gallery with the rule by which they are named. Threads share it.
pub(crate) struct PhotoNames {
    roster: Roster,
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
        Ok(Some(PhotoNames { roster: gallery.roster(Decision::at(threshold), now), task, now }))
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
            let mut query = vec![0; self.roster.dimension()];
            let fits = embedding.len() == query.len() && round_into(embedding, &mut query);
            ensure!(fits, "face {} has no embedding of {} numbers", face.id, query.len());
            let (rule, ranking) = (self.roster.rule(), self.roster.rank(&query, self.now));
            let unknown = ranking.unknown(&rule);
            let person = ranking.best.map(|(place, _)| place).filter(|_| unknown.is_none());
            Ok(Identity {
                name: person.and_then(|place| self.roster.name(place)),
                similarity: ranking.best.map(|(_, similarity)| similarity),
                unknown: unknown.map(|reason| reason.name()),
                second: ranking.second,
                threshold: rule.threshold,
            })
        });
        faces.collect()
    }
}
