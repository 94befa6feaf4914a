//! Decodes the picture formats of photos, each to RGB and within a limit of pixels.
//!
//! The format is recognized by the content, not by the file name. A decoder holds the RGB picture and, beyond it, at most
//! 6 bytes a pixel: [`room`] asks for the memory before a decoder allocates without asking.

mod gif;
mod jpeg;
mod other;
mod png;

use image::metadata::Orientation;

use crate::error::{Result, bail};
use crate::image::picture::Picture;

/// Most pixels of a picture by default; pictures with more are refused before anything is allocated for them.
pub(crate) const MAX_PIXELS: u64 = 64 << 20;

/// A picture as it is stored, before its orientation is applied.
pub(crate) struct Decoded {
    pub picture: Picture,
    pub orientation: Orientation,
    pub animated: bool,
    /// A warning about the picture for the user.
    pub warnings: Vec<String>,
}

/// First bytes of formats that are known but not read, with the format's name and the advice.
const UNREAD: [(usize, &[u8], &str, &str); 12] = [
    (4, b"ftypavi", "AVIF", "convert it to JPEG or PNG, for example with `avifdec a.avif a.png`"),
    (4, b"ftyphei", "HEIC", "convert it to JPEG, for example with `heif-convert a.heic a.jpg`"),
    (4, b"ftyphev", "HEIC", "convert it to JPEG, for example with `heif-convert a.heic a.jpg`"),
    (4, b"ftypmif1", "HEIF", "convert it to JPEG, for example with `heif-convert a.heif a.jpg`"),
    (4, b"ftypmsf1", "HEIF", "convert it to JPEG, for example with `heif-convert a.heif a.jpg`"),
    (4, b"ftypcrx", "Raw camera", "develop it to JPEG or TIFF first"),
    (0, b"\xff\x0a", "JPEG XL", "convert it to PNG, for example with `djxl a.jxl a.png`"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL", "convert it to PNG, for example with `djxl a.jxl a.png`"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000", "convert it to PNG, for example with `opj_decompress`"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000", "convert it to PNG, for example with `opj_decompress`"),
    (0, b"8BPS", "Photoshop", "save it as JPEG or PNG"),
    (0, b"%PDF", "PDF", "save its pages as JPEG or PNG"),
];

/// Decodes a file of any format.
pub(crate) fn decode(bytes: &[u8], max_pixels: u64) -> Result<Decoded> {
    let at = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    if at(0, b"\xff\xd8\xff") {
        return jpeg::decode(bytes, max_pixels);
    }
    if at(0, b"\x89PNG\r\n\x1a\n") {
        return png::decode(bytes, max_pixels);
    }
    if at(0, b"GIF87a") || at(0, b"GIF89a") {
        return gif::decode(bytes, max_pixels);
    }
    if at(0, b"RIFF") && at(8, b"WEBP") {
        return other::webp(bytes, max_pixels);
    }
    if at(0, b"II*\0") || at(0, b"MM\0*") || at(0, b"II+\0") || at(0, b"MM\0+") {
        return other::tiff(bytes, max_pixels);
    }
    // Two letters are little evidence; a bitmap continues with four zero bytes.
    if at(0, b"BM") && at(6, &[0; 4]) {
        return other::bmp(bytes, max_pixels);
    }
    if let Some((_, _, name, advice)) = UNREAD.iter().find(|(offset, magic, ..)| at(*offset, magic)) {
        bail!(Image, "{name} pictures are not read: {advice}");
    }
    bail!(Image, "not a JPEG, PNG, WebP, GIF, BMP or TIFF picture");
}

/// Checks a picture's size against the limit.
fn check_size(width: u64, height: u64, max_pixels: u64) -> Result<()> {
    if width == 0 || height == 0 {
        bail!(Image, "the picture has no pixels");
    }
    if width.saturating_mul(height) > max_pixels {
        bail!(
            Image,
            "{width} x {height} pixels are more than the {max_pixels} that are read: scale it down, or allow more \
             (--max-pixels)"
        );
    }
    Ok(())
}

/// Allocates the RGB bytes of a picture, or reports that the memory does not suffice.
fn rgb_buffer(width: usize, height: usize, fill: u8) -> Result<Vec<u8>> {
    let mut rgb = Vec::new();
    let length = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3));
    match length.map(|length| (length, rgb.try_reserve_exact(length))) {
        Some((length, Ok(()))) => rgb.resize(length, fill),
        _ => bail!(Image, "{width} x {height} pixels do not fit into the memory that is left: scale it down"),
    }
    Ok(rgb)
}

/// Checks that a decoder can allocate `bytes`, because allocations inside of decoders end the program when they fail.
fn room(bytes: u64) -> Result<()> {
    let mut probe: Vec<u8> = Vec::new();
    let fits = usize::try_from(bytes).is_ok_and(|bytes| probe.try_reserve_exact(bytes).is_ok());
    if !fits {
        bail!(Image, "decoding needs {} MiB, more than the memory that is left: scale it down", bytes >> 20);
    }
    Ok(())
}

/// Composites a value over white, as a web page would show it.
fn over_white(value: u8, alpha: u8) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

/// Returns a 16-bit value as 8 bits, rounded.
fn narrow(value: u16) -> u8 {
    ((u32::from(value) * 255 + 32767) / 65535) as u8
}

/// Returns the error of a decoder in its own words and once: errors repeat those that caused them.
fn cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(bytes: &[u8]) -> String {
        decode(bytes, MAX_PIXELS).err().expect("a bad file").to_string()
    }

    #[test]
    fn unread_formats_are_refused_by_name_with_advice() {
        for (head, name) in [
            (&b"\0\0\0\x1cftypavif\0\0\0\0"[..], "AVIF"),
            (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
            (b"\0\0\0\x18ftypmif1\0\0\0\0", "HEIF"),
            (b"\xff\x0a\x01", "JPEG XL"),
            (b"8BPS\0\x01", "Photoshop"),
        ] {
            let text = reason(head);
            assert!(text.starts_with(name) && text.contains("are not read: "), "{text}");
        }
        assert!(reason(b"BM is text that begins with two letters").starts_with("not a JPEG"));
        assert!(reason(b"RIFF....WAVE").starts_with("not a JPEG"));
    }

    #[test]
    fn sizes_beyond_limits_are_refused() {
        assert!(check_size(1000, 1000, 1_000_000).is_ok());
        let text = check_size(1000, 1001, 1_000_000).expect_err("too large").to_string();
        assert!(
            text.starts_with("1000 x 1001 pixels are more than the 1000000") && text.contains("--max-pixels"),
            "{text}"
        );
        assert!(check_size(u64::MAX, u64::MAX, u64::MAX - 1).is_err());
        assert!(rgb_buffer(usize::MAX, 2, 0).is_err() && rgb_buffer(1 << 40, 1 << 20, 0).is_err());
        assert!(room(u64::MAX).is_err() && room(1 << 20).is_ok());
    }

    #[test]
    fn sixteen_bits_are_rounded_to_eight() {
        assert_eq!([0, 0x80, 0x81, 0x8080, 0xfffe, 0xffff].map(narrow), [0, 0, 1, 128, 255, 255]);
    }
}
