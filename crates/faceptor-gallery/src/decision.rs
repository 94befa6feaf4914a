//! The decision: a name, or `unknown` with its reason.

use crate::person::Person;
use crate::ranking::Ranking;
use crate::search::Aggregation;

/// The rule of the decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// The least similarity for a name.
    pub threshold: f32,
    /// The least distance between the similarity of the best and of the second-best person.
    pub margin: f32,
    /// How the scores of a person's templates become one.
    pub aggregation: Aggregation,
}

impl Decision {
    /// Makes the rule with this threshold and the usual margin.
    pub fn at(threshold: f32) -> Decision {
        Decision { threshold, margin: Decision::MARGIN, aggregation: Aggregation::default() }
    }

    /// The usual margin: smaller ones occur where two people of the gallery are alike, or one is enrolled under two names.
    pub const MARGIN: f32 = 0.02;
}

/// The answer for one face.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Match<'a> {
    /// The person; `None` for a stranger.
    pub person: Option<&'a Person>,
    /// The reason for the lack of a name.
    pub unknown: Option<Unknown>,
    /// Similarity of the best person, named or not; `None` in an empty gallery.
    pub similarity: Option<f32>,
    /// Similarity of the second-best person.
    pub second: Option<f32>,
    /// The threshold of the decision.
    pub threshold: f32,
}

/// The reason why a face has no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unknown {
    /// The gallery holds no one whose enrolment is not over.
    EmptyGallery,
    /// No person is similar enough.
    BelowThreshold,
    /// Two people are about equally similar.
    Ambiguous,
}

impl Unknown {
    /// Returns the word of the reason, for JSON.
    pub fn name(self) -> &'static str {
        match self {
            Unknown::EmptyGallery => "empty_gallery",
            Unknown::BelowThreshold => "below_threshold",
            Unknown::Ambiguous => "ambiguous",
        }
    }
}

impl<T: Copy> Ranking<T> {
    /// Returns the reason for the lack of a name; `None` where the best person gets the name.
    pub fn unknown(&self, rule: &Decision) -> Option<Unknown> {
        match self.best {
            None => Some(Unknown::EmptyGallery),
            // A similarity that is no number gives no name.
            Some((_, similarity)) if similarity.is_nan() || similarity < rule.threshold => {
                Some(Unknown::BelowThreshold)
            }
            Some((_, similarity)) if self.second.is_some_and(|second| similarity - second < rule.margin) => {
                Some(Unknown::Ambiguous)
            }
            Some(_) => None,
        }
    }
}

/// Decides from the ranking of all people.
pub(crate) fn decide<'a>(
    ranking: Ranking<usize>,
    person: impl Fn(usize) -> Option<&'a Person>,
    rule: &Decision,
) -> Match<'a> {
    let unknown = ranking.unknown(rule);
    let named = ranking.best.filter(|_| unknown.is_none());
    let similarity = ranking.best.map(|(_, score)| score);
    Match {
        person: named.and_then(|(place, _)| person(place)),
        unknown,
        similarity,
        second: ranking.second,
        threshold: rule.threshold,
    }
}
