//! Concatenated JPEGs as a source: what `ffmpeg -f mjpeg` writes and many network cameras send.

use std::io::{self, Read};
use std::mem;

use crate::capture::jpeg::FrameDecoder;
use crate::capture::source::{Poll, Source, SourceCounters, SourceError, Stamp};
use crate::capture::timed_reader::{Supply, TimedReader};
use crate::platform::clock;
use faceptor::stages::{ImageView, JpegEvent, JpegMarkers};

/// First bytes of every JPEG.
pub(crate) const MAGIC: &[u8] = &[0xff, 0xd8, 0xff];
/// Longer frames are skipped.
const MAX_FRAME_BYTES: usize = 64 << 20;

/// Cuts a stream into JPEGs.
#[derive(Debug, Default)]
struct Splitter {
    markers: JpegMarkers,
    /// Number of JPEGs that broke off because the next one started inside them.
    broken_off: u32,
}

impl Splitter {
    /// Consumes bytes up to the end of a JPEG. Appends the bytes of the JPEG to `out`, and returns the number of bytes
    /// consumed and whether the JPEG is complete.
    fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> (usize, bool) {
        let mut at = 0;
        while at < bytes.len() {
            let inside = !self.markers.is_outside();
            let (used, event) = self.markers.next_event(&bytes[at..]);
            if event == Some(JpegEvent::Start) {
                self.broken_off += u32::from(inside);
                out.clear();
                out.extend_from_slice(&MAGIC[..2]);
            } else if inside {
                out.extend_from_slice(&bytes[at..at + used]);
            }
            at += used;
            if event == Some(JpegEvent::End) {
                return (at, true);
            }
        }
        (at, false)
    }
}

/// Reads the frames of a stream, each as soon as it is complete. Counts and skips damaged frames.
pub(crate) struct Mjpeg<R> {
    name: String,
    reader: TimedReader<R>,
    splitter: Splitter,
    frame: Vec<u8>,
    /// True when `frame` is complete; the next byte read belongs to the next frame.
    complete: bool,
    decoder: FrameDecoder,
    next: u64,
    ended: bool,
    counters: SourceCounters,
}

impl<R: Read + Send> Mjpeg<R> {
    /// Checks the first bytes of the stream.
    ///
    /// # Errors
    /// When the stream does not begin with a JPEG, or cannot be read.
    pub(crate) fn open(name: &str, mut reader: TimedReader<R>) -> anyhow::Result<Mjpeg<R>> {
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

    /// Reads until a JPEG is complete in `frame` (`Bytes`), the time is up or the stream has ended. Counts a last JPEG
    /// that is cut off.
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
            log::warn!("{}: damaged frame skipped: {what} ({} so far)", self.name, self.counters.decode_errors);
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
    use faceptor_test_support::check;
    use proptest::collection::vec;
    use proptest::prelude::{Just, any, prop_oneof};

    use super::*;
    use crate::capture::jpeg::samples::jpeg;

    /// Plays a stream in pieces of `piece` bytes; returns the red value of each frame, and the counters.
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
    fn frames_are_separated_wherever_the_pieces_end() {
        let stream = [jpeg(32, 24, 40), jpeg(64, 48, 120), jpeg(16, 16, 220)].concat();
        for piece in [1, 3, 7, 100, 8192] {
            let (shades, counters) = play(&stream, piece);
            near(&shades, &[40, 120, 220]);
            assert_eq!((counters.frames, counters.decode_errors), (3, 0));
        }
    }

    #[test]
    fn thumbnails_are_not_frames_and_padding_is_dropped() {
        let (outer, inner) = (jpeg(32, 24, 40), jpeg(16, 16, 220));
        let length = (inner.len() + 2) as u16;
        let app = [&[0xff, 0xe1], length.to_be_bytes().as_slice(), &inner].concat();
        let stream = [&outer[..2], &app, &outer[2..], &[0; 300], &jpeg(32, 24, 90)].concat();
        near(&play(&stream, 64).0, &[40, 90]);
    }

    #[test]
    fn damaged_and_cut_frames_are_counted_and_skipped() {
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
    fn streams_without_jpegs_are_refused() {
        for bytes in [b"".as_slice(), b"YUV4MPEG2 W4 H4\n", b"\xff\xd9\xff"] {
            let error = Mjpeg::open("stream", TimedReader::new(bytes, 99)).err().map(|error| error.to_string());
            assert!(error.is_some_and(|text| text.starts_with("not concatenated JPEGs")), "{bytes:?}");
        }
    }

    #[test]
    fn reading_survives_any_damage() {
        let file = jpeg(48, 32, 90);
        let value = prop_oneof![Just(0xff), Just(0xd8), Just(0xd9), Just(0), any::<u8>()];
        // The first marker stays, or the stream is refused.
        let changes = vec((3..3 * file.len(), value), 1..=30);
        check(300, (changes, 1..=300usize), |(changes, piece)| {
            let mut stream = [file.as_slice(), &file, &file].concat();
            changes.into_iter().for_each(|(place, value)| stream[place] = value);
            stream.extend_from_slice(&file);
            play(&stream, piece);
        });
    }
}
