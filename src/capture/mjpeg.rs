//! Concatenated JPEGs, as webcams send them and `ffmpeg -f mjpeg` writes them.

use std::io::{self, Read};
use std::mem;

use crate::capture::jpeg::FrameDecoder;
use crate::capture::source::{Poll, Source, SourceCounters, SourceError, Stamp};
use crate::capture::timed_reader::{Supply, TimedReader};
use crate::platform::clock;
use faceptor::stages::ImageView;

/// What every JPEG begins with.
pub const MAGIC: &[u8] = &[0xff, 0xd8, 0xff];
/// Longer frames are passed over.
const MAX_FRAME_BYTES: usize = 64 << 20;

/// Cuts a stream into JPEGs.
///
/// Inside the segments of a JPEG there may be other ones (thumbnails), so segments are stepped over by their lengths;
/// in entropy-coded data a marker cannot occur by chance.
#[derive(Debug, Default)]
struct Splitter {
    state: State,
    /// JPEGs that broke off, the next one beginning in their middle.
    broken_off: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before a JPEG: looking for ff d8.
    #[default]
    Outside,
    /// After ff, before a JPEG.
    OutsideMark,
    /// Where a marker must be.
    Segments,
    /// After ff, between segments.
    Mark,
    /// The length of the segment of this marker, and its first byte when that has been read.
    Length(u8, Option<u8>),
    /// Inside a segment: so many bytes of it are left. `true` for the one before the data.
    Skip(usize, bool),
    /// In the data.
    Data,
    /// After ff in the data.
    DataMark,
}

impl Splitter {
    /// Takes bytes until the end of a JPEG: how many, and whether it is complete. What belongs to a JPEG goes to `out`.
    fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> (usize, bool) {
        let mut at = 0;
        while at < bytes.len() {
            if let State::Skip(left, data) = self.state {
                let step = left.min(bytes.len() - at);
                out.extend_from_slice(&bytes[at..at + step]);
                at += step;
                self.state = match left - step {
                    0 if data => State::Data,
                    0 => State::Segments,
                    left => State::Skip(left, data),
                };
                continue;
            }
            if self.state == State::Data {
                let step = bytes[at..].iter().position(|&byte| byte == 0xff).unwrap_or(bytes.len() - at);
                out.extend_from_slice(&bytes[at..at + step]);
                at += step;
                if at == bytes.len() {
                    break;
                }
            }
            let byte = bytes[at];
            at += 1;
            out.push(byte);
            match (self.state, byte) {
                (State::Outside, 0xff) => {
                    out.clear();
                    out.push(byte);
                    self.state = State::OutsideMark;
                }
                (State::OutsideMark, 0xd8) => self.state = State::Segments,
                (State::OutsideMark, 0xff) => out.truncate(1),
                (State::Outside | State::OutsideMark, _) => {
                    out.clear();
                    self.state = State::Outside;
                }
                (State::Segments, 0xff) | (State::Mark, 0xff) => self.state = State::Mark,
                // A JPEG that ends without data, or begins anew.
                (State::Mark | State::DataMark, 0xd9) => {
                    self.state = State::Outside;
                    return (at, true);
                }
                (State::Mark | State::DataMark, 0xd8) => {
                    out.clear();
                    out.extend([0xff, 0xd8]);
                    self.broken_off += 1;
                    self.state = State::Segments;
                }
                (State::Mark, 0x01 | 0xd0..=0xd7) => self.state = State::Segments,
                (State::Mark, marker) => self.state = State::Length(marker, None),
                (State::Length(marker, None), high) => self.state = State::Length(marker, Some(high)),
                (State::Length(marker, Some(high)), low) => {
                    let length = usize::from(u16::from_be_bytes([high, low])).saturating_sub(2);
                    self.state = State::Skip(length, marker == 0xda);
                }
                // Rubbish between segments: the frame is broken, which its decoder will say.
                (State::Segments, _) => {}
                (State::Data, _) => self.state = State::DataMark,
                (State::DataMark, 0x00 | 0xd0..=0xd7) => self.state = State::Data,
                (State::DataMark, 0xff) => {}
                // Tables and further scans of a progressive JPEG.
                (State::DataMark, marker) => self.state = State::Length(marker, None),
                (State::Skip(..), _) => {}
            }
        }
        (at, false)
    }
}

