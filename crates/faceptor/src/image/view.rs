//! A borrowed view of a frame in the pixel format in which it arrived.

use crate::image::colour::Colour;
use crate::image::formats::{Grey, Nv12, Packed, Planar, Rgb};
use crate::image::picture::{Picture, Pixels};

/// `each_format!(view, pixels => expression)`: compiles the expression once for each pixel format, with `pixels` a
/// reference to a `Pixels` that reads the view.
macro_rules! each_format {
    ($view:expr, $pixels:ident => $body:expr) => {
        match &$view.sampler() {
            $crate::image::view::Sampler::Rgb($pixels) => $body,
            $crate::image::view::Sampler::Yuyv($pixels) => $body,
            $crate::image::view::Sampler::Uyvy($pixels) => $body,
            $crate::image::view::Sampler::Nv12($pixels) => $body,
            $crate::image::view::Sampler::I420($pixels) => $body,
            $crate::image::view::Sampler::I422($pixels) => $body,
            $crate::image::view::Sampler::I444($pixels) => $body,
            $crate::image::view::Sampler::Grey($pixels) => $body,
        }
    };
}
pub(crate) use each_format;

/// The layout of a frame's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelFormat {
    /// Red, green, blue, a byte each.
    Rgb24,
    /// Two pixels in four bytes: Y U Y V.
    Yuyv,
    /// Two pixels in four bytes: U Y V Y.
    Uyvy,
    /// A plane of Y, then one of U V pairs of half the width and height; both planes have the same stride.
    Nv12,
    /// Planes Y, U, V; U and V have half the width, height and stride.
    I420,
    /// Planes Y, U, V; U and V have half the width and stride.
    I422,
    /// Planes Y, U, V of the same size.
    I444,
    /// Y only.
    Grey,
}

impl PixelFormat {
    /// Returns the minimum number of bytes in a row (of the first plane) of `width` pixels.
    pub fn row_bytes(self, width: usize) -> usize {
        match self {
            PixelFormat::Rgb24 => width.saturating_mul(3),
            PixelFormat::Yuyv | PixelFormat::Uyvy => width.div_ceil(2).saturating_mul(4),
            PixelFormat::Nv12 => width.div_ceil(2).saturating_mul(2),
            PixelFormat::I420 | PixelFormat::I422 | PixelFormat::I444 | PixelFormat::Grey => width,
        }
    }

    /// Returns the number of bytes of a frame whose rows lie `stride` bytes apart.
    pub fn frame_bytes(self, stride: usize, height: usize) -> usize {
        let luma = stride.saturating_mul(height);
        let half = stride.div_ceil(2);
        let chroma = match self {
            PixelFormat::Rgb24 | PixelFormat::Yuyv | PixelFormat::Uyvy | PixelFormat::Grey => 0,
            PixelFormat::Nv12 => stride.saturating_mul(height.div_ceil(2)),
            PixelFormat::I420 => half.saturating_mul(height.div_ceil(2)).saturating_mul(2),
            PixelFormat::I422 => half.saturating_mul(height).saturating_mul(2),
            PixelFormat::I444 => luma.saturating_mul(2),
        };
        luma.saturating_add(chroma)
    }

    /// Returns true if stored pixels are Y, U, V.
    pub fn is_yuv(self) -> bool {
        self != PixelFormat::Rgb24
    }

    /// Returns the format's fourcc, as V4L2 users know it.
    pub fn fourcc(self) -> &'static str {
        match self {
            PixelFormat::Rgb24 => "RGB3",
            PixelFormat::Yuyv => "YUYV",
            PixelFormat::Uyvy => "UYVY",
            PixelFormat::Nv12 => "NV12",
            PixelFormat::I420 => "YU12",
            PixelFormat::I422 => "422P",
            PixelFormat::I444 => "444P",
            PixelFormat::Grey => "GREY",
        }
    }
}

/// A borrowed frame, for example a camera's buffer or a decoded photo.
///
/// Pixels are converted when they are read: `each_format!` gives access to them as a [`Pixels`] of the frame's own
/// type, so that an inner loop is compiled once for each format.
#[derive(Clone, Copy, Debug)]
pub struct ImageView<'a> {
    format: PixelFormat,
    colour: Colour,
    width: usize,
    height: usize,
    stride: usize,
    bytes: &'a [u8],
}

/// The error for a frame with fewer bytes than its format and size need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {width} x {height} frame in {} with rows of {stride} bytes needs {needed} bytes, not {given}", format.fourcc())]
pub struct ShortFrame {
    pub format: PixelFormat,
    pub width: usize,
    pub height: usize,
    pub stride: usize,
    pub needed: usize,
    pub given: usize,
}

