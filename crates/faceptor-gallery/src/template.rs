//! Templates: embeddings as 8 bit integers, which change no decision that can be measured.

use serde::{Deserialize, Serialize};

use crate::error::{GalleryError, Result};

/// An embedding as 8 bit integers, the largest of which is 127 or -127. Its length carries no meaning: only the cosine between
/// two templates does.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template(Vec<i8>);

impl std::fmt::Debug for Template {
    /// Shows no numbers, so that they reach no log.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Template({} numbers)", self.0.len())
    }
}

impl Template {
    /// Rounds an embedding of `dimension` numbers.
    ///
    /// # Errors
    /// For another number of them, or when they have no direction: all 0, or one that is not finite.
    pub fn of(embedding: &[f32], dimension: usize) -> Result<Template, GalleryError> {
        let wrong = |found| GalleryError::Dimension { expected: dimension, found };
        if embedding.len() != dimension {
            return Err(wrong(embedding.len()));
        }
        let mut numbers = vec![0; dimension];
        match round_into(embedding, &mut numbers) {
            true => Ok(Template(numbers)),
            false => Err(wrong(0)),
        }
    }

    /// Takes numbers that were exported.
    ///
    /// # Errors
    /// As [`Template::of`].
    pub fn from_numbers(numbers: Vec<i8>, dimension: usize) -> Result<Template, GalleryError> {
        let found = if numbers.iter().all(|&number| number == 0) { 0 } else { numbers.len() };
        match found == dimension {
            true => Ok(Template(numbers)),
            false => Err(GalleryError::Dimension { expected: dimension, found }),
        }
    }

    /// Returns the numbers.
    pub fn numbers(&self) -> &[i8] {
        &self.0
    }

    /// Returns the cosine between two templates of one network: -1..1, high for one person.
    pub fn similarity(&self, other: &Template) -> f32 {
        dot(&self.0, &other.0) as f32 * inverse_length(&self.0) * inverse_length(&other.0)
    }
}

/// Rounds an embedding to the numbers of a template, without allocating. Returns false when the two differ in length, or the
/// embedding has no direction: all 0, or a number that is not finite.
pub fn round_into(embedding: &[f32], numbers: &mut [i8]) -> bool {
    let most = embedding.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    if embedding.len() != numbers.len() || !(most > 0.0 && embedding.iter().all(|value| value.is_finite())) {
        return false;
    }
    for (number, value) in numbers.iter_mut().zip(embedding) {
        *number = (value / most * 127.0).round() as i8;
    }
    true
}

/// Returns the sum of the products; the compiler turns the loop into vector instructions.
pub(crate) fn dot(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}

/// Returns one over the Euclidean length.
pub(crate) fn inverse_length(numbers: &[i8]) -> f32 {
    1.0 / (dot(numbers, numbers).max(1) as f32).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similarity_is_the_cosine() {
        let template = |numbers: &[f32]| Template::of(numbers, numbers.len()).expect("a direction");
        let (a, b) = (template(&[0.6, 0.8, 0.0]), template(&[0.8, -0.6, 0.0]));
        assert!((a.similarity(&a) - 1.0).abs() < 1e-6 && a.similarity(&b).abs() < 0.01);
        assert!((a.similarity(&template(&[-6.0, -8.0, 0.0])) + 1.0).abs() < 1e-6);
        assert_eq!(a.numbers(), [95, 127, 0]);
    }

    #[test]
    fn what_has_no_direction_is_refused() {
        for embedding in [&[0.0, 0.0][..], &[f32::NAN, 1.0], &[f32::INFINITY, 1.0], &[1.0], &[1.0; 3]] {
            assert!(Template::of(embedding, 2).is_err(), "{embedding:?}");
        }
        assert!(Template::from_numbers(vec![0, 0], 2).is_err() && Template::from_numbers(vec![1], 2).is_err());
    }

    #[test]
    fn debug_output_holds_no_numbers() {
        assert_eq!(format!("{:?}", Template::of(&[1.0, 0.5], 2).expect("a direction")), "Template(2 numbers)");
    }
}
