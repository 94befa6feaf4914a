//! The choice of a format, size and rate among those that a camera offers.

use v4l::FourCC;

use crate::capture::source::SourceRequest;
use crate::capture::v4l2::coding::{self, Coding};
use crate::capture::v4l2::offer::{Interval, Rates};

/// Size that is preferred when none is requested, pixels: a face across a room is 60 pixels wide, and detection is cheap.
const USUAL_SIZE: [u32; 2] = [640, 480];
/// Rate that is preferred when none is requested, frames per second.
const USUAL_FPS: f64 = 30.0;
/// Rate that is acceptable then.
const ENOUGH_FPS: f64 = 25.0;

/// A format and size that the camera offers, with its rates.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Candidate {
    pub fourcc: FourCC,
    pub size: [u32; 2],
    pub rates: Rates,
}

/// The format, size and rate to set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Choice {
    pub fourcc: FourCC,
    pub size: [u32; 2],
    pub interval: Interval,
}

/// Reason why no candidate can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ModeError {
    #[error("it does not offer {wanted}, but {offered}")]
    NotOffered { wanted: String, offered: String },
    #[error("it offers no format: nothing feeds it yet, or another program has set it up")]
    NoFormat,
    #[error("none of its formats ({offered}) is read: {} are", coding::supported_names())]
    NoneRead { offered: String },
}

/// Lists the formats of the candidates, each once.
fn names(candidates: &[Candidate]) -> String {
    let mut names: Vec<String> = candidates.iter().map(|c| c.fourcc.to_string()).collect();
    names.dedup();
    names.join(", ")
}

/// Returns the requested size, or the preferred one.
pub(crate) fn wanted_size(request: &SourceRequest) -> [u32; 2] {
    request.size.unwrap_or(USUAL_SIZE)
}

/// Chooses the candidate nearest to the requested size and rate, an uncompressed format where its rate suffices.
///
/// # Errors
/// When the requested format is not offered, or no offered format is supported.
pub(crate) fn choose(candidates: &[Candidate], request: &SourceRequest) -> Result<Choice, ModeError> {
    if let (Some(wanted), false) = (request.fourcc, candidates.is_empty()) {
        let unread = Coding::of(wanted).is_none();
        if unread || !candidates.iter().any(|candidate| candidate.fourcc == wanted) {
            let what = if unread { format!("{wanted} (nor is it read)") } else { wanted.to_string() };
            return Err(ModeError::NotOffered { wanted: what, offered: names(candidates) });
        }
    }
    let (fps, enough) = request.fps.map_or((USUAL_FPS, ENOUGH_FPS), |fps| (fps, fps));
    let cost = |candidate: &Candidate| {
        let known = Coding::with_price(candidate.fourcc);
        let (_, price) = known.filter(|_| request.fourcc.is_none_or(|f| f == candidate.fourcc))?;
        let interval = candidate.rates.nearest(fps, enough).unwrap_or(Interval::from_fps(fps));
        let slow = (enough / interval.fps().max(0.1) - 1.0).max(0.0);
        let wanted = wanted_size(request);
        let ratio = |i: usize| (f64::from(candidate.size[i].max(1)) / f64::from(wanted[i].max(1))).ln().abs();
        // A requested size outweighs everything else. Otherwise half the rate costs as much as four times the area.
        let size = (ratio(0) + ratio(1)) * if request.size.is_some() { 100.0 } else { 1.0 };
        let choice = Choice { fourcc: candidate.fourcc, size: candidate.size, interval };
        Some((4.0 * slow + size + price, choice))
    };
    let best = candidates.iter().filter_map(cost).min_by(|a, b| a.0.total_cmp(&b.0));
    let none = || match candidates {
        [] => ModeError::NoFormat,
        _ => ModeError::NoneRead { offered: names(candidates) },
    };
    best.map(|(_, choice)| choice).ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(fourcc: &[u8; 4], size: [u32; 2], fps: &[u32]) -> Candidate {
        let intervals = fps.iter().map(|&fps| Interval { numerator: 1, denominator: fps }).collect();
        Candidate { fourcc: FourCC::new(fourcc), size, rates: Rates::Discrete(intervals) }
    }

    /// Returns format, width and frames per second of the choice.
    fn chosen(candidates: &[Candidate], request: &SourceRequest) -> (String, u32, f64) {
        let choice = choose(candidates, request).expect("something fits");
        (choice.fourcc.to_string(), choice.size[0], choice.interval.fps())
    }

    /// Returns what a USB 2 webcam offers.
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
    fn uncompressed_formats_are_preferred_where_their_rate_suffices() {
        let any = SourceRequest::default();
        assert_eq!(chosen(&webcam(), &any), ("YUYV".to_owned(), 640, 30.0));
        let slow = [candidate(b"YUYV", [640, 480], &[15]), candidate(b"MJPG", [640, 480], &[30])];
        assert_eq!(chosen(&slow, &any), ("MJPG".to_owned(), 640, 30.0));
        let large = SourceRequest { size: Some([1920, 1080]), ..any.clone() };
        assert_eq!(chosen(&webcam(), &large), ("MJPG".to_owned(), 1920, 30.0));
        // A rate slightly too low is better than a sixteenth of the pixels.
        let low = [candidate(b"YUYV", [640, 480], &[20]), candidate(b"YUYV", [160, 120], &[30])];
        assert_eq!(chosen(&low, &any), ("YUYV".to_owned(), 640, 20.0));
        // vivid: 25 frames per second are enough, and more pixels are not preferred.
        let vivid = [
            candidate(b"GREY", [640, 480], &[25]),
            candidate(b"YUYV", [320, 180], &[60, 30]),
            candidate(b"YUYV", [640, 480], &[25, 5]),
            candidate(b"YUYV", [1280, 720], &[12]),
        ];
        assert_eq!(chosen(&vivid, &any), ("YUYV".to_owned(), 640, 25.0));
    }

    #[test]
    fn requests_are_met_or_refused_by_name() {
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
}
