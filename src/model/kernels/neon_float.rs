//! Float32 products with NEON: rows by up to sixteen columns held in registers.

use std::arch::aarch64::*;

use super::Strided;

/// Columns of a full panel.
const WIDTH: usize = 16;
/// Columns of one register.
const LANES: usize = 4;

/// # Safety
/// The CPU has NEON; the lengths fit, as `Kernel::multiply_float` asserts.
#[target_feature(enable = "neon")]
pub unsafe fn multiply_float(a: Strided<'_>, rows: usize, depth: usize, b: &[f32], out: &mut [f32]) {
    let columns = b.len() / depth;
    for first in (0..columns).step_by(WIDTH) {
        let panel = Panel { b: b[first * depth..].as_ptr(), depth, columns };
        let out = out[first..].as_mut_ptr();
        // SAFETY: as the caller's; the last panel is as wide as there are columns left, a multiple of four.
        unsafe {
            match WIDTH.min(columns - first) / LANES {
                1 => panel_rows::<1>(a, rows, panel, out),
                2 => panel_rows::<2>(a, rows, panel, out),
                3 => panel_rows::<3>(a, rows, panel, out),
                _ => panel_rows::<4>(a, rows, panel, out),
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Panel {
    b: *const f32,
    depth: usize,
    /// Of a row of the output.
    columns: usize,
}

/// All rows against a panel of `N` registers of columns.
#[target_feature(enable = "neon")]
unsafe fn panel_rows<const N: usize>(a: Strided<'_>, rows: usize, panel: Panel, out: *mut f32) {
    let mut row = 0;
    while row < rows {
        let here = Strided { values: &a.values[row * a.row_stride..], ..a };
        // SAFETY: rows `row..row + taken` exist.
        unsafe {
            let out = out.add(row * panel.columns);
            row += match rows - row {
                1 => tile::<1, N>(here, panel, out),
                2 => tile::<2, N>(here, panel, out),
                3 => tile::<3, N>(here, panel, out),
                // Narrow panels leave registers for more rows, which hide the latency of the sums.
                8.. if N <= 2 => tile::<8, N>(here, panel, out),
                _ => tile::<4, N>(here, panel, out),
            };
        }
    }
}

#[inline]
#[target_feature(enable = "neon")]
unsafe fn tile<const M: usize, const N: usize>(a: Strided<'_>, panel: Panel, out: *mut f32) -> usize {
    let mut sums = [[vdupq_n_f32(0.0); N]; M];
    let values = a.values.as_ptr();
    let mut k = 0;
    if a.depth_stride == 1 {
        while k + LANES <= panel.depth {
            let mut rows = [vdupq_n_f32(0.0); M];
            for (m, row) in rows.iter_mut().enumerate() {
                // SAFETY: four of depth lie within the row.
                *row = unsafe { vld1q_f32(values.add(m * a.row_stride + k)) };
            }
            // SAFETY: four of depth lie within the panel.
            unsafe {
                let b = panel.b.add(k * N * LANES);
                along::<M, N, 0>(b, rows, &mut sums);
                along::<M, N, 1>(b.add(N * LANES), rows, &mut sums);
                along::<M, N, 2>(b.add(2 * N * LANES), rows, &mut sums);
                along::<M, N, 3>(b.add(3 * N * LANES), rows, &mut sums);
            }
            k += LANES;
        }
    }
    while k < panel.depth {
        // SAFETY: within the panel, and within the strided rows.
        unsafe {
            let b = panel.b.add(k * N * LANES);
            let at = values.add(k * a.depth_stride);
            if a.row_stride == 1 && M.is_multiple_of(LANES) {
                for first in (0..M).step_by(LANES) {
                    across::<M, N>(b, first, vld1q_f32(at.add(first)), &mut sums);
                }
            } else {
                let mut rows = [vdupq_n_f32(0.0); M];
                for (m, row) in rows.iter_mut().enumerate() {
                    *row = vdupq_n_f32(*at.add(m * a.row_stride));
                }
                along::<M, N, 0>(b, rows, &mut sums);
            }
        }
        k += 1;
    }
    for (m, sums) in sums.iter().enumerate() {
        for (n, sum) in sums.iter().enumerate() {
            // SAFETY: the panel's columns of row m lie within `out`.
            unsafe { vst1q_f32(out.add(m * panel.columns + n * LANES), *sum) };
        }
    }
    M
}

/// One of depth: lane `LANE` of each row times all columns.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn along<const M: usize, const N: usize, const LANE: i32>(
    b: *const f32,
    rows: [float32x4_t; M],
    sums: &mut [[float32x4_t; N]; M],
) {
    for n in 0..N {
        // SAFETY: the caller's panel has its columns there.
        let column = unsafe { vld1q_f32(b.add(n * LANES)) };
        for (sums, row) in sums.iter_mut().zip(rows) {
            sums[n] = vfmaq_laneq_f32::<LANE>(sums[n], column, row);
        }
    }
}

/// One of depth: four rows from `first` on, which lie side by side, times all columns.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn across<const M: usize, const N: usize>(
    b: *const f32,
    first: usize,
    rows: float32x4_t,
    sums: &mut [[float32x4_t; N]; M],
) {
    for n in 0..N {
        // SAFETY: the caller's panel has its columns there.
        let column = unsafe { vld1q_f32(b.add(n * LANES)) };
        sums[first][n] = vfmaq_laneq_f32::<0>(sums[first][n], column, rows);
        sums[first + 1][n] = vfmaq_laneq_f32::<1>(sums[first + 1][n], column, rows);
        sums[first + 2][n] = vfmaq_laneq_f32::<2>(sums[first + 2][n], column, rows);
        sums[first + 3][n] = vfmaq_laneq_f32::<3>(sums[first + 3][n], column, rows);
    }
}
