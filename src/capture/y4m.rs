//! YUV4MPEG2 as a source: the uncompressed video that `ffmpeg -f yuv4mpegpipe` writes. It starts with a line of parameters;
//! each frame is the line `FRAME` followed by its planes.

use std::io::Read;

use crate::capture::source::{Poll, Source, SourceCounters, SourceError, Stamp};
use crate::capture::timed_reader::{Supply, TimedReader};
pub(crate) use crate::capture::y4m_header::{Header, MAGIC, Y4mError};
use crate::capture::y4m_header::{beginning, take_line};
use crate::platform::clock;
use faceptor::stages::ImageView;

/// First bytes of every frame.
const FRAME: &[u8] = b"FRAME";
/// The next item of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// The line `FRAME`, or its rest.
    Line,
    /// The planes, or their rest.
    Planes,
}

/// Reads the frames of a stream, each as soon as it is complete.
pub(crate) struct Y4m<R> {
    name: String,
    reader: TimedReader<R>,
    header: Header,
    /// True for frames without a line before each.
    is_raw: bool,
    expected: Expected,
    line: Vec<u8>,
    /// The planes of the frame that is being read or shown.
    bytes: Vec<u8>,
    next: u64,
    ended: bool,
    /// True when this round has delivered a frame.
    has_delivered: bool,
    /// Number of headers before the current one.
    scene: u64,
    counters: SourceCounters,
}

impl<R: Read + Send> Y4m<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// When the stream is not YUV4MPEG2, or of an unsupported kind.
    pub(crate) fn open(name: &str, mut reader: TimedReader<R>) -> Result<Y4m<R>, Y4mError> {
        let header = Header::read(&mut reader, u64::MAX)?;
        if header.interlaced {
            log::warn!("{name}: its frames are interlaced: moving objects look torn");
        }
        Ok(Y4m::after_header(name, reader, header))
    }

    /// Reads the frames of a stream whose header has been read.
    pub(crate) fn after_header(name: &str, reader: TimedReader<R>, header: Header) -> Y4m<R> {
        Y4m {
            name: name.to_owned(),
            reader,
            header,
            is_raw: false,
            expected: Expected::Line,
            line: Vec::new(),
            bytes: Vec::new(),
            next: 0,
            ended: false,
            has_delivered: false,
            scene: 0,
            counters: SourceCounters::default(),
        }
    }

    /// Reads planes without any lines between them.
    pub(crate) fn raw(name: &str, reader: TimedReader<R>, header: Header) -> Y4m<R> {
        Y4m { is_raw: true, expected: Expected::Planes, ..Y4m::after_header(name, reader, header) }
    }

    /// Returns the parameters of the last frame.
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Exchanges the planes of the last frame for a buffer to be used again.
    pub(crate) fn swap_planes(&mut self, planes: &mut Vec<u8>) {
        std::mem::swap(&mut self.bytes, planes);
    }

    /// Takes the header of another film that follows, or of this one when it starts over.
    fn begin_film(&mut self, header: Header) {
        self.header = header;
        self.expected = Expected::Line;
        self.line.clear();
        self.bytes.clear();
        self.scene += 1;
    }

    /// Reads until a frame is complete (`Bytes`), the time is up or the stream has ended. Counts and skips a last frame
    /// that is cut off. Films may follow each other, each with a header of its own.
    fn read(&mut self, until_us: u64) -> Result<Supply, Y4mError> {
        if self.is_raw && self.bytes.len() == self.header.frame_bytes() {
            self.bytes.clear();
        }
        loop {
            match self.reader.supply(until_us)? {
                Supply::Bytes => {}
                Supply::Nothing => return Ok(Supply::Nothing),
                Supply::Ended => {
                    let is_between = self.is_raw && self.bytes.is_empty();
                    if (self.expected == Expected::Planes || !self.line.is_empty()) && !is_between {
                        self.counters.decode_errors += 1;
                        if self.counters.decode_errors.is_power_of_two() {
                            log::warn!("{}: its last frame is cut off", self.name);
                        }
                    }
                    return Ok(Supply::Ended);
                }
            }
            match self.expected {
                Expected::Line => {
                    let complete = take_line(&mut self.reader, &mut self.line)?;
                    if self.line.first() == MAGIC.first()
                        && MAGIC.starts_with(&self.line[..self.line.len().min(MAGIC.len())])
                    {
                        if complete {
                            let header = Header::parse(&self.line)?;
                            self.begin_film(header);
                        }
                        continue;
                    }
                    let known = self.line.len().min(FRAME.len());
                    let other = self.line[..known] != FRAME[..known] || (complete && known < FRAME.len());
                    if other || self.line.get(FRAME.len()).is_some_and(|&byte| byte != b' ') {
                        return Err(Y4mError::NotFrame(beginning(&self.line)));
                    }
                    if complete {
                        self.expected = Expected::Planes;
                        self.bytes.clear();
                    }
                }
                Expected::Planes => {
                    let missing = self.header.frame_bytes() - self.bytes.len();
                    self.reader.move_to(&mut self.bytes, missing);
                    if self.bytes.len() == self.header.frame_bytes() {
                        self.expected = if self.is_raw { Expected::Planes } else { Expected::Line };
                        self.line.clear();
                        return Ok(Supply::Bytes);
                    }
                }
            }
        }
    }
}

