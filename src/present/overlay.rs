//! The annotated picture: parsing colours, box, landmarks and a caption for each face.

use std::convert::Infallible;

use embedded_graphics::mono_font::iso_8859_1::{FONT_6X10, FONT_9X15};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::prelude::{Drawable, OriginDimensions, Point, Primitive, Size};
use embedded_graphics::primitives::{Circle, PrimitiveStyle, Rectangle};
use embedded_graphics::text::{Baseline, Text};

use super::canvas::{Canvas, Magnified};
use super::{caption, mask};
use crate::capture::{Picture, Pixels};
use crate::perceive::parsing::OUTSIDE;
use crate::perceive::{Analysis, Answer, Face, Pipeline, Reader};

/// Small pictures are magnified by a whole factor to about this side, so that a caption can be read on them.
const READABLE_SIDE: usize = 480;
/// The largest magnification.
const MAX_FACTOR: usize = 8;
/// A parsing colour's share of 256; background stays as it is.
const TINT: u32 = 110;
/// The dark behind a caption, its share of 256.
const SHADE: u32 = 150;

const BOX: Rgb888 = Rgb888::new(70, 220, 110);
const DOT: Rgb888 = Rgb888::new(255, 240, 80);
const INK: Rgb888 = Rgb888::WHITE;

/// Colours of the parsing classes by number; further classes start over after the background.
const PALETTE: [[u8; 3]; 19] = [
    [0, 0, 0],
    [255, 170, 120],
    [255, 85, 0],
    [60, 220, 255],
    [80, 120, 255],
    [40, 60, 230],
    [190, 90, 255],
    [130, 40, 230],
    [255, 225, 110],
    [230, 180, 40],
    [255, 255, 255],
    [255, 60, 130],
    [200, 20, 60],
    [40, 200, 90],
    [0, 130, 120],
    [250, 250, 0],
    [255, 120, 255],
    [170, 210, 60],
    [120, 150, 190],
];

/// Sizes that follow the picture's.
struct Scale {
    /// Canvas pixels for a picture pixel.
    factor: usize,
    /// Width of lines, canvas pixels.
    line: u32,
    font: &'static MonoFont<'static>,
    /// Canvas pixels for a pixel of the font.
    font_factor: u32,
}

impl Scale {
    fn of(picture: &Picture) -> Scale {
        let longer = picture.width().max(picture.height());
        let factor = (READABLE_SIDE / longer).clamp(1, MAX_FACTOR);
        let shorter = picture.width().min(picture.height()) * factor;
        // A line of text is about a 32nd of the shorter side.
        let text = shorter / 32;
        let (font, height) = if text < 13 { (&FONT_6X10, 10) } else { (&FONT_9X15, 15) };
        let font_factor = ((text + height / 2) / height).max(1) as u32;
        Scale { factor, line: (shorter / 400).max(1) as u32, font, font_factor }
    }

    /// Canvas coordinate of a picture coordinate.
    fn place(&self, v: f32) -> i32 {
        // Beyond the picture lies nothing that is drawn; the limit keeps sums of coordinates within i32.
        (((v + 0.5) * self.factor as f32 - 0.5).round()).clamp(-1e6, 1e6) as i32
    }

    fn character(&self) -> Size {
        let size = self.font.character_size;
        Size::new((size.width + self.font.character_spacing) * self.font_factor, size.height * self.font_factor)
    }
}

/// Draws everything that the analysis says onto a copy of the picture.
pub fn annotate(picture: &Picture, analysis: &Analysis, pipeline: &Pipeline) -> Picture {
    let scale = Scale::of(picture);
    let mut canvas = Canvas::new(picture, scale.factor);
    for face in &analysis.faces {
        for (_, parsing) in mask::parsings(face) {
            let labels = mask::labels(parsing, face, picture, pipeline);
            tint(&mut canvas, &labels, picture.width(), scale.factor);
        }
    }
    let boxes: Vec<Rectangle> = analysis.faces.iter().map(|face| box_of(face, &scale)).collect();
    for (face, area) in analysis.faces.iter().zip(&boxes) {
        // Drawing on a canvas cannot fail: its error type has no values.
        let Ok(()) = draw_face(&mut canvas, face, *area, &scale);
    }
    let mut taken = Vec::new();
    for (face, area) in analysis.faces.iter().zip(&boxes) {
        let lines = caption_lines(face, pipeline.readers(), area, &scale);
        let Ok(()) = draw_caption(&mut canvas, &lines, *area, &boxes, &mut taken, &scale);
    }
    canvas.into_picture()
}

fn tint(canvas: &mut Canvas, labels: &[u8], width: usize, factor: usize) {
    for (at, &label) in labels.iter().enumerate() {
        if label == OUTSIDE || label == 0 {
            continue;
        }
        let class = usize::from(label);
        let [r, g, b] = PALETTE[if class < PALETTE.len() { class } else { 1 + (class - 1) % (PALETTE.len() - 1) }];
        let (left, top) = (at % width * factor, at / width * factor);
        for y in top..top + factor {
            for x in left..left + factor {
                canvas.blend(x, y, Rgb888::new(r, g, b), TINT);
            }
        }
    }
}

fn box_of(face: &Face, scale: &Scale) -> Rectangle {
    let [left, top, right, bottom] = face.detection.edges.map(|v| scale.place(v));
    Rectangle::with_corners(Point::new(left, top), Point::new(right, bottom))
}