/// The frames of a stream, each as soon as it can be read. Damaged ones are counted and passed over.
pub struct Mjpeg<R> {
    name: String,
    reader: TimedReader<R>,
    splitter: Splitter,
    frame: Vec<u8>,
    /// `frame` is whole, and the next one begins.
    complete: bool,
    decoder: FrameDecoder,
    next: u64,
    ended: bool,
    counters: SourceCounters,
}

impl<R: Read + Send> Mjpeg<R> {
    /// Looks at how the stream begins.
    ///
    /// # Errors
    /// When it does not begin with a JPEG, or cannot be read.
    pub fn open(name: &str, mut reader: TimedReader<R>) -> anyhow::Result<Mjpeg<R>> {
        while reader.supply(u64::MAX)? == Supply::Nothing {}
        let seen = &reader.bytes()[..reader.bytes().len().min(MAGIC.len())];
        if seen.is_empty() || !MAGIC.starts_with(seen) {
            anyhow::bail!("not concatenated JPEGs: it does not begin with one (write it with ffmpeg -f mjpeg)");
        }
        Ok(Mjpeg {
            name: name.to_owned(),
            reader,
            splitter: Splitter::default(),
            frame: Vec::new(),
            complete: false,
            decoder: FrameDecoder::default(),
            next: 0,
            ended: false,
            counters: SourceCounters::default(),
        })
    }

    /// Reads on until a JPEG is complete in `frame` (`Bytes`), the time is up or the stream has ended. A last one that
    /// is cut off is counted.
    fn read(&mut self, until_us: u64) -> io::Result<Supply> {
        loop {
            match self.reader.supply(until_us)? {
                Supply::Bytes => {}
                Supply::Nothing => return Ok(Supply::Nothing),
                Supply::Ended => {
                    if !self.complete && self.frame.len() > 2 {
                        self.damaged("the last frame is cut off");
                    }
                    return Ok(Supply::Ended);
                }
            }
            if self.complete {
                self.frame.clear();
            }
            let (used, complete) = self.splitter.take(self.reader.bytes(), &mut self.frame);
            self.complete = complete;
            self.reader.consume(used);
            for _ in 0..mem::take(&mut self.splitter.broken_off) {
                self.damaged("the frame is cut off");
            }
            if complete {
                return Ok(Supply::Bytes);
            }
            if self.frame.len() > MAX_FRAME_BYTES {
                self.frame.clear();
                self.splitter = Splitter::default();
                self.damaged("a frame is longer than 64 MiB");
            }
        }
    }

    fn damaged(&mut self, what: &str) {
        self.counters.decode_errors += 1;
        if self.counters.decode_errors.is_power_of_two() {
            log::warn!("{}: damaged frame passed over: {what} ({} so far)", self.name, self.counters.decode_errors);
        }
    }

    fn lost(&mut self, error: io::Error) -> SourceError {
        self.ended = true;
        SourceError::Lost { name: self.name.clone(), reason: error.into() }
    }
}

impl<R: Read + Send> Source for Mjpeg<R> {
    fn poll(&mut self, until_us: u64) -> Result<Poll, SourceError> {
        while !self.ended {
            match self.read(until_us).map_err(|error| self.lost(error))? {
                Supply::Bytes => {}
                Supply::Nothing => return Ok(Poll::Nothing),
                Supply::Ended => {
                    self.ended = true;
                    break;
                }
            }
            let stamp = Stamp { sequence: self.next, captured_us: clock::now_us(), stale_dropped: 0 };
            self.next += 1;
            match self.decoder.decode(&self.frame) {
                Ok(()) => {
                    self.counters.frames += 1;
                    return Ok(Poll::Frame(stamp));
                }
                Err(error) => self.damaged(&error.to_string()),
            }
        }
        Ok(Poll::Ended)
    }

