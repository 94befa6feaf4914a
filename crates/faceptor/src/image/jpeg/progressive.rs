//! Decodes the blocks of progressive scans: each brings some coefficients, or one more bit of them.

use super::bits::Bits;
use super::huffman::{HuffmanTable, extend};
use super::scan::BadCode;
use super::sequential::{NATURAL, dc_difference};

/// State of a scan of AC coefficients.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EndOfBand {
    /// Number of further blocks that bring nothing new.
    run: u32,
}

/// Decodes the first bits of a DC coefficient.
pub(crate) fn first_dc(
    bits: &mut Bits,
    table: &HuffmanTable,
    low: u32,
    prediction: &mut i32,
    block: &mut [i16; 64],
) -> Result<bool, BadCode> {
    let difference = dc_difference(bits, table)?;
    *prediction = prediction.wrapping_add(difference);
    block[0] = prediction.wrapping_shl(low) as i16;
    Ok(difference.abs() > 1)
}

/// Decodes one more bit of a DC coefficient.
pub(crate) fn next_dc(bits: &mut Bits, low: u32, block: &mut [i16; 64]) {
    if bits.bit() {
        block[0] |= 1i16 << low;
    }
}

/// Reads the symbol of a run. Returns the number of zeros, the size of the value, and for an end of band the number of
/// blocks that it covers, this one included.
fn symbol(bits: &mut Bits, table: &HuffmanTable) -> Result<(usize, u32, Option<u32>), BadCode> {
    bits.refill();
    let (length, symbol) = table.symbol(bits.peek(16)).ok_or(BadCode)?;
    bits.drop(length);
    let (zeros, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
    let blocks = (size == 0 && zeros != 15).then(|| (1 << zeros) + bits.take(zeros));
    Ok((zeros as usize, size, blocks))
}

/// Decodes the first bits of the AC coefficients of a band.
pub(crate) fn first_ac(
    bits: &mut Bits,
    table: &HuffmanTable,
    [from, to]: [usize; 2],
    low: u32,
    end: &mut EndOfBand,
    block: &mut [i16; 64],
) -> Result<bool, BadCode> {
    if end.run > 0 {
        end.run -= 1;
        return Ok(false);
    }
    let mut at = from;
    let mut is_active = false;
    while at <= to {
        let (zeros, size, blocks) = symbol(bits, table)?;
        if let Some(blocks) = blocks {
            end.run = blocks - 1;
            break;
        }
        at += zeros;
        if size > 0 {
            if at > to {
                return Err(BadCode);
            }
            is_active = true;
            let value = extend(bits.take(size), size);
            block[usize::from(NATURAL[at])] = value.wrapping_shl(low) as i16;
        }
        at += 1;
    }
    Ok(is_active)
}

/// Decodes one more bit of the AC coefficients of a band, and coefficients that become one.
pub(crate) fn next_ac(
    bits: &mut Bits,
    table: &HuffmanTable,
    [from, to]: [usize; 2],
    low: u32,
    end: &mut EndOfBand,
    block: &mut [i16; 64],
) -> Result<bool, BadCode> {
    let one = 1i16 << low;
    let mut at = from;
    let mut is_active = false;
    if end.run == 0 {
        while at <= to {
            let (mut zeros, size, blocks) = symbol(bits, table)?;
            if let Some(blocks) = blocks {
                end.run = blocks;
                break;
            }
            let value = match size {
                0 => 0,
                1 if bits.bit() => one,
                1 => -one,
                _ => return Err(BadCode),
            };
            // Coefficients that have bits already are refined and do not count as zeros of the run.
            while at <= to {
                let coefficient = &mut block[usize::from(NATURAL[at])];
                if *coefficient != 0 {
                    refine(bits, one, coefficient);
                } else if zeros > 0 {
                    zeros -= 1;
                } else {
                    *coefficient = value;
                    break;
                }
                at += 1;
            }
            if value != 0 {
                if at > to {
                    return Err(BadCode);
                }
                is_active = true;
            }
            at += 1;
        }
    }
    if end.run > 0 {
        for at in at..=to {
            let coefficient = &mut block[usize::from(NATURAL[at])];
            if *coefficient != 0 {
                refine(bits, one, coefficient);
            }
        }
        end.run -= 1;
    }
    Ok(is_active)
}

/// Adds a bit to the magnitude.
#[inline]
fn refine(bits: &mut Bits, one: i16, coefficient: &mut i16) {
    if bits.bit() && *coefficient & one == 0 {
        *coefficient = if *coefficient < 0 { coefficient.wrapping_sub(one) } else { coefficient.wrapping_add(one) };
    }
}
