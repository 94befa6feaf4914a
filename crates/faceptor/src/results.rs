//! Results of the tasks with the names that belong to their numbers.

use crate::geometry::Similarity;
use crate::tasks::age::Age;
use crate::tasks::decoder::{TaskDecoder, largest};
use crate::tasks::landmarks::Landmarks;
use crate::tasks::parsing::{self, OUTSIDE};
use crate::tasks::prediction::Prediction;

/// The result of a task for a face, by the kind of the task.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum TaskOutput<'a> {
    /// Points.
    Landmarks(&'a Landmarks),
    /// Classes of pixels.
    Parsing(Parsing<'a>),
    /// Years.
    Age(Age),
    /// One of several classes, such as expressions.
    Expression(Expression<'a>),
    /// Properties that are independent of each other.
    Attributes(Attributes<'a>),
    /// Numbers that are similar for faces of one person.
    Embedding(Embedding<'a>),
}

impl<'a> TaskOutput<'a> {
    /// Names the numbers of a prediction. `to_image` maps the task's window to the image of `image_size` (width, height).
    pub(crate) fn new(
        prediction: &'a Prediction,
        decoder: &'a TaskDecoder,
        to_image: &'a Similarity,
        image_size: [usize; 2],
    ) -> TaskOutput<'a> {
        let labels = &decoder.task().labels;
        match prediction {
            Prediction::Landmarks(landmarks) => TaskOutput::Landmarks(landmarks),
            Prediction::Parsing(parsing) => TaskOutput::Parsing(Parsing { parsing, decoder, to_image, image_size }),
            Prediction::Age(age) => TaskOutput::Age(*age),
            Prediction::Expression(values) => TaskOutput::Expression(Expression(Scores { labels, values })),
            Prediction::Attributes(values) => TaskOutput::Attributes(Attributes(Scores { labels, values })),
            Prediction::Recognition(numbers) => TaskOutput::Embedding(Embedding(numbers)),
        }
    }
}

/// Numbers with their names.
#[derive(Clone, Copy, Debug)]
struct Scores<'a> {
    labels: &'a [String],
    values: &'a [f32],
}

impl<'a> Scores<'a> {
    fn iter(self) -> impl Iterator<Item = (&'a str, f32)> {
        self.labels.iter().map(String::as_str).zip(self.values.iter().copied())
    }

    fn get(self, label: &str) -> Option<f32> {
        self.iter().find(|(name, _)| *name == label).map(|(_, value)| value)
    }
}

/// Probabilities of classes that exclude each other; they sum to 1.
///
/// The embedded network's labels are neutral, happiness, surprise, sadness, anger, disgust, fear, contempt.
#[derive(Clone, Copy, Debug)]
pub struct Expression<'a>(Scores<'a>);

impl<'a> Expression<'a> {
    /// Returns the name of the most probable class.
    pub fn label(&self) -> &'a str {
        self.0.labels.get(largest(self.0.values)).map_or("", String::as_str)
    }

    /// Returns the probability of a class, 0..1.
    pub fn score(&self, label: &str) -> Option<f32> {
        self.0.get(label)
    }

    /// Returns all classes with their probabilities, in the bundle's order.
    pub fn scores(&self) -> impl Iterator<Item = (&'a str, f32)> {
        self.0.iter()
    }
}

/// Probabilities of properties that are independent of each other.
///
/// The embedded network's labels are the 40 of the CelebA data set, such as `Eyeglasses`.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a>(Scores<'a>);

impl<'a> Attributes<'a> {
    /// Returns the probability of an attribute, 0..1.
    pub fn probability(&self, name: &str) -> Option<f32> {
        self.0.get(name)
    }

    /// Returns all attributes with their probabilities, in the bundle's order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, f32)> {
        self.0.iter()
    }
}

/// A vector of unit length: the similarity of two faces is the cosine between theirs.
#[derive(Clone, Copy, Debug)]
pub struct Embedding<'a>(&'a [f32]);

impl<'a> Embedding<'a> {
    /// Returns its numbers.
    pub fn as_slice(&self) -> &'a [f32] {
        self.0
    }

    /// Returns the cosine between this and another embedding of the same network: -1..1, high for one person.
    pub fn similarity(&self, other: &[f32]) -> f32 {
        self.0.iter().zip(other).map(|(a, b)| a * b).sum()
    }
}

/// Which part of the face each pixel is.
#[derive(Clone, Copy, Debug)]
pub struct Parsing<'a> {
    parsing: &'a parsing::Parsing,
    decoder: &'a TaskDecoder,
    to_image: &'a Similarity,
    image_size: [usize; 2],
}

impl<'a> Parsing<'a> {
    /// The value of a mask's pixels outside the face's crop.
    pub const OUTSIDE: u8 = OUTSIDE;

    /// Returns the names of the classes, in the order of their numbers in a mask.
    pub fn classes(&self) -> impl Iterator<Item = &'a str> {
        self.decoder.task().labels.iter().map(String::as_str)
    }

    /// Returns the classes with their shares of the face's crop, which sum to 1.
    pub fn shares(&self) -> impl Iterator<Item = (&'a str, f32)> {
        self.classes().zip(self.parsing.share.iter().copied())
    }

    /// Paints the class of each pixel of the image, row by row: `width * height` bytes, [`Parsing::OUTSIDE`] beyond the
    /// face's crop.
    pub fn mask(&self) -> Vec<u8> {
        let [width, height] = self.image_size;
        let mut mask = vec![OUTSIDE; width * height];
        self.parsing.paint(self.to_image, &self.decoder.geometry().unwarp, width, height, &mut mask);
        mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_found_by_name() {
        let labels = ["calm".to_owned(), "glad".to_owned()];
        let expression = Expression(Scores { labels: &labels, values: &[0.25, 0.75] });
        assert_eq!((expression.label(), expression.score("calm"), expression.score("sad")), ("glad", Some(0.25), None));
        let attributes = Attributes(Scores { labels: &labels, values: &[0.5, 0.5] });
        assert_eq!(attributes.iter().collect::<Vec<_>>(), [("calm", 0.5), ("glad", 0.5)]);
    }

    #[test]
    fn similarity_of_embeddings_is_their_cosine() {
        assert_eq!(Embedding(&[0.6, 0.8]).similarity(&[0.6, 0.8]), 1.0);
        assert_eq!(Embedding(&[0.6, 0.8]).similarity(&[-0.8, 0.6]), 0.0);
    }
}
