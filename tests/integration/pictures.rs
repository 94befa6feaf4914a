//! Makes picture files of every kind, in memory.

use std::io::Cursor;

use faceptor_test_support::sample;
use image::codecs::gif::GifEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, Frame, ImageFormat, Rgb, RgbImage, imageops};
use proptest::collection::vec;
use proptest::prelude::any;

use crate::program::PORTRAIT;

/// Returns the portrait, decoded.
pub fn portrait() -> RgbImage {
    image::open(PORTRAIT).expect("the portrait is in the repository").into_rgb8()
}

/// Returns a picture as a file in memory.
pub fn encode(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    picture.into().write_to(&mut file, format).expect("writing to memory");
    file.into_inner()
}

pub fn png(picture: impl Into<DynamicImage>) -> Vec<u8> {
    encode(picture, ImageFormat::Png)
}

pub fn jpeg(picture: &RgbImage) -> Vec<u8> {
    let mut file = Vec::new();
    JpegEncoder::new_with_quality(&mut file, 95).encode_image(picture).expect("writing to memory");
    file
}

/// Returns a JPEG with an EXIF orientation (1..=8) inserted after its first marker.
pub fn jpeg_with_orientation(picture: &RgbImage, orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    let mut file = jpeg(picture);
    let length = (exif.len() as u16 + 2).to_be_bytes();
    let segment = [&[0xff, 0xe1], length.as_slice(), exif.as_slice()].concat();
    file.splice(2..2, segment);
    file
}

/// Returns an 8 x 8 CMYK JPEG of one colour, as Adobe writes it (inverted: 255 = no ink), from a writer of its own: every block
/// is one DC coefficient.
pub fn cmyk_jpeg(inverted_cmyk: [u8; 4]) -> Vec<u8> {
    let mut file = vec![0xff, 0xd8];
    let mut segment = |marker: u8, body: &[u8]| {
        file.extend([0xff, marker]);
        file.extend((body.len() as u16 + 2).to_be_bytes());
        file.extend(body);
    };
    segment(0xee, b"Adobe\0\x64\0\0\0\0\0");
    segment(0xdb, &[&[0u8][..], &[8; 64]].concat());
    let components: Vec<u8> = (1..=4).flat_map(|id| [id, 0x11, 0]).collect();
    segment(0xc0, &[&[8, 0, 8, 0, 8, 4][..], &components].concat());
    // DC: nine categories with codes of four bits, 0000 to 1000. AC: end of block, code 0.
    segment(0xc4, &[&[0x00, 0, 0, 0, 9][..], &[0; 12], &[0, 1, 2, 3, 4, 5, 6, 7, 8]].concat());
    segment(0xc4, &[&[0x10, 1][..], &[0; 15], &[0]].concat());
    segment(0xda, &[4, 1, 0, 2, 0, 3, 0, 4, 0, 0, 63, 0]);
    let mut bits = String::new();
    for value in inverted_cmyk {
        // Quantized by 8, the DC coefficient is the mean less 128.
        let dc = i32::from(value) - 128;
        let category = (32 - dc.unsigned_abs().leading_zeros()) as usize;
        let amplitude = if dc < 0 { dc + (1 << category) - 1 } else { dc };
        bits += &format!("{category:04b}");
        if category > 0 {
            bits += &format!("{amplitude:0category$b}");
        }
        bits += "0";
    }
    while !bits.len().is_multiple_of(8) {
        bits.push('1');
    }
    for byte in bits.as_bytes().chunks(8) {
        let byte = byte.iter().fold(0u8, |byte, bit| byte << 1 | (bit - b'0'));
        file.push(byte);
        if byte == 0xff {
            file.push(0);
        }
    }
    file.extend([0xff, 0xd9]);
    file
}

/// Returns a GIF of two frames.
pub fn animated_gif(first: &RgbImage, second: &RgbImage) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = GifEncoder::new(&mut file);
    for picture in [first, second] {
        let frame = Frame::new(DynamicImage::from(picture.clone()).into_rgba8());
        encoder.encode_frame(frame).expect("writing to memory");
    }
    drop(encoder);
    file
}

/// Returns an animated WebP of two frames, its container written here around two lossless still pictures.
pub fn animated_webp(first: &RgbImage, second: &RgbImage) -> Vec<u8> {
    let chunk = |name: &[u8; 4], body: &[u8]| {
        let mut bytes = [name.as_slice(), &(body.len() as u32).to_le_bytes(), body].concat();
        bytes.resize(bytes.len().next_multiple_of(2), 0);
        bytes
    };
    let small = |value: u32| value.to_le_bytes()[..3].to_vec();
    let (width, height) = (first.width() - 1, first.height() - 1);
    let mut body = b"WEBP".to_vec();
    body.extend(chunk(b"VP8X", &[vec![2, 0, 0, 0], small(width), small(height)].concat()));
    body.extend(chunk(b"ANIM", &[0; 6]));
    for picture in [first, second] {
        // RIFF, length and WEBP take twelve bytes; the rest is the picture's own chunk.
        let still = encode(picture.clone(), ImageFormat::WebP)[12..].to_vec();
        let head = [small(0), small(0), small(width), small(height), small(100), vec![0]].concat();
        body.extend(chunk(b"ANMF", &[head, still].concat()));
    }
    chunk(b"RIFF", &body)
}

/// Returns a smooth gradient: nothing to find in it.
pub fn gradient(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(x * 200 / width) as u8 + 20, (y * 200 / height) as u8, 90]))
}

/// Returns noise, the same in every run.
pub fn noise(width: u32, height: u32) -> RgbImage {
    let bytes = sample(1, vec(any::<u8>(), (3 * width * height) as usize));
    RgbImage::from_raw(width, height, bytes).expect("three bytes a pixel")
}

/// Returns a sheet of `columns` x `rows` copies of the portrait's head, each 128 x 144 px.
pub fn contact_sheet(columns: u32, rows: u32) -> RgbImage {
    let head = imageops::crop_imm(&portrait(), 144, 20, 160, 180).to_image();
    let head = imageops::resize(&head, 128, 144, imageops::FilterType::Triangle);
    let mut sheet = RgbImage::new(columns * 128, rows * 144);
    for index in 0..columns * rows {
        imageops::replace(&mut sheet, &head, i64::from(index % columns * 128), i64::from(index / columns * 144));
    }
    sheet
}
