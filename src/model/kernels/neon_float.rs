//! Float32 products with NEON: four rows by sixteen columns held in registers.

use std::arch::aarch64::*;

use super::Strided;

/// Columns of a panel.
const WIDTH: usize = 16;
/// Columns of one register.
const LANES: usize = 4;
/// Registers of a panel.
const PARTS: usize = WIDTH / LANES;
/// Rows of a tile.
const ROWS: usize = 4;

/// # Safety
/// The CPU has NEON; the lengths fit, as `Kernel::multiply_float` asserts.
#[target_feature(enable = "neon")]
pub unsafe fn multiply_float(a: Strided<'_>, rows: usize, depth: usize, b: &[f32], out: &mut [f32]) {
    let columns = b.len() / depth;
    for first in (0..columns).step_by(WIDTH) {
        let panel = b[first * depth..].as_ptr();
        for row in (0..rows).step_by(ROWS) {
            let a = Strided { values: &a.values[row * a.row_stride..], ..a };
            let out = out[row * columns + first..].as_mut_ptr();
            // SAFETY: at least M rows are left; the panel has WIDTH x depth factors.
            unsafe {
                match rows - row {
                    1 => tile::<1>(a, depth, panel, out, columns),
                    2 => tile::<2>(a, depth, panel, out, columns),
                    3 => tile::<3>(a, depth, panel, out, columns),
                    _ => tile::<ROWS>(a, depth, panel, out, columns),
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "neon")]
unsafe fn tile<const M: usize>(a: Strided<'_>, depth: usize, b: *const f32, out: *mut f32, columns: usize) {
    let mut sums = [[vdupq_n_f32(0.0); PARTS]; M];
    let values = a.values.as_ptr();
    let mut k = 0;
    if a.depth_stride == 1 {
        while k + LANES <= depth {
            let mut rows = [vdupq_n_f32(0.0); M];
            for (m, row) in rows.iter_mut().enumerate() {
                // SAFETY: four of depth lie within the row.
                *row = unsafe { vld1q_f32(values.add(m * a.row_stride + k)) };
            }
            // SAFETY: four of depth lie within the panel.
            unsafe {
                lane::<M, 0>(b.add(k * WIDTH), rows, &mut sums);
                lane::<M, 1>(b.add((k + 1) * WIDTH), rows, &mut sums);
                lane::<M, 2>(b.add((k + 2) * WIDTH), rows, &mut sums);
                lane::<M, 3>(b.add((k + 3) * WIDTH), rows, &mut sums);
            }
            k += LANES;
        }
    }
    while k < depth {
        let mut rows = [vdupq_n_f32(0.0); M];
        for (m, row) in rows.iter_mut().enumerate() {
            // SAFETY: within the strided rows.
            *row = unsafe { vdupq_n_f32(*values.add(m * a.row_stride + k * a.depth_stride)) };
        }
        // SAFETY: within the panel.
        unsafe { lane::<M, 0>(b.add(k * WIDTH), rows, &mut sums) };
        k += 1;
    }
    for (m, sums) in sums.iter().enumerate() {
        for (n, sum) in sums.iter().enumerate() {
            // SAFETY: sixteen columns of row m lie within `out`.
            unsafe { vst1q_f32(out.add(m * columns + n * LANES), *sum) };
        }
    }
}

/// One of depth: lane `LANE` of each row times sixteen columns.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn lane<const M: usize, const LANE: i32>(
    b: *const f32,
    rows: [float32x4_t; M],
    sums: &mut [[float32x4_t; PARTS]; M],
) {
    for n in 0..PARTS {
        // SAFETY: the caller's panel has sixteen columns there.
        let column = unsafe { vld1q_f32(b.add(n * LANES)) };
        for (sums, row) in sums.iter_mut().zip(rows) {
            sums[n] = vfmaq_laneq_f32::<LANE>(sums[n], column, row);
        }
    }
}
