//! Reads single pixels of each frame format. An `ImageView` has checked that its bytes suffice for its size.

use crate::image::colour::Matrix;
use crate::image::picture::Pixels;
use crate::image::view::ImageView;

/// Size, rows and bytes of a view.
#[derive(Clone, Copy, Debug)]
struct Rows<'a> {
    width: usize,
    height: usize,
    stride: usize,
    bytes: &'a [u8],
}

impl<'a> Rows<'a> {
    fn new(view: &ImageView<'a>) -> Rows<'a> {
        Rows { width: view.width(), height: view.height(), stride: view.stride(), bytes: view.bytes() }
    }
}

/// Implements the size of a frame, and the conversion to RGB of a YUV frame.
macro_rules! pixels {
    () => {
        #[inline]
        fn width(&self) -> usize {
            self.rows.width
        }

        #[inline]
        fn height(&self) -> usize {
            self.rows.height
        }
    };
    (yuv) => {
        pixels!();

        #[inline]
        fn rgb(&self, x: usize, y: usize) -> [u8; 3] {
            self.matrix.rgb(self.stored(x, y))
        }

        #[inline]
        fn mean_rgb(&self, mean: [f32; 3]) -> [f32; 3] {
            self.matrix.mean_rgb(mean)
        }
    };
}

/// Red, green, blue.
#[derive(Clone, Copy, Debug)]
pub struct Rgb<'a> {
    rows: Rows<'a>,
}

impl<'a> Rgb<'a> {
    pub(crate) fn new(view: &ImageView<'a>) -> Rgb<'a> {
        Rgb { rows: Rows::new(view) }
    }
}

impl Pixels for Rgb<'_> {
    pixels!();

    #[inline]
    fn rgb(&self, x: usize, y: usize) -> [u8; 3] {
        let at = y * self.rows.stride + x * 3;
        let pixel = &self.rows.bytes[at..at + 3];
        [pixel[0], pixel[1], pixel[2]]
    }
}

/// Two pixels in four bytes; `LUMA` is the index of the first Y: 0 for YUYV, 1 for UYVY.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a, const LUMA: usize> {
    rows: Rows<'a>,
    matrix: &'static Matrix,
}

impl<'a, const LUMA: usize> Packed<'a, LUMA> {
    pub(crate) fn new(view: &ImageView<'a>) -> Packed<'a, LUMA> {
        Packed { rows: Rows::new(view), matrix: view.colour().matrix() }
    }
}

impl<const LUMA: usize> Pixels for Packed<'_, LUMA> {
    pixels!(yuv);

    #[inline]
    fn stored(&self, x: usize, y: usize) -> [u8; 3] {
        let at = y * self.rows.stride + x / 2 * 4;
        let pair = &self.rows.bytes[at..at + 4];
        [pair[LUMA + 2 * (x & 1)], pair[1 - LUMA], pair[3 - LUMA]]
    }
}

/// A plane of Y and one of U V pairs.
#[derive(Clone, Copy, Debug)]
pub struct Nv12<'a> {
    rows: Rows<'a>,
    chroma: &'a [u8],
    matrix: &'static Matrix,
}

impl<'a> Nv12<'a> {
    pub(crate) fn new(view: &ImageView<'a>) -> Nv12<'a> {
        let chroma = &view.bytes()[view.stride() * view.height()..];
        Nv12 { rows: Rows::new(view), chroma, matrix: view.colour().matrix() }
    }
}

impl Pixels for Nv12<'_> {
    pixels!(yuv);

    #[inline]
    fn stored(&self, x: usize, y: usize) -> [u8; 3] {
        let at = y / 2 * self.rows.stride + x / 2 * 2;
        let pair = &self.chroma[at..at + 2];
        [self.rows.bytes[y * self.rows.stride + x], pair[0], pair[1]]
    }
}

/// Three planes; U and V are halved `ACROSS` and `DOWN` times.
#[derive(Clone, Copy, Debug)]
pub struct Planar<'a, const ACROSS: u32, const DOWN: u32> {
    rows: Rows<'a>,
    u: &'a [u8],
    v: &'a [u8],
    /// Bytes from one row of U or V to the next.
    stride: usize,
    matrix: &'static Matrix,
}

impl<'a, const ACROSS: u32, const DOWN: u32> Planar<'a, ACROSS, DOWN> {
    pub(crate) fn new(view: &ImageView<'a>) -> Planar<'a, ACROSS, DOWN> {
        let stride = view.stride().div_ceil(1 << ACROSS);
        let (luma, chroma) = (view.stride() * view.height(), stride * view.height().div_ceil(1 << DOWN));
        let (u, v) = view.bytes()[luma..].split_at(chroma);
        Planar { rows: Rows::new(view), u, v, stride, matrix: view.colour().matrix() }
    }
}

impl<const ACROSS: u32, const DOWN: u32> Pixels for Planar<'_, ACROSS, DOWN> {
    pixels!(yuv);

    #[inline]
    fn stored(&self, x: usize, y: usize) -> [u8; 3] {
        let at = (y >> DOWN) * self.stride + (x >> ACROSS);
        [self.rows.bytes[y * self.rows.stride + x], self.u[at], self.v[at]]
    }
}

/// Luma without colour.
#[derive(Clone, Copy, Debug)]
pub struct Grey<'a> {
    rows: Rows<'a>,
    matrix: &'static Matrix,
}

impl<'a> Grey<'a> {
    pub(crate) fn new(view: &ImageView<'a>) -> Grey<'a> {
        Grey { rows: Rows::new(view), matrix: view.colour().matrix() }
    }
}

impl Pixels for Grey<'_> {
    pixels!(yuv);

    #[inline]
    fn stored(&self, x: usize, y: usize) -> [u8; 3] {
        [self.rows.bytes[y * self.rows.stride + x], 128, 128]
    }
}
