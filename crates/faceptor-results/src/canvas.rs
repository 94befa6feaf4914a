//! An RGB picture as a draw target of `embedded-graphics`, with magnified and translucent drawing.

use std::convert::Infallible;

use embedded_graphics::Pixel;
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::prelude::{DrawTarget, OriginDimensions, Point, Size};
use embedded_graphics::primitives::Rectangle;

use faceptor::stages::{Picture, Pixels};

/// A picture to draw on. Pixels outside it are ignored.
pub struct Canvas {
    picture: Picture,
}

impl Canvas {
    /// Draws on `picture` itself.
    pub fn new(picture: Picture) -> Canvas {
        Canvas { picture }
    }

    /// Returns the picture.
    pub fn picture(&self) -> &Picture {
        &self.picture
    }

    /// Returns the picture, to be replaced or changed.
    pub fn picture_mut(&mut self) -> &mut Picture {
        &mut self.picture
    }

    /// Returns the finished picture.
    pub fn into_picture(self) -> Picture {
        self.picture
    }

    /// Blends a colour into one pixel. `share`: weight of the colour, 0 to 256.
    pub fn blend(&mut self, x: usize, y: usize, colour: Rgb888, share: u32) {
        let (width, height) = (self.picture.width(), self.picture.height());
        if x >= width || y >= height {
            return;
        }
        let pixel = &mut self.picture.bytes_mut()[(y * width + x) * 3..][..3];
        for (value, new) in pixel.iter_mut().zip([colour.r(), colour.g(), colour.b()]) {
            *value = ((u32::from(*value) * (256 - share) + u32::from(new) * share) >> 8) as u8;
        }
    }

    /// Blends a colour into a rectangle, like [`Canvas::blend`].
    pub fn blend_rectangle(&mut self, area: Rectangle, colour: Rgb888, share: u32) {
        let (width, height) = (self.picture.width() as i64, self.picture.height() as i64);
        let clip = |from: i32, length: u32, limit: i64| {
            let end = (i64::from(from) + i64::from(length)).clamp(0, limit);
            (i64::from(from).clamp(0, limit) as usize, end as usize)
        };
        let (left, right) = clip(area.top_left.x, area.size.width, width);
        let (top, bottom) = clip(area.top_left.y, area.size.height, height);
        for y in top..bottom {
            for x in left..right {
                self.blend(x, y, colour, share);
            }
        }
    }
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(self.picture.width() as u32, self.picture.height() as u32)
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(Point { x, y }, colour) in pixels {
            if let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) {
                self.blend(x, y, colour, 256);
            }
        }
        Ok(())
    }
}

/// Draws each pixel as a square of `factor` pixels, relative to `origin`: bitmap fonts for large pictures.
pub struct Magnified<'a> {
    pub canvas: &'a mut Canvas,
    pub origin: Point,
    pub factor: u32,
}

impl OriginDimensions for Magnified<'_> {
    fn size(&self) -> Size {
        self.canvas.size() / self.factor
    }
}

impl DrawTarget for Magnified<'_> {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(point, colour) in pixels {
            let corner = self.origin + point * self.factor as i32;
            let square = Rectangle::new(corner, Size::new_equal(self.factor));
            self.canvas.blend_rectangle(square, colour, 256);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawing_outside_is_ignored() -> Result<(), Infallible> {
        let mut canvas = Canvas::new(Picture::filled(4, 3, [0; 3]));
        let points = [(-1, 0), (0, -1), (4, 0), (0, 3), (i32::MAX, 5), (2, 1)];
        canvas.draw_iter(points.map(|(x, y)| Pixel(Point::new(x, y), Rgb888::WHITE)))?;
        canvas.blend_rectangle(Rectangle::new(Point::new(-5, -5), Size::new(6, 6)), Rgb888::RED, 128);
        let picture = canvas.into_picture();
        assert_eq!((picture.rgb(2, 1), picture.rgb(0, 0), picture.rgb(1, 1)), ([255; 3], [127, 0, 0], [0; 3]));
        Ok(())
    }

    #[test]
    fn magnified_pixels_are_squares() -> Result<(), Infallible> {
        let mut canvas = Canvas::new(Picture::filled(10, 10, [0; 3]));
        let mut large = Magnified { canvas: &mut canvas, origin: Point::new(2, 3), factor: 2 };
        large.draw_iter([Pixel(Point::new(1, 1), Rgb888::WHITE)])?;
        let picture = canvas.into_picture();
        let white: Vec<_> =
            (0..100).filter(|i| picture.rgb(i % 10, i / 10) == [255; 3]).map(|i| (i % 10, i / 10)).collect();
        assert_eq!(white, [(4, 5), (5, 5), (4, 6), (5, 6)]);
        Ok(())
    }
}
