//! PNG: decoded row by row, so that only the RGB picture is held.

use std::io::Cursor;

use image::metadata::Orientation;
use png::{BitDepth, ColorType, DecodeOptions, Decoder, Limits, Transformations};

use super::{Decoded, cause, check_size, narrow, over_white, rgb_buffer};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::image::picture::Picture;

/// First column, first row, and steps across and down of the seven passes of an interlaced picture.
const ADAM7: [[usize; 4]; 7] =
    [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];

/// Returns where the rows of the file go: every row of the picture, or the rows of the seven passes.
fn rows(width: usize, height: usize, interlaced: bool) -> Vec<[usize; 4]> {
    let passes: &[[usize; 4]] = if interlaced { &ADAM7 } else { &[[0, 0, 1, 1]] };
    passes
        .iter()
        .filter(|[left, ..]| *left < width)
        .flat_map(|&[left, top, across, down]| (top..height).step_by(down).map(move |y| [left, y, across, down]))
        .collect()
}

/// Decodes a PNG, of an animated one the default picture.
pub(super) fn decode(bytes: &[u8], max_pixels: u64) -> Result<Decoded> {
    let broken = |error: &png::DecodingError| Error::new(ErrorKind::Image, format!("broken PNG: {}", cause(error)));
    // The limit covers metadata and a few rows.
    let limit = usize::try_from(max_pixels).unwrap_or(usize::MAX).saturating_add(64 << 20);
    let mut options = DecodeOptions::default();
    options.set_ignore_adler32(false);
    let mut decoder = Decoder::new_with_options(Cursor::new(bytes), options);
    decoder.set_limits(Limits { bytes: limit });
    decoder.set_ignore_text_chunk(true);
    decoder.set_transformations(Transformations::EXPAND);
    let header = decoder.read_header_info().map_err(|error| broken(&error))?;
    let (width, height, interlaced) = (header.width as usize, header.height as usize, header.interlaced);
    check_size(width as u64, height as u64, max_pixels)?;
    let mut reader = decoder.read_info().map_err(|error| broken(&error))?;
    let (colour, depth) = reader.output_color_type();
    let mut rgb = rgb_buffer(width, height, 0)?;
    let places = rows(width, height, interlaced);
    for (done, &[left, y, across, _]) in places.iter().enumerate() {
        let part = |reason: String| {
            let text = format!("broken PNG: {reason}, after {} % of its rows", done * 100 / places.len());
            Error::new(ErrorKind::Image, text)
        };
        let row = reader.next_row().map_err(|error| part(cause(&error)))?;
        let row = row.ok_or_else(|| part("its data ends early".to_owned()))?;
        let line = &mut rgb[y * width * 3..][..width * 3];
        let pixels = line.as_chunks_mut::<3>().0.iter_mut().skip(left).step_by(across);
        match (colour, depth) {
            (_, BitDepth::Eight) => fill::<1>(pixels, row.data(), colour),
            (_, BitDepth::Sixteen) => fill::<2>(pixels, row.data(), colour),
            _ => bail!(Image, "broken PNG: {depth:?} bits of {colour:?}"),
        }
    }
    // What follows the last row shows whether all of them are right: the end of the data and its checksum.
    let rest = reader.next_row().map(|_| ());
    let warnings = rest.err().map(|error| format!("damaged PNG: {}, after its last row", cause(&error)));
    let info = reader.info();
    let orientation = info.exif_metadata.as_deref().and_then(Orientation::from_exif_chunk);
    let animated = info.animation_control.is_some();
    let Some(picture) = Picture::from_rgb(width, height, rgb) else { bail!(Image, "the picture has no pixels") };
    Ok(Decoded {
        picture,
        orientation: orientation.unwrap_or(Orientation::NoTransforms),
        animated,
        warnings: warnings.into_iter().collect(),
    })
}

/// Converts the samples of a row, of `BYTES` bytes each.
fn fill<'a, const BYTES: usize>(pixels: impl Iterator<Item = &'a mut [u8; 3]>, row: &[u8], colour: ColorType) {
    let value = |sample: &[u8]| match *sample {
        [high, low] => narrow(u16::from_be_bytes([high, low])),
        [byte] => byte,
        _ => 0,
    };
    let channels = colour.samples();
    for (pixel, stored) in pixels.zip(row.chunks_exact(channels * BYTES)) {
        let mut samples = [0; 4];
        for (sample, bytes) in samples.iter_mut().zip(stored.as_chunks::<BYTES>().0.iter()) {
            *sample = value(bytes);
        }
        let [a, b, c, d] = samples;
        let [red, green, blue, alpha] = match channels {
            1 => [a, a, a, 255],
            2 => [a, a, a, b],
            3 => [a, b, c, 255],
            _ => [a, b, c, d],
        };
        *pixel = [red, green, blue].map(|value| over_white(value, alpha));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes a picture whose samples are 8 bytes of one row each.
    fn file(width: u32, height: u32, colour: ColorType, depth: BitDepth, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        encoder.set_palette(vec![10, 20, 30, 200, 100, 50]);
        encoder.write_header().and_then(|mut writer| writer.write_image_data(data)).expect("writing to memory");
        bytes
    }

    #[test]
    fn every_depth_becomes_rgb() {
        for (colour, depth, data, expected) in [
            (ColorType::Grayscale, BitDepth::One, &[0b0100_0000][..], [0, 0, 0, 255, 255, 255]),
            (ColorType::Grayscale, BitDepth::Four, &[0x1f], [17, 17, 17, 255, 255, 255]),
            (ColorType::Indexed, BitDepth::Two, &[0b0001_0000], [10, 20, 30, 200, 100, 50]),
            (ColorType::Grayscale, BitDepth::Sixteen, &[0x80, 0x80, 0xff, 0xff], [128, 128, 128, 255, 255, 255]),
            (ColorType::GrayscaleAlpha, BitDepth::Eight, &[9, 255, 0, 128], [9, 9, 9, 127, 127, 127]),
            (ColorType::Rgba, BitDepth::Eight, &[1, 2, 3, 255, 200, 0, 0, 0], [1, 2, 3, 255, 255, 255]),
        ] {
            let decoded = decode(&file(2, 1, colour, depth, data), 100).expect("a good file");
            assert_eq!(decoded.picture.bytes(), expected, "{colour:?} {depth:?}");
        }
    }

    #[test]
    fn passes_of_an_interlaced_picture_cover_it_once() {
        for (width, height) in [(1, 1), (2, 1), (5, 3), (8, 8), (9, 17)] {
            let mut seen = vec![0; width * height];
            for [left, y, across, _] in rows(width, height, true) {
                (left..width).step_by(across).for_each(|x| seen[y * width + x] += 1);
            }
            assert!(seen.iter().all(|&count| count == 1), "{width} x {height}");
        }
    }

    #[test]
    fn cut_files_say_how_much_was_read() {
        let data: Vec<u8> = (0..120 * 100 * 3u32).map(|i| (i * i % 251) as u8).collect();
        let bytes = file(120, 100, ColorType::Rgb, BitDepth::Eight, &data);
        assert_eq!(decode(&bytes, 12_000).expect("whole").picture.bytes(), data);
        let half = decode(&bytes[..bytes.len() / 2], 12_000).err().expect("half a file").to_string();
        assert!(half.starts_with("broken PNG: ") && half.ends_with(" % of its rows"), "{half}");
    }
}
