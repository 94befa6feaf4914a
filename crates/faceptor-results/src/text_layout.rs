//! Captions: their size, placement and drawing.

use std::convert::Infallible;

use embedded_graphics::mono_font::iso_8859_1::{FONT_6X10, FONT_9X15};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::prelude::{Drawable, Point, Size};
use embedded_graphics::primitives::Rectangle;
use embedded_graphics::text::{Baseline, Text};

use crate::canvas::{Canvas, Magnified};

/// Weight of the dark background of a caption, of 256.
const SHADE: u32 = 150;

/// A bitmap font with a magnification.
#[derive(Clone, Copy)]
pub struct TextLayout {
    font: &'static MonoFont<'static>,
    factor: u32,
}

impl TextLayout {
    /// Chooses letters of about `height` canvas pixels, at least the smallest readable size.
    pub fn of_height(height: usize) -> TextLayout {
        let (font, own) = if height < 13 { (&FONT_6X10, 10) } else { (&FONT_9X15, 15) };
        TextLayout { font, factor: ((height + own / 2) / own).max(1) as u32 }
    }

    /// Returns a layout of about half the size.
    pub fn smaller(self) -> TextLayout {
        TextLayout::of_height(self.character().height as usize / 2)
    }

    /// Returns the size of one letter in canvas pixels.
    pub fn character(&self) -> Size {
        let size = self.font.character_size;
        Size::new((size.width + self.font.character_spacing) * self.factor, size.height * self.factor)
    }

    fn margin(&self) -> u32 {
        2 * self.factor
    }

    /// Returns the size of a block of lines with its margin.
    pub fn block(&self, lines: &[String]) -> Size {
        let longest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0) as u32;
        let character = self.character();
        let (width, height) = (longest * character.width, lines.len() as u32 * character.height);
        Size::new(width + 2 * self.margin(), height + 2 * self.margin())
    }

    /// Draws the lines on a dark block whose top left corner is `corner`.
    pub fn draw(&self, canvas: &mut Canvas, lines: &[String], corner: Point) -> Result<(), Infallible> {
        canvas.blend_rectangle(Rectangle::new(corner, self.block(lines)), Rgb888::BLACK, SHADE);
        let style = MonoTextStyle::new(self.font, Rgb888::WHITE);
        let mut origin = corner + Size::new_equal(self.margin());
        for line in lines {
            let mut large = Magnified { canvas, origin, factor: self.factor };
            Text::with_baseline(line, Point::zero(), style, Baseline::Top).draw(&mut large)?;
            origin.y += self.character().height as i32;
        }
        Ok(())
    }
}

/// Places captions where they cover neither faces nor each other.
pub struct CaptionPlacer {
    whole: Rectangle,
    covered: Vec<Rectangle>,
}

/// Returns the number of pixels that two rectangles share.
fn shared_area(one: &Rectangle, other: &Rectangle) -> u64 {
    let both = one.intersection(other).size;
    u64::from(both.width) * u64::from(both.height)
}

impl CaptionPlacer {
    /// Starts with a canvas of `size` and the boxes of its faces.
    pub fn new(size: Size, faces: &[Rectangle]) -> CaptionPlacer {
        CaptionPlacer { whole: Rectangle::new(Point::zero(), size), covered: faces.to_vec() }
    }

    fn cost(&self, place: &Rectangle) -> u64 {
        self.covered.iter().map(|other| shared_area(place, other)).sum()
    }

    fn fits(&self, place: &Rectangle) -> bool {
        place.intersection(&self.whole) == *place && self.cost(place) == 0
    }

    /// Returns a free place for a block beside a face: right, left, below or above.
    pub fn beside(&self, face: &Rectangle, block: Size) -> Option<Rectangle> {
        let (left, top) = (face.top_left.x, face.top_left.y);
        let (right, below) = (left + face.size.width as i32 + 2, top + face.size.height as i32 + 2);
        let (width, height) = (block.width as i32, block.height as i32);
        let corners = [(right, top), (left - width - 2, top), (left, below), (left, top - height - 2)];
        corners.into_iter().map(|(x, y)| Rectangle::new(Point::new(x, y), block)).find(|place| self.fits(place))
    }

    /// Returns the corner of the picture where a block covers the least; bottom left among equals.
    pub fn corner(&self, block: Size) -> Rectangle {
        let room = self.whole.size.saturating_sub(block);
        let (x, y) = (room.width as i32, room.height as i32);
        let place = |(x, y)| Rectangle::new(Point::new(x, y), block);
        let mut best = place((0, y));
        for other in [(x, y), (0, 0), (x, 0)].map(place) {
            if self.cost(&other) < self.cost(&best) {
                best = other;
            }
        }
        best
    }

    /// Reserves a place, so that no further caption covers it.
    pub fn take(&mut self, place: Rectangle) {
        self.covered.push(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faceptor::stages::{Picture, Pixels};

    #[test]
    fn letters_scale_with_the_height() {
        let height = |asked| TextLayout::of_height(asked).character().height;
        assert_eq!([0, 9, 12, 15, 28, 100].map(height), [10, 10, 10, 15, 30, 105]);
        assert_eq!(TextLayout::of_height(60).smaller().character().height, 30);
    }

    #[test]
    fn caption_takes_a_free_side_and_covers_no_other() {
        let boxes = [(500, 100), (350, 100)].map(|(x, y)| Rectangle::new(Point::new(x, y), Size::new(100, 120)));
        let mut placer = CaptionPlacer::new(Size::new(640, 480), &boxes);
        let block = Size::new(112, 49);
        // The right face is too near the edge and has a neighbour on its left; the place below is free.
        let first = placer.beside(&boxes[0], block).expect("there is room");
        assert_eq!(first.top_left, Point::new(500, 222));
        placer.take(first);
        let second = placer.beside(&boxes[1], block).expect("there is room");
        assert!(second.top_left.x < 350 && shared_area(&first, &second) == 0);
        // A face that fills the picture leaves the corner where less of it is covered.
        let large = Rectangle::new(Point::new(0, 0), Size::new(640, 440));
        let placer = CaptionPlacer::new(Size::new(640, 480), &[large]);
        assert_eq!(placer.beside(&large, block), None);
        assert_eq!(placer.corner(block).top_left, Point::new(0, 431));
        assert_eq!(placer.corner(Size::new(1000, 1000)).top_left, Point::zero());
    }

    #[test]
    fn letters_are_drawn_inside_their_block() {
        let mut canvas = Canvas::new(Picture::filled(100, 40, [200; 3]));
        let text_layout = TextLayout::of_height(10);
        let lines = ["31 y \u{b1}5".to_owned()];
        let Ok(()) = text_layout.draw(&mut canvas, &lines, Point::new(5, 5));
        let picture = canvas.into_picture();
        let block = text_layout.block(&lines);
        let white = (0..4000).filter(|i| picture.rgb(i % 100, i / 100) == [255; 3]).count();
        assert!(white > 40, "{white} white pixels");
        let outside = |i: &usize| i % 100 < 5 || i % 100 >= 5 + block.width as usize || i / 100 >= 20;
        assert!((0..4000).filter(outside).all(|i| picture.rgb(i % 100, i / 100) == [200; 3]));
    }
}
