//! Decodes JPEG pictures: baseline, extended and progressive, with any sampling and any order of scans, to the pixels that
//! libjpeg gives (accurate integer transform, interpolated chroma).
//!
//! ```text
//! mod            segments -> scans -> pixels
//!   frame          SOF: size and sampling
//!   scan           SOS, and the walk over its MCUs: restart markers, lost parts, the count of what was there
//!     bits           entropy-coded data
//!     huffman        code tables
//!     sequential     blocks of sequential scans
//!     progressive    blocks of progressive scans
//!   coders         what the scans' blocks are written to: pixels at once, or coefficients until the last scan
//!     idct           blocks of coefficients to samples
//!     rows           samples to RGB
//!       upsample       subsampled components
//! ```
//!
//! No byte of the input is trusted, and the decoder counts what it decoded: a picture whose data ends early is noticed
//! whatever follows it.

mod bits;
mod coders;
mod coverage;
mod frame;
mod huffman;
mod idct;
mod progressive;
mod rows;
mod scan;
mod sequential;
mod upsample;

use crate::error::{Error, ErrorKind, Result, bail, ensure};
use crate::image::containment::contain;
use crate::image::picture::Picture;
use bits::Bits;
use coders::{Coefficients, ToCoefficients, ToPixels};
use coverage::Coverage;
use frame::Frame;
use huffman::HuffmanTables;
use rows::{ColourModel, Rows};
use scan::{Scan, walk};

/// Most scans of a picture. A progressive picture has about ten; thousands of empty ones would take hours.
const MAX_SCANS: usize = 200;

/// Measured contents of a decoded JPEG.
#[derive(Clone, Debug, PartialEq)]
pub struct JpegContents {
    /// Share of the picture whose data was there, 0..=1. The rest of the pixels is filling.
    pub read: f32,
    /// Share of the detail that the scans of a progressive picture have brought, 0..=1.
    pub detail: f32,
    /// Number of restart markers that are missing or in disorder.
    pub disorders: usize,
    /// Bytes of picture data left after the last pixel.
    pub left: usize,
    /// True when the end marker is there.
    pub has_end: bool,
    /// Place of the EXIF data in the file.
    pub exif: Option<std::ops::Range<usize>>,
}

impl JpegContents {
    /// Returns what is wrong with the picture, for people; `None` for a sound one.
    pub fn damage(&self) -> Option<String> {
        let percent = (self.read * 100.0).floor();
        if self.read < 1.0 {
            let what = if self.has_end { "its data ends early" } else { "its end is missing" };
            return Some(format!("truncated JPEG: {what}, {percent} % of the picture is there"));
        }
        if self.detail < 1.0 {
            let percent = (self.detail * 100.0).floor();
            return Some(format!("truncated JPEG: its last scans are missing, {percent} % of the detail is there"));
        }
        if self.disorders > 0 {
            return Some(format!("damaged JPEG: {} of its restart markers are missing or wrong", self.disorders));
        }
        None
    }
}

/// Decodes pictures one after the other and reuses its memory.
#[derive(Clone, Debug)]
pub struct JpegDecoder {
    tables: HuffmanTables,
    quantizers: [Option<[u16; 64]>; 4],
    rows: Rows,
    coefficients: Coefficients,
    max_pixels: u64,
}

/// State set by the segments before the current one.
#[derive(Debug, Default)]
struct Header {
    frame: Option<Frame>,
    restart_interval: usize,
    has_jfif: bool,
    /// Transform byte of Adobe's segment.
    adobe: Option<u8>,
    exif: Option<std::ops::Range<usize>>,
}

impl JpegDecoder {
    /// Makes a decoder that refuses pictures of more than `max_pixels` pixels.
    pub fn new(max_pixels: u64) -> JpegDecoder {
        JpegDecoder {
            tables: HuffmanTables::new(),
            quantizers: [None; 4],
            rows: Rows::default(),
            coefficients: Coefficients::default(),
            max_pixels,
        }
    }

    /// Decodes the first picture of `bytes` into `picture`, whose memory is used again. What follows the picture's end is
    /// ignored.
    ///
    /// A picture of which a part is missing is decoded too: the caller decides by the [`JpegContents`].
    ///
    /// # Errors
    /// [`ErrorKind::Image`] when there is no picture, its kind is not read, its header is broken or it has too many pixels;
    /// `picture` must not be shown then.
    pub fn decode(&mut self, bytes: &[u8], picture: &mut Picture) -> Result<JpegContents, Error> {
        contain(|| self.decode_uncontained(bytes, picture))
            .unwrap_or_else(|| Err(Error::new(ErrorKind::Image, "broken JPEG: the decoder failed")))
    }

