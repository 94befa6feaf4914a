//! GIF: the first frame, decoded to the palette's indices, so that one byte a pixel is held beside the RGB picture.

use std::io::Cursor;

use gif::{ColorOutput, DecodeOptions};
use image::metadata::Orientation;

use super::{Decoded, cause, check_size, rgb_buffer};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::image::picture::Picture;

/// Decodes the first frame; what it leaves uncovered is white.
pub(super) fn decode(bytes: &[u8], max_pixels: u64) -> Result<Decoded> {
    let broken = |error: gif::DecodingError| Error::new(ErrorKind::Image, format!("broken GIF: {}", cause(&error)));
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    let mut reader = options.read_info(Cursor::new(bytes)).map_err(broken)?;
    let (width, height) = (usize::from(reader.width()), usize::from(reader.height()));
    check_size(width as u64, height as u64, max_pixels)?;
    let Some(frame) = reader.next_frame_info().map_err(broken)? else {
        bail!(Image, "broken GIF: it has no frame");
    };
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (across, down) = (usize::from(frame.width), usize::from(frame.height));
    let transparent = frame.transparent;
    // A frame may be larger than the picture that it belongs to.
    check_size(across as u64, down as u64, max_pixels)?;
    let mut indices: Vec<u8> = Vec::new();
    if indices.try_reserve_exact(across * down).is_err() {
        bail!(Image, "{across} x {down} pixels do not fit into the memory that is left: scale it down");
    }
    indices.resize(across * down, 0);
    let mut rgb = rgb_buffer(width, height, 255)?;
    reader.read_into_buffer(&mut indices).map_err(broken)?;
    let palette = reader.palette().map_err(broken)?;
    for (row, y) in indices.chunks_exact(across).zip(top..height) {
        let line = &mut rgb[y * width * 3..][..width * 3];
        for (pixel, &index) in line.as_chunks_mut::<3>().0.iter_mut().skip(left).zip(row) {
            let at = usize::from(index) * 3;
            if let (Some(colour), true) = (palette.get(at..at + 3), Some(index) != transparent) {
                pixel.copy_from_slice(colour);
            }
        }
    }
    drop(indices);
    let animated = matches!(reader.next_frame_info(), Ok(Some(_)));
    let Some(picture) = Picture::from_rgb(width, height, rgb) else { bail!(Image, "the picture has no pixels") };
    Ok(Decoded { picture, orientation: Orientation::NoTransforms, animated, warnings: Vec::new() })
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::image::picture::Pixels;

    /// Returns a GIF of 6 x 4 pixels with a frame of `size` at `place`; index 2 is transparent.
    fn file(place: [u16; 2], size: [u16; 2], indices: Vec<u8>, interlaced: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = gif::Encoder::new(&mut bytes, 6, 4, &[0, 0, 0, 200, 100, 50, 1, 2, 3]).expect("in memory");
        let [left, top] = place;
        let [width, height] = size;
        let buffer = Cow::Owned(indices);
        let frame =
            gif::Frame { left, top, width, height, buffer, transparent: Some(2), interlaced, ..Default::default() };
        encoder.write_frame(&frame).expect("in memory");
        drop(encoder);
        bytes
    }

    #[test]
    fn frame_is_placed_over_white_and_clipped() {
        let inside = decode(&file([1, 1], [2, 2], vec![0, 1, 2, 1], false), 100).expect("good").picture;
        assert_eq!(
            [inside.rgb(0, 0), inside.rgb(1, 1), inside.rgb(2, 1), inside.rgb(1, 2)],
            [[255; 3], [0; 3], [200, 100, 50], [255; 3]]
        );
        let beyond = decode(&file([5, 3], [3, 3], vec![1; 9], false), 100).expect("clipped").picture;
        assert_eq!((beyond.rgb(5, 3), beyond.rgb(4, 3)), ([200, 100, 50], [255; 3]));
        let outside = decode(&file([50, 30], [3, 3], vec![1; 9], false), 100).expect("outside").picture;
        assert!(outside.bytes().iter().all(|&byte| byte == 255));
    }

    #[test]
    fn frames_beyond_the_limit_and_cut_frames_are_refused() {
        let bytes = file([0, 0], [60, 40], vec![1; 2400], false);
        assert!(decode(&bytes, 2399).is_err());
        assert!(decode(&bytes, 2400).is_ok());
        let noise = (0..24u32 * 100).map(|i| (i * i % 7 % 3) as u8).collect();
        let bytes = file([0, 0], [60, 40], noise, false);
        for length in [bytes.len() / 3, bytes.len() / 2, bytes.len() * 3 / 4] {
            let text = decode(&bytes[..length], 2400).err().expect("cut").to_string();
            assert!(text.starts_with("broken GIF"), "{text}");
        }
    }
}
