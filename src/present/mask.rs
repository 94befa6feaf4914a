//! Parsing masks at the size of the picture.

use crate::capture::{Picture, Pixels};
use crate::perceive::parsing::{OUTSIDE, Parsing};
use crate::perceive::{Answer, Face, Pipeline};

/// Class numbers of one face for each pixel of the picture, 255 outside its crop.
pub fn labels(parsing: &Parsing, face: &Face, picture: &Picture, pipeline: &Pipeline) -> Vec<u8> {
    let mut mask = vec![OUTSIDE; picture.width() * picture.height()];
    parsing.paint(&face.to_picture, pipeline.unwarp(), picture.width(), picture.height(), &mut mask);
    mask
}

/// The parsing answers of a face with their places among its answers.
pub fn parsings(face: &Face) -> impl Iterator<Item = (usize, &Parsing)> {
    face.answers.iter().enumerate().filter_map(|(index, held)| match &held.answer {
        Answer::Parsing(parsing) if held.known => Some((index, parsing)),
        _ => None,
    })
}
