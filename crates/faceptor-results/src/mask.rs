//! Paints parsing masks at the size of the picture.

use faceptor::stages::{Face, OUTSIDE, Parsing, Picture, Pixels, Prediction, TaskDecoder};

/// Returns the class number of each pixel of the picture for one face, 255 outside the task's crop.
pub fn labels(parsing: &Parsing, decoder: &TaskDecoder, face: &Face, picture: &Picture) -> Vec<u8> {
    let mut mask = Vec::new();
    paint(parsing, decoder, face, picture, &mut mask);
    mask
}

/// Paints the class numbers like [`labels`], into memory that is reused.
pub fn paint(parsing: &Parsing, decoder: &TaskDecoder, face: &Face, picture: &Picture, mask: &mut Vec<u8>) {
    let (width, height) = (picture.width(), picture.height());
    mask.clear();
    mask.resize(width * height, OUTSIDE);
    parsing.paint(face.windows.of(decoder.window()), &decoder.geometry().unwarp, width, height, mask);
}

/// Returns the parsing results of a face with their index among its results.
pub fn parsings(face: &Face) -> impl Iterator<Item = (usize, &Parsing)> {
    face.results.iter().enumerate().filter_map(|(index, result)| match &result.prediction {
        Prediction::Parsing(parsing) if result.known => Some((index, parsing)),
        _ => None,
    })
}
