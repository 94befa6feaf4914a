//! The V4L2 pixel formats that are supported. A new one is added here.

use v4l::FourCC;

use faceptor::stages::PixelFormat;

/// How the frames of a V4L2 pixel format are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Raw(PixelFormat),
    Jpeg,
}

/// Every supported format, most common first: its four characters, how it is read, and the price that the choice of a
/// mode puts on it. Among formats of the same size and rate the one with the lowest price is taken.
pub(crate) const SUPPORTED: &[(&[u8; 4], Coding, f64)] = &[
    (b"MJPG", Coding::Jpeg, 0.3),
    (b"YUYV", Coding::Raw(PixelFormat::Yuyv), 0.0),
    (b"UYVY", Coding::Raw(PixelFormat::Uyvy), 0.0),
    (b"NV12", Coding::Raw(PixelFormat::Nv12), 0.01),
    (b"YU12", Coding::Raw(PixelFormat::I420), 0.02),
    (b"422P", Coding::Raw(PixelFormat::I422), 0.02),
    (b"RGB3", Coding::Raw(PixelFormat::Rgb24), 0.02),
    (b"GREY", Coding::Raw(PixelFormat::Grey), 0.5),
    (b"JPEG", Coding::Jpeg, 0.3),
];

impl Coding {
    /// Returns how a format is read; `None` when it is not supported.
    pub(crate) fn of(fourcc: FourCC) -> Option<Coding> {
        Coding::with_price(fourcc).map(|(coding, _)| coding)
    }

    /// Returns how a format is read, and its price in the choice of a mode.
    pub(crate) fn with_price(fourcc: FourCC) -> Option<(Coding, f64)> {
        let supported = SUPPORTED.iter().find(|(name, ..)| **name == fourcc.repr);
        supported.map(|&(_, coding, price)| (coding, price))
    }
}

/// Lists the supported formats for a message; JPEG, another name of MJPG, is left out.
pub(crate) fn supported_names() -> String {
    let names = SUPPORTED.iter().filter(|(name, ..)| *name != b"JPEG").map(|(name, ..)| FourCC::new(name).to_string());
    names.collect::<Vec<String>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_found_by_their_four_characters() {
        assert_eq!(Coding::of(FourCC::new(b"NV12")), Some(Coding::Raw(PixelFormat::Nv12)));
        assert_eq!(Coding::of(FourCC::new(b"JPEG")), Some(Coding::Jpeg));
        assert_eq!(Coding::of(FourCC::new(b"NM12")), None);
        assert_eq!(supported_names(), "MJPG, YUYV, UYVY, NV12, YU12, 422P, RGB3, GREY");
    }
}