    pub(crate) fn decode_uncontained(&mut self, bytes: &[u8], picture: &mut Picture) -> Result<JpegContents> {
        ensure!(bytes.starts_with(&[0xff, 0xd8]), Image, "not a JPEG");
        self.tables.clear();
        self.quantizers = [None; 4];
        let mut header = Header::default();
        let mut coverage = Coverage::default();
        let mut at = 2;
        let mut has_end = false;
        let mut scans = 0;
        while let Some((marker, body)) = next_segment(bytes, &mut at) {
            match marker {
                0xd9 => {
                    has_end = true;
                    break;
                }
                // Another picture begins: this one has no end.
                0xd8 => break,
                0xc4 => self.tables.define(body)?,
                0xdb => self.define_quantizers(body)?,
                0xdd => header.restart_interval = body.first_chunk().map_or(0, |&n| usize::from(u16::from_be_bytes(n))),
                0xe0 => header.has_jfif |= body.starts_with(b"JFIF\0"),
                0xe1 if header.exif.is_none() && body.starts_with(b"Exif\0\0") => {
                    header.exif = Some(at - body.len() + 6..at);
                }
                0xee if body.starts_with(b"Adobe") => header.adobe = body.get(11).copied(),
                0xc0..=0xcf if marker != 0xc8 && marker != 0xcc => {
                    ensure!(header.frame.is_none(), Image, "broken JPEG: it has two frame headers");
                    let frame = Frame::read(marker, body, self.max_pixels)?;
                    check_length(&frame, bytes.len() - at)?;
                    coverage = Coverage::new(&frame);
                    self.prepare(&frame, picture)?;
                    header.frame = Some(frame);
                }
                0xda => {
                    scans += 1;
                    ensure!(scans <= MAX_SCANS, Image, "broken JPEG: it has more than {MAX_SCANS} scans");
                    let Some(frame) = &header.frame else { bail!(Image, "broken JPEG: a scan without a frame header") };
                    let scan = Scan::read(body, frame)?;
                    let is_only = !frame.is_progressive && scan.components.len() == frame.components.len();
                    at = self.decode_scan(
                        bytes,
                        at,
                        &header,
                        frame,
                        &scan,
                        is_only.then_some(&mut *picture),
                        &mut coverage,
                    )?;
                    if is_only {
                        has_end = finds_end(bytes, at);
                        break;
                    }
                }
                _ => {}
            }
        }
        let Some(frame) = &header.frame else {
            bail!(Image, "truncated JPEG: {}", if has_end { "it holds no picture" } else { "its end is missing" });
        };
        ensure!(
            scans > 0,
            Image,
            "truncated JPEG: {}",
            if has_end { "it holds no data" } else { "its end is missing" }
        );
        if !self.coefficients.is_empty() {
            let model = colour_model(&header, frame);
            self.coefficients.render(frame, model, &mut self.rows, picture.bytes_mut());
        }
        let (read, detail) = coverage.result();
        let (disorders, left) = (coverage.disorders, coverage.left);
        Ok(JpegContents { read, detail, disorders, left, has_end, exif: header.exif })
    }

    /// Allocates the picture.
    fn prepare(&mut self, frame: &Frame, picture: &mut Picture) -> Result<()> {
        let length = frame.width * frame.height * 3;
        ensure!(picture.try_reshape(frame.width, frame.height), Image, "its {length} bytes do not fit into the memory");
        self.rows.prepare(frame);
        self.coefficients.clear();
        Ok(())
    }