impl<R: Read + Send> Source for Y4m<R> {
    fn poll(&mut self, until_us: u64) -> Result<Poll, SourceError> {
        if self.ended {
            return Ok(Poll::Ended);
        }
        match self.read(until_us) {
            Ok(Supply::Bytes) => {}
            Ok(Supply::Nothing) => return Ok(Poll::Nothing),
            Ok(Supply::Ended) => {
                self.ended = true;
                return Ok(Poll::Ended);
            }
            Err(error) => {
                self.ended = true;
                return Err(SourceError::Lost { name: self.name.clone(), reason: error.into() });
            }
        }
        let stamp = Stamp { sequence: self.next, captured_us: clock::now_us(), stale_dropped: 0 };
        self.next += 1;
        self.has_delivered = true;
        self.counters.frames += 1;
        Ok(Poll::Frame(stamp))
    }

    fn view(&self) -> ImageView<'_> {
        let Header { width, height, format, colour, .. } = self.header;
        ImageView::new(format, colour, [width, height], width, &self.bytes).unwrap_or(ImageView::blank())
    }

    fn counters(&self) -> SourceCounters {
        self.counters
    }

    fn describe(&self) -> String {
        let Header { width, height, format, fps, .. } = self.header;
        let rate = fps.map(|fps| format!(", made for {} frames/s", (fps * 100.0).round() / 100.0));
        format!("{}: YUV4MPEG2 {} {width} x {height}{}", self.name, format.fourcc(), rate.unwrap_or_default())
    }

    fn rewind(&mut self) -> bool {
        if !std::mem::take(&mut self.has_delivered) || !self.reader.restart() {
            return false;
        }
        match Header::read(&mut self.reader, u64::MAX) {
            Ok(header) => {
                self.begin_film(header);
                self.ended = false;
                true
            }
            Err(error) => {
                log::warn!("{}: it cannot start over: {error}", self.name);
                false
            }
        }
    }

    fn scene(&self) -> u64 {
        self.scene
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faceptor::stages::{Picture, Pixels};

    /// Returns three frames of 4 x 2 pixels in 4:2:0, the second with parameters.
    fn stream() -> Vec<u8> {
        let mut bytes = b"YUV4MPEG2 W4 H2 F25:1 C420jpeg XCOLORRANGE=FULL\n".to_vec();
        for (number, line) in [(1u8, "FRAME\n"), (2, "FRAME Ip Xsomething\n"), (3, "FRAME\n")] {
            bytes.extend_from_slice(line.as_bytes());
            bytes.extend([number * 10; 8]);
            bytes.extend([128, 128, 128, 148]);
        }
        bytes
    }

    /// Plays a stream; returns the number of frames, the last result of a poll, and the counters.
    fn frames(bytes: &[u8]) -> (u64, Result<Poll, SourceError>, SourceCounters) {
        let mut source = Y4m::open("stream", TimedReader::new(bytes, 5)).expect("a good header");
        loop {
            match source.poll(0) {
                Ok(Poll::Frame(_)) => {}
                other => return (source.next, other, source.counters()),
            }
        }
    }

    #[test]
    fn frames_are_read_with_and_without_parameters() -> Result<(), Y4mError> {
        let bytes = stream();
        let mut source = Y4m::open("stream", TimedReader::new(bytes.as_slice(), 4096))?;
        let mut picture = Picture::default();
        for number in 1..=3 {
            assert!(matches!(source.poll(0), Ok(Poll::Frame(stamp)) if stamp.sequence == number - 1));
            source.view().to_picture(&mut picture);
            let y = number as u8 * 10;
            assert_eq!((picture.rgb(0, 0), picture.rgb(3, 1)), ([y; 3], [y + 28, y.saturating_sub(14), y]));
        }
        assert!(matches!(source.poll(0), Ok(Poll::Ended)) && matches!(source.poll(0), Ok(Poll::Ended)));
        assert_eq!(source.describe(), "stream: YUV4MPEG2 YU12 4 x 2, made for 25 frames/s");
        Ok(())
    }

    #[test]
    fn last_frame_that_is_cut_off_is_counted() {
        let bytes = stream();
        for cut in 1..=17 {
            let (count, end, counters) = frames(&bytes[..bytes.len() - cut]);
            assert_eq!((count, counters.decode_errors), (2, 1), "{cut} bytes are missing");
            assert!(matches!(end, Ok(Poll::Ended)), "{end:?}");
        }
        let (count, _, counters) = frames(&bytes[..bytes.len() - 18]);
        assert_eq!((count, counters.decode_errors), (2, 0));
        let (count, end, counters) = frames(b"YUV4MPEG2 W16384 H8192\nFRAME\nabc");
        assert_eq!((count, counters.decode_errors), (0, 1));
        assert!(matches!(end, Ok(Poll::Ended)));
    }

    #[test]
    fn a_film_starts_over_and_another_one_may_follow_it() -> anyhow::Result<()> {
        let root = faceptor_test_support::Folder::new();
        let small = b"YUV4MPEG2 W2 H2 Cmono\nFRAME\nabcd".as_slice();
        let path = root.write("two.y4m", &[stream().as_slice(), small].concat());
        let mut source = Y4m::open("two.y4m", TimedReader::of_file(std::fs::File::open(path)?))?;
        let mut seen = Vec::new();
        for _ in 0..2 {
            while let Poll::Frame(stamp) = source.poll(0)? {
                seen.push((stamp.sequence, source.scene(), source.view().width()));
            }
            assert!(source.rewind());
        }
        assert_eq!(seen, [(0, 0, 4), (1, 0, 4), (2, 0, 4), (3, 1, 2), (4, 2, 4), (5, 2, 4), (6, 2, 4), (7, 3, 2)]);
        assert!(!source.rewind(), "no frame since it started over");
        Ok(())
    }

    #[test]
    fn films_without_frames_and_pipes_do_not_start_over() -> anyhow::Result<()> {
        let root = faceptor_test_support::Folder::new();
        for bytes in [b"YUV4MPEG2 W4 H2\n".as_slice(), b"YUV4MPEG2 W4 H2\nFRAME\nabc"] {
            let path = root.write("none.y4m", bytes);
            let mut source = Y4m::open("none.y4m", TimedReader::of_file(std::fs::File::open(path)?))?;
            assert_eq!((source.poll(0)?, source.rewind()), (Poll::Ended, false));
        }
        let bytes = stream();
        let mut source = Y4m::open("pipe", TimedReader::new(bytes.as_slice(), 64))?;
        while matches!(source.poll(0)?, Poll::Frame(_)) {}
        assert!(!source.rewind());
        Ok(())
    }

    #[test]
    fn raw_frames_follow_each_other_without_lines() -> anyhow::Result<()> {
        let line = b"YUV4MPEG2 W4 H2 F25:1\n".as_slice();
        let header = Header::read(&mut TimedReader::new(line, 100), u64::MAX)?;
        let bytes: Vec<u8> = (0..30).collect();
        let mut source = Y4m::raw("raw", TimedReader::new(bytes.as_slice(), 5), header);
        let mut planes = Vec::new();
        for first in [0, 12] {
            assert!(matches!(source.poll(0)?, Poll::Frame(_)));
            source.swap_planes(&mut planes);
            assert_eq!((planes.len(), planes[0]), (12, first));
        }
        assert_eq!((source.poll(0)?, source.counters().decode_errors), (Poll::Ended, 1));
        let mut source = Y4m::raw("raw", TimedReader::new(&bytes[..12], 5), header);
        assert!(matches!(source.poll(0)?, Poll::Frame(_)) && source.poll(0)? == Poll::Ended);
        assert_eq!(source.counters().decode_errors, 0);
        Ok(())
    }

    #[test]
    fn a_second_header_that_is_wrong_is_named() {
        for (header, expected) in [("YUV4MPEG2 W4\n", "no width"), ("YUV4MPEG3 W4 H4\n", "instead of FRAME")] {
            let (count, end, _) = frames(&[stream().as_slice(), header.as_bytes()].concat());
            assert_eq!(count, 3);
            let text = end.expect_err("a wrong header").to_string();
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn frames_of_another_size_than_the_header_names_are_refused() {
        let mut bytes = stream();
        let at = bytes.iter().position(|&b| b == b'\n').expect("a first line") + 7;
        bytes.insert(at, 0);
        let (count, end, _) = frames(&bytes);
        assert_eq!(count, 1);
        assert!(matches!(&end, Err(SourceError::Lost { .. })), "{end:?}");
        assert!(end.expect_err("checked").to_string().contains("instead of FRAME"));
    }
}
