//! The table of impostor scores: how similar the network finds faces of different people.

use serde::{Deserialize, Serialize};

use crate::manifest::{Manifest, ManifestError, TaskKind};

/// Tail of the distribution of similarities between faces of different people, measured on people that the network was not
/// trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Impostors {
    /// The recognition task whose embeddings were compared.
    pub task: String,
    /// The photos that were compared, in words.
    #[serde(default)]
    pub measured_on: String,
    /// Number of different people.
    #[serde(default)]
    pub people: u64,
    /// Number of pairs of photos of different people.
    #[serde(default)]
    pub pairs: u64,
    /// Shares of the pairs, falling.
    pub rates: Vec<f64>,
    /// The similarity that each share of the pairs reaches, rising.
    pub scores: Vec<f32>,
}

impl Impostors {
    /// Checks the table against the manifest that it is in.
    pub(super) fn check(&self, manifest: &Manifest) -> Result<(), ManifestError> {
        let fail = |text: &str| Err(ManifestError::Content(format!("impostors: {text}")));
        if manifest.task(&self.task).is_none_or(|task| task.kind != TaskKind::Recognition) {
            return fail(&format!("there is no recognition task {:?}", self.task));
        }
        if self.rates.len() != self.scores.len() || self.rates.len() < 2 {
            return fail("two or more rates are needed, and a score for each");
        }
        let are_shares = self.rates.iter().all(|rate| *rate > 0.0 && *rate < 1.0);
        if !(are_shares && self.rates.windows(2).all(|pair| pair[0] > pair[1])) {
            return fail("the rates do not fall within 0..1");
        }
        let are_cosines = self.scores.iter().all(|score| (-1.0..=1.0).contains(score));
        if !(are_cosines && self.scores.windows(2).all(|pair| pair[0] < pair[1])) {
            return fail("the scores do not rise within -1..1");
        }
        Ok(())
    }
}
