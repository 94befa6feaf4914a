//! PNG files, whole or not at all.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use faceptor::stages::{Picture, Pixels};

/// Writes an RGB picture.
pub fn write_picture(path: &Path, picture: &Picture) -> Result<()> {
    write(path, picture.bytes(), picture.width(), picture.height(), ExtendedColorType::Rgb8)
}

/// Writes 8-bit grey values, such as class numbers.
pub fn write_grey(path: &Path, values: &[u8], width: usize, height: usize) -> Result<()> {
    write(path, values, width, height, ExtendedColorType::L8)
}

/// The file appears under its name only when it is complete: a full disk leaves no broken picture behind.
fn write(path: &Path, bytes: &[u8], width: usize, height: usize, colour: ExtendedColorType) -> Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = Path::new(&part);
    let written = (|| -> Result<()> {
        let mut file = BufWriter::new(File::create(part)?);
        PngEncoder::new(&mut file).write_image(bytes, width as u32, height as u32, colour)?;
        file.flush()?;
        drop(file);
        fs::rename(part, path)?;
        Ok(())
    })();
    if written.is_err() {
        // Nothing more can be done when this fails too.
        let _ = fs::remove_file(part);
    }
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() -> Result<()> {
        let folder = crate::scratch::Folder::new()?;
        let path = folder.path().join("a.png");
        let picture = Picture::from_rgb(2, 1, vec![1, 2, 3, 4, 5, 6]).context("six bytes")?;
        write_picture(&path, &picture)?;
        assert_eq!(faceptor::stages::read_photo(&path)?.picture, picture);
        assert_eq!(fs::read_dir(folder.path())?.count(), 1);
        Ok(())
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = write_grey(Path::new("/nonexistent/a.png"), &[0], 1, 1).expect_err("no such folder");
        assert!(format!("{error:#}").starts_with("cannot write /nonexistent/a.png: "), "{error:#}");
    }
}