impl<'a> ImageView<'a> {
    /// Creates a view. `stride` is the number of bytes from one row of the first plane to the next; the other planes
    /// follow without a gap.
    ///
    /// # Errors
    /// Fails if the frame has no pixels, a row does not fit the stride, or `bytes` is shorter than the frame. (Longer
    /// is allowed: drivers round their buffers up.)
    pub fn new(
        format: PixelFormat,
        colour: Colour,
        [width, height]: [usize; 2],
        stride: usize,
        bytes: &'a [u8],
    ) -> Result<ImageView<'a>, ShortFrame> {
        let needed = format.frame_bytes(stride.max(format.row_bytes(width)), height);
        if width == 0 || height == 0 || stride < format.row_bytes(width) || bytes.len() < needed {
            return Err(ShortFrame { format, width, height, stride, needed, given: bytes.len() });
        }
        Ok(ImageView { format, colour, width, height, stride, bytes: &bytes[..needed] })
    }

    /// Returns a view of one black pixel, the content of a source before its first frame.
    pub fn blank() -> ImageView<'static> {
        let (format, colour) = (PixelFormat::Grey, Colour::Bt601Full);
        ImageView { format, colour, width: 1, height: 1, stride: 1, bytes: &[0] }
    }

    pub fn format(&self) -> PixelFormat {
        self.format
    }

    pub fn colour(&self) -> Colour {
        self.colour
    }

    /// Returns the width in pixels, at least 1.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Returns the height in pixels, at least 1.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Returns the number of bytes from one row of the first plane to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Returns all planes, exactly as many bytes as the frame has.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns access to the pixels in the frame's own format: a `match` on it is the only branch outside a loop over
    /// pixels.
    pub fn sampler(&self) -> Sampler<'a> {
        match self.format {
            PixelFormat::Rgb24 => Sampler::Rgb(Rgb::new(self)),
            PixelFormat::Yuyv => Sampler::Yuyv(Packed::new(self)),
            PixelFormat::Uyvy => Sampler::Uyvy(Packed::new(self)),
            PixelFormat::Nv12 => Sampler::Nv12(Nv12::new(self)),
            PixelFormat::I420 => Sampler::I420(Planar::new(self)),
            PixelFormat::I422 => Sampler::I422(Planar::new(self)),
            PixelFormat::I444 => Sampler::I444(Planar::new(self)),
            PixelFormat::Grey => Sampler::Grey(Grey::new(self)),
        }
    }

    /// Converts the whole frame to RGB, into a picture whose memory is reused. It serves display only: the network's
    /// inputs are sampled straight from the view.
    pub fn to_picture(&self, picture: &mut Picture) {
        picture.reshape(self.width, self.height);
        each_format!(self, pixels => {
            for (y, row) in picture.bytes_mut().chunks_exact_mut(self.width * 3).enumerate() {
                for (x, pixel) in row.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                    pixel.copy_from_slice(&pixels.rgb(x, y));
                }
            }
        });
    }
}

