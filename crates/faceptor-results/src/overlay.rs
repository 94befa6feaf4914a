//! Draws the annotated picture: parsing colours, box, landmarks and a caption for each face.

use std::convert::Infallible;
use std::sync::Arc;

use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::{Drawable, OriginDimensions, Point, Primitive};
use embedded_graphics::primitives::{Circle, PrimitiveStyle, Rectangle};

use crate::canvas::Canvas;
use crate::caption;
use crate::cover::Covers;
use crate::identity::Identity;
use crate::mask;
use crate::resize::Resizer;
use crate::text_layout::{CaptionPlacer, TextLayout};
use faceptor::stages::{Analysis, Face, ImageView, OUTSIDE, Picture, Pipeline, Pixels, Prediction, TaskDecoder};

/// Weight of a parsing colour, of 256. The background is not coloured.
const TINT: u32 = 110;

const BOX: Rgb888 = Rgb888::new(70, 220, 110);
/// Landmark colours, one for each landmark task.
const DOTS: [Rgb888; 4] =
    [Rgb888::new(255, 240, 80), Rgb888::new(80, 230, 255), Rgb888::new(255, 130, 220), Rgb888::new(255, 150, 40)];

/// Colours of the parsing classes by number; further classes repeat them from class 1 on.
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

/// The task decoders of a network, by which results are named and drawn.
#[derive(Clone)]
pub struct Legend {
    pub decoders: Vec<TaskDecoder>,
}

impl Legend {
    pub fn of(pipeline: &Pipeline) -> Legend {
        Legend { decoders: pipeline.decoders().to_vec() }
    }
}

/// Sizes that depend on the canvas.
struct Scale {
    /// Canvas pixels a picture pixel.
    factor: f32,
    /// Width of lines in canvas pixels.
    line: u32,
    text_layout: TextLayout,
}

impl Scale {
    /// Returns the sizes for a picture on a canvas of this size.
    fn of(picture: &Picture, [width, height]: [usize; 2]) -> Scale {
        let shorter = width.min(height);
        // A line of text is about a 32nd of the shorter side.
        let text_layout = TextLayout::of_height(shorter / 32);
        Scale { factor: width as f32 / picture.width() as f32, line: (shorter / 400).max(1) as u32, text_layout }
    }

    /// Converts a picture coordinate to a canvas coordinate.
    fn place(&self, v: f32) -> i32 {
        // The limit keeps sums of coordinates within i32.
        (((v + 0.5) * self.factor - 0.5).round()).clamp(-1e6, 1e6) as i32
    }
}

/// Returns the size of a picture, at which the coordinates of its results fit the drawing.
pub fn own_size(picture: &Picture) -> [usize; 2] {
    [picture.width(), picture.height()]
}

/// Draws an analysis on a copy of the picture, of the same size.
pub fn annotate(picture: &Picture, analysis: &Analysis, decoders: &[TaskDecoder]) -> Picture {
    annotate_covered(picture, analysis, &[], decoders, None)
}

