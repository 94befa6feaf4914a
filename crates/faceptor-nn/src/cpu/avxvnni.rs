//! AVX-VNNI: the 8 bit dot product on 256 bit registers, for CPUs without AVX-512 (Alder Lake, N100 and later).

use std::arch::x86_64::*;

use crate::cpu::DEPTH_GROUP;
use crate::cpu::packed::PackedInt8;

/// Columns of a panel.
const WIDTH: usize = 16;
/// Columns of one register.
const LANES: usize = 8;
/// Registers of a panel.
const PARTS: usize = WIDTH / LANES;

/// # Safety
/// The CPU has AVX2 and AVX-VNNI; `a` has `rows` rows of `depth_padded`, `out` `rows` rows of `columns_padded`.
#[target_feature(enable = "avx2,avxvnni")]
pub(super) unsafe fn multiply_int8(a: &[u8], rows: usize, weights: &PackedInt8, out: &mut [i32]) {
    for first in (0..weights.columns_padded()).step_by(WIDTH) {
        let values = weights.values()[first * weights.depth_padded()..].as_ptr();
        let out = out[first..].as_mut_ptr();
        let mut row = 0;
        while row < rows {
            // SAFETY: rows `row..row + taken` exist, and the panel has WIDTH x depth_padded weights.
            unsafe {
                let (a, out) = (a.as_ptr().add(row * weights.depth_padded()), out.add(row * weights.columns_padded()));
                row += match rows - row {
                    1 => tile::<1>(a, weights, values, out),
                    2 => tile::<2>(a, weights, values, out),
                    3 => tile::<3>(a, weights, values, out),
                    4 => tile::<4>(a, weights, values, out),
                    5 => tile::<5>(a, weights, values, out),
                    _ => tile::<6>(a, weights, values, out),
                };
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn tile<const M: usize>(a: *const u8, p: &PackedInt8, w: *const i8, out: *mut i32) -> usize {
    let mut sums = [[_mm256_setzero_si256(); PARTS]; M];
    for group in 0..p.depth_padded() / DEPTH_GROUP {
        // SAFETY: group by group within the panel and within each row; the reads need no alignment.
        unsafe {
            let w = w.add(group * WIDTH * DEPTH_GROUP);
            let columns = [_mm256_loadu_si256(w.cast()), _mm256_loadu_si256(w.add(LANES * DEPTH_GROUP).cast())];
            for (m, sums) in sums.iter_mut().enumerate() {
                let four = a.add(m * p.depth_padded() + group * DEPTH_GROUP).cast::<i32>().read_unaligned();
                let four = _mm256_set1_epi32(four);
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = _mm256_dpbusd_avx_epi32(*sum, four, column);
                }
            }
        }
    }
    for (m, sums) in sums.iter().enumerate() {
        for (n, sum) in sums.iter().enumerate() {
            // SAFETY: M rows of WIDTH columns lie within `out`.
            unsafe { _mm256_storeu_si256(out.add(m * p.columns_padded() + n * LANES).cast(), *sum) };
        }
    }
    M
}