/// Access to the pixels of an [`ImageView`], one variant for each format.
#[derive(Clone, Copy, Debug)]
pub enum Sampler<'a> {
    Rgb(Rgb<'a>),
    Yuyv(Packed<'a, 0>),
    Uyvy(Packed<'a, 1>),
    Nv12(Nv12<'a>),
    I420(Planar<'a, 1, 1>),
    I422(Planar<'a, 1, 0>),
    I444(Planar<'a, 0, 0>),
    Grey(Grey<'a>),
}

impl Picture {
    /// Returns a view of the picture, without a copy. A picture without pixels is shown as one black pixel.
    pub fn view(&self) -> ImageView<'_> {
        let size = [self.width(), self.height()];
        ImageView::new(PixelFormat::Rgb24, Colour::default(), size, size[0] * 3, self.bytes())
            .unwrap_or(ImageView::blank())
    }
}

/// An owned copy of a frame in its own format; reuses its memory.
#[derive(Clone, Debug, Default)]
pub struct OwnedFrame {
    bytes: Vec<u8>,
    shape: Option<(PixelFormat, Colour, [usize; 2], usize)>,
}

impl OwnedFrame {
    /// Allocates for frames of that many bytes, so that copying them allocates nothing.
    pub fn with_capacity(bytes: usize) -> OwnedFrame {
        OwnedFrame { bytes: Vec::with_capacity(bytes), shape: None }
    }

    /// Copies the frame.
    pub fn copy_from(&mut self, view: &ImageView) {
        self.bytes.clear();
        self.bytes.extend_from_slice(view.bytes);
        self.shape = Some((view.format, view.colour, [view.width, view.height], view.stride));
    }

    /// Returns a view of the last copied frame, or of one black pixel before the first.
    pub fn view(&self) -> ImageView<'_> {
        let Some((format, colour, size, stride)) = self.shape else { return ImageView::blank() };
        ImageView::new(format, colour, size, stride, &self.bytes).unwrap_or(ImageView::blank())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Converts a 4 x 2 frame whose rows have two bytes of padding.
    fn picture(format: PixelFormat, stride: usize, bytes: &[u8]) -> Picture {
        let view = ImageView::new(format, Colour::Bt601Full, [4, 2], stride, bytes).expect("enough bytes");
        let mut picture = Picture::default();
        view.to_picture(&mut picture);
        picture
    }

    /// BT.601 full range: with U = 128 and V = 128 + 20, red is Y + 28, green Y - 14, blue Y.
    fn warm(y: u8) -> [u8; 3] {
        [y + 28, y - 14, y]
    }

    #[test]
    fn every_format_gives_the_same_pixels() {
        let luma = [[50, 60, 70, 80], [90, 100, 110, 120]];
        // Columns 0 and 1 are grey, 2 and 3 warm.
        let expected = |x: usize, y: usize| if x < 2 { [luma[y][x]; 3] } else { warm(luma[y][x]) };
        let yuyv: Vec<u8> = luma.iter().flat_map(|l| [l[0], 128, l[1], 128, l[2], 128, l[3], 148, 0, 0]).collect();
        let uyvy: Vec<u8> = luma.iter().flat_map(|l| [128, l[0], 128, l[1], 128, l[2], 148, l[3], 0, 0]).collect();
        let padded: Vec<u8> = luma.iter().flat_map(|l| [l[0], l[1], l[2], l[3], 0, 0]).collect();
        let nv12 = [padded.as_slice(), &[128, 128, 128, 148, 0, 0]].concat();
        let i420 = [padded.as_slice(), &[128, 128, 0], &[128, 148, 0]].concat();
        let i422 = [padded.as_slice(), &[128, 128, 0].repeat(2), &[128, 148, 0].repeat(2)].concat();
        let i444 = [padded.as_slice(), &[128; 12], &[128, 128, 148, 148, 0, 0].repeat(2)].concat();
        for (format, stride, bytes) in [
            (PixelFormat::Yuyv, 10, &yuyv),
            (PixelFormat::Uyvy, 10, &uyvy),
            (PixelFormat::Nv12, 6, &nv12),
            (PixelFormat::I420, 6, &i420),
            (PixelFormat::I422, 6, &i422),
            (PixelFormat::I444, 6, &i444),
        ] {
            let picture = picture(format, stride, bytes);
            for (x, y) in (0..8).map(|i| (i % 4, i / 4)) {
                assert_eq!(picture.rgb(x, y), expected(x, y), "{format:?} at {x}, {y}");
            }
        }
        let grey = picture(PixelFormat::Grey, 6, &padded);
        assert_eq!((grey.rgb(3, 0), grey.rgb(0, 1)), ([80; 3], [90; 3]));
    }

    #[test]
    fn limited_grey_is_stretched() {
        let view =
            ImageView::new(PixelFormat::Grey, Colour::Bt601Limited, [3, 1], 3, &[16, 126, 235]).expect("3 pixels");
        let mut picture = Picture::default();
        view.to_picture(&mut picture);
        assert_eq!(picture.bytes(), [0, 0, 0, 128, 128, 128, 255, 255, 255]);
    }

    #[test]
    fn a_frame_that_is_too_short_is_refused_and_a_longer_one_is_cut() {
        let colour = Colour::default();
        let error =
            ImageView::new(PixelFormat::Yuyv, colour, [640, 480], 1280, &[0; 614_399]).expect_err("a byte short");
        assert_eq!(
            error.to_string(),
            "a 640 x 480 frame in YUYV with rows of 1280 bytes needs 614400 bytes, not 614399"
        );
        assert!(ImageView::new(PixelFormat::Yuyv, colour, [640, 480], 1279, &[0; 700_000]).is_err());
        assert!(ImageView::new(PixelFormat::Grey, colour, [0, 4], 0, &[]).is_err());
        assert!(ImageView::new(PixelFormat::I444, colour, [usize::MAX, usize::MAX], usize::MAX, &[0; 8]).is_err());
        let view = ImageView::new(PixelFormat::Nv12, colour, [4, 2], 4, &[7; 64]).expect("enough");
        assert_eq!(view.bytes().len(), 12);
        // Chroma is rounded up for odd sizes.
        assert_eq!(PixelFormat::I420.frame_bytes(5, 3), 15 + 2 * 6);
        assert_eq!(PixelFormat::Yuyv.row_bytes(5), 12);
    }

    #[test]
    fn a_still_keeps_what_it_was_given() {
        let mut still = OwnedFrame::with_capacity(24);
        assert_eq!((still.view().width(), still.view().height()), (1, 1));
        let bytes: Vec<u8> = (0..24).collect();
        let view = ImageView::new(PixelFormat::Rgb24, Colour::default(), [4, 2], 12, &bytes).expect("24 bytes");
        still.copy_from(&view);
        let (mut one, mut other) = (Picture::default(), Picture::default());
        view.to_picture(&mut one);
        still.view().to_picture(&mut other);
        assert_eq!((one.bytes(), &one), (bytes.as_slice(), &other));
        assert_eq!(one.view().bytes(), bytes);
    }
}
