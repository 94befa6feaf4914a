//! Parsing masks at the size of the picture.

use faceptor::stages::{Face, OUTSIDE, Parsing, Picture, Pixels, Prediction, TaskDecoder};

/// Class numbers of one face for each pixel of the picture, 255 outside what the decoder's task sees.
pub fn labels(parsing: &Parsing, decoder: &TaskDecoder, face: &Face, picture: &Picture) -> Vec<u8> {
    let mut mask = Vec::new();
    paint(parsing, decoder, face, picture, &mut mask);
    mask
}

/// The same into memory that is used again.
pub fn paint(parsing: &Parsing, decoder: &TaskDecoder, face: &Face, picture: &Picture, mask: &mut Vec<u8>) {
    let (width, height) = (picture.width(), picture.height());
    mask.clear();
    mask.resize(width * height, OUTSIDE);
    parsing.paint(face.views.of(decoder.look()), &decoder.gaze().unwarp, width, height, mask);
}

/// The parsing answers of a face with their placer among its answers.
pub fn parsings(face: &Face) -> impl Iterator<Item = (usize, &Parsing)> {
    face.results.iter().enumerate().filter_map(|(index, result)| match &result.prediction {
        Prediction::Parsing(parsing) if result.known => Some((index, parsing)),
        _ => None,
    })
}
