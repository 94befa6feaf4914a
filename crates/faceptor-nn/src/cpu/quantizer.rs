//! Rounds float32 to unsigned 8 bit.

use crate::tensor::Quantization;

/// A number whose addition rounds a number below 2^22 to a whole one, half to even, and leaves it in the low bits.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// The factors of a quantization.
///
/// Quantizing multiplies by the reciprocal of the scale, as a division is several times slower: the rounding may differ where
/// the quotient lies within a millionth of a tie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quantizer {
    pub(super) factor: f32,
    pub(super) low: f32,
    pub(super) high: f32,
    base: u32,
}

impl Quantizer {
    #[inline(always)]
    pub(crate) fn new(to: Quantization) -> Quantizer {
        let zero_point = to.zero_point as f32;
        let base = ROUND.to_bits().wrapping_sub(to.zero_point as u32);
        Quantizer { factor: 1.0 / to.scale, low: -zero_point, high: 255.0 - zero_point, base }
    }

    /// Returns the byte of a real zero.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub(super) fn zero_point(self) -> i32 {
        -self.low as i32
    }

    #[inline(always)]
    pub(crate) fn quantize(self, x: f32) -> u8 {
        // Saturated before it is rounded: the bounds are whole, so the order makes no difference.
        let scaled = (x * self.factor).max(self.low).min(self.high);
        (scaled + ROUND).to_bits().wrapping_sub(self.base) as u8
    }
}