    /// Decodes the scan whose data begins at `at`: into the picture, when it is the only one of a sequential picture, else
    /// into coefficients. Returns the index of the marker after it.
    #[allow(clippy::too_many_arguments, reason = "all are needed, and it is called in one place")]
    fn decode_scan(
        &mut self,
        bytes: &[u8],
        at: usize,
        header: &Header,
        frame: &Frame,
        scan: &Scan,
        picture: Option<&mut Picture>,
        coverage: &mut Coverage,
    ) -> Result<usize> {
        self.tables.complete()?;
        let mut bits = Bits::new(bytes, at);
        let interval = header.restart_interval;
        let contents = if let Some(picture) = picture {
            let mut coder =
                ToPixels::new(scan, frame, &self.tables, &self.quantizers, &mut self.rows, picture.bytes_mut())?;
            coder.model = colour_model(header, frame);
            walk(scan, interval, &mut bits, &mut coder)
        } else {
            self.coefficients.prepare(frame, scan, &self.quantizers)?;
            let mut coder = ToCoefficients::new(scan, frame, &self.tables, &mut self.coefficients)?;
            walk(scan, interval, &mut bits, &mut coder)
        };
        coverage.add(scan, &contents);
        bits.seek_marker();
        // Restart markers beyond the last interval belong to the scan.
        while let Some(&[0xff, 0xd0..=0xd7]) = bytes.get(bits.position()..).and_then(<[u8]>::first_chunk::<2>) {
            bits.pass_marker();
            bits.seek_marker();
        }
        Ok(bits.position())
    }

    fn define_quantizers(&mut self, mut body: &[u8]) -> Result<()> {
        while let Some((&kind, rest)) = body.split_first() {
            let (id, size) = (usize::from(kind & 15), if kind >> 4 == 0 { 1 } else { 2 });
            let Some((values, rest)) = rest.split_at_checked(64 * size).filter(|_| id < 4) else {
                bail!(Image, "broken JPEG: a quantization table is cut off or has the number {id}");
            };
            let mut table = [0; 64];
            for (place, value) in sequential::NATURAL.iter().zip(values.chunks_exact(size)) {
                table[usize::from(*place)] = value.iter().fold(0, |value, &byte| value << 8 | u16::from(byte));
            }
            self.quantizers[id] = Some(table);
            body = rest;
        }
        Ok(())
    }
}

/// Reads the next marker and, if it has one, its segment; `at` moves past it. Bytes between segments are skipped.
fn next_segment<'a>(bytes: &'a [u8], at: &mut usize) -> Option<(u8, &'a [u8])> {
    loop {
        *at += bytes.get(*at..)?.iter().position(|&byte| byte == 0xff)?;
        let marker = *bytes.get(*at + 1)?;
        match marker {
            0xff => *at += 1,
            // Not a marker, or one without a segment.
            0x00 | 0x01 | 0xd0..=0xd7 => *at += 2,
            0xd8 | 0xd9 => {
                *at += 2;
                return Some((marker, &[]));
            }
            _ => {
                let length = usize::from(u16::from_be_bytes(*bytes.get(*at + 2..)?.first_chunk()?));
                let body = bytes.get(*at + 4..*at + 2 + length.max(2))?;
                *at += 2 + length.max(2);
                return Some((marker, body));
            }
        }
    }
}

/// Reports whether the end marker comes before another picture begins.
fn finds_end(bytes: &[u8], mut at: usize) -> bool {
    while let Some((marker, _)) = next_segment(bytes, &mut at) {
        if matches!(marker, 0xd8 | 0xd9) {
            return marker == 0xd9;
        }
    }
    false
}

/// Refuses a picture that cannot be in so few bytes before memory is allocated for it: every block has a code.
fn check_length(frame: &Frame, bytes: usize) -> Result<()> {
    let blocks: usize = frame.components.iter().map(|component| component.blocks[0] * component.blocks[1]).sum();
    let (width, height) = (frame.width, frame.height);
    ensure!(
        bytes.saturating_mul(80) >= blocks,
        Image,
        "truncated JPEG: less than a tenth of its {width} x {height} pixels can be in {bytes} bytes"
    );
    Ok(())
}

/// Determines what the components mean, by the rules of libjpeg.
fn colour_model(header: &Header, frame: &Frame) -> ColourModel {
    let ids: [u8; 3] = [0, 1, 2].map(|index| frame.components.get(index).map_or(0, |component| component.id));
    match (frame.components.len(), header.adobe) {
        (1, _) => ColourModel::Grey,
        (3, Some(0)) if !header.has_jfif => ColourModel::Rgb,
        (3, None) if !header.has_jfif && ids == *b"RGB" => ColourModel::Rgb,
        (3, _) => ColourModel::YCbCr,
        (_, None | Some(0)) => ColourModel::Cmyk,
        _ => ColourModel::Ycck,
    }
}

/// Checks a picture's size against the limit.
pub(crate) fn check_size(width: usize, height: usize, max_pixels: u64) -> Result<()> {
    ensure!(
        width as u64 * height as u64 <= max_pixels,
        Image,
        "{width} x {height} pixels are more than the {max_pixels} that are read: scale it down, or allow more (--max-pixels)"
    );
    Ok(())
}
