//! Scales a region of a frame to a half, a quarter or an eighth, for faces that cover many more pixels than the
//! network has.

use crate::image::colour::Matrix;
use crate::image::picture::Pixels;
use crate::image::view::{ImageView, each_format};

/// Maximum number of halvings: eight pixels to one, along each side.
pub const MAX_HALVINGS: u32 = 3;

/// Pixels read along each side of larger blocks, evenly spread: the cost of a large face has a bound.
const MAX_READ: usize = 2;

/// The means of blocks of pixels, in the frame's own colour encoding; reuses its memory for every face.
#[derive(Clone, Debug, Default)]
pub struct Downscaled {
    width: usize,
    height: usize,
    halvings: u32,
    /// The top-left pixel of the region, in pixels of the frame.
    origin: [usize; 2],
    /// Sums of the current row of blocks.
    sums: Vec<u16>,
    /// Three values a pixel: RGB, or Y, U, V.
    bytes: Vec<u8>,
    /// `None` when the bytes are RGB.
    matrix: Option<&'static Matrix>,
}

/// A region of a frame in pixels, `left..right`, `top..bottom`; the part outside the frame is ignored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Region {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

impl Downscaled {
    /// Allocates for regions of that many frame pixels, so that scaling them allocates nothing.
    pub fn with_capacity(width: usize, height: usize) -> Downscaled {
        let blocks = |side: usize| side.div_ceil(2) + 1;
        Downscaled {
            sums: Vec::with_capacity(3 * blocks(width)),
            bytes: Vec::with_capacity(3 * blocks(width) * blocks(height)),
            ..Downscaled::default()
        }
    }

    /// Scales the region of the frame, halved 1 to 3 times. Blocks begin at multiples of their size; those at the
    /// right and lower edge are the means of the pixels that exist.
    pub fn fill(&mut self, view: &ImageView, part: Region, halvings: u32) {
        let halvings = halvings.clamp(1, MAX_HALVINGS);
        let block = 1 << halvings;
        // From the block of the first pixel to the one after the last, and at least one.
        let range = |from: f64, to: f64, side: usize| {
            let last = side.div_ceil(block);
            let first = ((from.max(0.0) as usize) / block).min(last - 1);
            (first, (to.max(0.0).ceil() as usize).div_ceil(block).clamp(first + 1, last))
        };
        let (left, right) = range(part.left, part.right, view.width());
        let (top, bottom) = range(part.top, part.bottom, view.height());
        (self.width, self.height, self.halvings) = (right - left, bottom - top, halvings);
        self.origin = [left * block, top * block];
        self.bytes.resize(self.width * self.height * 3, 0);
        self.matrix = view.format().is_yuv().then(|| view.colour().matrix());
        each_format!(view, pixels => self.shrink(pixels));
    }

    fn shrink(&mut self, pixels: &impl Pixels) {
        let block = 1usize << self.halvings;
        let stride = (block / MAX_READ).max(1);
        let [left, top] = self.origin;
        let right = (left + self.width * block).min(pixels.width());
        // Of a block that ends at `end`: evenly spread, and at least one.
        let read = |first: usize, end: usize| ((first + (stride - 1) / 2).min(end - 1)..end).step_by(stride);
        for (row, out) in self.bytes.chunks_exact_mut(self.width * 3).enumerate() {
            self.sums.clear();
            self.sums.resize(self.width * 3, 0);
            let first = top + row * block;
            let rows = read(first, (first + block).min(pixels.height()));
            for y in rows.clone() {
                // A few values up to 255 fit into 16 bits.
                for (sums, x) in self.sums.as_chunks_mut::<3>().0.iter_mut().zip((left..right).step_by(block)) {
                    for x in read(x, (x + block).min(right)) {
                        let stored = pixels.stored(x, y);
                        (0..3).for_each(|c| sums[c] += u16::from(stored[c]));
                    }
                }
            }
            for (index, (out, sums)) in
                out.as_chunks_mut::<3>().0.iter_mut().zip(self.sums.as_chunks::<3>().0.iter()).enumerate()
            {
                let x = left + index * block;
                let count = (read(x, (x + block).min(right)).len() * rows.len()) as u16;
                (0..3).for_each(|c| out[c] = ((sums[c] + count / 2) / count) as u8);
            }
        }
    }

    /// Returns the mapping of a frame's point to this image: `scale * v + offset` for each coordinate (x, y), with
    /// pixel centres at integers in both.
    pub fn place(&self) -> (f64, [f64; 2]) {
        let scale = 1.0 / f64::from(1u32 << self.halvings);
        (scale, self.origin.map(|origin| (0.5 - origin as f64) * scale - 0.5))
    }
}

impl Pixels for Downscaled {
    #[inline]
    fn width(&self) -> usize {
        self.width
    }

    #[inline]
    fn height(&self) -> usize {
        self.height
    }

