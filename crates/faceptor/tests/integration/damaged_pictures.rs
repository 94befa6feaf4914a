//! Damaged pictures of every format: an error, never a panic or a picture with a part that is missing.

use std::io::Cursor;
use std::path::PathBuf;

use faceptor::{ErrorKind, Photo, PhotoOptions};
use image::{DynamicImage, ImageFormat, RgbImage};

/// Damaged files of each format.
const CASES: u32 = 1500;
const MAX_PIXELS: u64 = 1 << 18;

/// A generator of numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit.max(1)
    }
}

/// Waves and noise.
fn picture() -> RgbImage {
    RgbImage::from_fn(61, 43, |x, y| {
        let noise = (x * 7919 + y * 104_729) % 251;
        image::Rgb([(x * 4) as u8, (y * 5) as u8, noise as u8])
    })
}

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image.into().write_to(&mut file, format).expect("writing to memory");
    file.into_inner()
}

fn interlaced_png() -> Vec<u8> {
    // Written by hand: the encoder of the crate `png` does not interlace. One pixel of grey, in the first pass.
    let mut file = encoded(RgbImage::from_pixel(1, 1, image::Rgb([9, 99, 199])), ImageFormat::Png);
    file[28] = 1;
    repair_png(&mut file);
    file
}

/// Puts right the checksum of each chunk.
fn repair_png(file: &mut [u8]) {
    let mut at = 8;
    while let Some(length) = file.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize) {
        let Some(body) = file.get(at + 4..at + 8 + length) else { return };
        let checksum = !body.iter().fold(u32::MAX, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 })
        });
        let Some(place) = file.get_mut(at + 8 + length..at + 12 + length) else { return };
        place.copy_from_slice(&checksum.to_be_bytes());
        at += 12 + length;
    }
}

fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures")).join(name);
    std::fs::read(path).expect("make_pictures.py wrote it")
}

/// Good files of each format.
fn files() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let deep = DynamicImage::from(picture()).into_rgba16();
    let grey = DynamicImage::from(picture()).into_luma8();
    let jpegs =
        ["usual_420_restarts", "planes_410", "progressive_fine", "progressive_uneven", "rgb", "grey_progressive"];
    vec![
        ("JPEG", jpegs.iter().map(|name| fixture(&format!("jpeg/{name}.jpg"))).collect()),
        ("PNG", vec![encoded(picture(), ImageFormat::Png), encoded(deep, ImageFormat::Png), interlaced_png()]),
        ("GIF", vec![encoded(picture(), ImageFormat::Gif)]),
        (
            "WebP",
            vec![encoded(picture(), ImageFormat::WebP), fixture("webp/lossy.webp"), fixture("webp/lossy_alpha.webp")],
        ),
        ("BMP", vec![encoded(picture(), ImageFormat::Bmp), encoded(grey.clone(), ImageFormat::Bmp)]),
        ("TIFF", vec![encoded(picture(), ImageFormat::Tiff), encoded(grey, ImageFormat::Tiff)]),
    ]
}

#[test]
fn good_files_of_every_format_are_read() {
    for (format, files) in files() {
        for (number, file) in files.iter().enumerate() {
            let photo = Photo::decode(file).unwrap_or_else(|error| panic!("{format} {number}: {error}"));
            assert!((photo.width(), photo.height()) == (61, 43) || photo.width() == 1, "{format} {number}");
            assert!(photo.warnings().is_empty(), "{format} {number}: {:?}", photo.warnings());
        }
    }
}

#[test]
fn files_cut_anywhere_are_refused_or_say_how_much_is_there() {
    for (format, files) in files() {
        for (number, file) in files.iter().enumerate() {
            // The last bytes may be padding or an end marker.
            for length in (1..file.len().saturating_sub(64)).step_by(file.len() / 37 + 1) {
                let mut cut = file[..length].to_vec();
                if let Ok(photo) = Photo::decode(&cut) {
                    assert!(!photo.warnings().is_empty(), "{format} {number}, {length} bytes of {}", file.len());
                }
                // With zeros in place of the rest.
                cut.resize(file.len(), 0);
                let zeros = Photo::decode(&cut);
                let is_whole = zeros.is_ok_and(|photo| photo.warnings().is_empty());
                // Nothing says what the samples of an uncompressed picture should be.
                assert!(
                    !is_whole || matches!(format, "BMP" | "TIFF" | "WebP" | "GIF"),
                    "{format} {number}, {length} bytes, then zeros"
                );
            }
        }
    }
}

#[test]
fn no_damage_panics_or_goes_beyond_the_limit() {
    let options = PhotoOptions::default().with_max_pixels(MAX_PIXELS);
    for (format, files) in files() {
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        let (mut read, mut failed) = (0, 0);
        for _ in 0..CASES {
            let mut file = files[numbers.below(files.len())].clone();
            for _ in 0..1 + numbers.below(5) {
                // Half of the damage is in the header.
                let limit = if numbers.below(2) == 0 { file.len() } else { file.len().min(200) };
                let at = numbers.below(limit);
                match numbers.below(5) {
                    0 => file[at] = numbers.below(256) as u8,
                    1 => file[at] = [0, 0xff, 0x7f, 0x80][numbers.below(4)],
                    2 => file[at] ^= 1 << numbers.below(8),
                    3 => file.truncate(at.max(16)),
                    _ => {
                        let end = (at + numbers.below(40)).min(file.len());
                        let piece = file[at..end].to_vec();
                        let to = numbers.below(file.len());
                        file.splice(to..to, piece);
                    }
                }
            }
            if numbers.below(2) == 0 {
                repair_png(&mut file);
            }
            match Photo::decode_within(&file, &options) {
                Ok(photo) => {
                    read += 1;
                    assert!((photo.width() * photo.height()) as u64 <= MAX_PIXELS, "{format}");
                    assert_eq!(photo.rgb().len(), photo.width() * photo.height() * 3);
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Image);
                    failed += u32::from(error.to_string().contains("decoder failed"));
                }
            }
        }
        println!("{format}: {CASES} damaged files, {read} read, {failed} made the decoder panic");
        assert!(read > 0 && read < CASES, "{format}: {read}");
        assert!(format != "JPEG" || failed == 0, "the JPEG decoder is ours");
    }
}
