//! Parsing masks at the size of the picture.

use faceptor::analysis::Face;
use faceptor::image::picture::{Picture, Pixels};
use faceptor::tasks::decoder::{Answer, Reader};
use faceptor::tasks::parsing::{OUTSIDE, Parsing};

/// Class numbers of one face for each pixel of the picture, 255 outside what the reader's task sees.
pub fn labels(parsing: &Parsing, reader: &Reader, face: &Face, picture: &Picture) -> Vec<u8> {
    let mut mask = Vec::new();
    paint(parsing, reader, face, picture, &mut mask);
    mask
}

/// The same into memory that is used again.
pub fn paint(parsing: &Parsing, reader: &Reader, face: &Face, picture: &Picture, mask: &mut Vec<u8>) {
    let (width, height) = (picture.width(), picture.height());
    mask.clear();
    mask.resize(width * height, OUTSIDE);
    parsing.paint(face.views.of(reader.look()), &reader.gaze().unwarp, width, height, mask);
}

/// The parsing answers of a face with their places among its answers.
pub fn parsings(face: &Face) -> impl Iterator<Item = (usize, &Parsing)> {
    face.answers.iter().enumerate().filter_map(|(index, held)| match &held.answer {
        Answer::Parsing(parsing) if held.known => Some((index, parsing)),
        _ => None,
    })
}
