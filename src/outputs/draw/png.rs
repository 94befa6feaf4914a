//! Writes PNG files, whole or not at all.

use std::path::Path;

use anyhow::Result;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use crate::platform::atomic_file;
use faceptor::stages::{Picture, Pixels};

/// Writes an RGB picture.
///
/// # Errors
/// When the file cannot be written; the message names it.
pub fn write_picture(path: &Path, picture: &Picture) -> Result<()> {
    write(path, picture.bytes(), picture.width(), picture.height(), ExtendedColorType::Rgb8)
}

/// Writes 8-bit grey values, such as class numbers.
///
/// # Errors
/// When the file cannot be written; the message names it.
pub fn write_grey(path: &Path, values: &[u8], width: usize, height: usize) -> Result<()> {
    write(path, values, width, height, ExtendedColorType::L8)
}

fn write(path: &Path, bytes: &[u8], width: usize, height: usize, colour: ExtendedColorType) -> Result<()> {
    atomic_file::write(path, |file| {
        Ok(PngEncoder::new(file).write_image(bytes, width as u32, height as u32, colour)?)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use anyhow::Context;

    use super::*;

    #[test]
    fn written_picture_is_read_back() -> Result<()> {
        let folder = faceptor_test_support::Folder::new();
        let path = folder.path().join("a.png");
        let picture = Picture::from_rgb(2, 1, vec![1, 2, 3, 4, 5, 6]).context("six bytes")?;
        write_picture(&path, &picture)?;
        assert_eq!(faceptor::stages::read_photo(&path)?.into_picture(), picture);
        assert_eq!(fs::read_dir(folder.path())?.count(), 1);
        Ok(())
    }

    #[test]
    fn missing_folder_is_named() {
        let error = write_grey(Path::new("/nonexistent/a.png"), &[0], 1, 1).expect_err("no such folder");
        assert!(format!("{error:#}").starts_with("cannot write /nonexistent/a.png: "), "{error:#}");
    }
}
