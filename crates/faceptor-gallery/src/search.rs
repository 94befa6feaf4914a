//! Exact search: a query against every template.

use std::ops::Range;

use crate::person::Person;
use crate::template::{dot, inverse_length};

/// How the scores of a person's templates become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aggregation {
    /// The best of them: on LFW as good as the mean of the best two, and possible with one (`docs/identity.md`).
    #[default]
    Best,
    /// The mean of the best ones, at most so many.
    MeanOfBest(u8),
}

/// The templates of all people in one block of memory.
#[derive(Debug, Default)]
pub(crate) struct SearchIndex {
    dimension: usize,
    numbers: Vec<i8>,
    /// One over the length of each template.
    inverse: Vec<f32>,
    /// One for each person: where the own templates end.
    ends: Vec<usize>,
}

impl SearchIndex {
    /// Copies the templates of people, in their order.
    pub fn new<'a>(dimension: usize, people: impl Iterator<Item = &'a Person>) -> SearchIndex {
        let mut index = SearchIndex { dimension, ..SearchIndex::default() };
        for person in people {
            for stored in &person.templates {
                index.numbers.extend_from_slice(stored.template.numbers());
                index.inverse.push(inverse_length(stored.template.numbers()));
            }
            index.ends.push(index.inverse.len());
        }
        index
    }

    /// Returns the length of a template.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Returns the number of templates.
    pub fn templates(&self) -> usize {
        self.inverse.len()
    }

    /// Returns the score of each person for a query of one over the length `scale`; `None` for one without templates. Allocates
    /// only for the mean of several scores.
    pub fn scores(&self, query: &[i8], scale: f32, aggregation: Aggregation) -> impl Iterator<Item = Option<f32>> {
        let mut from = 0;
        let mut best = Vec::new();
        self.ends.iter().map(move |&end| {
            let score = self.score_within(from..end, query, scale, aggregation, &mut best);
            from = end;
            score
        })
    }

    /// Returns the score of one person by place.
    pub fn score_of(&self, place: usize, query: &[i8], scale: f32, aggregation: Aggregation) -> Option<f32> {
        let end = *self.ends.get(place)?;
        let from = if place == 0 { 0 } else { self.ends[place - 1] };
        self.score_within(from..end, query, scale, aggregation, &mut Vec::new())
    }

    fn score_within(
        &self,
        templates: Range<usize>,
        query: &[i8],
        scale: f32,
        aggregation: Aggregation,
        best: &mut Vec<f32>,
    ) -> Option<f32> {
        let numbers = &self.numbers[templates.start * self.dimension..templates.end * self.dimension];
        let scores = numbers.chunks_exact(self.dimension.max(1)).zip(&self.inverse[templates]);
        let scores = scores.map(|(template, inverse)| dot(template, query) as f32 * inverse * scale);
        match aggregation {
            Aggregation::Best => scores.reduce(f32::max),
            Aggregation::MeanOfBest(most) => {
                best.clear();
                best.extend(scores);
                best.sort_unstable_by(|a, b| b.total_cmp(a));
                best.truncate(usize::from(most.max(1)));
                (!best.is_empty()).then(|| best.iter().sum::<f32>() / best.len() as f32)
            }
        }
    }
}