/// Draws an analysis with the answers of a gallery on a copy of the picture, of the same size, after `covers`.
pub fn annotate_covered(
    picture: &Picture,
    analysis: &Analysis,
    identities: &[Identity<'_>],
    decoders: &[TaskDecoder],
    covers: Option<&Covers>,
) -> Picture {
    let mut covered = picture.clone();
    if let Some(covers) = covers {
        covers.apply(&mut covered);
    }
    let mut canvas = Canvas::new(covered);
    draw(&mut canvas, picture, &Results { analysis, identities, decoders, covers }, &mut Vec::new());
    canvas.into_picture()
}

/// Draws frames one after the other in the same memory.
pub struct Annotator {
    legend: Arc<Legend>,
    resizer: Resizer,
    source: Picture,
    canvas: Canvas,
    mask: Vec<u8>,
}

impl Annotator {
    pub fn new(legend: Arc<Legend>) -> Annotator {
        let (source, canvas) = (Picture::default(), Canvas::new(Picture::default()));
        Annotator { legend, resizer: Resizer::default(), source, canvas, mask: Vec::new() }
    }

    /// Draws a frame with its analysis, at the size that `size` returns for the frame. The `covers` come first: no pixel below them
    /// is in the result.
    pub fn draw(
        &mut self,
        view: &ImageView,
        analysis: &Analysis,
        identities: &[Identity<'_>],
        covers: Option<&Covers>,
        size: impl FnOnce(&Picture) -> [usize; 2],
    ) -> &Picture {
        view.to_picture(&mut self.source);
        if let Some(covers) = covers {
            covers.apply(&mut self.source);
        }
        self.resizer.resize(&self.source, size(&self.source), self.canvas.picture_mut());
        let results = Results { analysis, identities, decoders: &self.legend.decoders, covers };
        draw(&mut self.canvas, &self.source, &results, &mut self.mask);
        self.canvas.picture()
    }
}

/// Settings of a drawing.
struct Results<'a> {
    analysis: &'a Analysis,
    identities: &'a [Identity<'a>],
    decoders: &'a [TaskDecoder],
    covers: Option<&'a Covers>,
}

/// Draws results on a canvas that shows `picture` at any size. A covered face has no masks and no points, which would show its shape.
fn draw(canvas: &mut Canvas, picture: &Picture, results: &Results<'_>, mask: &mut Vec<u8>) {
    let Results { analysis, identities, decoders, covers } = *results;
    let is_hidden = |face: &Face| covers.is_some_and(|covers| covers.hide(face));
    let scale = Scale::of(picture, [canvas.picture().width(), canvas.picture().height()]);
    for face in analysis.faces.iter().filter(|face| !is_hidden(face)) {
        for (task, parsing) in mask::parsings(face) {
            mask::paint(parsing, &decoders[task], face, picture, mask);
            tint(canvas, mask, picture, &scale);
        }
    }
    let boxes: Vec<Rectangle> = analysis.faces.iter().map(|face| box_of(face, &scale)).collect();
    for (face, area) in analysis.faces.iter().zip(&boxes) {
        // Drawing on a canvas cannot fail: its error type has no values.
        let Ok(()) = draw_box(canvas, *area, &scale);
        if !is_hidden(face) {
            let Ok(()) = draw_points(canvas, face, *area, &scale);
        }
    }
    let mut placer = CaptionPlacer::new(canvas.size(), &boxes);
    for (index, (face, area)) in analysis.faces.iter().zip(&boxes).enumerate() {
        let alone = boxes.len() == 1;
        let phrases = caption::phrases(face, decoders, identities.get(index));
        let Ok(()) = draw_caption(canvas, face, &phrases, area, &mut placer, alone, scale.text_layout);
    }
}

/// Blends in the colours of the classes other than background. The mask has the size of the picture.
fn tint(canvas: &mut Canvas, mask: &[u8], picture: &Picture, scale: &Scale) {
    let (width, height) = (canvas.picture().width(), canvas.picture().height());
    let back = |at: usize, limit: usize| (((at as f32 + 0.5) / scale.factor) as usize).min(limit - 1);
    for y in 0..height {
        let row = &mask[back(y, picture.height()) * picture.width()..][..picture.width()];
        if row.iter().all(|&label| label == OUTSIDE) {
            continue;
        }
        for x in 0..width {
            let label = row[back(x, picture.width())];
            if label == OUTSIDE || label == 0 {
                continue;
            }
            let class = usize::from(label);
            let [r, g, b] = PALETTE[if class < PALETTE.len() { class } else { 1 + (class - 1) % (PALETTE.len() - 1) }];
            canvas.blend(x, y, Rgb888::new(r, g, b), TINT);
        }
    }
}

fn box_of(face: &Face, scale: &Scale) -> Rectangle {
    let [left, top, right, bottom] = face.detection.edges.map(|v| scale.place(v));
    Rectangle::with_corners(Point::new(left, top), Point::new(right, bottom))
}

