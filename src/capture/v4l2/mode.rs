//! The format, size and rate that a camera is run at.

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

use crate::capture::source::SourceRequest;
use crate::capture::v4l2::node::PixFormat;
use faceptor::stages::{Colour, PixelFormat};

/// The size that is looked for when none is asked for: enough for a face of 60 pixels in a room, cheap to scan.
const USUAL_SIZE: [u32; 2] = [640, 480];
/// The rate that is looked for when none is asked for, and the one that is enough.
const USUAL_FPS: f64 = 30.0;
const ENOUGH_FPS: f64 = 25.0;

/// Time from frame to frame in seconds, as V4L2 says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    pub numerator: u32,
    pub denominator: u32,
}

impl Interval {
    /// For a rate, to a thousandth of a frame a second.
    pub fn from_fps(fps: f64) -> Interval {
        if fps.fract() == 0.0 {
            return Interval { numerator: 1, denominator: fps as u32 };
        }
        Interval { numerator: 1000, denominator: (fps * 1000.0).round() as u32 }
    }

    pub fn fps(self) -> f64 {
        f64::from(self.denominator) / f64::from(self.numerator.max(1))
    }

    pub fn period_us(self) -> u64 {
        u64::from(self.numerator) * 1_000_000 / u64::from(self.denominator.max(1))
    }
}

/// The sizes of a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sizes {
    Discrete(Vec<[u32; 2]>),
    Range {
        min: [u32; 2],
        max: [u32; 2],
        step: [u32; 2],
    },
    /// The driver does not say.
    Unknown,
}

impl Sizes {
    /// The sizes worth looking at for `wanted`: all of a list; of a range the nearest, the smallest and the largest.
    pub fn near(&self, wanted: [u32; 2]) -> Vec<[u32; 2]> {
        match self {
            Sizes::Discrete(sizes) => sizes.clone(),
            Sizes::Range { min, max, step } => {
                let nearest = |i: usize| {
                    let step = step[i].max(1);
                    let steps = (wanted[i].clamp(min[i], max[i].max(min[i])) - min[i] + step / 2) / step;
                    let size = min[i] + steps * step;
                    if size > max[i] { size.saturating_sub(step).max(min[i]) } else { size }
                };
                let mut sizes = vec![[nearest(0), nearest(1)], *min, *max];
                sizes.dedup();
                sizes
            }
            Sizes::Unknown => vec![wanted],
        }
    }
}

/// The rates of a format and size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rates {
    Discrete(Vec<Interval>),
    Range {
        shortest: Interval,
        longest: Interval,
    },
    /// The driver does not say.
    Unknown,
}

impl Rates {
    /// The interval for `fps`: the lowest rate that reaches it, or else the highest; `usual` also takes one that is
    /// enough and below. `None` when the driver does not say.
    fn nearest(&self, fps: f64, enough: f64) -> Option<Interval> {
        match self {
            Rates::Discrete(intervals) => {
                let valid = intervals.iter().copied().filter(|i| i.numerator > 0 && i.denominator > 0);
                // Rates from enough to wanted come first, the higher the better; then the least above; then the rest.
                let rank = |i: &Interval| match i.fps() {
                    f if f >= enough - 0.01 && f <= fps + 0.01 => (2, f),
                    f if f > fps => (1, -f),
                    f => (0, f),
                };
                valid.max_by(|a, b| {
                    let (a, b) = (rank(a), rank(b));
                    a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
                })
            }
            Rates::Range { shortest, longest } => {
                let (high, low) = (shortest.fps(), longest.fps());
                Some(match fps {
                    _ if fps >= high => *shortest,
                    _ if fps <= low => *longest,
                    _ => Interval::from_fps(fps),
                })
            }
            Rates::Unknown => None,
        }
    }
}

/// A format and size that the camera offers, with its rates.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub fourcc: FourCC,
    pub size: [u32; 2],
    pub rates: Rates,
}

/// What the camera will be asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    pub fourcc: FourCC,
    pub size: [u32; 2],
    pub interval: Interval,
}

/// No candidate can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModeError {
    #[error("it does not offer {wanted}, but {offered}")]
    NotOffered { wanted: String, offered: String },
    #[error("it offers no format: nothing feeds it yet, or another program has set it up")]
    NoFormat,
    #[error("none of its formats ({offered}) is read: MJPG, YUYV, UYVY, NV12, YU12, 422P, RGB3, GREY are")]
    NoneRead { offered: String },
}

/// How frames of a V4L2 format are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Raw(PixelFormat),
    Jpeg,
}

impl Coding {
    /// `None` when the format is not read.
    pub fn of(fourcc: FourCC) -> Option<Coding> {
        Some(Coding::Raw(match &fourcc.repr {
            b"YUYV" => PixelFormat::Yuyv,
            b"UYVY" => PixelFormat::Uyvy,
            b"NV12" => PixelFormat::Nv12,
            b"YU12" => PixelFormat::I420,
            b"422P" => PixelFormat::I422,
            b"RGB3" => PixelFormat::Rgb24,
            b"GREY" => PixelFormat::Grey,
            b"MJPG" | b"JPEG" => return Some(Coding::Jpeg),
            _ => return None,
        }))
    }

