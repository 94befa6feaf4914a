//! Decodes photos (JPEG, PNG, WebP, and the first frame of a GIF) to an upright RGB picture.
//!
//! Grey, CMYK and 16-bit pictures become 8-bit RGB; transparency is composited over white; the EXIF orientation is
//! applied. The format is recognized by the content, not by the file name.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use image::codecs::{gif::GifDecoder, jpeg::JpegDecoder, png::PngDecoder, webp::WebPDecoder};
use image::metadata::Orientation;
use image::{AnimationDecoder, DynamicImage, ImageDecoder, ImageError, ImageFormat, Limits};

use crate::error::{Error, ErrorKind, Result, bail};
use crate::image::jpeg_markers;
use crate::image::picture::{Picture, Pixels};

/// Pictures with more pixels are refused before anything is allocated for them.
pub const MAX_PIXELS: u64 = 64 << 20;
/// Maximum allocation of a decoder.
const MAX_DECODER_BYTES: u64 = 512 << 20;
/// Longer files are refused without reading them to the end.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// A decoded photo: upright RGB, 8 bits a channel.
#[derive(Clone, Debug)]
pub struct Photo {
    picture: Picture,
    animated: bool,
}

impl Photo {
    /// Reads and decodes a JPEG, PNG, WebP or GIF file, whatever its name says.
    ///
    /// Grey, CMYK and 16-bit images become 8-bit RGB, transparency is laid over white, the EXIF orientation is applied;
    /// the first frame of an animation is taken.
    ///
    /// # Errors
    /// [`ErrorKind::Image`] when the file cannot be read, is in another format or broken, or has more than 64 million
    /// pixels; the text names the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Photo, Error> {
        let path = path.as_ref();
        read(path).map_err(|reason| reason.within(path.display()))
    }

    /// Decodes the bytes of such a file.
    ///
    /// # Errors
    /// As of [`Photo::open`].
    pub fn decode(bytes: &[u8]) -> Result<Photo, Error> {
        decode(bytes)
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

    /// Returns the pixels for the steps of [`stages`](crate::stages).
    pub fn picture(&self) -> &Picture {
        &self.picture
    }

    /// Returns the pixels for the steps of [`stages`](crate::stages), without a copy.
    pub fn into_picture(self) -> Picture {
        self.picture
    }
}

/// Makes an error about a photo.
fn unreadable(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::Image, reason)
}

/// Reads and decodes one file. The error states the reason without naming the file.
pub fn read(path: &Path) -> Result<Photo> {
    let file = File::open(path).map_err(|error| plain(&error))?;
    if file.metadata().is_ok_and(|data| data.is_dir()) {
        bail!(Image, "a folder, not a photo");
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| plain(&error))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        bail!(Image, "the file is longer than {} MiB", MAX_FILE_BYTES >> 20);
    }
    decode(&bytes)
}

/// "No such file or directory" without the number that Rust appends.
fn plain(error: &std::io::Error) -> Error {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    unreadable(text[..end].to_lowercase())
}

/// Decodes a photo from memory.
pub fn decode(bytes: &[u8]) -> Result<Photo> {
    if bytes.is_empty() {
        bail!(Image, "the file is empty");
    }
    let reader = Cursor::new(bytes);
    let limits = limits();
    match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => {
            let decoder = JpegDecoder::new(reader).map_err(|error| broken("JPEG", &error))?;
            check_size(&decoder)?;
            if !jpeg_markers::reaches_end(bytes) {
                bail!(Image, "truncated JPEG: its end is missing");
            }
            develop(decoder, "JPEG", false)
        }
        Ok(ImageFormat::Png) => {
            let decoder = PngDecoder::with_limits(reader, limits).map_err(|error| broken("PNG", &error))?;
            let animated = decoder.is_apng().unwrap_or(false);
            develop(decoder, "PNG", animated)
        }
        Ok(ImageFormat::WebP) => {
            let decoder = WebPDecoder::new(reader).map_err(|error| broken("WebP", &error))?;
            let animated = decoder.has_animation();
            develop(decoder, "WebP", animated)
        }
        Ok(ImageFormat::Gif) => {
            let decoder = GifDecoder::new(reader.clone()).map_err(|error| broken("GIF", &error))?;
            check_size(&decoder)?;
            let frames = GifDecoder::new(reader).map(|decoder| decoder.into_frames());
            let animated = frames.is_ok_and(|mut frames| frames.nth(1).is_some());
            develop(decoder, "GIF", animated)
        }
        Ok(other) => bail!(Image, "{other:?} pictures are not read: save it as JPEG, PNG or WebP"),
        Err(_) => bail!(Image, "not a JPEG, PNG or WebP picture"),
    }
}

/// What the decoder found, in its own words and once: its errors repeat those that caused them.
fn broken(format: &str, error: &ImageError) -> Error {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    unreadable(format!("broken {format}: {cause}"))
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    limits
}

fn check_size(decoder: &impl ImageDecoder) -> Result<()> {
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        bail!(
            Image,
            "{width} x {height} pixels are more than the {} million that are read: scale it down",
            MAX_PIXELS >> 20
        );
    }
    if width == 0 || height == 0 {
        bail!(Image, "the picture has no pixels");
    }
    Ok(())
}

fn develop(mut decoder: impl ImageDecoder, format: &str, animated: bool) -> Result<Photo> {
    check_size(&decoder)?;
    let too_large = |reason: ImageError| unreadable(format!("this {format} needs too much memory: {reason}"));
    decoder.set_limits(limits()).map_err(too_large)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| broken(format, &error))?;
    image.apply_orientation(orientation);
    let (width, height) = (image.width() as usize, image.height() as usize);
    let rgb = if image.color().has_alpha() { over_white(&image) } else { image.into_rgb8().into_raw() };
    let picture = Picture::from_rgb(width, height, rgb);
    let picture = picture.ok_or_else(|| unreadable("the decoder gave another size than it announced"))?;
    Ok(Photo { picture, animated })
}

/// Composites transparency over white, as a web page would show it.
fn over_white(image: &DynamicImage) -> Vec<u8> {
    let blend = |value: u8, alpha: u8| {
        let (value, alpha) = (u32::from(value), u32::from(alpha));
        ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    let rgba = image.to_rgba8();
    rgba.pixels().flat_map(|p| [blend(p[0], p[3]), blend(p[1], p[3]), blend(p[2], p[3])]).collect()
}

#[cfg(test)]
mod tests {
    use image::{ImageBuffer, ImageEncoder, Luma, LumaA, Rgba};

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
        assert_eq!(reason(b"hello, this is text"), "not a JPEG, PNG or WebP picture");
        assert!(reason(b"II*\0 a tiff file").contains("are not read"), "{}", reason(b"II*\0 a tiff file"));
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
        assert_eq!(reason(&file[..file.len() * 2 / 3]), "truncated JPEG: its end is missing");
    }
}
