//! Concatenated JPEGs as a source: what `ffmpeg -f mjpeg` writes and many network cameras send. Between the JPEGs anything
//! may stand: the boundaries and headers of a multipart stream (`multipart/x-mixed-replace`), as preview pages and
//! network cameras send it. The JPEGs are found by their own markers, so a boundary inside their data does no harm, and
//! the lengths in the headers are not needed.

use std::io::{self, Read};
use std::mem;

use crate::capture::jpeg::FrameDecoder;
use crate::capture::part_start::PartStart;
use crate::capture::source::{Poll, Source, SourceCounters, SourceError, Stamp};
use crate::capture::timed_reader::{Supply, TimedReader};
use crate::platform::clock;
use faceptor::stages::{ImageView, JpegEvent, JpegMarkers};

/// First bytes of every JPEG.
pub(crate) const MAGIC: &[u8] = &[0xff, 0xd8, 0xff];
/// Longest text before the first JPEG of a multipart stream, bytes.
const MAX_PREAMBLE_BYTES: usize = 64 << 10;
/// Longer frames are skipped.
const MAX_FRAME_BYTES: usize = 64 << 20;

/// Cuts a stream into JPEGs.
#[derive(Debug, Default)]
struct Splitter {
    markers: JpegMarkers,
    /// `None` for JPEGs without text between them.
    parts: Option<PartStart>,
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
            let (mut used, mut event) = self.markers.next_event(&bytes[at..]);
            let part = self.parts.as_mut().and_then(|parts| parts.find(&bytes[at..at + used]));
            if let Some(end) = part.filter(|_| inside && out.len() > 2) {
                self.markers = JpegMarkers::default();
                event = self.markers.next_event(&MAGIC[..2]).1;
                used = end - 1;
            }
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
    /// True when this round has delivered or skipped a frame.
    has_delivered: bool,
    /// Number of times that the stream has started over.
    scene: u64,
    counters: SourceCounters,
}

/// Returns true if a stream may begin so: with a boundary, perhaps after an empty line or the head of an HTTP response.
/// `text` may be cut anywhere.
fn may_be_multipart(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    [b"--".as_slice(), b"HTTP/"].iter().any(|start| text.iter().zip(*start).all(|(byte, expected)| byte == expected))
}

/// Consumes the text before the first JPEG of a multipart stream. Returns false when the stream is of another kind.
fn skip_preamble<R: Read>(reader: &mut TimedReader<R>) -> io::Result<bool> {
    let mut text = Vec::new();
    loop {
        match reader.supply(u64::MAX)? {
            Supply::Bytes => {}
            Supply::Nothing => continue,
            Supply::Ended => return Ok(false),
        }
        let end = reader.bytes().iter().position(|&byte| byte == MAGIC[0]);
        reader.move_to(&mut text, end.unwrap_or(usize::MAX));
        if !may_be_multipart(&text) || text.len() > MAX_PREAMBLE_BYTES {
            return Ok(false);
        }
        if end.is_some() {
            return Ok(text.len() > 2);
        }
    }
}

impl<R: Read + Send> Mjpeg<R> {
    /// Checks the first bytes of the stream.
    ///
    /// # Errors
    /// When the stream begins neither with a JPEG nor as a multipart stream of JPEGs, or cannot be read.
    pub(crate) fn open(name: &str, mut reader: TimedReader<R>) -> anyhow::Result<Mjpeg<R>> {
        while reader.supply(u64::MAX)? == Supply::Nothing {}
        let seen = &reader.bytes()[..reader.bytes().len().min(MAGIC.len())];
        let is_jpeg = !seen.is_empty() && MAGIC.starts_with(seen);
        if !is_jpeg && !skip_preamble(&mut reader)? {
            anyhow::bail!(
                "not concatenated JPEGs: it begins neither with one nor as a multipart stream of them \
                 (write it with ffmpeg -f mjpeg)"
            );
        }
        let parts = (!is_jpeg).then(PartStart::default);
        Ok(Mjpeg {
            name: name.to_owned(),
            reader,
            splitter: Splitter { parts, ..Splitter::default() },
            frame: Vec::new(),
            complete: false,
            decoder: FrameDecoder::default(),
            next: 0,
            ended: false,
            has_delivered: false,
            scene: 0,
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
                self.forget();
                self.damaged("a frame is longer than 64 MiB");
            }
        }
    }

