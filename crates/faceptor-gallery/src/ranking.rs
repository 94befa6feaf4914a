//! The outcome of a search: the most similar people.

/// The two most similar people, and how similar they are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranking<T> {
    /// The most similar person.
    pub best: Option<(T, f32)>,
    /// Similarity of the second-best person.
    pub second: Option<f32>,
}

impl Ranking<usize> {
    /// Takes a score into account; a person may have several.
    pub(crate) fn add(&mut self, person: usize, score: f32) {
        match &mut self.best {
            Some((best, most)) if *best == person => *most = most.max(score),
            Some((_, most)) if score <= *most => {
                self.second = Some(self.second.map_or(score, |second| second.max(score)));
            }
            best => {
                self.second = best.map(|(_, score)| score);
                *best = Some((person, score));
            }
        }
    }
}
