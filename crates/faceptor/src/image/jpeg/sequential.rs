//! Decodes the blocks of sequential scans.

use super::bits::Bits;
use super::huffman::{HuffmanTable, LOOK, extend};
use super::scan::BadCode;

/// Natural (row by row) index of each coefficient in zigzag order. A run beyond the block stays at its last place.
#[rustfmt::skip]
pub(crate) const NATURAL: [u8; 128] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
    63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63,
    63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63,
];

/// Reads the difference of a DC coefficient to that of the block before.
#[inline(always)]
pub(crate) fn dc_difference(bits: &mut Bits, table: &HuffmanTable) -> Result<i32, BadCode> {
    bits.refill();
    let (length, size) = table.symbol(bits.peek(16)).ok_or(BadCode)?;
    bits.drop(length);
    let size = u32::from(size);
    if size > 15 {
        return Err(BadCode);
    }
    Ok(extend(bits.take(size), size))
}

/// Decodes a block into zeroed coefficients. Returns the index, in zigzag order, of the last one that was set, and
/// true if the data set more than small differences of brightness.
#[inline(always)]
pub(crate) fn decode_block(
    bits: &mut Bits,
    dc: &HuffmanTable,
    ac: &HuffmanTable,
    prediction: &mut i32,
    block: &mut [i16; 64],
) -> Result<(usize, bool), BadCode> {
    // A copy is kept in registers.
    let mut reader = bits.clone();
    let difference = dc_difference(&mut reader, dc)?;
    *prediction = prediction.wrapping_add(difference);
    block[0] = *prediction as i16;
    let mut last = 0;
    let mut at = 1;
    while at < 64 {
        reader.refill();
        let run = ac.run(reader.peek(LOOK));
        if run.length() > 0 {
            reader.drop(run.length());
            at += run.zeros();
            last = at;
            block[usize::from(NATURAL[at & 127]) & 63] = run.value();
            at += 1;
            continue;
        }
        let (length, symbol) = ac.symbol(reader.peek(16)).ok_or(BadCode)?;
        reader.drop(length);
        let (zeros, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        if size == 0 {
            if zeros != 15 {
                break;
            }
            at += 16;
            continue;
        }
        at += zeros;
        last = at;
        block[usize::from(NATURAL[at & 127]) & 63] = extend(reader.take(size), size) as i16;
        at += 1;
    }
    *bits = reader;
    // A run of zeros may end the block exactly, but not lead beyond it.
    if last > 63 {
        return Err(BadCode);
    }
    Ok((last, last > 0 || difference.abs() > 1))
}
