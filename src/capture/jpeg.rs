//! Decodes the JPEG frames of webcams and `.mjpg` files, one after the other, into the same picture, and refuses those of
//! which a part is missing.

use faceptor::stages::{ImageView, JpegContents, JpegDecoder, JpegEvent, JpegMarkers, Picture};

/// Most pixels of a frame.
const MAX_PIXELS: u64 = 64 << 20;
/// Number of consecutive frames with missing parts after which decoding becomes lenient.
const MAX_REFUSED: u32 = 30;
/// Reason why a frame could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JpegError {
    #[error("not a JPEG")]
    NotJpeg,
    #[error("the frame is cut off: {0} % of it is there")]
    CutOff(u32),
    #[error("{0}")]
    Broken(String),
}

/// Reports whether picture data begins in `bytes`.
fn has_data(mut bytes: &[u8]) -> bool {
    let mut markers = JpegMarkers::default();
    loop {
        let (used, event) = markers.next_event(bytes);
        bytes = &bytes[used..];
        match event {
            Some(JpegEvent::Data) => return true,
            Some(JpegEvent::Segment(_) | JpegEvent::Start) => {}
            Some(JpegEvent::End) | None => return false,
        }
    }
}

/// Decodes frames and reuses its own memory.
#[derive(Debug)]
pub(crate) struct FrameDecoder {
    picture: Picture,
    decoder: JpegDecoder,
    strict: bool,
    refused: u32,
}

impl Default for FrameDecoder {
    fn default() -> FrameDecoder {
        let decoder = JpegDecoder::new(MAX_PIXELS);
        FrameDecoder { picture: Picture::default(), decoder, strict: true, refused: 0 }
    }
}

impl FrameDecoder {
    /// Decodes a frame and ignores the bytes after its end. After an error the picture must not be shown.
    ///
    /// # Errors
    /// When a part of the frame is missing (a decoder would fill it with grey) or the frame cannot be decoded. Damage that
    /// is valid code is not detected; drivers flag frames of which they lost a part.
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> Result<(), JpegError> {
        if !bytes.starts_with(&[0xff, 0xd8]) {
            return Err(JpegError::NotJpeg);
        }
        let decoded = self.decoder.decode(bytes, &mut self.picture);
        let contents = decoded.map_err(|error| match has_data(bytes) {
            true => JpegError::Broken(error.to_string()),
            false => JpegError::CutOff(0),
        })?;
        self.judge(&contents)
    }

    /// Refuses a frame of which a part is missing, unless all frames are like that.
    fn judge(&mut self, contents: &JpegContents) -> Result<(), JpegError> {
        if contents.read >= 1.0 && contents.detail >= 1.0 {
            self.refused = 0;
            return Ok(());
        }
        let percent = (contents.read.min(contents.detail) * 100.0) as u32;
        self.refused = self.refused.saturating_add(1);
        if self.strict && self.refused == MAX_REFUSED {
            log::warn!(
                "{MAX_REFUSED} consecutive frames are cut off ({percent} % of this one is there): showing such frames from \
                 now on"
            );
            self.strict = false;
        } else if !self.strict && percent > 0 {
            if self.refused.is_power_of_two() {
                log::warn!(
                    "{percent} % of the frame is there, the rest is grey ({} such frames in a row)",
                    self.refused
                );
            }
            return Ok(());
        }
        Err(JpegError::CutOff(percent))
    }

    /// Returns the last decoded frame; one black pixel before the first one.
    pub(crate) fn view(&self) -> ImageView<'_> {
        self.picture.view()
    }
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

    /// Returns the place of the picture data of the only scan of a whole frame.
    fn data(file: &[u8]) -> Option<std::ops::Range<usize>> {
        let mut markers = JpegMarkers::default();
        let (mut at, mut start) = (0, None);
        loop {
            let (used, event) = markers.next_event(&file[at..]);
            at += used;
            match (event?, start) {
                (JpegEvent::Data, None) => start = Some(at),
                (JpegEvent::End, Some(start)) => return Some(start..at - 2),
                (JpegEvent::Segment(_) | JpegEvent::Start, None) => {}
                _ => return None,
            }
        }
    }

    /// Returns the frame with twenty bytes of ones in its data.
    fn damaged(file: &[u8]) -> Vec<u8> {
        let at = data(file).expect("whole").start + 100;
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
        assert!(matches!(decoder.decode(&file[..file.len() / 2]), Err(JpegError::CutOff(1..=99))));
        assert_eq!(decoder.decode(&file[..100]), Err(JpegError::CutOff(0)));
        assert_eq!(decoder.decode(&[]), Err(JpegError::NotJpeg));
        assert_eq!(decoder.decode(&[0; 5000]), Err(JpegError::NotJpeg));
        assert!(matches!(decoder.decode(&damaged(&file)), Err(JpegError::CutOff(1..=99))), "no code is all ones");
        assert_eq!(decoder.decode(&file), Ok(()));
    }

    /// Returns the fixtures, pictures of every layout, with their names.
    fn fixtures() -> Vec<(String, Vec<u8>)> {
        let folder = faceptor_test_support::fixture("jpeg");
        let files = std::fs::read_dir(folder).expect("the fixtures are there");
        let paths =
            files.map(|file| file.expect("readable").path()).filter(|path| path.extension() == Some("jpg".as_ref()));
        let named = |path: std::path::PathBuf| (path.display().to_string(), std::fs::read(&path).expect("readable"));
        paths.map(named).collect()
    }

    #[test]
    fn frames_of_every_layout_are_those_of_the_library() {
        let mut frames = FrameDecoder::default();
        let (mut decoder, mut picture) = (JpegDecoder::new(MAX_PIXELS), Picture::default());
        let fixtures = fixtures();
        assert!(fixtures.len() > 20);
        for (name, file) in fixtures {
            let whole = decoder.decode(&file, &mut picture).is_ok_and(|contents| contents.damage().is_none());
            assert_eq!(frames.decode(&file).is_ok(), whole, "{name}");
            assert!(!whole || frames.picture == picture, "{name}");
        }
    }

    #[test]
    fn frames_whose_data_ends_early_are_refused_whatever_follows() {
        let mut decoder = FrameDecoder::default();
        let mut compared = 0;
        for (name, file) in fixtures() {
            let Some(data) = data(&file) else { continue };
            if decoder.decode(&file).is_err() {
                continue;
            }
            compared += 1;
            let keep = data.start + data.len() / 2;
            let zeros = vec![0; data.len() - data.len() / 2];
            let mut tall = file.clone();
            let header = file.windows(2).position(|pair| matches!(pair, [0xff, 0xc0..=0xc2])).expect("a frame header");
            tall[header + 5] = 4;
            for (what, bytes) in [
                ("the end marker", [&file[..keep], &[0xff, 0xd9]].concat()),
                ("zeros and the end marker", [&file[..keep], &zeros, &[0xff, 0xd9]].concat()),
                ("another picture", [&file[..keep], file.as_slice()].concat()),
                ("nothing, because the height is too large", tall),
            ] {
                let seen = decoder.decode(&bytes);
                assert!(matches!(seen, Err(JpegError::CutOff(0..=99))), "{name}, followed by {what}: {seen:?}");
            }
            assert_eq!(decoder.decode(&[&file, file.as_slice(), &[0; 300]].concat()), Ok(()), "{name} twice");
        }
        assert!(compared >= 10, "{compared}");
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