    #[inline]
    fn rgb(&self, x: usize, y: usize) -> [u8; 3] {
        let stored = self.stored(x, y);
        self.matrix.map_or(stored, |matrix| matrix.rgb(stored))
    }

    #[inline]
    fn stored(&self, x: usize, y: usize) -> [u8; 3] {
        let at = (y * self.width + x) * 3;
        let pixel = &self.bytes[at..at + 3];
        [pixel[0], pixel[1], pixel[2]]
    }

    #[inline]
    fn mean_rgb(&self, mean: [f32; 3]) -> [f32; 3] {
        self.matrix.map_or(mean, |matrix| matrix.mean_rgb(mean))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::colour::Colour;
    use crate::image::picture::Picture;
    use crate::image::view::PixelFormat;

    const ALL: Region = Region { left: 0.0, top: 0.0, right: 1e9, bottom: 1e9 };

    /// Returns a picture whose red is the column and whose green is the row.
    fn ramp(width: usize, height: usize) -> Picture {
        let bytes = (0..height * width).flat_map(|i| [(i % width) as u8, (i / width) as u8, 7]).collect();
        Picture::from_rgb(width, height, bytes).expect("three bytes a pixel")
    }

    #[test]
    fn blocks_are_averaged_and_the_edge_is_the_mean_of_what_there_is() {
        let picture = ramp(7, 5);
        let mut small = Downscaled::default();
        small.fill(&picture.view(), ALL, 1);
        assert_eq!((small.width(), small.height()), (4, 3));
        // Columns 0 and 1 have the mean 0.5, which is rounded up; the last block is column 6 alone.
        assert_eq!((small.rgb(0, 0), small.rgb(1, 1), small.rgb(3, 2)), ([1, 1, 7], [3, 3, 7], [6, 4, 7]));
        small.fill(&picture.view(), ALL, 9);
        // In a block of 8 x 8, columns 1 and 5 and row 1 are read: row 5 does not exist.
        assert_eq!((small.width(), small.height(), small.rgb(0, 0)), (1, 1, [3, 1, 7]));
    }

    #[test]
    fn a_part_lies_where_it_says() {
        let picture = ramp(200, 160);
        let mut small = Downscaled::with_capacity(200, 160);
        let room = small.bytes.capacity();
        for (part, halvings) in [
            (Region { left: 33.0, top: 17.0, right: 150.0, bottom: 99.5 }, 1),
            (Region { left: -40.0, top: 60.0, right: 77.0, bottom: 500.0 }, 2),
            (Region { left: 90.0, top: 30.0, right: 130.0, bottom: 70.0 }, 3),
        ] {
            small.fill(&picture.view(), part, halvings);
            let (scale, [x0, y0]) = small.place();
            for point in [[part.left.max(0.0), part.top], [100.0, 65.0]] {
                let (x, y) = (scale * point[0] + x0, scale * point[1] + y0);
                let (x, y) = (x.round().max(0.0) as usize, y.round().max(0.0) as usize);
                if x >= small.width() || y >= small.height() {
                    continue;
                }
                let rgb = small.rgb(x, y);
                let tolerance = 1.0 + f64::from(1u32 << halvings) / 2.0;
                assert!((f64::from(rgb[0]) - point[0]).abs() <= tolerance, "{part:?}: {rgb:?} at {point:?}");
                assert!((f64::from(rgb[1]) - point[1]).abs() <= tolerance, "{part:?}: {rgb:?} at {point:?}");
            }
        }
        assert_eq!(small.bytes.capacity(), room, "nothing was allocated");
    }

    #[test]
    fn parts_outside_of_the_frame_have_a_pixel_all_the_same() {
        let mut small = Downscaled::default();
        for part in [
            Region { left: 900.0, top: 900.0, right: 950.0, bottom: 950.0 },
            Region { left: -90.0, top: -90.0, right: -50.0, bottom: -50.0 },
            Region { left: f64::NAN, top: f64::NAN, right: f64::NAN, bottom: f64::NAN },
            Region { left: 5.0, top: 5.0, right: 1.0, bottom: 1.0 },
        ] {
            small.fill(&ramp(20, 10).view(), part, 1);
            assert!(small.width() >= 1 && small.height() >= 1, "{part:?}");
        }
    }

    #[test]
    fn yuv_is_averaged_as_it_is_stored_and_converted_once() {
        let bytes: Vec<u8> = [[100, 128, 110, 148], [120, 128, 130, 148]].concat();
        let view = ImageView::new(PixelFormat::Yuyv, Colour::Bt601Full, [2, 2], 4, &bytes).expect("8 bytes");
        let mut small = Downscaled::default();
        small.fill(&view, ALL, 1);
        assert_eq!(small.stored(0, 0), [115, 128, 148]);
        assert_eq!(small.rgb(0, 0), Colour::Bt601Full.matrix().rgb([115, 128, 148]));
    }
}
