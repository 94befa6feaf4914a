//! Decodes photos (JPEG, PNG, WebP, TIFF, BMP, and the first frame of a GIF) to an upright RGB picture.
//!
//! Grey, CMYK and 16-bit pictures become 8-bit RGB; transparency is composited over white; the EXIF orientation is
//! applied. The format is recognized by the content, not by the file name.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};

use crate::error::{Error, ErrorKind, Result, bail};
use crate::image::containment::contain;
use crate::image::photo_formats::{self, Decoded, MAX_PIXELS};
use crate::image::picture::{Picture, Pixels};

/// Longer files are refused without reading them to the end.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Limits of reading a photo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PhotoOptions {
    /// Most pixels: photos with more are refused from their header. Decoding takes at most 12 bytes a pixel beside the
    /// file. The default is 64 Mi (67,108,864).
    pub max_pixels: u64,
}

impl Default for PhotoOptions {
    fn default() -> PhotoOptions {
        PhotoOptions { max_pixels: MAX_PIXELS }
    }
}

impl PhotoOptions {
    /// Returns the options with another limit of pixels.
    pub fn with_max_pixels(mut self, max_pixels: u64) -> PhotoOptions {
        self.max_pixels = max_pixels;
        self
    }
}

/// A decoded photo: upright RGB, 8 bits a channel.
#[derive(Clone, Debug)]
pub struct Photo {
    picture: Picture,
    animated: bool,
    warnings: Vec<String>,
}

impl Photo {
    /// Reads and decodes a JPEG, PNG, WebP, GIF, TIFF or BMP file, whatever its name says.
    ///
    /// Grey, CMYK and 16-bit images become 8-bit RGB, transparency is laid over white, the EXIF orientation is applied;
    /// the first frame of an animation is taken.
    ///
    /// # Errors
    /// [`ErrorKind::Image`] when the file cannot be read, is in another format or broken, or has more than 64 million
    /// pixels; the text names the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Photo, Error> {
        Photo::open_within(path, &PhotoOptions::default())
    }

    /// Reads and decodes such a file within other limits.
    ///
    /// # Errors
    /// Fails as [`Photo::open`] does.
    pub fn open_within(path: impl AsRef<Path>, options: &PhotoOptions) -> Result<Photo, Error> {
        let path = path.as_ref();
        read_within(path, options).map_err(|reason| reason.within(path.display()))
    }

    /// Decodes the bytes of such a file.
    ///
    /// # Errors
    /// Fails as [`Photo::open`] does.
    pub fn decode(bytes: &[u8]) -> Result<Photo, Error> {
        decode(bytes)
    }

    /// Decodes the bytes of such a file within other limits.
    ///
    /// # Errors
    /// Fails as [`Photo::open`] does.
    pub fn decode_within(bytes: &[u8], options: &PhotoOptions) -> Result<Photo, Error> {
        decode_within(bytes, options)
    }

    /// Returns the width in pixels, at least 1.
    pub fn width(&self) -> usize {
        self.picture.width()
    }

    /// Returns the height in pixels, at least 1.
    pub fn height(&self) -> usize {
        self.picture.height()
    }

    /// Returns the pixels row by row, three bytes each: red, green, blue.
    pub fn rgb(&self) -> &[u8] {
        self.picture.bytes()
    }

    /// Reports whether the file held an animation, of which this is the first frame.
    pub fn is_animated(&self) -> bool {
        self.animated
    }

    /// Returns what is wrong with the photo although it could be decoded, such as a part that is missing; empty for a
    /// sound file.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns the pixels for the steps of [`stages`](crate::stages).
    pub fn picture(&self) -> &Picture {
        &self.picture
    }

    /// Returns the pixels for the steps of [`stages`](crate::stages), without a copy.
    pub fn into_picture(self) -> Picture {
        self.picture
    }
}

/// Reads and decodes one file within the default limits. The error states the reason without naming the file.
pub fn read(path: &Path) -> Result<Photo> {
    read_within(path, &PhotoOptions::default())
}

/// Reads and decodes one file. The error states the reason without naming the file.
pub fn read_within(path: &Path, options: &PhotoOptions) -> Result<Photo> {
    let file = File::open(path).map_err(|error| plain(&error))?;
    if file.metadata().is_ok_and(|data| data.is_dir()) {
        bail!(Image, "a folder, not a photo");
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| plain(&error))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        bail!(Image, "the file is longer than {} MiB", MAX_FILE_BYTES >> 20);
    }
    decode_within(&bytes, options)
}

/// Describes an error of the system without the number that Rust appends: "no such file or directory".
fn plain(error: &std::io::Error) -> Error {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    Error::new(ErrorKind::Image, text[..end].to_lowercase())
}