    /// What is preferred among formats that are equally large and fast: lower is better.
    fn price(self) -> f64 {
        match self {
            Coding::Raw(PixelFormat::Yuyv | PixelFormat::Uyvy) => 0.0,
            Coding::Raw(PixelFormat::Nv12) => 0.01,
            Coding::Raw(PixelFormat::Grey) => 0.5,
            Coding::Raw(_) => 0.02,
            Coding::Jpeg => 0.3,
        }
    }
}

/// Formats in their order, each once.
fn names(candidates: &[Candidate]) -> String {
    let mut names: Vec<String> = candidates.iter().map(|c| c.fourcc.to_string()).collect();
    names.dedup();
    names.join(", ")
}

/// The size that is looked for.
pub fn wanted_size(request: &SourceRequest) -> [u32; 2] {
    request.size.unwrap_or(USUAL_SIZE)
}

/// The best of what the camera offers: near the size and the rate that are wanted, uncompressed where its rate suffices.
///
/// # Errors
/// When the format that was asked for is not offered, or none that is offered can be read.
pub fn choose(candidates: &[Candidate], request: &SourceRequest) -> Result<Choice, ModeError> {
    if let (Some(wanted), false) = (request.fourcc, candidates.is_empty()) {
        let unread = Coding::of(wanted).is_none();
        if unread || !candidates.iter().any(|candidate| candidate.fourcc == wanted) {
            let what = if unread { format!("{wanted} (nor is it read)") } else { wanted.to_string() };
            return Err(ModeError::NotOffered { wanted: what, offered: names(candidates) });
        }
    }
    let (fps, enough) = request.fps.map_or((USUAL_FPS, ENOUGH_FPS), |fps| (fps, fps));
    let cost = |candidate: &Candidate| {
        let coding = Coding::of(candidate.fourcc).filter(|_| request.fourcc.is_none_or(|f| f == candidate.fourcc))?;
        let interval = candidate.rates.nearest(fps, enough).unwrap_or(Interval::from_fps(fps));
        let slow = (enough / interval.fps().max(0.1) - 1.0).max(0.0);
        let wanted = wanted_size(request);
        let ratio = |i: usize| (f64::from(candidate.size[i].max(1)) / f64::from(wanted[i].max(1))).ln().abs();
        // A size that was asked for outweighs everything; otherwise half the rate weighs as much as four times the area.
        let size = (ratio(0) + ratio(1)) * if request.size.is_some() { 100.0 } else { 1.0 };
        let choice = Choice { fourcc: candidate.fourcc, size: candidate.size, interval };
        Some((4.0 * slow + size + coding.price(), choice))
    };
    let best = candidates.iter().filter_map(cost).min_by(|a, b| a.0.total_cmp(&b.0));
    let none = || match candidates {
        [] => ModeError::NoFormat,
        _ => ModeError::NoneRead { offered: names(candidates) },
    };
    best.map(|(_, choice)| choice).ok_or_else(none)
}

/// What the camera really does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    pub fourcc: FourCC,
    pub coding: Coding,
    pub colour: Colour,
    /// Pixels.
    pub width: usize,
    pub height: usize,
    /// Bytes from row to row.
    pub stride: usize,
    /// `None` when the driver does not say.
    pub interval: Option<Interval>,
    /// The rows of two moments alternate.
    pub interlaced: bool,
}

impl Mode {
    /// From the driver's answers; `None` when its format is not read.
    pub fn new(format: &PixFormat, interval: Option<Interval>) -> Option<Mode> {
        let coding = Coding::of(format.fourcc)?;
        let (width, height) = (format.width as usize, format.height as usize);
        let stride = match coding {
            // Some drivers leave the length of a row to the reader.
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

/// The driver's word on its colours, and V4L2's defaults where it has none.
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
        // Cameras with GREY are infrared ones, which use all 256 values and say nothing.
        _ => format.colorspace == COLORSPACE_JPEG || coding == Coding::Raw(PixelFormat::Grey),
    };
    match (is_709, full) {
        (false, false) => Colour::Bt601Limited,
        (false, true) => Colour::Bt601Full,
        (true, false) => Colour::Bt709Limited,
        (true, true) => Colour::Bt709Full,
    }
}

#[cfg(test)]
mod tests {
    use v4l::v4l_sys::{
        v4l2_colorspace_V4L2_COLORSPACE_SRGB as COLORSPACE_SRGB, v4l2_field_V4L2_FIELD_INTERLACED as FIELD_INTERLACED,
        v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_601 as ENCODING_601,
    };

    use super::*;

    fn candidate(fourcc: &[u8; 4], size: [u32; 2], fps: &[u32]) -> Candidate {
        let intervals = fps.iter().map(|&fps| Interval { numerator: 1, denominator: fps }).collect();
        Candidate { fourcc: FourCC::new(fourcc), size, rates: Rates::Discrete(intervals) }
    }

