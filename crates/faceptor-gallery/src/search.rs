//! Exact search: a query against every template.

use std::ops::Range;

use faceptor_nn::Kernel;

use crate::person::Person;
use crate::ranking::Ranking;
use crate::template::inverse_length;

/// Templates whose scores are computed at once: with 128 numbers each they fit the first cache.
const BLOCK: usize = 256;

/// How the scores of a person's templates become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aggregation {
    /// The best of them: on LFW as good as the mean of the best two, and possible with one (`docs/identity.md`).
    #[default]
    Best,
    /// The mean of the best ones, at most this many.
    MeanOfBest(u8),
}

/// The templates of all people in one block of memory.
#[derive(Debug)]
pub(crate) struct SearchIndex {
    kernel: Kernel,
    dimension: usize,
    numbers: Vec<i8>,
    /// One over the length of each template.
    inverse: Vec<f32>,
    /// One for each person: where the own templates end.
    ends: Vec<usize>,
}

impl Default for SearchIndex {
    /// Returns an index without templates.
    fn default() -> SearchIndex {
        SearchIndex::new(0, std::iter::empty())
    }
}

/// The scores of some templates, on the stack.
type Scores = [f32; BLOCK];

impl SearchIndex {
    /// Copies the templates of people, in their order.
    pub fn new<'a>(dimension: usize, people: impl Iterator<Item = &'a Person>) -> SearchIndex {
        // A name in FACEPTOR_KERNEL that this CPU does not have is reported by the network's engine.
        let kernel = Kernel::choose().unwrap_or(Kernel::SCALAR);
        let mut index = SearchIndex { kernel, dimension, numbers: Vec::new(), inverse: Vec::new(), ends: Vec::new() };
        people.for_each(|person| index.push(person));
        index
    }

    /// Appends the templates of one more person.
    pub fn push(&mut self, person: &Person) {
        for stored in &person.templates {
            self.numbers.extend_from_slice(stored.template.numbers());
            self.inverse.push(inverse_length(stored.template.numbers()));
        }
        self.ends.push(self.inverse.len());
    }

    /// Returns the length of a template.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Returns the number of people.
    pub fn people(&self) -> usize {
        self.ends.len()
    }

    /// Returns the number of templates.
    pub fn templates(&self) -> usize {
        self.inverse.len()
    }

    /// Ranks the people for whom `is_valid` is true by their similarity to a query; no one for a query of another length.
    /// Allocates only for the mean of several scores.
    pub fn rank(&self, query: &[i8], aggregation: Aggregation, is_valid: impl Fn(usize) -> bool) -> Ranking<usize> {
        if aggregation == Aggregation::Best {
            return self.rank_best(query, is_valid);
        }
        let mut ranking = Ranking { best: None, second: None };
        for (place, score) in self.scores(query, aggregation).enumerate() {
            if let Some(score) = score.filter(|_| is_valid(place)) {
                ranking.add(place, score);
            }
        }
        ranking
    }

    /// Looks up whose a template is only where its score changes the ranking, which is seldom: nearly all the time goes into
    /// reading the templates.
    fn rank_best(&self, query: &[i8], is_valid: impl Fn(usize) -> bool) -> Ranking<usize> {
        let mut ranking = Ranking { best: None, second: None };
        let scale = inverse_length(query);
        let mut scores = [0.0; BLOCK];
        let mut person = 0;
        for from in (0..self.templates()).step_by(BLOCK) {
            let block = from..(from + BLOCK).min(self.templates());
            let Some((scores, most)) = self.score(block, query, scale, &mut scores) else { break };
            if ranking.second.is_some_and(|second| most <= second) {
                continue;
            }
            for (template, &score) in (from..).zip(scores) {
                if ranking.second.is_some_and(|second| score <= second) {
                    continue;
                }
                person += self.ends[person..].partition_point(|&end| end <= template);
                if is_valid(person) {
                    ranking.add(person, score);
                }
            }
        }
        ranking
    }

    /// Returns the score of each person for a query; `None` for one without templates, and for a query of another length.
    /// Allocates only for the mean of several scores.
    pub fn scores(&self, query: &[i8], aggregation: Aggregation) -> impl Iterator<Item = Option<f32>> {
        let (mut from, scale) = (0, inverse_length(query));
        let mut best = Vec::new();
        self.ends.iter().map(move |&end| {
            let score = self.score_within(from..end, query, scale, aggregation, &mut best);
            from = end;
            score
        })
    }

    /// Returns the score of one person by place.
    pub fn score_of(&self, place: usize, query: &[i8], aggregation: Aggregation) -> Option<f32> {
        let end = *self.ends.get(place)?;
        let from = if place == 0 { 0 } else { self.ends[place - 1] };
        self.score_within(from..end, query, inverse_length(query), aggregation, &mut Vec::new())
    }

    fn score_within(
        &self,
        templates: Range<usize>,
        query: &[i8],
        scale: f32,
        aggregation: Aggregation,
        best: &mut Vec<f32>,
    ) -> Option<f32> {
        best.clear();
        let (mut most, mut buffer) = (None::<f32>, [0.0; BLOCK]);
        for from in templates.clone().step_by(BLOCK) {
            let block = from..(from + BLOCK).min(templates.end);
            let (scores, most_here) = self.score(block, query, scale, &mut buffer)?;
            most = Some(most.map_or(most_here, |most| most.max(most_here)));
            if aggregation != Aggregation::Best {
                best.extend_from_slice(scores);
            }
        }
        let Aggregation::MeanOfBest(count) = aggregation else { return most };
        best.sort_unstable_by(|a, b| b.total_cmp(a));
        best.truncate(usize::from(count.max(1)));
        (!best.is_empty()).then(|| best.iter().sum::<f32>() / best.len() as f32)
    }

    /// Computes the cosines of at most [`BLOCK`] templates with a query of one over the length `scale`. Returns them, and the
    /// largest; `None` for a query of another length.
    fn score<'a>(
        &self,
        templates: Range<usize>,
        query: &[i8],
        scale: f32,
        scores: &'a mut Scores,
    ) -> Option<(&'a [f32], f32)> {
        if query.len() != self.dimension {
            return None;
        }
        let mut products = [0; BLOCK];
        let (products, scores) = (&mut products[..templates.len()], &mut scores[..templates.len()]);
        let numbers = &self.numbers[templates.start * self.dimension..templates.end * self.dimension];
        self.kernel.dot_rows(query, numbers, products);
        let mut most = f32::NEG_INFINITY;
        for ((score, product), inverse) in scores.iter_mut().zip(products).zip(&self.inverse[templates]) {
            *score = *product as f32 * inverse * scale;
            // Not `f32::max`: no score is NaN, and this is one instruction.
            most = if *score > most { *score } else { most };
        }
        Some((scores, most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, person_with, random_template};

    /// Returns an index of people with this many templates each, of numbers that follow from the seed.
    fn index(dimension: usize, counts: &[usize], seed: &mut u64) -> SearchIndex {
        let person = |count: &usize| person_with((0..*count).map(|_| random_template(dimension, seed)).collect(), NOW);
        let people: Vec<Person> = counts.iter().map(person).collect();
        SearchIndex::new(dimension, people.iter())
    }

    /// Returns the ranking written out: the score of each person, and the two best.
    fn expected(index: &SearchIndex, query: &[i8], is_valid: impl Fn(usize) -> bool) -> Ranking<usize> {
        let cosine = |template: usize| {
            let row = &index.numbers[template * index.dimension..][..index.dimension];
            let product: i32 = row.iter().zip(query).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
            product as f32 * inverse_length(row) * inverse_length(query)
        };
        let mut people = Vec::new();
        for (place, &end) in index.ends.iter().enumerate() {
            let from = if place == 0 { 0 } else { index.ends[place - 1] };
            if let Some(score) = (from..end).map(cosine).reduce(f32::max).filter(|_| is_valid(place)) {
                people.push((place, score));
            }
        }
        people.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        Ranking { best: people.first().copied(), second: people.get(1).map(|person| person.1) }
    }

    #[test]
    fn ranking_of_blocks_equals_the_sorted_scores_of_people() {
        let mut seed = 7;
        for dimension in [1, 3, 16, 128, 200, 512] {
            for counts in [vec![], vec![0, 0], vec![1], vec![700], vec![0, 3, 0, 300, 1, 0], vec![1; 900], vec![5; 120]]
            {
                let index = index(dimension, &counts, &mut seed);
                for skipped in [usize::MAX, 0, 1, 3] {
                    let is_valid = |place: usize| place != skipped && (skipped != 3 || place.is_multiple_of(3));
                    let query = random_template(dimension, &mut seed);
                    let found = index.rank(query.numbers(), Aggregation::Best, is_valid);
                    assert_eq!(found, expected(&index, query.numbers(), is_valid), "{dimension} {skipped}");
                    let one = index.rank(query.numbers(), Aggregation::MeanOfBest(1), is_valid);
                    assert_eq!(one, found, "the mean of one is the best");
                }
            }
        }
    }

    #[test]
    fn equal_scores_name_the_first_and_leave_no_distance() {
        let template = random_template(128, &mut 3);
        let people: Vec<Person> = (0..600).map(|_| person_with(vec![template.clone(); 2], NOW)).collect();
        let index = SearchIndex::new(128, people.iter());
        let ranking = index.rank(template.numbers(), Aggregation::Best, |_| true);
        assert_eq!(ranking.best.map(|(place, _)| place), Some(0));
        assert_eq!(ranking.second, ranking.best.map(|(_, score)| score));
    }

    #[test]
    fn query_of_another_length_is_like_no_one() {
        let index = index(128, &[2, 2], &mut 5);
        for length in [0, 1, 127, 129, 512] {
            let query = vec![1; length];
            for aggregation in [Aggregation::Best, Aggregation::MeanOfBest(2)] {
                assert_eq!(index.rank(&query, aggregation, |_| true), Ranking { best: None, second: None });
                assert!(index.scores(&query, aggregation).all(|score| score.is_none()));
                assert_eq!(index.score_of(0, &query, aggregation), None);
            }
        }
        let empty = SearchIndex::default();
        assert_eq!(empty.rank(&[], Aggregation::Best, |_| true).best, None);
    }
}