fn draw_face(canvas: &mut Canvas, face: &Face, area: Rectangle, scale: &Scale) -> Result<(), Infallible> {
    area.into_styled(PrimitiveStyle::with_stroke(BOX, scale.line)).draw(canvas)?;
    let marks: Vec<&[[f32; 2]]> = (face.answers.iter())
        .filter_map(|answer| match answer {
            Answer::Landmarks(landmarks) => Some(landmarks.points.as_slice()),
            _ => None,
        })
        .collect();
    let (marks, colour) =
        if marks.is_empty() { (vec![face.detection.keypoints.as_slice()], BOX) } else { (marks, DOT) };
    // Dots of a small face are small, so that it stays visible below them.
    let diameter = (area.size.width / 60).clamp(1, 3 * scale.line + 1);
    for &[x, y] in marks.iter().copied().flatten() {
        let centre = Point::new(scale.place(x), scale.place(y));
        Circle::with_center(centre, diameter).into_styled(PrimitiveStyle::with_fill(colour)).draw(canvas)?;
    }
    Ok(())
}

/// As many lines as the face is high; a face for one line only gets its two first phrases in it.
fn caption_lines(face: &Face, readers: &[Reader], area: &Rectangle, scale: &Scale) -> Vec<String> {
    let phrases = caption::phrases(face, readers);
    let room = (area.size.height / scale.character().height.max(1)) as usize;
    if room < 3 {
        let words: Vec<&str> = phrases.iter().take(2).filter_map(|phrase| phrase.split(' ').next()).collect();
        return if words.is_empty() { Vec::new() } else { vec![words.join(" ")] };
    }
    let mut lines = vec![format!("{} {:.0} %", face.id, face.detection.score * 100.0)];
    lines.extend(phrases);
    lines.truncate(room);
    lines
}

fn overlaps(one: &Rectangle, other: &Rectangle) -> bool {
    let both = one.intersection(other).size;
    both.width > 0 && both.height > 0
}

/// Writes the lines beside the face where there is room: right, left, below, above, or else over its lower part.
fn draw_caption(
    canvas: &mut Canvas,
    lines: &[String],
    area: Rectangle,
    boxes: &[Rectangle],
    taken: &mut Vec<Rectangle>,
    scale: &Scale,
) -> Result<(), Infallible> {
    let longest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    if longest == 0 {
        return Ok(());
    }
    let character = scale.character();
    let margin = 2 * scale.font_factor as i32;
    let width = longest as i32 * character.width as i32 + 2 * margin;
    let height = lines.len() as i32 * character.height as i32 + 2 * margin;
    let whole = Rectangle::new(Point::zero(), canvas.size());
    let (left, top) = (area.top_left.x, area.top_left.y);
    let (right, below) = (left + area.size.width as i32 + margin, top + area.size.height as i32 + margin);
    let places = [(right, top), (left - width - margin, top), (left, below), (left, top - height - margin)];
    let block = |(x, y): (i32, i32)| Rectangle::new(Point::new(x, y), Size::new(width as u32, height as u32));
    let free = |place: &Rectangle| {
        place.intersection(&whole) == *place && !boxes.iter().chain(taken.iter()).any(|other| overlaps(place, other))
    };
    let fallback = || {
        let x = left.min(whole.size.width as i32 - width).max(0);
        let y = (below - height - 2 * margin).min(whole.size.height as i32 - height).max(0);
        block((x, y))
    };
    let place = places.into_iter().map(block).find(free).unwrap_or_else(fallback);
    canvas.blend_rectangle(place, Rgb888::BLACK, SHADE);
    let style = MonoTextStyle::new(scale.font, INK);
    for (index, line) in lines.iter().enumerate() {
        let down = Point::new(margin, margin + index as i32 * character.height as i32);
        let mut large = Magnified { canvas, origin: place.top_left + down, factor: scale.font_factor };
        Text::with_baseline(line, Point::zero(), style, Baseline::Top).draw(&mut large)?;
    }
    taken.push(place);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_the_picture() {
        let scale = |width, height| Scale::of(&Picture::filled(width, height, [0; 3]));
        let (crop, camera, photo) = (scale(96, 96), scale(640, 480), scale(4000, 3000));
        assert_eq!((crop.factor, camera.factor, photo.factor), (5, 1, 1));
        assert!(crop.character().height >= 10 && camera.character().height == 15);
        assert!((80..110).contains(&photo.character().height), "{}", photo.character().height);
        assert_eq!(scale(1, 1).factor, MAX_FACTOR);
        assert_eq!(scale(20_000, 10).character().height, 10);
        assert_eq!(crop.place(0.0), 2);
        assert_eq!(camera.place(17.0), 17);
    }

    #[test]
    fn a_caption_takes_the_free_side_and_does_not_cover_another() -> Result<(), Infallible> {
        let picture = Picture::filled(640, 480, [200; 3]);
        let scale = Scale::of(&picture);
        let mut canvas = Canvas::new(&picture, 1);
        let lines = vec!["neutral 90 %".to_owned(); 3];
        let boxes = [(500, 100), (350, 100)].map(|(x, y)| Rectangle::new(Point::new(x, y), Size::new(100, 120)));
        let mut taken = Vec::new();
        for area in boxes {
            draw_caption(&mut canvas, &lines, area, &boxes, &mut taken, &scale)?;
        }
        // The right one is too near to the edge and has a neighbour on its left: below it is free.
        assert_eq!(taken[0].top_left, Point::new(500, 222));
        assert!(taken[1].top_left.x < 350 && !overlaps(&taken[0], &taken[1]));
        let picture = canvas.into_picture();
        assert!((0..640 * 480).any(|i| picture.rgb(i % 640, i / 640) == [255; 3]), "the text is drawn");
        Ok(())
    }
}
