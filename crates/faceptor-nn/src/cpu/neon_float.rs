//! Float32 products with NEON: rows by up to twenty columns held in registers.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::cpu::float::Strided;

/// Columns of a full panel.
pub(super) const WIDTH: usize = 20;
/// Columns of one register.
const LANES: usize = 4;

/// # Safety
/// The CPU has NEON; the lengths fit, as `Kernel::multiply_float` asserts.
// Its symbol is where `make bench-cores` looks for the loops.
#[inline(never)]
#[target_feature(enable = "neon")]
pub(super) unsafe fn multiply_float(a: Strided<'_>, rows: usize, depth: usize, b: &[f32], out: &mut [f32]) {
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
                4 => panel_rows::<4>(a, rows, panel, out),
                _ => panel_rows::<5>(a, rows, panel, out),
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
                8.. if N <= 3 => tile::<8, N>(here, panel, out),
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
    let (is_along, is_beside) = (a.depth_stride == 1, a.row_stride == 1 && a.depth_stride > 0);
    if M == FULL_ROWS && N == FULL_PARTS && (is_along || is_beside) {
        let steps = panel.depth / LANES;
        let stride = if is_along { a.row_stride } else { a.depth_stride };
        let from = std::array::from_fn(|i| values.wrapping_add(i * stride));
        let by = if is_along { LANES } else { LANES * stride } * size_of::<f32>();
        // SAFETY: four rows and a panel have `steps` times four of depth; there are twenty sums.
        unsafe {
            match is_along {
                true => full_along(from, by, panel.b, steps, sums.as_flattened_mut()),
                false => full_beside(from, by, panel.b, steps, sums.as_flattened_mut()),
            }
        }
        k = steps * LANES;
    } else if a.depth_stride == 1 {
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
    if a.row_stride == 1 && M.is_multiple_of(LANES) {
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
    M
}

/// Rows and registers of columns of the tile that is in assembly.
const FULL_ROWS: usize = 4;
const FULL_PARTS: usize = WIDTH / LANES;

/// A register of columns times rows, each in a lane of a register.
macro_rules! column {
    ([$($row:literal $lane:literal)*] $c:literal: $($sum:literal)*) => {
        concat!($("fmla v", $sum, ".4s, v", $c, ".4s, v", $row, ".s[", $lane, "]\n"),*)
    };
}

/// Loads a register of columns, `$offset` bytes after `b`.
macro_rules! load {
    ($c:literal $offset:literal) => {
        concat!("ldr q", $c, ", [{b}, #", $offset, "]\n")
    };
}

/// One of depth. Between the first two registers of columns and the last two come the loads of the next five, each beside a product.
macro_rules! depth {
    ([$r0:literal $l0:literal $r1:literal $l1:literal $r2:literal $l2:literal $r3:literal $l3:literal]
        [$c0:literal $c1:literal $c2:literal $c3:literal $c4:literal]
        [$n0:expr, $n1:expr, $n2:expr, $n3:expr, $n4:expr]) => {
        concat!(
            column!([$r0 $l0 $r1 $l1 $r2 $l2 $r3 $l3] $c0: 0 5 10 15),
            column!([$r0 $l0 $r1 $l1 $r2 $l2 $r3 $l3] $c1: 1 6 11 16),
            $n0, column!([$r0 $l0] $c2: 2), $n1, column!([$r1 $l1] $c2: 7), $n2, column!([$r2 $l2] $c2: 12),
            $n3, column!([$r3 $l3] $c2: 17), $n4,
            column!([$r0 $l0 $r1 $l1 $r2 $l2 $r3 $l3] $c3: 3 8 13 18),
            column!([$r0 $l0 $r1 $l1 $r2 $l2 $r3 $l3] $c4: 4 9 14 19),
        )
    };
}

/// Loads sixteen of the left factor: four of depth of four rows.
macro_rules! rows {
    () => {
        "ldr q20, [{a0}, {n}]\nldr q21, [{a1}, {n}]\nldr q22, [{a2}, {n}]\nldr q23, [{a3}, {n}]\n"
    };
}

/// Four of depth: eight registers of columns in turn, so that the next five are loaded while the last three are multiplied.
macro_rules! step {
    ([$d0:tt $d1:tt $d2:tt $d3:tt] $ahead:tt) => {
        concat!(
            depth!($d0 [24 25 26 27 28] [load!(29 80), load!(30 96), load!(31 112), load!(24 128), load!(25 144)]),
            depth!($d1 [29 30 31 24 25] [load!(29 160), load!(30 176), load!(26 192), load!(27 208), load!(28 224)]),
            depth!($d2 [29 30 26 27 28] [load!(24 240), load!(25 256), load!(31 272), load!(29 288), load!(30 304)]),
            depth!($d3 [24 25 31 29 30] $ahead),
        )
    };
}

/// Adds four rows times twenty columns, `steps` times four of depth, to sums. Four registers of the left factor are loaded from `a0` to
/// `a3`, which move by `by` bytes a step. In assembly, because compilers move each load back to its use.
macro_rules! full_tile {
    ($name:ident $depths:tt) => {
        #[inline]
        #[target_feature(enable = "neon")]
        unsafe fn $name(a: [*const f32; LANES], by: usize, b: *const f32, steps: usize, s: &mut [float32x4_t]) {
            let Ok(s) = <&mut [_; FULL_ROWS * FULL_PARTS]>::try_from(s) else {
                return;
            };
            if steps == 0 {
                return;
            }
            // SAFETY: reads `steps` steps of four registers of rows and of twenty columns. The last step loads nothing ahead.
            unsafe {
                asm!(
                    rows!(),
                    load!(24 0), load!(25 16), load!(26 32), load!(27 48), load!(28 64),
                    "adds {n}, {n}, {by}",
                    "b.eq 3f",
                    "2:",
                    step!($depths [load!(24 320), load!(25 336), load!(26 352), load!(27 368), load!(28 384)]),
                    "add {b}, {b}, #320",
                    rows!(),
                    "adds {n}, {n}, {by}",
                    "b.ne 2b",
                    "3:",
                    step!($depths ["", "", "", "", ""]),
                    // Offsets from the ends of the rows on, so that the loop ends at zero.
                    a0 = in(reg) a[0].wrapping_byte_add(by * steps),
                    a1 = in(reg) a[1].wrapping_byte_add(by * steps),
                    a2 = in(reg) a[2].wrapping_byte_add(by * steps),
                    a3 = in(reg) a[3].wrapping_byte_add(by * steps),
                    by = in(reg) by,
                    n = inout(reg) (by * steps).wrapping_neg() => _,
                    b = inout(reg) b => _,
                    inout("v0") s[0], inout("v1") s[1], inout("v2") s[2], inout("v3") s[3], inout("v4") s[4],
                    inout("v5") s[5], inout("v6") s[6], inout("v7") s[7], inout("v8") s[8], inout("v9") s[9],
                    inout("v10") s[10], inout("v11") s[11], inout("v12") s[12], inout("v13") s[13], inout("v14") s[14],
                    inout("v15") s[15], inout("v16") s[16], inout("v17") s[17], inout("v18") s[18], inout("v19") s[19],
                    out("v20") _, out("v21") _, out("v22") _, out("v23") _, out("v24") _, out("v25") _, out("v26") _,
                    out("v27") _, out("v28") _, out("v29") _, out("v30") _, out("v31") _,
                    options(nostack, readonly),
                );
            }
        }
    };
}

// A register has four of depth of a row.
full_tile!(full_along [[20 0 21 0 22 0 23 0] [20 1 21 1 22 1 23 1] [20 2 21 2 22 2 23 2] [20 3 21 3 22 3 23 3]]);
// A register has four rows, one of depth.
full_tile!(full_beside [[20 0 20 1 20 2 20 3] [21 0 21 1 21 2 21 3] [22 0 22 1 22 2 22 3] [23 0 23 1 23 2 23 3]]);

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
