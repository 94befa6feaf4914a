//! Parsing masks at the size of the picture.

use crate::capture::{Picture, Pixels};
use crate::perceive::parsing::{OUTSIDE, Parsing};
use crate::perceive::warp::Unwarp;
use crate::perceive::{Answer, Face, Pipeline};

/// Class numbers of one face for each pixel of the picture, 255 outside its crop.
pub fn labels(parsing: &Parsing, face: &Face, picture: &Picture, pipeline: &Pipeline) -> Vec<u8> {
    let mut mask = Vec::new();
    paint(parsing, face, picture, pipeline.unwarp(), &mut mask);
    mask
}

/// The same into memory that is used again.
pub fn paint(parsing: &Parsing, face: &Face, picture: &Picture, unwarp: &Unwarp, mask: &mut Vec<u8>) {
    let (width, height) = (picture.width(), picture.height());
    mask.clear();
    mask.resize(width * height, OUTSIDE);
    parsing.paint(&face.to_picture, unwarp, width, height, mask);
}

/// The parsing answers of a face with their places among its answers.
pub fn parsings(face: &Face) -> impl Iterator<Item = (usize, &Parsing)> {
    face.answers.iter().enumerate().filter_map(|(index, held)| match &held.answer {
        Answer::Parsing(parsing) if held.known => Some((index, parsing)),
        _ => None,
    })
}