/// Decodes a photo from memory within the default limits.
pub fn decode(bytes: &[u8]) -> Result<Photo> {
    decode_within(bytes, &PhotoOptions::default())
}

/// Decodes a photo from memory.
fn decode_within(bytes: &[u8], options: &PhotoOptions) -> Result<Photo> {
    if bytes.is_empty() {
        bail!(Image, "the file is empty");
    }
    let decoded = contain(|| photo_formats::decode(bytes, options.max_pixels).and_then(upright));
    decoded.unwrap_or_else(|| Err(Error::new(ErrorKind::Image, "the decoder failed: the picture is damaged")))
}

/// Applies the orientation.
fn upright(decoded: Decoded) -> Result<Photo> {
    let Decoded { mut picture, orientation, animated, warnings } = decoded;
    if orientation != Orientation::NoTransforms {
        let (width, height) = (picture.width() as u32, picture.height() as u32);
        let stored = RgbImage::from_raw(width, height, picture.into_bytes()).map(DynamicImage::from);
        let turned = stored.and_then(|mut image| {
            image.apply_orientation(orientation);
            let (width, height) = (image.width() as usize, image.height() as usize);
            Picture::from_rgb(width, height, image.into_rgb8().into_raw())
        });
        match turned {
            Some(turned) => picture = turned,
            None => bail!(Image, "the decoder gave another size than it announced"),
        }
    }
    Ok(Photo { picture, animated, warnings })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{ImageBuffer, ImageEncoder, ImageFormat, Luma, LumaA, Rgba};

    use super::*;

    fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        image.into().write_to(&mut file, ImageFormat::Png).expect("writing to memory");
        file.into_inner()
    }

    fn reason(bytes: &[u8]) -> String {
        format!("{:#}", decode(bytes).expect_err("this file is bad"))
    }

    #[test]
    fn sixteen_bit_grey_and_alpha_become_rgb() {
        let deep = ImageBuffer::from_fn(2, 1, |x, _| Luma([if x == 0 { 0x8080u16 } else { 0xffff }]));
        let photo = decode(&png(deep)).expect("16-bit grey");
        assert_eq!((photo.picture.rgb(0, 0), photo.picture.rgb(1, 0)), ([128; 3], [255; 3]));
        let clear = ImageBuffer::from_fn(1, 1, |_, _| Rgba([200u8, 0, 0, 0]));
        assert_eq!(decode(&png(clear)).expect("rgba").picture.rgb(0, 0), [255; 3]);
        let half = ImageBuffer::from_fn(1, 1, |_, _| LumaA([0u8, 128]));
        assert_eq!(decode(&png(half)).expect("grey with alpha").picture.rgb(0, 0), [127; 3]);
    }

    #[test]
    fn bad_files_say_what_is_wrong() {
        assert_eq!(reason(&[]), "the file is empty");
        assert_eq!(reason(b"hello, this is text"), "not a JPEG, PNG, WebP, GIF, BMP or TIFF picture");
        assert!(reason(b"8BPS a Photoshop file").contains("are not read"), "{}", reason(b"8BPS a Photoshop file"));
        assert!(reason(b"II*\0 a tiff file").starts_with("broken TIFF"), "{}", reason(b"II*\0 a tiff file"));
        let whole = png(ImageBuffer::from_pixel(40, 40, Rgba([1u8, 2, 3, 255])));
        assert!(reason(&whole[..whole.len() / 2]).starts_with("broken PNG"), "{}", reason(&whole[..whole.len() / 2]));
    }

    #[test]
    fn a_huge_picture_is_refused_from_its_header() {
        // A PNG header that announces 100,000 x 100,000 pixels.
        let mut file = png(ImageBuffer::from_pixel(1, 1, Luma([0u8])));
        file[16..24].copy_from_slice(&[0, 1, 0x86, 0xa0, 0, 1, 0x86, 0xa0]);
        let checksum = png_checksum(&file[12..29]);
        file[29..33].copy_from_slice(&checksum.to_be_bytes());
        assert!(reason(&file).contains("100000 x 100000 pixels are more than"), "{}", reason(&file));
    }

    fn png_checksum(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 })
        })
    }

    #[test]
    fn a_cut_jpeg_is_refused() {
        let mut file = Vec::new();
        let pixels: Vec<u8> = (0..64 * 64 * 3).map(|i| (i * 7 % 251) as u8).collect();
        image::codecs::jpeg::JpegEncoder::new(&mut file)
            .write_image(&pixels, 64, 64, image::ExtendedColorType::Rgb8)
            .expect("writing to memory");
        assert!(decode(&file).is_ok());
        let cut = reason(&file[..file.len() * 2 / 3]);
        assert!(
            cut.starts_with("truncated JPEG: its end is missing, ") && cut.ends_with(" % of the picture is there"),
            "{cut}"
        );
    }
}
