//! Exact search: a query against every template.

use crate::person::Person;
use crate::template::{Template, dot, inverse_length};

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

    /// Returns the score of each person; `None` for one without templates.
    pub fn scores(&self, query: &Template, aggregation: Aggregation) -> impl Iterator<Item = Option<f32>> {
        let scale = inverse_length(query.numbers());
        let mut from = 0;
        let mut best = Vec::new();
        self.ends.iter().map(move |&end| {
            let numbers = &self.numbers[from * self.dimension..end * self.dimension];
            let inverse = &self.inverse[from..end];
            from = end;
            let scores = numbers.chunks_exact(self.dimension).zip(inverse);
            let scores = scores.map(|(template, inverse)| dot(template, query.numbers()) as f32 * inverse * scale);
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
        })
    }
}