fn draw_box(canvas: &mut Canvas, area: Rectangle, scale: &Scale) -> Result<(), Infallible> {
    area.into_styled(PrimitiveStyle::with_stroke(BOX, scale.line)).draw(canvas)
}

fn draw_points(canvas: &mut Canvas, face: &Face, area: Rectangle, scale: &Scale) -> Result<(), Infallible> {
    let marks: Vec<&[[f32; 2]]> = (face.results.iter())
        .filter_map(|result| match &result.prediction {
            Prediction::Landmarks(landmarks) if result.known => Some(landmarks.points.as_slice()),
            _ => None,
        })
        .collect();
    let (marks, colours) =
        if marks.is_empty() { (vec![face.detection.keypoints.as_slice()], &[BOX][..]) } else { (marks, &DOTS[..]) };
    // Small dots on a small face, so that it stays visible.
    let diameter = (area.size.width / 60).clamp(1, 3 * scale.line + 1);
    for (points, &colour) in marks.iter().zip(colours.iter().cycle()) {
        for &[x, y] in *points {
            let centre = Point::new(scale.place(x), scale.place(y));
            Circle::with_center(centre, diameter).into_styled(PrimitiveStyle::with_fill(colour)).draw(canvas)?;
        }
    }
    Ok(())
}

/// Draws the caption beside the face, at most as high as the face. Without room there, the only face of a picture has a short
/// caption in a corner of the picture; one of several faces gets a few small words below it.
fn draw_caption(
    canvas: &mut Canvas,
    face: &Face,
    phrases: &[String],
    area: &Rectangle,
    placer: &mut CaptionPlacer,
    alone: bool,
    text_layout: TextLayout,
) -> Result<(), Infallible> {
    let room = (area.size.height / text_layout.character().height) as usize;
    let words: Vec<&str> = phrases.iter().take(2).filter_map(|phrase| phrase.split(' ').next()).collect();
    let mut lines = vec![format!("{} {:.0} %", face.id, face.detection.score * 100.0)];
    lines.extend(phrases.iter().cloned());
    lines.truncate(room.max(1));
    let mut whole_block = placer.beside(area, text_layout.block(&lines));
    if whole_block.is_none() && alone {
        // It covers the face: what is too wide is left out, and so is what needs more than a third of the picture.
        let canvas = canvas.size();
        lines.retain(|line| text_layout.block(std::slice::from_ref(line)).width <= canvas.width);
        lines.truncate((canvas.height / 3 / text_layout.character().height).max(1) as usize);
        whole_block = Some(placer.corner(text_layout.block(&lines)));
    }
    if let Some(place) = whole_block.filter(|_| alone || room >= 3) {
        placer.take(place);
        return text_layout.draw(canvas, &lines, place.top_left);
    }
    if words.is_empty() {
        return Ok(());
    }
    let (text_layout, line) = (text_layout.smaller(), [words.join(" ")]);
    let block = text_layout.block(&line);
    let below = Rectangle::new(area.top_left + Point::new(0, area.size.height as i32 + 2), block);
    let place = placer.beside(area, block).unwrap_or(below);
    placer.take(place);
    text_layout.draw(canvas, &line, place.top_left)
}

#[cfg(test)]
mod tests {
    use faceptor::stages::TaskResult;
    use faceptor_nn::manifest::{Task, TaskKind};

    use crate::cover::{Area, Style};

    use super::*;

