//! The markers of a JPEG stream, found in one pass over bytes that may arrive in pieces.
//!
//! Segments are stepped over by their lengths, because a thumbnail in an APPn segment has markers of its own. In
//! entropy-coded data `ff` is followed by `00` or a restart marker, so a marker cannot occur there by chance.

const START_OF_IMAGE: u8 = 0xd8;
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;

/// An event reported by [`JpegMarkers::next_event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JpegEvent {
    /// SOI has been read. A second one without [`JpegEvent::End`] before it means that the image broke off.
    Start,
    /// The marker of a segment has been read; its length follows. 0xc4 defines Huffman tables.
    Segment(u8),
    /// The header of a scan has been read; entropy-coded data follows.
    Data,
    /// EOI has been read.
    End,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before SOI.
    #[default]
    Outside,
    /// After `ff`, before SOI.
    OutsideMark,
    /// Where a marker is expected.
    Segments,
    /// After `ff`, between segments.
    Mark,
    /// At the length of the segment of this marker; its high byte, when that has been read.
    Length(u8, Option<u8>),
    /// Inside the segment of `marker`, `left` bytes before its end.
    Body { marker: u8, left: usize },
    /// In entropy-coded data.
    Data,
    /// After `ff`, in entropy-coded data.
    DataMark,
}

/// A walk over the markers of concatenated JPEGs. It keeps no bytes.
#[derive(Clone, Debug, Default)]
pub struct JpegMarkers {
    state: State,
}

impl JpegMarkers {
    /// Walks over `bytes`, the continuation of those of earlier calls, up to the next event. Returns the number of
    /// bytes walked over and the event, or all bytes and `None` when more are needed.
    pub fn next_event(&mut self, bytes: &[u8]) -> (usize, Option<JpegEvent>) {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let event = match self.state {
                State::Body { marker, left } => {
                    let step = left.min(bytes.len() - at);
                    at += step;
                    if step < left {
                        self.state = State::Body { marker, left: left - step };
                        None
                    } else {
                        self.end_segment(marker)
                    }
                }
                State::Data => {
                    let step = bytes[at..].iter().position(|&byte| byte == 0xff);
                    at += step.map_or(bytes.len() - at, |step| step + 1);
                    if step.is_some() {
                        self.state = State::DataMark;
                    }
                    None
                }
                _ => {
                    at += 1;
                    self.step(byte)
                }
            };
            if event.is_some() {
                return (at, event);
            }
        }
        (at, None)
    }

    /// Reports whether the scanner is before the first SOI, or between EOI and the next SOI.
    pub fn is_outside(&self) -> bool {
        matches!(self.state, State::Outside | State::OutsideMark)
    }

    /// Reads one byte of anything but a segment's body and entropy-coded data.
    fn step(&mut self, byte: u8) -> Option<JpegEvent> {
        match (self.state, byte) {
            (State::Outside | State::OutsideMark, 0xff) => self.state = State::OutsideMark,
            (State::OutsideMark, START_OF_IMAGE) | (State::Mark | State::DataMark, START_OF_IMAGE) => {
                self.state = State::Segments;
                return Some(JpegEvent::Start);
            }
            (State::Outside | State::OutsideMark, _) => self.state = State::Outside,
            (State::Mark | State::DataMark, END_OF_IMAGE) => {
                self.state = State::Outside;
                return Some(JpegEvent::End);
            }
            // A marker may be preceded by any number of fill bytes `ff`.
            (State::Segments | State::Mark, 0xff) => self.state = State::Mark,
            (State::DataMark, 0xff) => {}
            // A stuffed byte, or a restart marker.
            (State::DataMark, 0x00 | 0x01 | 0xd0..=0xd7) => self.state = State::Data,
            // Rubbish between segments, or TEM and RSTn, which have no length.
            (State::Segments, _) | (State::Mark, 0x00 | 0x01 | 0xd0..=0xd7) => self.state = State::Segments,
            (State::Mark | State::DataMark, marker) => {
                self.state = State::Length(marker, None);
                return Some(JpegEvent::Segment(marker));
            }
            (State::Length(marker, None), high) => self.state = State::Length(marker, Some(high)),
            (State::Length(marker, Some(high)), low) => {
                // The length counts its own two bytes.
                let left = usize::from(u16::from_be_bytes([high, low])).saturating_sub(2);
                if left == 0 {
                    return self.end_segment(marker);
                }
                self.state = State::Body { marker, left };
            }
            // `next_event` reads these.
            (State::Body { .. } | State::Data, _) => {}
        }
        None
    }

    fn end_segment(&mut self, marker: u8) -> Option<JpegEvent> {
        if marker == START_OF_SCAN {
            self.state = State::Data;
            return Some(JpegEvent::Data);
        }
        self.state = State::Segments;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SOI, an APP1 segment that holds SOI and EOI, and an empty SOS.
    const HEADER: [u8; 14] = [0xff, 0xd8, 0xff, 0xe1, 0x00, 0x06, 0xff, 0xd8, 0xff, 0xd9, 0xff, 0xda, 0x00, 0x02];
    const DATA: [u8; 7] = [0x12, 0xff, 0x00, 0x34, 0xff, 0xd0, 0x56];

    /// Returns every event of `bytes` with the number of bytes before it, in pieces of `piece` bytes.
    fn events(bytes: &[u8], piece: usize) -> Vec<(usize, JpegEvent)> {
        let mut markers = JpegMarkers::default();
        let (mut events, mut at) = (Vec::new(), 0);
        for mut part in bytes.chunks(piece) {
            while !part.is_empty() {
                let (used, event) = markers.next_event(part);
                at += used;
                part = &part[used..];
                events.extend(event.map(|event| (at, event)));
            }
        }
        events
    }

    #[test]
    fn events_are_the_same_wherever_the_pieces_end() {
        use JpegEvent::{Data, End, Segment, Start};
        // The second image breaks off in its data; the third starts there.
        let one = [HEADER.as_slice(), &DATA, &[0xff, 0xd9]].concat();
        let stream = [&[0x00, 0xff, 0x01][..], &one, &[0; 5], &one[..one.len() - 3], &one].concat();
        let whole = [(2, Start), (4, Segment(0xe1)), (12, Segment(0xda)), (14, Data), (23, End)];
        let expected: Vec<(usize, JpegEvent)> = [(3, 5), (3 + one.len() + 5, 4), (3 + 2 * one.len() + 5 - 3, 5)]
            .into_iter()
            .flat_map(|(start, count)| whole[..count].iter().map(move |&(at, event)| (start + at, event)))
            .collect();
        for piece in [1, 2, 3, 7, 1000] {
            assert_eq!(events(&stream, piece), expected, "pieces of {piece} bytes");
        }
    }

    #[test]
    fn fill_bytes_and_rubbish_between_segments_are_passed_over() {
        use JpegEvent::{End, Segment, Start};
        let bytes = [0xff, 0xff, 0xd8, 0x55, 0xff, 0x00, 0xff, 0xff, 0xfe, 0x00, 0x03, 0xaa, 0xff, 0xd3, 0xff, 0xd9];
        assert_eq!(events(&bytes, 4), [(3, Start), (9, Segment(0xfe)), (16, End)]);
    }
}
