//! Huffman tables, prepared so that most codes and their extra bits are decoded with one look-up.

use crate::error::{Result, bail};

/// Length of the codes that are looked up, bits.
pub(crate) const LOOK: u32 = 9;
/// Longest code, bits.
const LONGEST: usize = 16;

/// A code with its extra bits, looked up from the next [`LOOK`] bits. It is packed, to be read at once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Run(u32);

impl Run {
    fn new(length: u32, zeros: u8, value: i32) -> Run {
        Run((value as u32) << 16 | u32::from(zeros) << 8 | length)
    }

    /// Returns the bits of code and extra bits together; 0 when they do not fit or the symbol has no value.
    #[inline(always)]
    pub(crate) fn length(self) -> u32 {
        self.0 & 0xff
    }

    /// Returns the number of zero coefficients before this one.
    #[inline(always)]
    pub(crate) fn zeros(self) -> usize {
        (self.0 >> 8 & 0xff) as usize
    }

    #[inline(always)]
    pub(crate) fn value(self) -> i16 {
        (self.0 >> 16) as i16
    }
}

/// One Huffman table. The tables of AC coefficients also have their runs prepared.
#[derive(Clone, Debug)]
pub(crate) struct HuffmanTable {
    /// Length and symbol of the code that the next bits begin with; length 0 for codes longer than [`LOOK`] bits.
    codes: [(u8, u8); 1 << LOOK],
    runs: [Run; 1 << LOOK],
    /// For each length, the first code beyond those of this length, left-aligned in 16 bits.
    ends: [u32; LONGEST + 1],
    /// For each length, the index of the symbol of code 0; it may be negative.
    offsets: [i32; LONGEST + 1],
    symbols: [u8; 256],
}

impl HuffmanTable {
    /// Makes an empty table, in which no code is valid.
    pub(crate) fn new() -> HuffmanTable {
        HuffmanTable {
            codes: [(0, 0); 1 << LOOK],
            runs: [Run::default(); 1 << LOOK],
            ends: [0; LONGEST + 1],
            offsets: [0; LONGEST + 1],
            symbols: [0; 256],
        }
    }

    /// Fills the table from the number of codes of each length and the symbols in the order of their codes.
    ///
    /// # Errors
    /// When there are more codes of a length than it has room for, or fewer symbols than codes.
    pub(crate) fn fill(&mut self, counts: &[u8; LONGEST], symbols: &[u8]) -> Result<()> {
        let total: usize = counts.iter().copied().map(usize::from).sum();
        if total > 256 || symbols.len() < total {
            bail!(Image, "broken JPEG: a Huffman table has {total} codes and {} symbols", symbols.len());
        }
        *self = HuffmanTable::new();
        self.symbols[..total].copy_from_slice(&symbols[..total]);
        let (mut code, mut index) = (0u32, 0usize);
        for length in 1..=LONGEST {
            self.offsets[length] = index as i32 - code as i32;
            for _ in 0..counts[length - 1] {
                if code >> length != 0 {
                    bail!(Image, "broken JPEG: a Huffman table has too many codes of {length} bits");
                }
                if length as u32 <= LOOK {
                    let shift = LOOK - length as u32;
                    let first = (code << shift) as usize;
                    self.codes[first..first + (1 << shift)].fill((length as u8, symbols[index]));
                }
                code += 1;
                index += 1;
            }
            self.ends[length] = code << (LONGEST - length);
            code <<= 1;
        }
        self.prepare_runs();
        Ok(())
    }

    /// Prepares the values of codes that fit into the look-up together with their extra bits.
    fn prepare_runs(&mut self) {
        for bits in 0..1u32 << LOOK {
            let (length, symbol) = self.codes[bits as usize];
            let (zeros, size) = (symbol >> 4, u32::from(symbol & 15));
            let all = u32::from(length) + size;
            if length > 0 && size > 0 && all <= LOOK {
                let extra = bits >> (LOOK - all) & ((1 << size) - 1);
                self.runs[bits as usize] = Run::new(all, zeros, extend(extra, size));
            }
        }
    }

    /// Returns length and symbol of the code that the next 16 bits begin with, or `None` when no code is like that.
    #[inline]
    pub(crate) fn symbol(&self, next: u32) -> Option<(u32, u8)> {
        let (length, symbol) = self.codes[(next >> (16 - LOOK)) as usize & ((1 << LOOK) - 1)];
        if length > 0 { Some((u32::from(length), symbol)) } else { self.long_symbol(next) }
    }

    #[cold]
    fn long_symbol(&self, next: u32) -> Option<(u32, u8)> {
        let length = (LOOK as usize + 1..=LONGEST).find(|&length| next < self.ends[length])?;
        let index = (next >> (LONGEST - length)) as i32 + self.offsets[length];
        let symbol = usize::try_from(index).ok().and_then(|index| self.symbols.get(index))?;
        Some((length as u32, *symbol))
    }

    /// Returns the run that the next [`LOOK`] bits begin with.
    #[inline]
    pub(crate) fn run(&self, next: u32) -> Run {
        self.runs[next as usize & ((1 << LOOK) - 1)]
    }
}

/// Returns the value that `size` extra bits stand for.
#[inline]
pub(crate) fn extend(bits: u32, size: u32) -> i32 {
    let bits = bits as i32;
    if size > 0 && bits < 1 << (size - 1) { bits - (1 << size) + 1 } else { bits }
}

