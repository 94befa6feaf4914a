//! NEON with the signed 8 bit dot product (Cortex-A55, A75, A76 and later).
//!
//! Activations are shifted by 128 to signed bytes; the sums begin at 128 times the column's weights instead of zero.

use std::arch::aarch64::*;
use std::arch::asm;

use super::PackedInt8;

/// Columns of a panel.
pub const WIDTH: usize = 16;
/// Columns of one register.
const LANES: usize = 4;
/// Registers of a panel.
const PARTS: usize = WIDTH / LANES;
/// Neighbouring weights of a column.
pub const GROUP: usize = 4;
/// Depth of one register of activations.
const STEP: usize = 16;
/// Rows of a tile.
const ROWS: usize = 4;

/// # Safety
/// The CPU has NEON and the dot product; `a` has `rows` rows of `depth_padded`, a multiple of 16, `out` `rows` rows of
/// `columns_padded`.
#[target_feature(enable = "neon,dotprod")]
pub unsafe fn multiply_int8(a: &[u8], rows: usize, weights: &PackedInt8, out: &mut [i32]) {
    for first in (0..weights.columns_padded).step_by(WIDTH) {
        let values = weights.values[first * weights.depth_padded..].as_ptr();
        let sums = weights.sums[first..].as_ptr();
        for row in (0..rows).step_by(ROWS) {
            let a = a[row * weights.depth_padded..].as_ptr();
            let out = out[row * weights.columns_padded + first..].as_mut_ptr();
            let panel = Panel { a, w: values, sums, out, weights };
            // SAFETY: at least M rows are left; the panel has WIDTH x depth_padded weights and WIDTH sums.
            unsafe {
                match rows - row {
                    1 => tile::<1>(panel),
                    2 => tile::<2>(panel),
                    3 => tile::<3>(panel),
                    _ => tile::<ROWS>(panel),
                }
            }
        }
    }
}

/// Where a tile reads and writes.
#[derive(Clone, Copy)]
struct Panel<'a> {
    a: *const u8,
    w: *const i8,
    sums: *const i32,
    out: *mut i32,
    weights: &'a PackedInt8,
}

/// `M` rows by sixteen columns.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn tile<const M: usize>(panel: Panel<'_>) {
    let depth = panel.weights.depth_padded;
    let sign = vdupq_n_u8(0x80);
    let mut start = [vdupq_n_s32(0); PARTS];
    for (n, start) in start.iter_mut().enumerate() {
        // SAFETY: the panel has sixteen sums.
        *start = vshlq_n_s32::<7>(unsafe { vld1q_s32(panel.sums.add(n * LANES)) });
    }
    let mut sums = [start; M];
    for k in (0..depth).step_by(STEP) {
        let mut rows = [vdupq_n_s8(0); M];
        for (m, row) in rows.iter_mut().enumerate() {
            // SAFETY: sixteen bytes of the row lie within the depth.
            *row = vreinterpretq_s8_u8(veorq_u8(unsafe { vld1q_u8(panel.a.add(m * depth + k)) }, sign));
        }
        // SAFETY: four groups of sixteen columns lie within the panel.
        unsafe {
            let w = panel.w.add(k * WIDTH);
            group::<M, 0>(w, rows, &mut sums);
            group::<M, 1>(w, rows, &mut sums);
            group::<M, 2>(w, rows, &mut sums);
            group::<M, 3>(w, rows, &mut sums);
        }
    }
    for (m, sums) in sums.iter().enumerate() {
        for (n, sum) in sums.iter().enumerate() {
            // SAFETY: sixteen columns of row m lie within `out`.
            unsafe { vst1q_s32(panel.out.add(m * panel.weights.columns_padded + n * LANES), *sum) };
        }
    }
}

/// Four of depth: lane `LANE` of each row against sixteen columns.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn group<const M: usize, const LANE: usize>(
    w: *const i8,
    rows: [int8x16_t; M],
    sums: &mut [[int32x4_t; PARTS]; M],
) {
    for n in 0..PARTS {
        // SAFETY: the caller's panel has four columns of four weights there.
        let column = unsafe { vld1q_s8(w.add((LANE * PARTS + n) * STEP)) };
        for (sums, row) in sums.iter_mut().zip(rows) {
            sums[n] = dot::<LANE>(sums[n], column, row);
        }
    }
}

/// Adds to each of four sums the product of its four weights with the activations of lane `LANE`.
///
/// The intrinsic is not stable yet.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub fn dot<const LANE: usize>(sum: int32x4_t, weights: int8x16_t, row: int8x16_t) -> int32x4_t {
    let mut sum = sum;
    // SAFETY: one instruction on registers, which the target feature promises.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {weights:v}.16b, {row:v}.4b[{lane}]",
            sum = inout(vreg) sum, weights = in(vreg) weights, row = in(vreg) row, lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}
