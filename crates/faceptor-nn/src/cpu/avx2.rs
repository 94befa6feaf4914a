//! AVX2 without an 8 bit dot product: everything is widened to 16 bits, so that no intermediate can saturate.

use std::arch::x86_64::*;

use crate::cpu::DEPTH_GROUP;
use crate::cpu::packed::PackedInt8;

/// Columns of a panel.
const WIDTH: usize = 16;
/// Registers of a panel: four columns each, two sums per column.
const PARTS: usize = 4;

/// # Safety
/// The CPU has AVX2; `a` has `rows` rows of `depth_padded`, `out` `rows` rows of `columns_padded`.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn multiply_int8(a: &[u8], rows: usize, weights: &PackedInt8, out: &mut [i32]) {
    for first in (0..weights.columns_padded()).step_by(WIDTH) {
        let values = weights.values()[first * weights.depth_padded()..].as_ptr();
        let out = out[first..].as_mut_ptr();
        let mut row = 0;
        while row < rows {
            // SAFETY: rows `row..row + taken` exist, and the panel has WIDTH x depth_padded weights.
            unsafe {
                let (a, out) = (a.as_ptr().add(row * weights.depth_padded()), out.add(row * weights.columns_padded()));
                row += if rows - row > 1 {
                    tile::<2>(a, weights, values, out)
                } else {
                    tile::<1>(a, weights, values, out)
                };
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
unsafe fn tile<const M: usize>(a: *const u8, p: &PackedInt8, w: *const i8, out: *mut i32) -> usize {
    let mut sums = [[_mm256_setzero_si256(); PARTS]; M];
    for group in 0..p.depth_padded() / DEPTH_GROUP {
        let mut fours = [_mm256_setzero_si256(); M];
        for (m, four) in fours.iter_mut().enumerate() {
            // SAFETY: group by group within the row; the read needs no alignment.
            let bytes = unsafe { a.add(m * p.depth_padded() + group * DEPTH_GROUP).cast::<i32>().read_unaligned() };
            *four = _mm256_broadcastq_epi64(_mm_cvtepu8_epi16(_mm_cvtsi32_si128(bytes)));
        }
        for part in 0..PARTS {
            // SAFETY: 16 weights, four columns of four, within the panel.
            let weights = unsafe { _mm_loadu_si128(w.add((group * PARTS + part) * 16).cast()) };
            let wide = _mm256_cvtepi8_epi16(weights);
            for (sums, four) in sums.iter_mut().zip(&fours) {
                sums[part] = _mm256_add_epi32(sums[part], _mm256_madd_epi16(*four, wide));
            }
        }
    }
    for (m, sums) in sums.iter().enumerate() {
        for half in 0..2 {
            // Two sums of each of eight columns, in the order 0 1 4 5 2 3 6 7.
            let pairs = _mm256_hadd_epi32(sums[half * 2], sums[half * 2 + 1]);
            let ordered = _mm256_permute4x64_epi64::<0b11_01_10_00>(pairs);
            // SAFETY: M rows of WIDTH columns lie within `out`.
            unsafe { _mm256_storeu_si256(out.add(m * p.columns_padded() + half * 8).cast(), ordered) };
        }
    }
    M
}