/// Counts and symbols of the standard's tables (T.81, annex K.3), which cameras leave out of their frames.
const LUMA_DC: [u8; 16] = [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0];
const CHROMA_DC: [u8; 16] = [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0];
const DC_SYMBOLS: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
const LUMA_AC: [u8; 16] = [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7d];
const CHROMA_AC: [u8; 16] = [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77];
#[rustfmt::skip]
const LUMA_AC_SYMBOLS: [u8; 162] = [
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71, 0x14, 0x32, 0x81,
    0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0, 0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0a, 0x16, 0x17, 0x18,
    0x19, 0x1a, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48,
    0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75,
    0x76, 0x77, 0x78, 0x79, 0x7a, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
    0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3,
    0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5,
    0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
];
#[rustfmt::skip]
const CHROMA_AC_SYMBOLS: [u8; 162] = [
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22, 0x32, 0x81, 0x08,
    0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0, 0x15, 0x62, 0x72, 0xd1, 0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25,
    0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47,
    0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74,
    0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97,
    0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba,
    0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe2, 0xe3, 0xe4,
    0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
];

/// The tables of a picture: four of DC, then four of AC coefficients, as they stand when a scan begins.
#[derive(Clone, Debug)]
pub(crate) struct HuffmanTables {
    tables: Vec<HuffmanTable>,
    defined: [bool; 8],
}

impl HuffmanTables {
    pub(crate) fn new() -> HuffmanTables {
        HuffmanTables { tables: vec![HuffmanTable::new(); 8], defined: [false; 8] }
    }

    /// Forgets the tables of the picture before.
    pub(crate) fn clear(&mut self) {
        self.defined = [false; 8];
    }

    /// Reads the body of a DHT segment.
    ///
    /// # Errors
    /// When the segment is too short, or a table is contradictory.
    pub(crate) fn define(&mut self, mut body: &[u8]) -> Result<()> {
        while let Some((&[class, ref counts @ ..], rest)) = body.split_first_chunk::<17>() {
            let mut lengths = [0; LONGEST];
            lengths.copy_from_slice(counts);
            let total: usize = counts.iter().copied().map(usize::from).sum();
            let (kind, id) = (usize::from(class >> 4), usize::from(class & 15));
            if kind > 1 || id > 3 {
                bail!(Image, "broken JPEG: Huffman table {class:#04x} does not exist");
            }
            self.tables[kind * 4 + id].fill(&lengths, rest)?;
            self.defined[kind * 4 + id] = true;
            body = &rest[total.min(rest.len())..];
        }
        Ok(())
    }

    /// Puts the tables of the standard where the picture defines none.
    pub(crate) fn complete(&mut self) -> Result<()> {
        for (index, counts, symbols) in [
            (0, &LUMA_DC, &DC_SYMBOLS[..]),
            (1, &CHROMA_DC, &DC_SYMBOLS),
            (4, &LUMA_AC, &LUMA_AC_SYMBOLS),
            (5, &CHROMA_AC, &CHROMA_AC_SYMBOLS),
        ] {
            if !self.defined[index] {
                self.tables[index].fill(counts, symbols)?;
                self.defined[index] = true;
            }
        }
        Ok(())
    }

    /// Returns the DC table of that number, if it is defined.
    pub(crate) fn dc(&self, id: usize) -> Option<&HuffmanTable> {
        self.defined.get(id).copied().filter(|&defined| defined && id < 4).and(self.tables.get(id))
    }

    /// Returns the AC table of that number, if it is defined.
    pub(crate) fn ac(&self, id: usize) -> Option<&HuffmanTable> {
        self.defined.get(id + 4).copied().filter(|&defined| defined && id < 4).and(self.tables.get(id + 4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_every_length_are_found() {
        let mut tables = HuffmanTables::new();
        tables.complete().expect("the standard's tables");
        let ac = tables.ac(0).expect("defined");
        // T.81, table K.5: 0/0 (EOB) 1010, 0/1 00, F/0 (ZRL) 11111111001, F/A the last code of 16 bits.
        for (next, expected) in [
            (0b1010 << 12, Some((4, 0x00))),
            (0b00 << 14, Some((2, 0x01))),
            (0b111_1111_1001 << 5, Some((11, 0xf0))),
            (0xfffe, Some((16, 0xfa))),
            (0xffff, None),
        ] {
            assert_eq!(ac.symbol(next), expected, "{next:016b}");
        }
        // 0/1 and a zero bit: -1 with three bits. 0/2 and 11: 3 with four bits.
        let (one, other) = (ac.run(0b0_0000_0000), ac.run(0b0_1110_0000));
        assert_eq!((one.length(), one.zeros(), one.value()), (3, 0, -1));
        assert_eq!((other.length(), other.zeros(), other.value()), (4, 0, 3));
    }

    #[test]
    fn contradictory_tables_are_refused() {
        let mut table = HuffmanTable::new();
        let mut counts = [0; 16];
        counts[0] = 3;
        assert!(table.fill(&counts, &[1, 2, 3]).is_err(), "three codes of one bit");
        counts[0] = 2;
        assert!(table.fill(&counts, &[1]).is_err(), "two codes, one symbol");
        assert!(table.fill(&counts, &[1, 2]).is_ok());
        assert!(HuffmanTables::new().define(&[&[0x24][..], &[0; 16]].concat()).is_err());
        assert!(HuffmanTables::new().dc(9).is_none() && HuffmanTables::new().ac(usize::MAX - 4).is_none());
    }

    #[test]
    fn extra_bits_are_signed_by_their_first() {
        assert_eq!([extend(0, 0), extend(0, 1), extend(1, 1), extend(0, 3), extend(7, 3)], [0, -1, 1, -7, 7]);
    }
}
