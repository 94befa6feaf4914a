//! NEON with 8 bit matrix products (Neoverse V1, Cortex-A510, A710 and later): unsigned times signed bytes, two rows by
//! two columns by a depth of eight in one instruction.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::cpu::packed::PackedInt8;

/// Columns of a panel.
pub(super) const WIDTH: usize = 8;
/// Pairs of columns of a panel.
const PAIRS: usize = WIDTH / 2;
/// Neighbouring weights of a column.
pub(super) const GROUP: usize = 8;
/// Depth of one load of activations.
const STEP: usize = 16;

/// # Safety
/// The CPU has NEON and the matrix product; `a` has `rows` rows of `depth_padded`, a multiple of 16, `out` `rows` rows
/// of `columns_padded`.
#[target_feature(enable = "neon,i8mm")]
pub(super) unsafe fn multiply_int8(a: &[u8], rows: usize, weights: &PackedInt8, out: &mut [i32]) {
    for first in (0..weights.columns_padded()).step_by(WIDTH) {
        let values = weights.values()[first * weights.depth_padded()..].as_ptr();
        let mut row = 0;
        while row < rows {
            let a = a[row * weights.depth_padded()..].as_ptr();
            let out = out[row * weights.columns_padded() + first..].as_mut_ptr();
            // SAFETY: as many rows are left as the tile takes; the panel has WIDTH x depth_padded weights.
            row += unsafe {
                match rows - row {
                    1 => tile::<1, true>(a, weights, values, out),
                    2 => tile::<1, false>(a, weights, values, out),
                    3 => tile::<2, true>(a, weights, values, out),
                    4 | 5 => tile::<2, false>(a, weights, values, out),
                    6 | 7 => tile::<3, false>(a, weights, values, out),
                    _ => tile::<4, false>(a, weights, values, out),
                }
            };
        }
    }
}

/// `M` pairs of rows by eight columns; `ODD`: the last row is taken twice and stored once. Returns how many rows it did.
#[inline]
#[target_feature(enable = "neon,i8mm")]
unsafe fn tile<const M: usize, const ODD: bool>(
    a: *const u8,
    weights: &PackedInt8,
    w: *const i8,
    out: *mut i32,
) -> usize {
    let depth = weights.depth_padded();
    let rows = M * 2 - ODD as usize;
    let mut sums = [[vdupq_n_s32(0); PAIRS]; M];
    for k in (0..depth).step_by(STEP) {
        let mut halves = [[vdupq_n_u8(0); 2]; M];
        for (m, halves) in halves.iter_mut().enumerate() {
            // SAFETY: sixteen bytes of either row lie within the depth.
            let (upper, lower) = unsafe {
                let lower = (m * 2 + 1).min(rows - 1);
                (vld1q_u8(a.add(m * 2 * depth + k)), vld1q_u8(a.add(lower * depth + k)))
            };
            let (upper, lower) = (vreinterpretq_u64_u8(upper), vreinterpretq_u64_u8(lower));
            halves[0] = vreinterpretq_u8_u64(vzip1q_u64(upper, lower));
            halves[1] = vreinterpretq_u8_u64(vzip2q_u64(upper, lower));
        }
        for half in 0..2 {
            for n in 0..PAIRS {
                // SAFETY: two columns of eight weights lie within the panel.
                let pair = unsafe { vld1q_s8(w.add((k / GROUP + half) * WIDTH * GROUP + n * 2 * GROUP)) };
                for (sums, halves) in sums.iter_mut().zip(&halves) {
                    sums[n] = multiply(sums[n], halves[half], pair);
                }
            }
        }
    }
    for (m, sums) in sums.iter().enumerate() {
        for half in 0..2 {
            // Each holds two columns of the upper row, then of the lower one.
            let (left, right) = (vreinterpretq_s64_s32(sums[half * 2]), vreinterpretq_s64_s32(sums[half * 2 + 1]));
            // SAFETY: four columns of either row lie within `out`; the row taken twice is not stored.
            unsafe {
                let to = out.add(m * 2 * weights.columns_padded() + half * 4);
                vst1q_s32(to, vreinterpretq_s32_s64(vzip1q_s64(left, right)));
                if m * 2 + 1 < rows {
                    let to = to.add(weights.columns_padded());
                    vst1q_s32(to, vreinterpretq_s32_s64(vzip2q_s64(left, right)));
                }
            }
        }
    }
    rows
}

/// Adds the products of two unsigned rows with two signed columns, each eight deep: row by row.
///
/// The intrinsic is not stable yet.
#[inline]
#[target_feature(enable = "neon,i8mm")]
pub(super) fn multiply(sum: int32x4_t, rows: uint8x16_t, columns: int8x16_t) -> int32x4_t {
    let mut sum = sum;
    // SAFETY: one instruction on registers, which the target feature promises.
    unsafe {
        asm!(
            "usmmla {sum:v}.4s, {rows:v}.16b, {columns:v}.16b",
            sum = inout(vreg) sum, rows = in(vreg) rows, columns = in(vreg) columns,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}
