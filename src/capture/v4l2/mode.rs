//! The format, size and rate that a camera runs at.

use std::fmt;

use v4l::FourCC;
use v4l::v4l_sys::{
    v4l2_colorspace_V4L2_COLORSPACE_DCI_P3 as COLORSPACE_DCI_P3,
    v4l2_colorspace_V4L2_COLORSPACE_JPEG as COLORSPACE_JPEG,
    v4l2_colorspace_V4L2_COLORSPACE_REC709 as COLORSPACE_REC709, v4l2_field_V4L2_FIELD_ANY as FIELD_ANY,
    v4l2_field_V4L2_FIELD_NONE as FIELD_NONE, v4l2_quantization_V4L2_QUANTIZATION_FULL_RANGE as FULL_RANGE,
    v4l2_quantization_V4L2_QUANTIZATION_LIM_RANGE as LIMITED_RANGE,
    v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_709 as ENCODING_709,
    v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_DEFAULT as ENCODING_DEFAULT,
    v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_XV709 as ENCODING_XV709,
};

use crate::capture::v4l2::coding::Coding;
use crate::capture::v4l2::offer::Interval;
use faceptor::stages::{Colour, PixelFormat};

/// The driver's answer to `VIDIOC_S_FMT` or `VIDIOC_G_FMT`. The last three fields are constants of linux/videodev2.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PixFormat {
    pub width: u32,
    pub height: u32,
    pub fourcc: FourCC,
    /// `V4L2_FIELD_...`: progressive or interlaced.
    pub field: u32,
    /// Bytes from row to row; 0 for compressed formats.
    pub stride: u32,
    /// Size of the buffer of a frame, bytes.
    pub size: u32,
    pub colorspace: u32,
    pub encoding: u32,
    pub quantization: u32,
}

/// The mode that the camera delivers, as its driver reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode {
    pub fourcc: FourCC,
    pub coding: Coding,
    pub colour: Colour,
    /// Width of a frame, pixels.
    pub width: usize,
    /// Height of a frame, pixels.
    pub height: usize,
    /// Bytes from row to row.
    pub stride: usize,
    /// Time from frame to frame; `None` when the driver does not say.
    pub interval: Option<Interval>,
    /// True when even and odd rows are of different times.
    pub interlaced: bool,
}

impl Mode {
    /// Reads the driver's answers; `None` when the format is not supported.
    pub(crate) fn new(format: &PixFormat, interval: Option<Interval>) -> Option<Mode> {
        let coding = Coding::of(format.fourcc)?;
        let (width, height) = (format.width as usize, format.height as usize);
        let stride = match coding {
            // Some drivers do not set the stride.
            Coding::Raw(pixels) if format.stride == 0 => pixels.row_bytes(width),
            _ => format.stride as usize,
        };
        let progressive = [FIELD_NONE, FIELD_ANY];
        Some(Mode {
            fourcc: format.fourcc,
            coding,
            colour: colour(format, coding),
            width,
            height,
            stride,
            interval,
            interlaced: !progressive.contains(&format.field),
        })
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} x {}", self.fourcc, self.width, self.height)?;
        if let Some(interval) = self.interval {
            write!(f, ", {} frames/s", (interval.fps() * 100.0).round() / 100.0)?;
        }
        Ok(())
    }
}

/// Returns the colour encoding that the driver names, or the default of V4L2 where it names none.
fn colour(format: &PixFormat, coding: Coding) -> Colour {
    let is_709 = match format.encoding {
        ENCODING_DEFAULT => {
            matches!(format.colorspace, COLORSPACE_REC709 | COLORSPACE_DCI_P3)
        }
        encoding => {
            matches!(encoding, ENCODING_709 | ENCODING_XV709)
        }
    };
    let full = match format.quantization {
        FULL_RANGE => true,
        LIMITED_RANGE => false,
        // Cameras with GREY are infrared cameras: they use all 256 values and name no quantization.
        _ => format.colorspace == COLORSPACE_JPEG || coding == Coding::Raw(PixelFormat::Grey),
    };
    Colour::of(is_709, full)
}

#[cfg(test)]
mod tests {
    use v4l::v4l_sys::{
        v4l2_colorspace_V4L2_COLORSPACE_SRGB as COLORSPACE_SRGB, v4l2_field_V4L2_FIELD_INTERLACED as FIELD_INTERLACED,
        v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_601 as ENCODING_601,
    };

    use super::*;

    #[test]
    fn stride_and_colour_are_those_that_the_driver_names() {
        let mut format = PixFormat {
            width: 640,
            height: 480,
            fourcc: FourCC::new(b"YUYV"),
            field: FIELD_NONE,
            stride: 1344,
            size: 0,
            colorspace: COLORSPACE_SRGB,
            encoding: 0,
            quantization: 0,
        };
        let mode = |format: &PixFormat| Mode::new(format, None).expect("a format that is read");
        assert_eq!((mode(&format).stride, mode(&format).colour), (1344, Colour::Bt601Limited));
        (format.stride, format.colorspace) = (0, COLORSPACE_REC709);
        assert_eq!((mode(&format).stride, mode(&format).colour), (1280, Colour::Bt709Limited));
        format.quantization = FULL_RANGE;
        assert_eq!(mode(&format).colour, Colour::Bt709Full);
        (format.encoding, format.quantization) = (ENCODING_601, 0);
        assert_eq!(mode(&format).colour, Colour::Bt601Limited);
        format.colorspace = COLORSPACE_JPEG;
        format.field = FIELD_INTERLACED;
        assert_eq!((mode(&format).colour, mode(&format).interlaced), (Colour::Bt601Full, true));
        format.fourcc = FourCC::new(b"GREY");
        format.colorspace = COLORSPACE_SRGB;
        assert_eq!(mode(&format).colour, Colour::Bt601Full);
        format.fourcc = FourCC::new(b"H264");
        assert!(Mode::new(&format, None).is_none());
    }
}