    #[test]
    fn sizes_follow_the_picture() {
        let magnified = |width, height, factor| {
            let picture = Picture::filled(width, height, [0; 3]);
            Scale::of(&picture, own_size(&picture).map(|side| side * factor))
        };
        let scale = |width, height| magnified(width, height, 1);
        let (crop, camera, photo) = (magnified(96, 96, 5), scale(640, 480), scale(4000, 3000));
        assert_eq!((crop.factor, camera.factor, photo.factor), (5.0, 1.0, 1.0));
        assert_eq!((scale(96, 96).factor, scale(1, 1).factor), (1.0, 1.0));
        let height = |scale: &Scale| scale.text_layout.character().height;
        assert!(height(&crop) >= 10 && height(&camera) == 15);
        assert!((80..110).contains(&height(&photo)), "{}", height(&photo));
        assert_eq!(magnified(1, 1, 8).factor, 8.0);
        assert_eq!(height(&scale(20_000, 10)), 10);
        assert_eq!(crop.place(0.0), 2);
        assert_eq!(camera.place(17.0), 17);
    }

    #[test]
    fn caption_leaves_most_of_a_small_crop_free() {
        let picture = Picture::filled(96, 96, [200; 3]);
        let task = Task {
            name: "attributes".into(),
            labels: ["Smiling", "Wearing_Necklace", "Young", "Bangs", "Bald"].map(String::from).into(),
            ..Task::of_kind(TaskKind::Attributes)
        };
        let decoders = vec![TaskDecoder::new(&task, &[1, 5]).expect("five numbers")];
        let mut face = Face::blank(&decoders);
        face.detection.edges = [0.0, 0.0, 95.0, 95.0];
        face.results[0] = TaskResult::fresh(Prediction::Attributes(vec![0.9; 5]));
        let mut analysis = Analysis::default();
        analysis.faces.push(face);
        let mut annotator = Annotator::new(Arc::new(Legend { decoders }));
        let drawn = annotator.draw(&picture.view(), &analysis, &[], None, own_size);
        let covered = drawn
            .bytes()
            .as_chunks::<3>()
            .0
            .iter()
            .filter(|pixel| **pixel != [200; 3] && **pixel != [70, 220, 110])
            .count();
        assert!((300..96 * 96 * 2 / 5).contains(&covered), "{covered} of 9216 pixels");
    }

    #[test]
    fn a_covered_face_has_a_box_and_no_points() {
        let picture = Picture::filled(64, 64, [200; 3]);
        let mut face = Face::blank(&[]);
        face.detection.edges = [10.0, 10.0, 50.0, 50.0];
        face.detection.keypoints = [[30.0, 30.0]; 5];
        let mut analysis = Analysis::default();
        analysis.faces.push(face);
        for (edges, is_drawn) in [([5.0, 5.0, 55.0, 55.0], false), ([55.0, 55.0, 60.0, 60.0], true)] {
            let mut covers = Covers::new(Style::Solid);
            covers.push(Some(Area { edges }));
            let drawn = annotate_covered(&picture, &analysis, &[], &[], Some(&covers));
            let at = |x: usize, y: usize| drawn.bytes()[(y * 64 + x) * 3..][..3] == [70, 220, 110];
            assert_eq!((at(10, 30), at(30, 30)), (true, is_drawn));
        }
    }

    #[test]
    fn reused_annotator_draws_like_a_new_one() {
        let picture = Picture::filled(64, 48, [90, 90, 90]);
        let mut analysis = Analysis::default();
        let mut face = Face::blank(&[]);
        (face.id, face.detection.edges) = (1, [10.0, 10.0, 40.0, 40.0]);
        analysis.faces.push(face);
        let legend = Arc::new(Legend { decoders: Vec::new() });
        let mut annotator = Annotator::new(legend.clone());
        for size in [[64, 48], [320, 240], [32, 24], [320, 240]] {
            let drawn = annotator.draw(&picture.view(), &analysis, &[], None, |_| size).clone();
            assert_eq!([drawn.width(), drawn.height()], size);
            assert_eq!(Annotator::new(legend.clone()).draw(&picture.view(), &analysis, &[], None, |_| size), &drawn);
            let green = drawn.bytes().as_chunks::<3>().0.iter().filter(|pixel| **pixel == [70, 220, 110]).count();
            assert!(green > size[0] / 2, "the box is on it: {green} pixels");
        }
    }
}
