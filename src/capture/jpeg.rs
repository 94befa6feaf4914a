//! Decodes the JPEG frames of webcams and `.mjpg` files, one after the other, into the same picture.

use std::panic::{self, AssertUnwindSafe};

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use faceptor::stages::{ImageView, JpegEvent, JpegMarkers, Picture};

/// Longest side that is decoded, pixels.
const MAX_SIDE: usize = 8192;
/// Number of consecutive frames that break the JPEG standard after which decoding becomes lenient.
const MAX_REFUSED: u32 = 30;
/// The DHT marker.
const HUFFMAN_TABLES: u8 = 0xc4;
/// APP0 segment of AVI files. It makes the decoder use the Huffman tables of the standard where a frame has none.
const AVI1: [u8; 12] = [0xff, 0xe0, 0, 10, b'A', b'V', b'I', b'1', 0, 0, 0, 0];

/// Reason why a frame could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JpegError {
    #[error("not a JPEG")]
    NotJpeg,
    #[error("the frame is cut off")]
    CutOff,
    #[error("{0}")]
    Broken(String),
}

/// What precedes the entropy-coded data.
struct Headers {
    /// Offset of the entropy-coded data, bytes.
    data: usize,
    has_huffman: bool,
}

impl Headers {
    fn read(bytes: &[u8]) -> Result<Headers, JpegError> {
        if !bytes.starts_with(&[0xff, 0xd8]) {
            return Err(JpegError::NotJpeg);
        }
        let mut markers = JpegMarkers::default();
        let (mut data, mut has_huffman) = (0, false);
        loop {
            let (used, event) = markers.next_event(&bytes[data..]);
            data += used;
            match event {
                Some(JpegEvent::Data) => return Ok(Headers { data, has_huffman }),
                Some(JpegEvent::Segment(marker)) => has_huffman |= marker == HUFFMAN_TABLES,
                Some(JpegEvent::Start) => {}
                Some(JpegEvent::End) | None => return Err(JpegError::CutOff),
            }
        }
    }
}

/// Decodes frames and reuses its own memory; the JPEG library allocates for itself.
#[derive(Debug)]
pub(crate) struct FrameDecoder {
    picture: Picture,
    patched: Vec<u8>,
    strict: bool,
    refused: u32,
}

impl Default for FrameDecoder {
    fn default() -> FrameDecoder {
        FrameDecoder { picture: Picture::default(), patched: Vec::new(), strict: true, refused: 0 }
    }
}

impl FrameDecoder {
    /// Decodes a frame and ignores the bytes after its end. After an error the picture must not be shown.
    ///
    /// # Errors
    /// When the frame is cut off (a decoder would fill the missing part with grey) or cannot be decoded. Damage that
    /// is valid code is not detected; drivers flag frames of which they lost a part.
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> Result<(), JpegError> {
        let headers = Headers::read(bytes)?;
        // The search for the end marker starts at the end of the buffer, where cameras write zeros after the frame.
        // Entropy-coded data contains no end marker.
        let data = bytes.get(headers.data..).ok_or(JpegError::CutOff)?;
        let end = data.windows(2).rposition(|pair| pair == [0xff, 0xd9]).ok_or(JpegError::CutOff)?;
        let whole = &bytes[..headers.data + end + 2];
        let decoded = if headers.has_huffman {
            decode_into(whole, self.strict, &mut self.picture)
        } else {
            self.patched.clear();
            self.patched.extend_from_slice(&whole[..2]);
            self.patched.extend_from_slice(&AVI1);
            self.patched.extend_from_slice(&whole[2..]);
            decode_into(&self.patched, self.strict, &mut self.picture)
        };
        self.refused = if decoded.is_err() { self.refused + 1 } else { 0 };
        if self.strict && self.refused == MAX_REFUSED {
            log::warn!("{MAX_REFUSED} consecutive frames break the JPEG standard: decoding leniently from now on");
            self.strict = false;
        }
        decoded
    }

    /// Returns the last decoded frame; one black pixel before the first one.
    pub(crate) fn view(&self) -> ImageView<'_> {
        self.picture.view()
    }
}

fn decode_into(bytes: &[u8], strict: bool, picture: &mut Picture) -> Result<(), JpegError> {
    let options = DecoderOptions::default()
        .jpeg_set_out_colorspace(ColorSpace::RGB)
        .set_max_width(MAX_SIDE)
        .set_max_height(MAX_SIDE)
        .set_strict_mode(strict);
    // The input is untrusted. If the library panics on a frame, that frame is lost and the run continues.
    let decode = || {
        let broken = |error| JpegError::Broken(format!("{error:?}"));
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
        decoder.decode_headers().map_err(broken)?;
        let info = decoder.info().ok_or(JpegError::CutOff)?;
        picture.reshape(usize::from(info.width), usize::from(info.height));
        decoder.decode_into(picture.bytes_mut()).map_err(broken)
    };
    panic::catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(JpegError::Broken("the decoder failed".to_owned())))
}

