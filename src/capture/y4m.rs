//! YUV4MPEG2 as a source: the uncompressed video that `ffmpeg -f yuv4mpegpipe` writes. It starts with a line of parameters;
//! each frame is the line `FRAME` followed by its planes.

use std::io::{self, Read};

use crate::capture::source::{Poll, Source, SourceCounters, SourceError, Stamp};
use crate::capture::timed_reader::{Supply, TimedReader};
use crate::platform::clock;
use faceptor::stages::{Colour, ImageView, PixelFormat};

/// First bytes of every stream.
pub(crate) const MAGIC: &[u8] = b"YUV4MPEG2";
/// First bytes of every frame.
const FRAME: &[u8] = b"FRAME";
/// Longest line of parameters, bytes.
const MAX_LINE: usize = 4096;
/// Longest side, pixels.
const MAX_SIDE: usize = 16_384;
/// Largest frame, bytes: 8192 x 8192 in 4:4:4. Memory grows with the bytes that arrive, not with what a header promises.
const MAX_FRAME_BYTES: usize = 3 * 8192 * 8192;

/// Reason why a stream cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Y4mError {
    #[error("not YUV4MPEG2: it begins with {0:?}, not with \"YUV4MPEG2 \" (write it with ffmpeg -f yuv4mpegpipe)")]
    NotY4m(String),
    #[error("its line of parameters is longer than {MAX_LINE} bytes or has no end")]
    LongLine,
    #[error("its parameters have no width (W) and height (H)")]
    NoSize,
    #[error("a size of {0} x {1} pixels, where 1 to {MAX_SIDE} along a side and frames of 192 MiB are read")]
    Size(usize, usize),
    #[error(
        "colours {0}, where 420, 422, 444 and mono of 8 bits are read (add -pix_fmt yuv420p to the ffmpeg command)"
    )]
    Colours(String),
    #[error("a frame begins with {0:?} instead of FRAME: the frames before it have another size than its header says")]
    NotFrame(String),
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
}

/// The parameters of a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Header {
    pub width: usize,
    pub height: usize,
    pub format: PixelFormat,
    pub colour: Colour,
    /// Frames per second, if the stream names them.
    pub fps: Option<f64>,
    /// True when even and odd rows are of different times.
    pub interlaced: bool,
}

/// Returns the start of a line, for a message.
fn beginning(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..line.len().min(12)]).into_owned()
}

/// Moves bytes to `line` up to the end of the line, which is dropped. Returns true when the line is complete.
fn take_line<R: Read>(reader: &mut TimedReader<R>, line: &mut Vec<u8>) -> Result<bool, Y4mError> {
    let end = reader.bytes().iter().position(|&byte| byte == b'\n');
    let piece = end.unwrap_or(reader.bytes().len());
    reader.move_to(line, piece);
    if line.len() > MAX_LINE {
        return Err(Y4mError::LongLine);
    }
    reader.consume(usize::from(end.is_some()));
    Ok(end.is_some())
}

impl Header {
    /// Reads the first line, without a time limit.
    ///
    /// # Errors
    /// When the stream is not YUV4MPEG2, or of an unsupported kind.
    pub(crate) fn read<R: Read>(reader: &mut TimedReader<R>) -> Result<Header, Y4mError> {
        let mut line = Vec::new();
        loop {
            let ended = reader.supply(u64::MAX)? == Supply::Ended;
            let complete = take_line(reader, &mut line);
            let known = line.len().min(MAGIC.len());
            if line[..known] != MAGIC[..known] || (ended && known < MAGIC.len()) {
                return Err(Y4mError::NotY4m(beginning(&line)));
            }
            match complete? {
                true => return Header::parse(&line),
                false if ended => return Err(Y4mError::LongLine),
                false => {}
            }
        }
    }

    fn parse(line: &[u8]) -> Result<Header, Y4mError> {
        let mut words = line.split(|&byte| byte == b' ');
        if words.next() != Some(MAGIC) {
            return Err(Y4mError::NotY4m(beginning(line)));
        }
        let (mut width, mut height, mut fps, mut interlaced) = (None, None, None, false);
        let (mut colours, mut full) = (String::from("420"), false);
        for word in words {
            let Some((&tag, value)) = word.split_first() else { continue };
            let value = String::from_utf8_lossy(value);
            match tag {
                b'W' => width = value.parse::<usize>().ok(),
                b'H' => height = value.parse::<usize>().ok(),
                b'F' => fps = fraction(&value),
                b'I' => interlaced = !matches!(value.as_ref(), "p" | "?"),
                b'C' => colours = value.into_owned(),
                b'X' => full |= value == "COLORRANGE=FULL",
                _ => {}
            }
        }
        let (width, height) = width.zip(height).ok_or(Y4mError::NoSize)?;
        let format = match colours.as_str() {
            "420" | "420jpeg" | "420mpeg2" | "420paldv" => PixelFormat::I420,
            "422" => PixelFormat::I422,
            "444" => PixelFormat::I444,
            "mono" => PixelFormat::Grey,
            _ => return Err(Y4mError::Colours(colours)),
        };
        let sides = 1..=MAX_SIDE;
        if !sides.contains(&width) || !sides.contains(&height) || format.frame_bytes(width, height) > MAX_FRAME_BYTES {
            return Err(Y4mError::Size(width, height));
        }
        let colour = if full { Colour::Bt601Full } else { Colour::Bt601Limited };
        Ok(Header { width, height, format, colour, fps, interlaced })
    }

