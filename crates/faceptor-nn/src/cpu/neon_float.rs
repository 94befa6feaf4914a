//! Float32 products with NEON: rows by up to twenty columns held in registers.

use std::arch::aarch64::*;

use crate::cpu::float::Strided;
use crate::cpu::neon_tiles::{LANES, Tile, grouped, has_along, has_beside, spread};

/// Columns of a full panel.
pub(super) const WIDTH: usize = 20;

/// # Safety
/// The CPU has NEON; the lengths fit, as `Kernel::multiply_float` asserts.
// Its symbol is where `make bench-cores` looks for the loops.
#[inline(never)]
#[target_feature(enable = "neon")]
pub(super) unsafe fn multiply_float(a: Strided<'_>, rows: usize, depth: usize, b: &[f32], out: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe { panels::<false>(a, rows, depth, b, out) }
}

/// As [`multiply_float`], for Cortex-A53: loads stand together.
///
/// # Safety
/// As for [`multiply_float`].
#[inline(never)]
#[target_feature(enable = "neon")]
pub(super) unsafe fn multiply_float_grouped(a: Strided<'_>, rows: usize, depth: usize, b: &[f32], out: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe { panels::<true>(a, rows, depth, b, out) }
}

/// All panels; `GROUPED` chooses the tiles of `cpu/neon_tiles.rs`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn panels<const GROUPED: bool>(a: Strided<'_>, rows: usize, depth: usize, b: &[f32], out: &mut [f32]) {
    let columns = b.len() / depth;
    for first in (0..columns).step_by(WIDTH) {
        let panel = Panel { b: b[first * depth..].as_ptr(), depth, columns };
        let out = out[first..].as_mut_ptr();
        // SAFETY: as the caller's; the last panel is as wide as there are columns left, a multiple of four.
        unsafe {
            match WIDTH.min(columns - first) / LANES {
                1 => panel_rows::<GROUPED, 1>(a, rows, panel, out),
                2 => panel_rows::<GROUPED, 2>(a, rows, panel, out),
                3 => panel_rows::<GROUPED, 3>(a, rows, panel, out),
                4 => panel_rows::<GROUPED, 4>(a, rows, panel, out),
                _ => panel_rows::<GROUPED, 5>(a, rows, panel, out),
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Panel {
    b: *const f32,
    depth: usize,
    /// Columns of a row of the output.
    columns: usize,
}

/// All rows against a panel of `N` registers of columns.
#[target_feature(enable = "neon")]
unsafe fn panel_rows<const GROUPED: bool, const N: usize>(a: Strided<'_>, rows: usize, panel: Panel, out: *mut f32) {
    let is_along = a.depth_stride == 1;
    let mut row = 0;
    while row < rows {
        let here = Strided { values: &a.values[row * a.row_stride..], ..a };
        // SAFETY: rows `row..row + taken` exist.
        unsafe {
            let out = out.add(row * panel.columns);
            row += match rows - row {
                1 => tile::<GROUPED, 1, N>(here, panel, out),
                2 => tile::<GROUPED, 2, N>(here, panel, out),
                3 => tile::<GROUPED, 3, N>(here, panel, out),
                // Narrow panels leave registers for more rows, which hide the latency of the sums.
                6.. if N == 3 && is_along => tile::<GROUPED, 6, N>(here, panel, out),
                // Three registers of columns and eight rows are too many where each row has a register of its own.
                8.. if N <= 2 || (N == 3 && !is_along) => tile::<GROUPED, 8, N>(here, panel, out),
                _ => tile::<GROUPED, 4, N>(here, panel, out),
            };
        }
    }
}

/// A tile of `M` rows; returns `M`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn tile<const GROUPED: bool, const M: usize, const N: usize>(
    a: Strided<'_>,
    panel: Panel,
    out: *mut f32,
) -> usize {
    let steps = panel.depth / LANES;
    let mut k = 0;
    if steps > 0 {
        let Strided { row_stride, depth_stride, .. } = a;
        let tile =
            Tile { a: a.values.as_ptr(), row_stride, depth_stride, b: panel.b, steps, out, pitch: panel.columns };
        // SAFETY: `M` rows, which lie along registers or beside each other, and a panel have `steps` times four of depth.
        let is_done = unsafe {
            match (depth_stride == 1, row_stride == 1 && depth_stride > 0, GROUPED) {
                (true, _, false) => spread::along::<M, N>(tile),
                (true, _, true) => grouped::along::<M, N>(tile),
                (_, true, false) => spread::beside::<M, N>(tile),
                (_, true, true) => grouped::beside::<M, N>(tile),
                _ => false,
            }
        };
        k = if is_done { steps * LANES } else { 0 };
    }
    if k < panel.depth {
        // SAFETY: the caller's.
        unsafe { rest::<M, N>(a, panel, k, out) };
    }
    M
}

/// Returns whether `panel_rows` takes such a tile only for rows that do not lie along registers.
const fn is_wide(rows: usize, parts: usize) -> bool {
    rows == 8 && parts == 3
}

/// What the tiles in assembly leave: the depth from `k` on is added to the results so far, which are in `out` if `k` is not zero.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn rest<const M: usize, const N: usize>(a: Strided<'_>, panel: Panel, k: usize, out: *mut f32) {
    let mut sums = [[vdupq_n_f32(0.0); N]; M];
    let values = a.values.as_ptr();
    let mut k = k;
    if k > 0 {
        for (m, sums) in sums.iter_mut().enumerate() {
            for (n, sum) in sums.iter_mut().enumerate() {
                // SAFETY: the panel's columns of row m lie within `out`.
                *sum = unsafe { vld1q_f32(out.add(m * panel.columns + n * LANES)) };
            }
        }
    } else if a.depth_stride == 1 && !has_along(M, N) && !is_wide(M, N) {
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
    // Pointers that move: with offsets, the loop would compute as many addresses as it multiplies rows.
    // SAFETY: within the panel and the strided rows, or just after them.
    let (mut b, mut at) = unsafe { (panel.b.add(k * N * LANES), values.wrapping_add(k * a.depth_stride)) };
    if a.row_stride == 1 && M.is_multiple_of(LANES) && !has_beside(M, N) {
        while k + 2 <= panel.depth {
            // SAFETY: as above; M rows lie side by side.
            unsafe {
                beside::<M, N>(b, at, &mut sums);
                beside::<M, N>(b.add(N * LANES), at.add(a.depth_stride), &mut sums);
                (b, at) = (b.add(2 * N * LANES), at.wrapping_add(2 * a.depth_stride));
            }
            k += 2;
        }
    }
    while k < panel.depth {
        // SAFETY: as above.
        unsafe {
            if a.row_stride == 1 && M.is_multiple_of(LANES) {
                beside::<M, N>(b, at, &mut sums);
            } else {
                let mut rows = [vdupq_n_f32(0.0); M];
                for (m, row) in rows.iter_mut().enumerate() {
                    *row = vdupq_n_f32(*at.add(m * a.row_stride));
                }
                along::<M, N, 0>(b, rows, &mut sums);
            }
            (b, at) = (b.add(N * LANES), at.wrapping_add(a.depth_stride));
        }
        k += 1;
    }
    for (m, sums) in sums.iter().enumerate() {
        for (n, sum) in sums.iter().enumerate() {
            // SAFETY: the panel's columns of row m lie within `out`.
            unsafe { vst1q_f32(out.add(m * panel.columns + n * LANES), *sum) };
        }
    }
}

/// As [`crate::cpu::float::transpose`] of columns that are rows of `b`, four by four.
///
/// # Safety
/// The CPU has NEON; `b` has `used` rows of `depth`, `stride` apart, and `panel` `depth` rows of `width`, at least `used`.
#[target_feature(enable = "neon")]
pub(super) unsafe fn transpose_float(
    b: &[f32],
    used: usize,
    depth: usize,
    stride: usize,
    width: usize,
    panel: &mut [f32],
) {
    let (whole, deep) = (used / LANES * LANES, depth / LANES * LANES);
    for column in (0..whole).step_by(LANES) {
        for k in (0..deep).step_by(LANES) {
            // SAFETY: four rows of four lie within `b` and within the panel.
            unsafe {
                let from = b.as_ptr().add(column * stride + k);
                let to = panel.as_mut_ptr().add(k * width + column);
                let r0 = vreinterpretq_f64_f32(vld1q_f32(from));
                let r1 = vreinterpretq_f64_f32(vld1q_f32(from.add(stride)));
                let r2 = vreinterpretq_f64_f32(vld1q_f32(from.add(2 * stride)));
                let r3 = vreinterpretq_f64_f32(vld1q_f32(from.add(3 * stride)));
                // Pairs of depth first, then their halves.
                let (low02, high02) = (pairs(vtrn1q_f64(r0, r2)), pairs(vtrn2q_f64(r0, r2)));
                let (low13, high13) = (pairs(vtrn1q_f64(r1, r3)), pairs(vtrn2q_f64(r1, r3)));
                vst1q_f32(to, vtrn1q_f32(low02, low13));
                vst1q_f32(to.add(width), vtrn2q_f32(low02, low13));
                vst1q_f32(to.add(2 * width), vtrn1q_f32(high02, high13));
                vst1q_f32(to.add(3 * width), vtrn2q_f32(high02, high13));
            }
        }
    }
    for (k, row) in panel.chunks_exact_mut(width).enumerate().take(depth) {
        let first = if k < deep { whole } else { 0 };
        for (column, to) in row.iter_mut().enumerate().skip(first) {
            *to = if column < used { b[column * stride + k] } else { 0.0 };
        }
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn pairs(x: float64x2_t) -> float32x4_t {
    vreinterpretq_f32_f64(x)
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

/// One of depth: `M` rows that lie side by side, a multiple of four, times all columns.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn beside<const M: usize, const N: usize>(b: *const f32, at: *const f32, sums: &mut [[float32x4_t; N]; M]) {
    for first in (0..M).step_by(LANES) {
        // SAFETY: as the caller's.
        unsafe { across::<M, N>(b, first, vld1q_f32(at.add(first)), sums) };
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
