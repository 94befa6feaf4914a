//! The planes of a GStreamer frame, as the library views them.

use faceptor::{Colour, ImageView, PixelFormat};
use gstreamer_video::{VideoColorMatrix, VideoColorRange, VideoFormat, VideoInfo, VideoMeta};

/// The formats of the element.
pub const FORMATS: [VideoFormat; 5] =
    [VideoFormat::Rgb, VideoFormat::Bgr, VideoFormat::I420, VideoFormat::Nv12, VideoFormat::Yuy2];

/// Where the pixels of a frame lie in its buffer.
#[derive(Clone, Debug)]
pub struct Layout {
    pub format: VideoFormat,
    pub colour: Colour,
    pub width: usize,
    pub height: usize,
    /// The first byte of each plane, and its stride.
    planes: [(i64, i64); 3],
}

impl Layout {
    /// Takes the layout that a stream has, or the one that a buffer says it has itself. Returns `None` where the two differ in format
    /// or size.
    pub fn of(info: &VideoInfo, meta: Option<&VideoMeta>) -> Option<Layout> {
        let (format, width, height) = (info.format(), info.width(), info.height());
        if meta.is_some_and(|meta| (meta.format(), meta.width(), meta.height()) != (format, width, height)) {
            return None;
        }
        let (offsets, strides) = match meta {
            Some(meta) => (meta.offset(), meta.stride()),
            None => (info.offset(), info.stride()),
        };
        let mut planes = [(0, 0); 3];
        for (plane, (&offset, &stride)) in planes.iter_mut().zip(offsets.iter().zip(strides)) {
            *plane = (i64::try_from(offset).ok()?, i64::from(stride));
        }
        Some(Layout { format, colour: colour(info), width: width as usize, height: height as usize, planes })
    }

    /// Returns the index of a byte of a row; the caller checks that the buffer has it.
    pub fn index(&self, plane: usize, y: usize, at: usize) -> Option<usize> {
        let (offset, stride) = self.planes.get(plane)?;
        let start = stride.checked_mul(i64::try_from(y).ok()?)?.checked_add(*offset)?;
        usize::try_from(start).ok()?.checked_add(at)
    }

    /// Returns the format of the library that these pixels have; blue, green, red is seen in the other order.
    fn target(&self) -> Option<PixelFormat> {
        Some(match self.format {
            VideoFormat::Rgb | VideoFormat::Bgr => PixelFormat::Rgb24,
            VideoFormat::I420 => PixelFormat::I420,
            VideoFormat::Nv12 => PixelFormat::Nv12,
            VideoFormat::Yuy2 => PixelFormat::Yuyv,
            _ => return None,
        })
    }

    /// Views the pixels of a buffer: in place where its planes lie as the library wants them, otherwise copied to `scratch`.
    /// Returns `None` when the buffer is shorter than its frame.
    pub fn view<'a>(&self, bytes: &'a [u8], scratch: &'a mut Vec<u8>) -> Option<ImageView<'a>> {
        let target = self.target()?;
        let size = [self.width, self.height];
        let in_place = self
            .in_place(target)
            .and_then(|(start, stride)| ImageView::new(target, self.colour, size, stride, bytes.get(start..)?).ok());
        if in_place.is_some() {
            return in_place;
        }
        let stride = target.row_bytes(self.width);
        self.copy(bytes, stride, scratch)?;
        ImageView::new(target, self.colour, size, stride, scratch).ok()
    }

    /// Returns where the frame begins and its stride, if the library can view it where it is.
    fn in_place(&self, target: PixelFormat) -> Option<(usize, usize)> {
        let [luma, second, third] = self.planes;
        let (first, stride) = luma;
        let rows = i64::try_from(self.height).ok()?;
        let half = (stride.checked_add(1)? / 2, rows.checked_add(1)? / 2);
        let after = |(offset, stride): (i64, i64), rows: i64| stride.checked_mul(rows)?.checked_add(offset);
        let fits = match self.format {
            VideoFormat::Rgb | VideoFormat::Yuy2 => true,
            VideoFormat::Nv12 => second == (after(luma, rows)?, stride),
            VideoFormat::I420 => second == (after(luma, rows)?, half.0) && third == (after(second, half.1)?, half.0),
            _ => false,
        };
        let (first, stride) = (usize::try_from(first).ok()?, usize::try_from(stride).ok()?);
        (fits && stride >= target.row_bytes(self.width)).then_some((first, stride))
    }