    /// Returns the size of the planes of a frame, bytes.
    pub(crate) fn frame_bytes(&self) -> usize {
        self.format.frame_bytes(self.width, self.height)
    }
}

/// Parses a rate such as `30000:1001`; `None` for `0:0`, an unknown rate.
fn fraction(text: &str) -> Option<f64> {
    let (numerator, denominator) = text.split_once(':')?;
    let (numerator, denominator) = (numerator.parse::<f64>().ok()?, denominator.parse::<f64>().ok()?);
    (numerator > 0.0 && denominator > 0.0).then(|| numerator / denominator)
}

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
        let header = Header::read(&mut reader)?;
        if header.interlaced {
            log::warn!("{name}: its frames are interlaced: moving objects look torn");
        }
        Ok(Y4m {
            name: name.to_owned(),
            reader,
            header,
            expected: Expected::Line,
            line: Vec::new(),
            bytes: Vec::new(),
            next: 0,
            ended: false,
            has_delivered: false,
            scene: 0,
            counters: SourceCounters::default(),
        })
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
        loop {
            match self.reader.supply(until_us)? {
                Supply::Bytes => {}
                Supply::Nothing => return Ok(Supply::Nothing),
                Supply::Ended => {
                    if self.expected == Expected::Planes || !self.line.is_empty() {
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
                        self.expected = Expected::Line;
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
        match Header::read(&mut self.reader) {
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

    fn parse(line: &str) -> Result<Header, Y4mError> {
        Header::read(&mut TimedReader::new(format!("{line}\n").as_bytes(), 7))
    }

    fn reason(line: &[u8]) -> String {
        Header::read(&mut TimedReader::new(line, 1000)).expect_err("a bad header").to_string()
    }

    #[test]
    fn headers_of_ffmpeg_are_parsed() -> Result<(), Y4mError> {
        let header = parse("YUV4MPEG2 W640 H480 F30000:1001 Ip A1:1 C420mpeg2 XYSCSS=420MPEG2 XCOLORRANGE=LIMITED")?;
        assert_eq!((header.width, header.height, header.format), (640, 480, PixelFormat::I420));
        assert_eq!((header.frame_bytes(), header.interlaced, header.colour), (460_800, false, Colour::Bt601Limited));
        assert!(header.fps.is_some_and(|fps| (fps - 29.97).abs() < 0.001));
        for (colours, format) in [
            ("C420jpeg", PixelFormat::I420),
            ("C420paldv", PixelFormat::I420),
            ("C422", PixelFormat::I422),
            ("C444", PixelFormat::I444),
            ("Cmono", PixelFormat::Grey),
        ] {
            assert_eq!(parse(&format!("YUV4MPEG2 W4 H2 {colours}"))?.format, format);
        }
        let other = parse("YUV4MPEG2 H2 W4 It F0:0 XCOLORRANGE=FULL")?;
        assert_eq!((other.interlaced, other.fps, other.colour), (true, None, Colour::Bt601Full));
        Ok(())
    }

    #[test]
    fn hostile_headers_are_refused() {
        assert!(reason(b"\x89PNG\r\n\x1a\n....").starts_with("not YUV4MPEG2: it begins with"));
        assert!(reason(b"").starts_with("not YUV4MPEG2"));
        assert!(reason(b"YUV4MPEG2 W640").contains("has no end"));
        assert!(reason(&[b"YUV4MPEG2 ".to_vec(), vec![b'x'; 9000]].concat()).contains("longer than 4096"));
        assert!(reason(&vec![0; 9000]).starts_with("not YUV4MPEG2"));
        assert!(reason(b"YUV4MPEG2 W640 Hx\n").contains("no width"));
        assert!(reason(b"YUV4MPEG2 W99999999999999999999 H4\n").contains("no width"));
        for size in ["W0 H4", "W4 H0", "W16385 H1", "W16384 H16384 C444", "W18446744073709551615 H1"] {
            assert!(reason(format!("YUV4MPEG2 {size}\n").as_bytes()).contains("a size of"), "{size}");
        }
        let deep = reason(b"YUV4MPEG2 W4 H4 C420p10\n");
        assert!(deep.contains("colours 420p10") && deep.contains("-pix_fmt yuv420p"), "{deep}");
    }

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
