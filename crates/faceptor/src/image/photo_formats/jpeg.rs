//! JPEG: decoded by [`JpegDecoder`], which counts what was there.

use image::metadata::Orientation;

use super::Decoded;
use crate::error::{Result, bail};
use crate::image::jpeg::JpegDecoder;
use crate::image::picture::Picture;

/// Photos of which less was there are refused: what is missing is grey, and a face may lie in it.
const LEAST_READ: f32 = 0.9;
/// Progressive photos with less of their detail are refused.
const LEAST_DETAIL: f32 = 0.5;
/// More bytes than this after the last pixel are worth a warning.
const PADDING: usize = 64;

/// Decodes a JPEG, of a file with several pictures the first.
pub(super) fn decode(bytes: &[u8], max_pixels: u64) -> Result<Decoded> {
    let mut picture = Picture::default();
    let contents = JpegDecoder::new(max_pixels).decode(bytes, &mut picture)?;
    let damage = contents.damage();
    let mut warnings = Vec::new();
    match damage {
        Some(damage) if contents.read < LEAST_READ || contents.detail < LEAST_DETAIL => bail!(Image, "{damage}"),
        Some(damage) => warnings.push(damage),
        None if contents.left > PADDING => {
            warnings.push(format!("damaged JPEG: {} bytes of its data are left after the last pixel", contents.left));
        }
        None if !contents.has_end => warnings.push("truncated JPEG: its end marker is missing".to_owned()),
        None => {}
    }
    let orientation = contents.exif.and_then(|place| bytes.get(place)).and_then(Orientation::from_exif_chunk);
    Ok(Decoded { picture, orientation: orientation.unwrap_or(Orientation::NoTransforms), animated: false, warnings })
}