    fn view(&self) -> ImageView<'_> {
        self.decoder.view()
    }

    fn counters(&self) -> SourceCounters {
        self.counters
    }

    fn describe(&self) -> String {
        format!("{}: concatenated JPEGs", self.name)
    }

    fn skip(&mut self) -> Result<bool, SourceError> {
        let more = !self.ended && self.read(u64::MAX).map_err(|error| self.lost(error))? == Supply::Bytes;
        self.ended |= !more;
        self.next += u64::from(more);
        Ok(more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::jpeg::samples::jpeg;

    /// (red of each frame, counters) of a stream that is read in pieces of `piece` bytes.
    fn play(bytes: &[u8], piece: usize) -> (Vec<u8>, SourceCounters) {
        let mut source = Mjpeg::open("stream", TimedReader::new(bytes, piece)).expect("a JPEG");
        let mut shades = Vec::new();
        loop {
            match source.poll(0).expect("readable") {
                Poll::Frame(_) => shades.push(source.view().bytes()[0]),
                _ => return (shades, source.counters()),
            }
        }
    }

    fn near(shades: &[u8], expected: &[u8]) {
        assert_eq!(shades.len(), expected.len(), "{shades:?}");
        assert!(shades.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) < 8), "{shades:?} {expected:?}");
    }

    #[test]
    fn frames_are_cut_apart_wherever_the_pieces_end() {
        let stream = [jpeg(32, 24, 40), jpeg(64, 48, 120), jpeg(16, 16, 220)].concat();
        for piece in [1, 3, 7, 100, 8192] {
            let (shades, counters) = play(&stream, piece);
            near(&shades, &[40, 120, 220]);
            assert_eq!((counters.frames, counters.decode_errors), (3, 0));
        }
    }

    #[test]
    fn a_thumbnail_is_no_frame_and_padding_is_left_out() {
        let (outer, inner) = (jpeg(32, 24, 40), jpeg(16, 16, 220));
        let length = (inner.len() + 2) as u16;
        let app = [&[0xff, 0xe1], length.to_be_bytes().as_slice(), &inner].concat();
        let stream = [&outer[..2], &app, &outer[2..], &[0; 300], &jpeg(32, 24, 90)].concat();
        near(&play(&stream, 64).0, &[40, 90]);
    }

    #[test]
    fn damaged_and_cut_frames_are_counted_and_the_rest_is_shown() {
        let (good, last) = (jpeg(64, 48, 40), jpeg(64, 48, 200));
        // The second frame stops in the middle, and the next begins there.
        let stream = [&good, &good[..good.len() * 2 / 3], &last, &last[..last.len() / 2]].concat();
        let (shades, counters) = play(&stream, 500);
        near(&shades, &[40, 200]);
        assert_eq!(counters.decode_errors, 2, "the second and the last one are cut off");
        let mut broken = good.clone();
        let at = broken.len() - 300;
        broken[at..at + 40].copy_from_slice(&[0xff, 0x00].repeat(20));
        let (shades, counters) = play(&[broken, last].concat(), 500);
        near(&shades, &[200]);
        assert_eq!(counters.decode_errors, 1);
    }

    #[test]
    fn what_is_no_jpeg_is_refused() {
        for bytes in [b"".as_slice(), b"YUV4MPEG2 W4 H4\n", b"\xff\xd9\xff"] {
            let error = Mjpeg::open("stream", TimedReader::new(bytes, 99)).err().map(|error| error.to_string());
            assert!(error.is_some_and(|text| text.starts_with("not concatenated JPEGs")), "{bytes:?}");
        }
    }

    #[test]
    fn no_bytes_stop_it() {
        let file = jpeg(48, 32, 90);
        let mut state = 3u32;
        let mut random = |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize % below
        };
        for _ in 0..300 {
            let mut stream = [file.as_slice(), &file, &file].concat();
            for _ in 0..1 + random(30) {
                let at = 3 + random(stream.len() - 3);
                stream[at] = [0xff, 0xd8, 0xd9, 0, random(256) as u8][random(5)];
            }
            stream.extend_from_slice(&file);
            play(&stream, 1 + random(300));
        }
    }
}