    /// Drops the frame that is being read.
    fn forget(&mut self) {
        let parts = self.splitter.parts.map(|_| PartStart::default());
        self.splitter = Splitter { parts, ..Splitter::default() };
        self.frame.clear();
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
                    self.has_delivered = true;
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
        self.has_delivered |= more;
        self.next += u64::from(more);
        Ok(more)
    }

    fn rewind(&mut self) -> bool {
        if !mem::take(&mut self.has_delivered) || !self.reader.restart() {
            return false;
        }
        self.forget();
        (self.complete, self.ended) = (false, false);
        self.scene += 1;
        true
    }

    fn scene(&self) -> u64 {
        self.scene
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

    /// Returns a part of a multipart stream.
    fn part(head: &str, jpeg: &[u8]) -> Vec<u8> {
        [format!("--frame\r\n{head}\r\n\r\n").as_bytes(), jpeg, b"\r\n"].concat()
    }

    #[test]
    fn multipart_streams_are_read_with_and_without_lengths() {
        let (one, other) = (jpeg(32, 24, 40), jpeg(64, 48, 220));
        let length = |jpeg: &[u8]| format!("Content-Type: image/jpeg\r\nContent-Length: {}", jpeg.len());
        let exact = [part(&length(&one), &one), part(&length(&other), &other), b"--frame--\r\n".to_vec()].concat();
        // A header may be wrong, and a boundary may stand inside the data: in a comment, and as entropy-coded bytes.
        let comment = [&[0xff, 0xfe, 0, 11], b"--frame\r\n".as_slice()].concat();
        let inside = [&one[..2], &comment, &one[2..]].concat();
        let bare = [part("Content-Type: image/jpeg", &inside), part("Content-Length: 7", &other)].concat();
        let response = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n";
        for stream in [&exact, &bare, &[b"\r\n", exact.as_slice()].concat(), &[response, bare.as_slice()].concat()] {
            for piece in [1, 7, 8192] {
                let (shades, counters) = play(stream, piece);
                near(&shades, &[40, 220]);
                assert_eq!((counters.frames, counters.decode_errors), (2, 0));
            }
        }
    }

    #[test]
    fn a_cut_part_costs_no_other_frame() {
        let (good, last) = (jpeg(64, 48, 40), jpeg(64, 48, 200));
        for cut in (4..good.len() - 2).step_by(13) {
            let parts = [part("a: b", &good), part("a: b", &good[..cut]), part("a: b", &last), part("a: b", &last)];
            let (shades, counters) = play(&parts.concat(), 500);
            near(&shades, &[40, 200, 200]);
            assert_eq!(counters.decode_errors, 1, "{cut}");
        }
    }

    #[test]
    fn a_file_starts_over_with_its_damaged_frames() -> anyhow::Result<()> {
        let root = faceptor_test_support::Folder::new();
        let good = jpeg(64, 48, 40);
        let whole = [&good, &good[..good.len() / 2], &good].concat();
        let open = |bytes: &[u8]| -> anyhow::Result<_> {
            let path = root.write("film.mjpg", bytes);
            Mjpeg::open("film.mjpg", TimedReader::of_file(std::fs::File::open(path)?))
        };
        let mut source = open(&whole)?;
        for round in 0..3 {
            assert!(matches!(source.poll(0)?, Poll::Frame(stamp) if stamp.sequence == 2 * round));
            assert!(source.skip()? && !source.skip()?);
            assert_eq!((source.scene(), source.counters().decode_errors), (round, round + 1));
            assert!(source.rewind());
        }
        let mut source = open(&good[..good.len() / 2])?;
        assert_eq!((source.poll(0)?, source.rewind()), (Poll::Ended, false), "there is nothing to show again");
        Ok(())
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
        let text = [b"--frame\r\n".as_slice(), &[b'x'; 70_000], MAGIC].concat();
        let garbage = [b"HTTX/1.1 200 OK\r\n\r\n".as_slice(), b"--\r\n", b"\r\n", b"--a\r\n\r\nno picture", &text];
        for bytes in garbage.into_iter().chain([b"".as_slice(), b"YUV4MPEG2 W4 H4\n", b"\xff\xd9\xff"]) {
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
