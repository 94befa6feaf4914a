//! Pixels of numpy arrays: which shapes are images of which format, and their copy.

use faceptor::{Colour, PixelFormat};
use numpy::ndarray::{ArrayView, ArrayViewD, Dimension};
use numpy::{PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::failure::{Failure, Outcome};

/// Pixels of an array, in the order of their format, rows without gaps.
pub struct Frame {
    pub format: PixelFormat,
    pub colour: Colour,
    pub size: [usize; 2],
    pub bytes: Vec<u8>,
}

/// The layout of an array's bytes.
pub struct Layout {
    /// `None`: RGB or grey, by the shape.
    format: Option<PixelFormat>,
    /// The order is blue, green, red.
    reversed: bool,
    colour: Option<Colour>,
    size: Option<[usize; 2]>,
}

const FORMATS: &str = "RGB, BGR, GREY, NV12, I420, I422, I444, YUYV, UYVY";

impl Layout {
    /// Looks up the names that Python code gives.
    ///
    /// # Errors
    /// When a name is unknown.
    pub fn named(format: Option<&str>, colour: Option<&str>, size: Option<[usize; 2]>) -> Outcome<Layout> {
        let upper = format.map(str::to_ascii_uppercase);
        let (format, reversed) = match upper.as_deref() {
            None => (None, false),
            Some("RGB") => (Some(PixelFormat::Rgb24), false),
            Some("BGR") => (Some(PixelFormat::Rgb24), true),
            Some("GREY" | "GRAY") => (Some(PixelFormat::Grey), false),
            Some("NV12") => (Some(PixelFormat::Nv12), false),
            Some("I420") => (Some(PixelFormat::I420), false),
            Some("I422") => (Some(PixelFormat::I422), false),
            Some("I444") => (Some(PixelFormat::I444), false),
            Some("YUYV" | "YUY2") => (Some(PixelFormat::Yuyv), false),
            Some("UYVY") => (Some(PixelFormat::Uyvy), false),
            Some(other) => {
                return Err(Failure::argument(format!("unknown pixel format '{other}': one of {FORMATS} is needed")));
            }
        };
        let colour = match colour {
            None => None,
            Some("bt601-limited") => Some(Colour::Bt601Limited),
            Some("bt601-full") => Some(Colour::Bt601Full),
            Some("bt709-limited") => Some(Colour::Bt709Limited),
            Some("bt709-full") => Some(Colour::Bt709Full),
            Some(other) => {
                let known = "bt601-limited, bt601-full, bt709-limited, bt709-full";
                return Err(Failure::argument(format!("unknown colour encoding '{other}': one of {known} is needed")));
            }
        };
        Ok(Layout { format, reversed, colour, size })
    }

    /// Finds format, width and height of an array.
    fn resolve(&self, shape: &[usize]) -> Outcome<(PixelFormat, [usize; 2])> {
        let guessed = if shape.len() == 2 || shape.last() == Some(&1) { PixelFormat::Grey } else { PixelFormat::Rgb24 };
        let format = self.format.unwrap_or(guessed);
        let described = describe(shape);
        if shape.contains(&0) {
            return Err(Failure::image(format!("{described} has no pixels")));
        }
        if let Some(size) = self.size {
            return Ok((format, size));
        }
        let size = match (format, shape) {
            (PixelFormat::Rgb24, [height, width, 3]) => Some([*width, *height]),
            (PixelFormat::Grey, [height, width] | [height, width, 1]) => Some([*width, *height]),
            (PixelFormat::Yuyv | PixelFormat::Uyvy, [height, width, 2]) if width % 2 == 0 => Some([*width, *height]),
            (PixelFormat::Yuyv | PixelFormat::Uyvy, [height, bytes]) if bytes % 4 == 0 => Some([bytes / 2, *height]),
            (PixelFormat::Nv12 | PixelFormat::I420, [rows, width]) if width % 2 == 0 && rows % 3 == 0 => {
                Some([*width, rows / 3 * 2])
            }
            (PixelFormat::I422, [rows, width]) if width % 2 == 0 && rows % 2 == 0 => Some([*width, rows / 2]),
            (PixelFormat::I444, [rows, width]) if rows % 3 == 0 => Some([*width, rows / 3]),
            _ => None,
        };
        size.map(|size| (format, size))
            .ok_or_else(|| Failure::image(format!("{described} {}", expected(format, shape))))
    }
}

/// Describes a shape: `an array of shape (480, 640, 4)`.
fn describe(shape: &[usize]) -> String {
    let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
    let comma = if sizes.len() == 1 { "," } else { "" };
    format!("an array of shape ({}{comma})", sizes.join(", "))
}

/// States the shapes of a format, for an array of another shape.
fn expected(format: PixelFormat, shape: &[usize]) -> String {
    let shapes = match format {
        PixelFormat::Rgb24 => "(height, width, 3) for colour or (height, width) for grey",
        PixelFormat::Grey => "(height, width)",
        PixelFormat::Yuyv | PixelFormat::Uyvy => "(height, width, 2) of an even width",
        PixelFormat::Nv12 | PixelFormat::I420 => "(height * 3 / 2, width) of an even width and height",
        PixelFormat::I422 => "(height * 2, width) of an even width",
        PixelFormat::I444 => "(height * 3, width)",
    };
    let hint = match (format, shape) {
        (PixelFormat::Rgb24, [_, _, 4]) => "; drop the fourth channel: image[..., :3]",
        (PixelFormat::Rgb24, [3, _, _]) => "; put the channels last: image.transpose(1, 2, 0)",
        (PixelFormat::Rgb24, [_, _, _, _]) => {
            "; analyze one image of the batch at a time, or give them to analyze_batch"
        }
        (PixelFormat::Rgb24 | PixelFormat::Grey, _) => "",
        _ => "; give size=(width, height) for other layouts",
    };
    format!("is not an image in {}: the shape must be {shapes}{hint}", format.fourcc())
}

/// Copies the pixels of an array.
///
/// # Errors
/// When it is not an array of uint8, its shape is not that of an image, or it has more than `max_pixels` pixels.
pub fn copy(image: &Bound<'_, PyAny>, layout: &Layout, max_pixels: u64) -> Outcome<Frame> {
    let Ok(array) = image.cast::<PyUntypedArray>() else {
        let class = image.get_type().name().map(|name| name.to_string()).unwrap_or_default();
        return Err(Failure::image_type(format!(
            "an image is a numpy array of uint8, a path or the bytes of a file, not {class}"
        )));
    };
    let kind = array.dtype();
    if !kind.is_equiv_to(&numpy::dtype::<u8>(image.py())) {
        let name = kind.str().map(|name| name.to_string()).unwrap_or_default();
        return Err(Failure::image_type(format!(
            "an array of {name} is not an image: uint8 is needed, 0 to 255 for each channel"
        )));
    }
    let (format, size) = layout.resolve(array.shape())?;
    let [width, height] = size;
    if width == 0 || height == 0 {
        return Err(Failure::image(format!("an image of {width} x {height} pixels has no pixels")));
    }
    let pixels = width as u128 * height as u128;
    // An array may repeat its rows: one of a few bytes can have more pixels than the machine has memory.
    if pixels > u128::from(max_pixels) || array.len() as u128 > 12 * u128::from(max_pixels) {
        return Err(Failure::image(format!("{width} x {height} pixels are more than {max_pixels} (max_pixels)")));
    }
    let needed = format.frame_bytes(format.row_bytes(width), height);
    if array.len() != needed {
        return Err(Failure::image(format!(
            "{} has {} bytes; {width} x {height} pixels of {} have {needed}",
            describe(array.shape()),
            array.len(),
            format.fourcc()
        )));
    }
    let array = array.cast::<PyArrayDyn<u8>>().map_err(|reason| Failure::image_type(reason.to_string()))?;
    let borrowed = array.try_readonly().map_err(|reason| Failure::image(reason.to_string()))?;
    let mut bytes = bytes_of(borrowed.as_array(), needed)?;
    if layout.reversed {
        bytes.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| pixel.swap(0, 2));
    }
    // Grey arrays hold 0 to 255; cameras' YUV mostly 16 to 235.
    let usual = if format == PixelFormat::Grey { Colour::Bt601Full } else { Colour::default() };
    Ok(Frame { format, colour: layout.colour.unwrap_or(usual), size, bytes })
}

/// Copies the elements in the order of their indices, whatever the strides.
fn bytes_of(array: ArrayViewD<'_, u8>, count: usize) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    if bytes.try_reserve_exact(count).is_err() {
        return Err(Failure::image(format!("no memory for an image of {count} bytes")));
    }
    append(&mut bytes, array);
    Ok(bytes)
}

/// Appends the elements row by row, and whole rows at once where they lie together.
fn append(bytes: &mut Vec<u8>, array: ArrayViewD<'_, u8>) {
    match array.as_slice() {
        Some(slice) => bytes.extend_from_slice(slice),
        None if array.ndim() > 2 => array.outer_iter().for_each(|part| append(bytes, part)),
        None => append_pixels(bytes, &array),
    }
}

/// Appends rows or pixels whose elements do not lie together.
fn append_pixels<D: Dimension>(bytes: &mut Vec<u8>, array: &ArrayView<'_, u8, D>) {
    bytes.extend(array.iter());
}
