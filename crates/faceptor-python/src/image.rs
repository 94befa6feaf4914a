//! An image from Python: a decoded photo, or pixels in a camera's format.

use std::path::PathBuf;
use std::time::Instant;

use faceptor::stages::{ImageView, OwnedFrame, Picture, Pixels};
use faceptor::{Photo, PhotoOptions, PixelFormat};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::array;
use crate::failure::{Failure, Outcome, contained};
use crate::interpreter_exit::unlocked;

/// The pixels of an image, in memory of its own: Python may change or free what it came from.
#[pyclass(frozen, module = "faceptor._native")]
pub struct Image {
    content: Content,
    pub(crate) path: Option<String>,
    pub(crate) warnings: Vec<String>,
    /// Time of reading and decoding.
    pub(crate) capture_us: u64,
}

enum Content {
    /// RGB.
    Picture(Picture),
    /// Another format.
    Frame(OwnedFrame),
}

impl Image {
    /// Takes a frame in any format.
    fn of_frame(frame: array::Frame) -> Outcome<Image> {
        let array::Frame { format, colour, size, bytes } = frame;
        let [width, height] = size;
        let content = if format == PixelFormat::Rgb24 {
            let given = bytes.len();
            let picture = Picture::from_rgb(width, height, bytes).filter(|_| width > 0 && height > 0);
            let wrong = || Failure::image(format!("{given} bytes are no {width} x {height} image of RGB"));
            Content::Picture(picture.ok_or_else(wrong)?)
        } else {
            let view = ImageView::new(format, colour, size, format.row_bytes(width), &bytes)
                .map_err(|reason| Failure::image(reason.to_string()))?;
            let mut frame = OwnedFrame::default();
            frame.copy_from(&view);
            Content::Frame(frame)
        };
        Ok(Image { content, path: None, warnings: Vec::new(), capture_us: 0 })
    }

    fn of_photo(photo: Photo, path: Option<String>, start: Instant) -> Image {
        let warnings = photo.warnings().to_vec();
        let content = Content::Picture(photo.into_picture());
        Image { content, path, warnings, capture_us: elapsed_us(start) }
    }

    /// Returns the pixels in the format in which they came.
    pub(crate) fn view(&self) -> ImageView<'_> {
        match &self.content {
            Content::Picture(picture) => picture.view(),
            Content::Frame(frame) => frame.view(),
        }
    }

    /// Calls `work` with the pixels in RGB; only those of other formats are converted, into `memory`.
    pub(crate) fn with_picture<T>(&self, memory: &mut Picture, work: impl FnOnce(&Picture) -> T) -> T {
        match &self.content {
            Content::Picture(picture) => work(picture),
            Content::Frame(frame) => {
                frame.view().to_picture(memory);
                work(memory)
            }
        }
    }

    /// Returns width and height.
    pub(crate) fn size(&self) -> [usize; 2] {
        match &self.content {
            Content::Picture(picture) => [picture.width(), picture.height()],
            Content::Frame(frame) => [frame.view().width(), frame.view().height()],
        }
    }
}

#[pymethods]
impl Image {
    /// Reads and decodes a file.
    #[staticmethod]
    fn open(python: Python<'_>, path: PathBuf, name: String, max_pixels: u64) -> PyResult<Image> {
        let start = Instant::now();
        let options = PhotoOptions::default().with_max_pixels(max_pixels);
        let photo = unlocked(python, || contained(|| Ok(Photo::open_within(&path, &options)?)))?;
        Ok(Image::of_photo(photo, Some(name), start))
    }

    /// Decodes a file's content, without a copy.
    #[staticmethod]
    fn decode(python: Python<'_>, content: PyBackedBytes, max_pixels: u64) -> PyResult<Image> {
        let start = Instant::now();
        let options = PhotoOptions::default().with_max_pixels(max_pixels);
        let photo = unlocked(python, || contained(|| Ok(Photo::decode_within(&content, &options)?)))?;
        Ok(Image::of_photo(photo, None, start))
    }

    /// Copies the pixels of an array.
    #[staticmethod]
    fn from_array(
        image: &Bound<'_, PyAny>,
        format: Option<&str>,
        colour: Option<&str>,
        size: Option<[usize; 2]>,
        max_pixels: u64,
    ) -> PyResult<Image> {
        let start = Instant::now();
        let layout = array::Layout::named(format, colour, size)?;
        let image = contained(|| Image::of_frame(array::copy(image, &layout, max_pixels)?))?;
        Ok(Image { capture_us: elapsed_us(start), ..image })
    }

    #[getter]
    fn width(&self) -> usize {
        self.size()[0]
    }

    #[getter]
    fn height(&self) -> usize {
        self.size()[1]
    }
}

/// Returns the time since `start`.
pub(crate) fn elapsed_us(start: Instant) -> u64 {
    start.elapsed().as_micros() as u64
}
