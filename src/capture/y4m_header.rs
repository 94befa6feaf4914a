//! The first line of YUV4MPEG2: the parameters of the frames.

use std::io::{self, Read};

use crate::capture::timed_reader::{Supply, TimedReader};
use faceptor::stages::{Colour, PixelFormat};

/// First bytes of every stream.
pub(crate) const MAGIC: &[u8] = b"YUV4MPEG2";
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
pub(super) fn beginning(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..line.len().min(12)]).into_owned()
}

/// Moves bytes to `line` up to the end of the line, which is dropped. Returns true when the line is complete.
pub(super) fn take_line<R: Read>(reader: &mut TimedReader<R>, line: &mut Vec<u8>) -> Result<bool, Y4mError> {
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
    /// Reads the first line, at most until `until_us` of the monotonic clock.
    ///
    /// # Errors
    /// When the stream is not YUV4MPEG2, of an unsupported kind, or silent for so long.
    pub(crate) fn read<R: Read>(reader: &mut TimedReader<R>, until_us: u64) -> Result<Header, Y4mError> {
        let mut line = Vec::new();
        loop {
            let supply = reader.supply(until_us)?;
            if supply == Supply::Nothing && until_us != u64::MAX {
                return Err(Y4mError::Read(io::ErrorKind::TimedOut.into()));
            }
            let ended = supply == Supply::Ended;
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

    pub(super) fn parse(line: &[u8]) -> Result<Header, Y4mError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Header, Y4mError> {
        Header::read(&mut TimedReader::new(format!("{line}\n").as_bytes(), 7), u64::MAX)
    }

    fn reason(line: &[u8]) -> String {
        Header::read(&mut TimedReader::new(line, 1000), u64::MAX).expect_err("a bad header").to_string()
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
}
