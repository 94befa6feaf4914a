//! WebP, TIFF and BMP through the crate `image`, which returns whole pictures in their own colour type.

use std::io::Cursor;

use image::codecs::{bmp::BmpDecoder, tiff::TiffDecoder, webp::WebPDecoder};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageResult, Limits};

use super::{Decoded, cause, check_size, over_white, room};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::image::picture::Picture;

/// Most bytes a pixel that a decoder may allocate.
const BYTES_PER_PIXEL: u64 = 8;

/// Decodes a WebP picture, of an animation the first frame.
pub(super) fn webp(bytes: &[u8], max_pixels: u64) -> Result<Decoded> {
    let decoder = opened("WebP", WebPDecoder::new(Cursor::new(bytes)))?;
    let animated = decoder.has_animation();
    develop(decoder, "WebP", animated, max_pixels)
}

/// Decodes the first page of a TIFF.
pub(super) fn tiff(bytes: &[u8], max_pixels: u64) -> Result<Decoded> {
    develop(opened("TIFF", TiffDecoder::new(Cursor::new(bytes)))?, "TIFF", false, max_pixels)
}

/// Decodes a BMP.
pub(super) fn bmp(bytes: &[u8], max_pixels: u64) -> Result<Decoded> {
    develop(opened("BMP", BmpDecoder::new(Cursor::new(bytes)))?, "BMP", false, max_pixels)
}

fn opened<D>(format: &str, decoder: ImageResult<D>) -> Result<D> {
    decoder.map_err(|error| Error::new(ErrorKind::Image, format!("broken {format}: {}", cause(&error))))
}

fn develop(mut decoder: impl ImageDecoder, format: &str, animated: bool, max_pixels: u64) -> Result<Decoded> {
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    check_size(u64::from(width), u64::from(height), max_pixels)?;
    let stored = u64::from(decoder.color_type().bytes_per_pixel());
    if stored > BYTES_PER_PIXEL && pixels * stored > max_pixels * BYTES_PER_PIXEL {
        bail!(
            Image,
            "{width} x {height} pixels of {stored} bytes are more than is read: save it with 8 bits a channel"
        );
    }
    room(pixels * (stored + 3))?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(max_pixels.saturating_mul(BYTES_PER_PIXEL).saturating_add(1 << 20));
    let too_large =
        |error| Error::new(ErrorKind::Image, format!("this {format} needs too much memory: {}", cause(&error)));
    decoder.set_limits(limits).map_err(too_large)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = opened(format, DynamicImage::from_decoder(decoder))?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    let Some(picture) = Picture::from_rgb(width, height, into_rgb(image)) else {
        bail!(Image, "broken {format}: the decoder gave another size than it announced");
    };
    Ok(Decoded { picture, orientation, animated, warnings: Vec::new() })
}

/// Converts any colour type to RGB. Transparency is composited over white, in the memory of the RGBA picture.
fn into_rgb(image: DynamicImage) -> Vec<u8> {
    if !image.color().has_alpha() {
        return image.into_rgb8().into_raw();
    }
    let mut bytes = image.into_rgba8().into_raw();
    let pixels = bytes.len() / 4;
    for pixel in 0..pixels {
        let from = pixel * 4;
        let alpha = bytes[from + 3];
        let colour = [bytes[from], bytes[from + 1], bytes[from + 2]].map(|value| over_white(value, alpha));
        bytes[pixel * 3..][..3].copy_from_slice(&colour);
    }
    bytes.truncate(pixels * 3);
    bytes
}
