//! Draws frames and writes them as YUV4MPEG2 in 4:2:0.

use std::io::{self, Write};
use std::sync::Arc;

use crate::outputs::draw::overlay::{Annotator, Legend};
use crate::outputs::draw::resize::fitting;
use crate::outputs::shared_frame::SharedFrame;
use faceptor::stages::{Picture, Pixels};

/// Draws annotated frames of one size as YUV4MPEG2. Memory is used again.
pub(crate) struct VideoFrames {
    annotator: Annotator,
    fps: f64,
    /// Width and height of the first frame, made even; `None` before it.
    size: Option<[usize; 2]>,
    bytes: Vec<u8>,
}

impl VideoFrames {
    pub(crate) fn new(legend: Arc<Legend>, fps: f64) -> VideoFrames {
        VideoFrames { annotator: Annotator::new(legend), fps, size: None, bytes: Vec::new() }
    }

    /// Draws a frame and returns it as bytes of the stream, the first with the stream's header. `None` without pixels.
    pub(crate) fn draw(&mut self, scene: &mut SharedFrame) -> Option<&[u8]> {
        let still = scene.still.take()?;
        let room = self.size;
        let size = |picture: &Picture| {
            let own = [picture.width(), picture.height()];
            room.filter(|room| even(own) != *room).map_or(own, |room| fitting(own, room, true))
        };
        let picture = still.draw(&mut self.annotator, &scene.analysis, &scene.identities.list(), size);
        self.bytes.clear();
        let size = match self.size {
            Some(size) => size,
            None => {
                let size = even([picture.width(), picture.height()]);
                self.size = Some(size);
                // Writing to memory cannot fail.
                let _ = write_header(&mut self.bytes, size, self.fps);
                size
            }
        };
        self.bytes.extend_from_slice(b"FRAME\n");
        append_planes(picture, size, &mut self.bytes);
        Some(&self.bytes)
    }
}

/// Encoders of 4:2:0 take even sides only: a last odd column or row is cut off.
fn even([width, height]: [usize; 2]) -> [usize; 2] {
    [(width & !1).max(2), (height & !1).max(2)]
}

fn write_header(out: &mut impl Write, [width, height]: [usize; 2], fps: f64) -> io::Result<()> {
    let thousandths = (fps * 1000.0).round().max(1.0);
    writeln!(out, "YUV4MPEG2 W{width} H{height} F{thousandths}:1000 Ip A1:1 C420jpeg")
}

/// Appends the planes of a picture in BT.601 of limited range, centred on black.
fn append_planes(picture: &Picture, [width, height]: [usize; 2], out: &mut Vec<u8>) {
    let left = width.saturating_sub(picture.width()) / 2;
    let top = height.saturating_sub(picture.height()) / 2;
    let (across, down) = (picture.width().min(width), picture.height().min(height));
    let (pixels, stride) = (picture.bytes(), picture.width() * 3);
    let luma = out.len();
    out.resize(luma + width * height, 16);
    for y in 0..down {
        let row = &mut out[luma + (top + y) * width + left..][..across];
        for (value, rgb) in row.iter_mut().zip(pixels[y * stride..][..across * 3].as_chunks::<3>().0.iter()) {
            let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(i32::from);
            *value = (((66 * r + 129 * g + 25 * b + 128) >> 8) + 16) as u8;
        }
    }
    let chroma = out.len();
    let plane = width / 2 * (height / 2);
    out.resize(chroma + 2 * plane, 128);
    for y in 0..height / 2 {
        for x in 0..width / 2 {
            let mut sum = [0; 3];
            for (dy, dx) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let (row, column) = ((2 * y + dy).wrapping_sub(top), (2 * x + dx).wrapping_sub(left));
                if row < down && column < across {
                    let rgb = &pixels[row * stride + column * 3..][..3];
                    sum.iter_mut().zip(rgb).for_each(|(sum, value)| *sum += i32::from(*value));
                }
            }
            let [r, g, b] = sum;
            out[chroma + y * (width / 2) + x] = (((-38 * r - 74 * g + 112 * b + 512) >> 10) + 128) as u8;
            out[chroma + plane + y * (width / 2) + x] = (((112 * r - 94 * g - 18 * b + 512) >> 10) + 128) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::frame_pool::FramePool;
    use crate::live::still::Still;

    fn scene(width: usize, height: usize, colour: [u8; 3]) -> SharedFrame {
        let pixels = FramePool::new(1, 0).keep(&Picture::filled(width, height, colour).view());
        let still = pixels.map(|pixels| Still::new(pixels, None));
        SharedFrame { still, ..SharedFrame::default() }
    }

    fn frames() -> VideoFrames {
        VideoFrames::new(Arc::new(Legend { decoders: Vec::new() }), 12.5)
    }

    #[test]
    fn colours_are_those_of_bt601() {
        for (colour, expected) in [
            ([255, 255, 255], [235, 128, 128]),
            ([0, 0, 0], [16, 128, 128]),
            ([255, 0, 0], [82, 90, 240]),
            ([0, 255, 0], [144, 54, 34]),
            ([0, 0, 255], [41, 240, 110]),
        ] {
            let mut frames = frames();
            let bytes = frames.draw(&mut scene(4, 2, colour)).expect("pixels").to_vec();
            let header = b"YUV4MPEG2 W4 H2 F12500:1000 Ip A1:1 C420jpeg\nFRAME\n";
            assert!(bytes.starts_with(header));
            let planes = &bytes[header.len()..];
            assert_eq!(planes.len(), 12);
            for (plane, expected) in [&planes[..8], &planes[8..10], &planes[10..]].iter().zip(expected) {
                assert!(plane.iter().all(|&value| value.abs_diff(expected) <= 1), "{colour:?}: {planes:?}");
            }
        }
    }

    #[test]
    fn every_frame_has_the_even_size_of_the_first() {
        let mut frames = frames();
        assert!(frames.draw(&mut SharedFrame::default()).is_none(), "without pixels");
        let first = frames.draw(&mut scene(9, 7, [200; 3])).expect("pixels").len();
        let header = "YUV4MPEG2 W8 H6 F12500:1000 Ip A1:1 C420jpeg\n".len();
        assert_eq!(first, header + 6 + 72);
        for (width, height) in [(9, 7), (8, 6), (1, 1), (100, 10), (10, 100)] {
            let bytes = frames.draw(&mut scene(width, height, [200; 3])).expect("pixels");
            assert_eq!((bytes.len(), &bytes[..6]), (78, b"FRAME\n".as_slice()), "{width} x {height}");
        }
        // A wide frame has black above and below.
        let bytes = frames.draw(&mut scene(16, 4, [200; 3])).expect("pixels");
        assert!(bytes[6] == 16 && bytes[6 + 8 * 3] > 100, "{bytes:?}");
    }
}
