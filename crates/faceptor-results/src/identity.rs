//! Who a face is, or why it has no name.

use serde::ser::SerializeMap;

use crate::terminal::{self, Name};

/// The answer of a gallery for one face.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Identity<'a> {
    /// The name; `None` for a stranger.
    pub name: Option<&'a str>,
    /// Similarity of the best person; `None` in an empty gallery.
    pub similarity: Option<f32>,
    /// The reason for the lack of a name.
    pub unknown: Option<&'static str>,
    /// Similarity of the second-best person.
    pub second: Option<f32>,
    /// The least similarity for a name.
    pub threshold: f32,
}

impl Identity<'_> {
    /// Returns the answer in a few words, for captions: the name, or why there is none.
    pub fn phrase(&self) -> String {
        match (self.name, self.similarity) {
            (Some(name), Some(similarity)) => format!("{} {similarity:.2}", terminal::one_line(name)),
            (Some(name), None) => terminal::one_line(name).into_owned(),
            (None, _) => format!("unknown: {}", self.unknown.unwrap_or("no_answer").replace('_', " ")),
        }
    }

    /// Writes the keys of the answer into the JSON object of a recognition.
    pub(crate) fn serialize_into<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let rounded = |value: f32| (f64::from(value) * 1e4).round() / 1e4;
        map.serialize_entry("name", &self.name.map(Name))?;
        map.serialize_entry("similarity", &self.similarity.map(rounded))?;
        map.serialize_entry("unknown", &self.unknown)?;
        map.serialize_entry("second_similarity", &self.second.map(rounded))?;
        map.serialize_entry("threshold", &rounded(self.threshold))
    }

    /// Writes the answer for people to read.
    pub fn describe(&self) -> String {
        let best = self.similarity.map(|similarity| format!("similarity {similarity:.2}"));
        let numbers = |best: String| {
            let second = self.second.map(|second| format!(", second best {second:.2}")).unwrap_or_default();
            format!(" ({best}{second}, threshold {:.2})", self.threshold)
        };
        match (self.name, self.unknown) {
            (Some(name), _) => format!("{name}{}", best.map(numbers).unwrap_or_default()),
            (None, reason) => {
                let reason = reason.unwrap_or("no_answer").replace('_', " ");
                format!("unknown: {reason}{}", best.map(numbers).unwrap_or_default())
            }
        }
    }
}