/// JPEG files for tests.
#[cfg(test)]
pub mod samples {
    use image::ImageEncoder;

    /// Returns a JPEG with smooth gradients and a red channel of `shade`.
    pub(crate) fn jpeg(width: usize, height: usize, shade: u8) -> Vec<u8> {
        let pixel = |x: usize, y: usize| [shade, (x * 255 / width) as u8, (y * 255 / height) as u8];
        let pixels: Vec<u8> = (0..width * height).flat_map(|i| pixel(i % width, i / width)).collect();
        let mut file = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, 90)
            .write_image(&pixels, width as u32, height as u32, image::ExtendedColorType::Rgb8)
            .expect("writing to memory");
        file
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use faceptor_test_support::check;
    use proptest::collection::vec;
    use proptest::prelude::any;
    use proptest::sample::Index;

    use super::*;
    use faceptor::stages::Pixels;
    use samples::jpeg;

    /// Returns the frame as a webcam sends it: without Huffman tables.
    fn without_tables(file: &[u8]) -> Vec<u8> {
        let (mut out, mut at) = (file[..2].to_vec(), 2);
        loop {
            let length = 2 + usize::from(u16::from_be_bytes([file[at + 2], file[at + 3]]));
            if file[at + 1] != 0xc4 {
                out.extend_from_slice(&file[at..at + length]);
            }
            if file[at + 1] == 0xda {
                out.extend_from_slice(&file[at + length..]);
                return out;
            }
            at += length;
        }
    }

    /// Returns the frame with twenty bytes of ones in its data.
    fn damaged(file: &[u8]) -> Vec<u8> {
        let at = Headers::read(file).expect("whole").data + 100;
        [&file[..at], &[0xff, 0x00].repeat(20), &file[at + 40..]].concat()
    }

    #[test]
    fn frames_of_different_sizes_are_decoded_into_one_picture() -> Result<(), JpegError> {
        let mut decoder = FrameDecoder::default();
        decoder.decode(&jpeg(64, 48, 200))?;
        assert_eq!((decoder.view().width(), decoder.view().height()), (64, 48));
        let rgb = decoder.picture.rgb(32, 24);
        assert!(rgb[0].abs_diff(200) < 6 && rgb[1].abs_diff(127) < 8 && rgb[2].abs_diff(127) < 8, "{rgb:?}");
        // With the zeros that cameras leave after the frame, and at another size.
        decoder.decode(&[jpeg(32, 32, 9), vec![0; 500]].concat())?;
        assert_eq!((decoder.view().width(), decoder.picture.rgb(16, 16)[0].abs_diff(9) < 6), (32, true));
        Ok(())
    }

    #[test]
    fn missing_huffman_tables_are_those_of_the_standard() -> Result<(), JpegError> {
        // The encoder writes the standard's tables, so nothing is lost with them.
        let file = jpeg(80, 60, 77);
        let bare = without_tables(&file);
        assert!(bare.len() + 400 < file.len(), "{} of {}", bare.len(), file.len());
        let (mut one, mut other) = (FrameDecoder::default(), FrameDecoder::default());
        one.decode(&file)?;
        other.decode(&bare)?;
        assert_eq!(one.picture, other.picture);
        Ok(())
    }

    #[test]
    fn decoding_continues_after_cut_and_damaged_frames() {
        let file = jpeg(160, 120, 50);
        let mut decoder = FrameDecoder::default();
        assert_eq!(decoder.decode(&file[..file.len() / 2]), Err(JpegError::CutOff));
        assert_eq!(decoder.decode(&file[..100]), Err(JpegError::CutOff));
        assert_eq!(decoder.decode(&[]), Err(JpegError::NotJpeg));
        assert_eq!(decoder.decode(&[0; 5000]), Err(JpegError::NotJpeg));
        assert!(matches!(decoder.decode(&damaged(&file)), Err(JpegError::Broken(_))), "no code is all ones");
        assert_eq!(decoder.decode(&file), Ok(()));
    }

    #[test]
    fn decoder_survives_any_damage() {
        let file = jpeg(96, 64, 120);
        let decoder = RefCell::new(FrameDecoder::default());
        let changes = vec((any::<Index>(), any::<u8>()), 1..=4);
        check(2000, (changes, 0..3usize, 0..file.len() / 3), |(changes, thirds, cut)| {
            let mut bytes = file.clone();
            for (place, value) in changes {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
            bytes.truncate(file.len() - thirds * cut);
            let _ = decoder.borrow_mut().decode(&bytes);
        });
        assert_eq!(decoder.borrow_mut().decode(&file), Ok(()));
    }

    #[test]
    fn decoding_becomes_lenient_after_many_bad_frames() {
        let bad = damaged(&jpeg(160, 120, 50));
        let mut decoder = FrameDecoder::default();
        for _ in 0..MAX_REFUSED {
            assert!(decoder.decode(&bad).is_err());
        }
        assert_eq!(decoder.decode(&bad), Ok(()));
    }
}
