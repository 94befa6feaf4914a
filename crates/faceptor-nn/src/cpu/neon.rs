//! NEON without a dot product (Cortex-A53, A57, A72): bytes multiplied to 16 bits, pairs of those added to 32.
//!
//! Activations are shifted by 128 to signed bytes; what that takes from each sum is 128 times the column's weights.

use std::arch::aarch64::*;

use crate::cpu::packed::PackedInt8;

/// Columns of a panel.
pub(super) const WIDTH: usize = 4;
/// Neighbouring weights of a column.
pub(super) const GROUP: usize = 16;
/// Rows of a tile.
const ROWS: usize = 4;

/// # Safety
/// The CPU has NEON; `a` has `rows` rows of `depth_padded`, `out` `rows` rows of `columns_padded`.
#[target_feature(enable = "neon")]
pub(super) unsafe fn multiply_int8(a: &[u8], rows: usize, weights: &PackedInt8, out: &mut [i32]) {
    for first in (0..weights.columns_padded()).step_by(WIDTH) {
        let values = weights.values()[first * weights.depth_padded()..].as_ptr();
        let sums = weights.sums()[first..].as_ptr();
        for row in (0..rows).step_by(ROWS) {
            let a = a[row * weights.depth_padded()..].as_ptr();
            let out = out[row * weights.columns_padded() + first..].as_mut_ptr();
            let panel = Panel { a, w: values, sums, out, weights };
            // SAFETY: at least M rows are left; the panel has WIDTH x depth_padded weights.
            unsafe {
                match (rows - row, weights.is_narrow()) {
                    (1, true) => tile::<1, true>(panel),
                    (2, true) => tile::<2, true>(panel),
                    (3, true) => tile::<3, true>(panel),
                    (_, true) => tile::<ROWS, true>(panel),
                    (1, false) => tile::<1, false>(panel),
                    (2, false) => tile::<2, false>(panel),
                    (3, false) => tile::<3, false>(panel),
                    (_, false) => tile::<ROWS, false>(panel),
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

/// `M` rows by four columns. `NARROW`: two products fit into 16 bits, because no weight is -128.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn tile<const M: usize, const NARROW: bool>(panel: Panel<'_>) {
    let depth = panel.weights.depth_padded();
    let sign = vdupq_n_u8(0x80);
    let mut sums = [[vdupq_n_s32(0); WIDTH]; M];
    for k in (0..depth).step_by(GROUP) {
        // SAFETY: sixteen bytes of each row and of each column lie within the depth.
        let (rows, columns) = unsafe {
            let mut rows = [vdupq_n_s8(0); M];
            for (m, row) in rows.iter_mut().enumerate() {
                *row = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(panel.a.add(m * depth + k)), sign));
            }
            let mut columns = [vdupq_n_s8(0); WIDTH];
            for (n, column) in columns.iter_mut().enumerate() {
                *column = vld1q_s8(panel.w.add((k / GROUP * WIDTH + n) * GROUP));
            }
            (rows, columns)
        };
        for (sums, row) in sums.iter_mut().zip(rows) {
            for (sum, column) in sums.iter_mut().zip(columns) {
                let low = vmull_s8(vget_low_s8(row), vget_low_s8(column));
                *sum = if NARROW {
                    vpadalq_s16(*sum, vmlal_high_s8(low, row, column))
                } else {
                    vpadalq_s16(vpadalq_s16(*sum, low), vmull_high_s8(row, column))
                };
            }
        }
    }
    for (m, s) in sums.iter().enumerate() {
        let total = vpaddq_s32(vpaddq_s32(s[0], s[1]), vpaddq_s32(s[2], s[3]));
        // SAFETY: four columns of row m lie within `out`, four sums within theirs.
        unsafe {
            let shifted = vshlq_n_s32::<7>(vld1q_s32(panel.sums));
            vst1q_s32(panel.out.add(m * panel.weights.columns_padded()), vaddq_s32(total, shifted));
        }
    }
}