    /// Copies the rows of every plane one after the other.
    fn copy(&self, bytes: &[u8], stride: usize, scratch: &mut Vec<u8>) -> Option<()> {
        let (half_width, half_height) = (self.width.div_ceil(2), self.height.div_ceil(2));
        // Bytes of a row, stride in the copy and number of rows, for each plane.
        let planes = match self.format {
            VideoFormat::I420 => {
                vec![
                    (self.width, stride, self.height),
                    (half_width, half_width, half_height),
                    (half_width, half_width, half_height),
                ]
            }
            VideoFormat::Nv12 => vec![(self.width, stride, self.height), (half_width * 2, stride, half_height)],
            _ => vec![(stride, stride, self.height)],
        };
        scratch.clear();
        for (plane, (row_bytes, stride, rows)) in planes.into_iter().enumerate() {
            for y in 0..rows {
                let start = self.index(plane, y, 0)?;
                let row = bytes.get(start..start.checked_add(row_bytes)?)?;
                let end = scratch.len() + stride;
                scratch.extend_from_slice(row);
                scratch.resize(end, 0);
            }
        }
        if self.format == VideoFormat::Bgr {
            scratch.chunks_exact_mut(3).for_each(|pixel| pixel.swap(0, 2));
        }
        Some(())
    }
}

/// Returns the encoding of a stream's Y, U, V.
fn colour(info: &VideoInfo) -> Colour {
    let colorimetry = info.colorimetry();
    let full = colorimetry.range() == VideoColorRange::Range0_255;
    let late = matches!(
        colorimetry.matrix(),
        VideoColorMatrix::Bt709 | VideoColorMatrix::Bt2020 | VideoColorMatrix::Smpte240m
    );
    Colour::of(late, full)
}

#[cfg(test)]
mod tests {
    use super::*;
    use faceptor::stages::Picture;

    fn layout(format: VideoFormat, [width, height]: [usize; 2], planes: [(i64, i64); 3]) -> Layout {
        Layout { format, colour: Colour::Bt601Limited, width, height, planes }
    }

    /// Returns the pixels that the library sees, and whether it sees them where they are.
    fn seen(layout: &Layout, bytes: &[u8]) -> Option<(Vec<u8>, bool)> {
        let mut scratch = Vec::new();
        let mut picture = Picture::default();
        layout.view(bytes, &mut scratch)?.to_picture(&mut picture);
        Some((picture.bytes().to_vec(), scratch.is_empty()))
    }

    #[test]
    fn planes_anywhere_show_the_same_pixels() {
        let bytes: Vec<u8> = (0..200).map(|value| (value * 37 % 256) as u8).collect();
        // Tight; then with gaps, as GStreamer pads rows and odd heights.
        let tight = layout(VideoFormat::I420, [4, 3], [(0, 4), (12, 2), (16, 2)]);
        let mut padded = vec![0; 100];
        for (plane, row_bytes, rows, offset, stride) in [(0, 4, 3, 5, 8), (1, 2, 2, 40, 6), (2, 2, 2, 60, 7)] {
            for y in 0..rows {
                let from = tight.index(plane, y, 0).unwrap();
                padded[offset + y * stride..][..row_bytes].copy_from_slice(&bytes[from..from + row_bytes]);
            }
        }
        let loose = layout(VideoFormat::I420, [4, 3], [(5, 8), (40, 6), (60, 7)]);
        let (direct, in_place) = seen(&tight, &bytes).unwrap();
        let (copied, copied_in_place) = seen(&loose, &padded).unwrap();
        assert_eq!((in_place, copied_in_place), (true, false));
        assert_eq!(direct, copied);
        // From the bottom up.
        let turned = layout(VideoFormat::Rgb, [2, 2], [(6, -6), (0, 0), (0, 0)]);
        assert_eq!(seen(&turned, &bytes[..12]).unwrap().0, [&bytes[6..12], &bytes[..6]].concat());
    }

    #[test]
    fn blue_green_red_is_seen_in_the_other_order() {
        let reversed = layout(VideoFormat::Bgr, [2, 1], [(0, 6), (0, 0), (0, 0)]);
        assert_eq!(seen(&reversed, &[1, 2, 3, 4, 5, 6]), Some((vec![3, 2, 1, 6, 5, 4], false)));
    }

    #[test]
    fn short_buffers_are_noticed() {
        for (format, planes) in [
            (VideoFormat::Rgb, [(0, 12), (0, 0), (0, 0)]),
            (VideoFormat::I420, [(0, 4), (16, 2), (20, 2)]),
            (VideoFormat::Nv12, [(0, 4), (16, 4), (0, 0)]),
            (VideoFormat::Yuy2, [(0, 8), (0, 0), (0, 0)]),
            (VideoFormat::Rgb, [(-5, 12), (0, 0), (0, 0)]),
            (VideoFormat::Rgb, [(0, i64::MAX), (0, 0), (0, 0)]),
        ] {
            assert!(seen(&layout(format, [4, 4], planes), &[0; 23]).is_none(), "{format:?}");
        }
        assert!(seen(&layout(VideoFormat::Gray8, [1, 1], [(0, 1); 3]), &[0; 23]).is_none());
    }
}
