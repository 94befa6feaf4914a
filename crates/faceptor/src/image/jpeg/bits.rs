//! Reads the entropy-coded data of a JPEG bit by bit, up to a marker.

/// Reads bits up to the next marker; from there on it supplies zeros and counts them.
#[derive(Clone, Debug)]
pub(crate) struct Bits<'a> {
    bytes: &'a [u8],
    /// Index of the next byte that is not in the buffer. At a marker: the index of its `ff`.
    at: usize,
    /// Unread bits, left-aligned.
    buffer: u64,
    count: u32,
    /// Number of bits supplied after the end of the data; they are the last of the buffer's.
    padding: u32,
    /// Number of zero bytes that were read last.
    zeros: usize,
}

/// The end of the entropy-coded data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Restart marker of this number, 0..=7.
    Restart(u8),
    /// Any other marker, or the end of the file.
    Other,
}

impl<'a> Bits<'a> {
    /// Starts at the byte `at`.
    pub(crate) fn new(bytes: &'a [u8], at: usize) -> Bits<'a> {
        Bits { bytes, at, buffer: 0, count: 0, padding: 0, zeros: 0 }
    }

    /// Makes sure that at least 32 bits can be read.
    #[inline]
    pub(crate) fn refill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some(next) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk::<8>) {
            let word = u64::from_be_bytes(*next);
            let inverse = !word;
            let has_ff = inverse.wrapping_sub(0x0101_0101_0101_0101) & !inverse & 0x8080_8080_8080_8080;
            if has_ff == 0 {
                let taken = (63 - self.count) / 8;
                // A part of the byte after those taken gets into the buffer; the next refill puts the same bits there.
                self.buffer |= word >> self.count;
                self.count += taken * 8;
                self.at += taken as usize;
                self.zeros = if word == 0 { self.zeros + taken as usize } else { 0 };
                return;
            }
        }
        self.refill_bytewise();
    }

    fn refill_bytewise(&mut self) {
        while self.count <= 56 {
            let byte = match (self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                (Some(0xff), Some(0x00)) => {
                    self.at += 2;
                    0xff
                }
                // A marker, or the last byte.
                (Some(0xff), _) | (None, _) => {
                    self.padding += 64 - self.count;
                    self.count = 64;
                    return;
                }
                (Some(&byte), _) => {
                    self.at += 1;
                    byte
                }
            };
            self.zeros = if byte == 0 { self.zeros + 1 } else { 0 };
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// Returns the next `count` bits (1..=32) without reading them; [`Bits::refill`] comes before.
    #[inline]
    pub(crate) fn peek(&self, count: u32) -> u32 {
        (self.buffer >> (64 - count)) as u32
    }

    /// Reads `count` bits that were looked at.
    #[inline]
    pub(crate) fn drop(&mut self, count: u32) {
        self.buffer <<= count & 63;
        self.count = self.count.saturating_sub(count);
    }

    /// Reads `count` bits, 0..=16; [`Bits::refill`] comes before.
    #[inline]
    pub(crate) fn take(&mut self, count: u32) -> u32 {
        let bits = ((self.buffer >> 1) >> (63 - (count & 31))) as u32;
        self.drop(count);
        bits
    }

    /// Reads one bit.
    #[inline]
    pub(crate) fn bit(&mut self) -> bool {
        self.refill();
        self.take(1) == 1
    }

    /// Reports whether more bits were read than the data has.
    #[inline]
    pub(crate) fn is_overrun(&self) -> bool {
        self.padding > self.count
    }

    /// Returns the number of zero bytes that were read last.
    #[inline]
    pub(crate) fn zero_run(&self) -> usize {
        self.zeros
    }

    /// Returns the number of whole bytes between the last bit read and the next marker, and how many of them, from the
    /// first one on, are zero. Stuffed zeros in the buffer are not counted.
    pub(crate) fn left(&self) -> (usize, usize) {
        let buffered = (self.count.saturating_sub(self.padding) / 8) as usize;
        let from = self.at.saturating_sub(buffered).min(self.bytes.len());
        let data = &self.bytes[from..self.next_marker()];
        (data.len(), data.iter().take_while(|&&byte| byte == 0).count())
    }

    /// Returns the index of the next marker's `ff`, or the length of the file.
    fn next_marker(&self) -> usize {
        let mut at = self.at.min(self.bytes.len());
        loop {
            match self.bytes[at..].iter().position(|&byte| byte == 0xff) {
                None => return self.bytes.len(),
                Some(step) => at += step,
            }
            match self.bytes.get(at + 1) {
                None => return self.bytes.len(),
                Some(0x00) => at += 2,
                // A fill byte.
                Some(0xff) => at += 1,
                Some(_) => return at,
            }
        }
    }

    /// Goes to the next marker. Returns what it is; the marker itself is not passed.
    pub(crate) fn seek_marker(&mut self) -> Mark {
        self.at = self.next_marker();
        (self.buffer, self.count, self.padding, self.zeros) = (0, 0, 0, 0);
        match self.bytes.get(self.at + 1) {
            Some(&code @ 0xd0..=0xd7) => Mark::Restart(code - 0xd0),
            _ => Mark::Other,
        }
    }

    /// Passes the marker that [`Bits::seek_marker`] has found.
    pub(crate) fn pass_marker(&mut self) {
        self.at = (self.at + 2).min(self.bytes.len());
    }

    /// Returns the index of the next byte: that of a marker after [`Bits::seek_marker`].
    pub(crate) fn position(&self) -> usize {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bits: &mut Bits, count: u32) -> u32 {
        bits.refill();
        bits.take(count)
    }

    #[test]
    fn bits_are_read_across_stuffed_bytes() {
        let bytes: Vec<u8> = (0..40).flat_map(|i| if i % 7 == 3 { vec![0xff, 0x00] } else { vec![i * 5] }).collect();
        let plain: Vec<u8> = (0..40).map(|i| if i % 7 == 3 { 0xff } else { i * 5 }).collect();
        for width in [1u32, 3, 5, 8, 11, 16] {
            let mut bits = Bits::new(&bytes, 0);
            for first in (0..plain.len() * 8 - 16).step_by(width as usize) {
                let expected = (0..width as usize).fold(0, |value, i| {
                    let bit = first + i;
                    value << 1 | u32::from(plain[bit / 8] >> (7 - bit % 8) & 1)
                });
                assert_eq!(read(&mut bits, width), expected, "bit {first}, width {width}");
            }
            assert!(!bits.is_overrun());
        }
    }

    #[test]
    fn zeros_follow_the_end_and_are_noticed() {
        let bytes = [0xab, 0xcd, 0xff, 0xd9, 0x12];
        let mut bits = Bits::new(&bytes, 0);
        assert_eq!((read(&mut bits, 16), bits.is_overrun()), (0xabcd, false));
        assert_eq!((read(&mut bits, 16), bits.is_overrun()), (0, true));
        (0..100).for_each(|_| assert_eq!(read(&mut bits, 16), 0));
        assert_eq!((bits.seek_marker(), bits.position()), (Mark::Other, 2));
        let mut empty = Bits::new(&[], 7);
        assert_eq!((read(&mut empty, 1), empty.is_overrun(), empty.seek_marker()), (0, true, Mark::Other));
    }

    #[test]
    fn markers_are_found_and_what_is_left_is_counted() {
        let bytes = [1, 2, 0, 0, 0xff, 0x00, 9, 0xff, 0xff, 0xd3, 0x40];
        let mut bits = Bits::new(&bytes, 0);
        assert_eq!(read(&mut bits, 9), 2);
        assert_eq!(
            bits.left(),
            (5, 1),
            "0, ff 00, 9, and a fill byte: the buffer's zero of the stuffing is not counted"
        );
        let mut zeros = Bits::new(&[0, 0, 7, 0xff, 0xd9], 0);
        zeros.refill();
        assert_eq!(zeros.left(), (3, 2));
        assert_eq!(bits.seek_marker(), Mark::Restart(3));
        bits.pass_marker();
        assert_eq!(read(&mut bits, 8), 0x40);
    }
}
