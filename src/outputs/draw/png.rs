//! Encodes PNGs with the mark of this program.

use std::io::Write;

use anyhow::Result;
use png::{BitDepth, ColorType, Compression, Encoder, Filter};

use crate::files::png_mark::{PngMark, SourceId};
use faceptor::stages::{Picture, Pixels};

/// Encodes an RGB picture. `source`: what it was made of, if that has a name.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn encode_picture(file: impl Write, picture: &Picture, source: Option<&SourceId>) -> Result<()> {
    encode(file, picture.bytes(), [picture.width(), picture.height()], ColorType::Rgb, source)
}

/// Encodes 8-bit grey values, such as class numbers.
///
/// # Errors
/// When they cannot be written.
pub(crate) fn encode_grey(file: impl Write, values: &[u8], size: [usize; 2], source: Option<&SourceId>) -> Result<()> {
    encode(file, values, size, ColorType::Grayscale, source)
}

fn encode(
    file: impl Write,
    bytes: &[u8],
    size: [usize; 2],
    colour: ColorType,
    source: Option<&SourceId>,
) -> Result<()> {
    let [width, height] = size.map(|side| side as u32);
    let mut encoder = Encoder::new(file, width, height);
    encoder.set_color(colour);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Fast);
    encoder.set_filter(Filter::Adaptive);
    for (keyword, text) in (PngMark { source: source.cloned() }).texts() {
        encoder.add_text_chunk(keyword.to_owned(), text)?;
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(bytes)?;
    Ok(writer.finish()?)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;
    use crate::files::png_mark;
    use faceptor::stages::read_photo;

    #[test]
    fn written_picture_is_read_back_with_its_mark() -> Result<()> {
        let folder = faceptor_test_support::Folder::new();
        let picture = Picture::from_rgb(2, 1, vec![1, 2, 3, 4, 5, 6]).context("six bytes")?;
        for source in [None, Some(SourceId::of_bytes(b"a"))] {
            let mut bytes = Vec::new();
            encode_picture(&mut bytes, &picture, source.as_ref())?;
            let path = folder.write("a.png", &bytes);
            assert_eq!(read_photo(path.as_ref())?.into_picture(), picture);
            assert_eq!(png_mark::read(path.as_ref()), Some(PngMark { source }));
        }
        let mut bytes = Vec::new();
        encode_grey(&mut bytes, &[7, 9], [1, 2], None)?;
        let path = folder.write("b.png", &bytes);
        assert_eq!(image::open(path)?.into_luma8().into_raw(), [7, 9]);
        Ok(())
    }
}
