//! Names of the faces of a photo.

use faceptor::stages::Analysis;
use faceptor_gallery::{Decision, Gallery, GalleryError, ImpostorScores};
use faceptor_results::identity::Identity;

use crate::embedder::Embedder;

/// Text for a network that cannot give a threshold.
pub const NO_TABLE: &str = "this network has no table of impostor scores";

/// Decides how similar is similar enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NamingOptions {
    /// The share of strangers that may get a name (false positive identification rate).
    pub fpir: f64,
    /// The least similarity for a name, in place of `fpir`.
    pub threshold: Option<f32>,
    /// The least distance between the best and the second-best person.
    pub margin: f32,
}

impl Default for NamingOptions {
    fn default() -> NamingOptions {
        NamingOptions { fpir: 0.01, threshold: None, margin: Decision::MARGIN }
    }
}

impl NamingOptions {
    /// Checks the numbers.
    ///
    /// # Errors
    /// Names the one that is out of its range.
    pub fn check(&self) -> Result<(), String> {
        if !(self.fpir > 0.0 && self.fpir < 1.0) {
            return Err(format!("fpir is {}: a rate above 0 and below 1 is needed", self.fpir));
        }
        if let Some(threshold) = self.threshold.filter(|threshold| !(-1.0..=1.0).contains(threshold)) {
            return Err(format!("threshold is {threshold}: a number from -1 to 1 is needed"));
        }
        if !(0.0..=2.0).contains(&self.margin) {
            return Err(format!("margin is {}: a number from 0 to 2 is needed", self.margin));
        }
        Ok(())
    }

    /// Returns the threshold for this many comparisons; `None` where neither option nor table gives one.
    pub fn threshold(&self, impostors: Option<&ImpostorScores>, comparisons: usize) -> Option<f32> {
        self.threshold.or_else(|| impostors.map(|table| table.threshold(self.fpir, comparisons)))
    }
}

/// Names the faces of a photo, in their order.
///
/// # Errors
/// When an embedding does not fit the gallery.
pub fn identities<'a>(
    gallery: &'a Gallery,
    embedder: &Embedder,
    analysis: &Analysis,
    rule: &Decision,
    now: u64,
) -> Result<Vec<Identity<'a>>, GalleryError> {
    let identity = |face| {
        let found = gallery.identify(embedder.embedding(face), rule, now)?;
        Ok(Identity {
            name: found.person.map(|person| person.name()),
            similarity: found.similarity,
            unknown: found.unknown.map(|reason| reason.name()),
            second: found.second,
            threshold: found.threshold,
        })
    };
    analysis.faces.iter().map(identity).collect()
}

/// The answer of a gallery for one face, which needs the gallery no more.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnedIdentity {
    name: Option<String>,
    rest: Identity<'static>,
}

impl From<Identity<'_>> for OwnedIdentity {
    fn from(identity: Identity<'_>) -> OwnedIdentity {
        let Identity { name, similarity, unknown, second, threshold } = identity;
        let rest = Identity { name: None, similarity, unknown, second, threshold };
        OwnedIdentity { name: name.map(str::to_owned), rest }
    }
}

impl OwnedIdentity {
    /// Returns the answer.
    pub fn view(&self) -> Identity<'_> {
        Identity { name: self.name.as_deref(), ..self.rest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_their_range_are_named() {
        let usual = NamingOptions::default();
        assert_eq!(usual.check(), Ok(()));
        for fpir in [0.0, 1.0, -0.1, f64::NAN, f64::INFINITY] {
            assert!(
                NamingOptions { fpir, ..usual }.check().is_err_and(|reason| reason.starts_with("fpir is")),
                "{fpir}"
            );
        }
        for threshold in [1.1, -1.1, f32::NAN] {
            let options = NamingOptions { threshold: Some(threshold), ..usual };
            assert!(options.check().is_err_and(|reason| reason.starts_with("threshold is")), "{threshold}");
        }
        for margin in [-0.1, 2.1, f32::NAN] {
            assert!(NamingOptions { margin, ..usual }.check().is_err_and(|reason| reason.starts_with("margin")));
        }
    }

    #[test]
    fn an_owned_answer_equals_the_first_one() {
        let identity =
            Identity { name: Some("Ada"), similarity: Some(0.9), unknown: None, second: Some(0.1), threshold: 0.4 };
        assert_eq!(OwnedIdentity::from(identity).view(), identity);
    }
}
