//! An RGB picture in memory, and the access to pixels that the later stages need from any source.

use std::cell::OnceCell;

/// Pixels that can be read as RGB without a copy of the whole frame.
///
/// The detector's input and the face crops are sampled through this trait, so that a camera's own format (YUYV, NV12)
/// needs no conversion. `rgb` may be called for `x < width`, `y < height` only.
pub trait Pixels {
    /// Returns the width in pixels, at least 1.
    fn width(&self) -> usize;
    /// Returns the height in pixels, at least 1.
    fn height(&self) -> usize;
    /// Returns red, green and blue of one pixel, 0..255.
    fn rgb(&self, x: usize, y: usize) -> [u8; 3];

    /// Returns one pixel as it is stored: RGB, or a camera's Y, U, V. Means of stored pixels are converted by
    /// `mean_rgb`, so that a network pixel is converted once in place of each of its samples.
    #[inline]
    fn stored(&self, x: usize, y: usize) -> [u8; 3] {
        self.rgb(x, y)
    }

    /// Converts a mean of stored pixels to red, green and blue, 0..255.
    #[inline]
    fn mean_rgb(&self, mean: [f32; 3]) -> [f32; 3] {
        mean
    }
}

/// An RGB picture, 8 bits a channel, rows without padding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Picture {
    /// Creates a picture of one colour.
    pub fn filled(width: usize, height: usize, colour: [u8; 3]) -> Picture {
        let rgb = colour.iter().copied().cycle().take(width * height * 3).collect();
        Picture { width, height, rgb }
    }

    /// Takes `width * height * 3` bytes; returns `None` for any other length.
    pub fn from_rgb(width: usize, height: usize, rgb: Vec<u8>) -> Option<Picture> {
        let expected = width.checked_mul(height)?.checked_mul(3)?;
        (rgb.len() == expected).then_some(Picture { width, height, rgb })
    }

    /// Sets the size to `width` x `height` pixels with unspecified content; reuses the memory.
    pub fn reshape(&mut self, width: usize, height: usize) {
        (self.width, self.height) = (width, height);
        self.rgb.resize(width * height * 3, 0);
    }

    /// Does the same, but returns false when the memory does not suffice.
    pub(crate) fn try_reshape(&mut self, width: usize, height: usize) -> bool {
        let Some(length) = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3)) else { return false };
        let more = length.saturating_sub(self.rgb.len());
        if self.rgb.try_reserve_exact(more).is_err() {
            return false;
        }
        self.reshape(width, height);
        true
    }

    /// Returns the bytes, row by row, three a pixel.
    pub fn bytes(&self) -> &[u8] {
        &self.rgb
    }

    /// Returns the bytes without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.rgb
    }

    /// Returns the bytes for writing.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.rgb
    }

    /// Returns the picture at half the size, each pixel the mean of a 2x2 block. An odd last row or column is
    /// repeated, so that pixel `x` of the result always covers pixels `2x` and `2x + 1`.
    pub fn halved(&self) -> Picture {
        let (width, height) = (self.width.div_ceil(2), self.height.div_ceil(2));
        let mut rgb = Vec::with_capacity(width * height * 3);
        let stride = self.width * 3;
        for y in 0..height {
            let top = &self.rgb[2 * y * stride..][..stride];
            let below = &self.rgb[(2 * y + 1).min(self.height - 1) * stride..][..stride];
            for x in 0..width {
                let left = 6 * x;
                let right = (2 * x + 1).min(self.width - 1) * 3;
                for c in 0..3 {
                    let sum = u16::from(top[left + c])
                        + u16::from(top[right + c])
                        + u16::from(below[left + c])
                        + u16::from(below[right + c]);
                    rgb.push(((sum + 2) / 4) as u8);
                }
            }
        }
        Picture { width, height, rgb }
    }
}

impl Pixels for Picture {
    fn width(&self) -> usize {
        self.width
    }

    fn height(&self) -> usize {
        self.height
    }

    #[inline]
    fn rgb(&self, x: usize, y: usize) -> [u8; 3] {
        let at = (y * self.width + x) * 3;
        let pixel = &self.rgb[at..at + 3];
        [pixel[0], pixel[1], pixel[2]]
    }
}

/// Maximum number of pyramid levels: 2^8 scales the largest accepted photo below the network's input.
const LEVELS: usize = 9;

/// A photo with its halved copies, each made when a large face first needs it.
pub struct Pyramid<'a> {
    base: &'a Picture,
    halved: [OnceCell<Picture>; LEVELS - 1],
}

impl<'a> Pyramid<'a> {
    /// Creates a pyramid; no copy is made yet.
    pub fn new(base: &'a Picture) -> Pyramid<'a> {
        Pyramid { base, halved: Default::default() }
    }

    /// Returns the picture halved `level` times, and the actual level: the last one that exists. Pixel centre `x` of
    /// the base lies at `(x + 0.5) / 2^level - 0.5` in it.
    pub fn level(&self, level: usize) -> (&Picture, usize) {
        let level = level.min(LEVELS - 1);
        let mut picture = self.base;
        for (done, cell) in self.halved.iter().enumerate().take(level) {
            if picture.width == 1 && picture.height == 1 {
                return (picture, done);
            }
            picture = cell.get_or_init(|| picture.halved());
        }
        (picture, level)
    }
}

#[cfg(test)]
impl Picture {
    /// Returns a picture whose red is the column and whose green is the row.
    pub(crate) fn ramp(width: usize, height: usize) -> Picture {
        let bytes = (0..height * width).flat_map(|i| [(i % width) as u8, (i / width) as u8, 200]).collect();
        Picture::from_rgb(width, height, bytes).expect("three bytes a pixel")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halving_averages_blocks_and_repeats_the_odd_edge() {
        let bytes = vec![0, 0, 0, 10, 20, 30, 100, 100, 100, 2, 4, 6, 4, 8, 12, 200, 200, 200];
        let picture = Picture::from_rgb(3, 2, bytes).expect("18 bytes are 3 x 2 pixels");
        let half = picture.halved();
        assert_eq!((half.width(), half.height()), (2, 1));
        assert_eq!(half.rgb(0, 0), [4, 8, 12]);
        assert_eq!(half.rgb(1, 0), [150, 150, 150]);
    }

    #[test]
    fn a_wrong_length_is_refused() {
        assert!(Picture::from_rgb(2, 2, vec![0; 11]).is_none());
        assert!(Picture::from_rgb(usize::MAX, 2, vec![]).is_none());
    }

    #[test]
    fn the_pyramid_ends_at_one_pixel() {
        let picture = Picture::filled(5, 3, [7, 8, 9]);
        let pyramid = Pyramid::new(&picture);
        let (last, level) = pyramid.level(8);
        assert_eq!((last.width(), last.height(), level), (1, 1, 3));
        assert_eq!(last.rgb(0, 0), [7, 8, 9]);
        assert_eq!(pyramid.level(1).0.width(), 3);
    }
}