    /// (format, width, frames a second) of the choice.
    fn chosen(candidates: &[Candidate], request: &SourceRequest) -> (String, u32, f64) {
        let choice = choose(candidates, request).expect("something fits");
        (choice.fourcc.to_string(), choice.size[0], choice.interval.fps())
    }

    /// What a USB 2 webcam offers.
    fn webcam() -> Vec<Candidate> {
        vec![
            candidate(b"MJPG", [1920, 1080], &[30, 15]),
            candidate(b"MJPG", [640, 480], &[30, 15]),
            candidate(b"YUYV", [1920, 1080], &[5]),
            candidate(b"YUYV", [640, 480], &[30, 20, 15]),
            candidate(b"YUYV", [160, 120], &[30]),
        ]
    }

    #[test]
    fn uncompressed_is_taken_where_its_rate_suffices() {
        let any = SourceRequest::default();
        assert_eq!(chosen(&webcam(), &any), ("YUYV".to_owned(), 640, 30.0));
        let slow = [candidate(b"YUYV", [640, 480], &[15]), candidate(b"MJPG", [640, 480], &[30])];
        assert_eq!(chosen(&slow, &any), ("MJPG".to_owned(), 640, 30.0));
        let large = SourceRequest { size: Some([1920, 1080]), ..any.clone() };
        assert_eq!(chosen(&webcam(), &large), ("MJPG".to_owned(), 1920, 30.0));
        // A little too slow is better than a sixteenth of the pixels.
        let low = [candidate(b"YUYV", [640, 480], &[20]), candidate(b"YUYV", [160, 120], &[30])];
        assert_eq!(chosen(&low, &any), ("YUYV".to_owned(), 640, 20.0));
        // vivid: 25 frames a second are enough, more pixels are not wanted.
        let vivid = [
            candidate(b"GREY", [640, 480], &[25]),
            candidate(b"YUYV", [320, 180], &[60, 30]),
            candidate(b"YUYV", [640, 480], &[25, 5]),
            candidate(b"YUYV", [1280, 720], &[12]),
        ];
        assert_eq!(chosen(&vivid, &any), ("YUYV".to_owned(), 640, 25.0));
    }

    #[test]
    fn what_is_asked_for_is_taken_or_named() {
        let mjpg = SourceRequest { fourcc: Some(FourCC::new(b"MJPG")), ..SourceRequest::default() };
        assert_eq!(chosen(&webcam(), &mjpg), ("MJPG".to_owned(), 640, 30.0));
        let slow = SourceRequest { fps: Some(15.0), ..SourceRequest::default() };
        assert_eq!(chosen(&webcam(), &slow), ("YUYV".to_owned(), 640, 15.0));
        let odd = SourceRequest { fps: Some(17.0), ..SourceRequest::default() };
        assert_eq!(chosen(&webcam(), &odd).2, 20.0);
        let wrong = SourceRequest { fourcc: Some(FourCC::new(b"NV12")), ..SourceRequest::default() };
        let error = choose(&webcam(), &wrong).expect_err("not offered").to_string();
        assert_eq!(error, "it does not offer NV12, but MJPG, YUYV");
        let h264 = [candidate(b"H264", [640, 480], &[30])];
        let error = choose(&h264, &SourceRequest::default()).expect_err("not read").to_string();
        assert!(error.starts_with("none of its formats (H264) is read: MJPG, "), "{error}");
        assert_eq!(choose(&[], &SourceRequest::default()), Err(ModeError::NoFormat));
        assert_eq!(choose(&[], &wrong), Err(ModeError::NoFormat));
    }

    #[test]
    fn ranges_give_the_nearest_size_and_rate() {
        let sizes = Sizes::Range { min: [48, 32], max: [1922, 1080], step: [16, 2] };
        assert_eq!(sizes.near([640, 480])[0], [640, 480]);
        assert_eq!(sizes.near([5000, 10])[0], [1920, 32]);
        assert_eq!(Sizes::Unknown.near([640, 480]), [[640, 480]]);
        assert_eq!(Sizes::Range { min: [8, 8], max: [8, 8], step: [0, 0] }.near([640, 480]), [[8, 8]]);
        let rates = Rates::Range {
            shortest: Interval { numerator: 1, denominator: 60 },
            longest: Interval { numerator: 1, denominator: 10 },
        };
        let fps = |wanted| rates.nearest(wanted, wanted).map(Interval::fps);
        assert_eq!((fps(29.97), fps(100.0), fps(1.0)), (Some(29.97), Some(60.0), Some(10.0)));
        assert_eq!(Rates::Discrete(vec![Interval { numerator: 0, denominator: 0 }]).nearest(30.0, 25.0), None);
    }

    #[test]
    fn the_drivers_word_on_rows_and_colours_counts() {
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

    #[test]
    fn intervals_are_seconds() {
        let ntsc = Interval { numerator: 1001, denominator: 30_000 };
        assert_eq!(ntsc.period_us(), 33_366);
        assert_eq!(Interval::from_fps(30.0), Interval { numerator: 1, denominator: 30 });
        assert_eq!(Interval::from_fps(12.5), Interval { numerator: 1000, denominator: 12_500 });
    }
}
