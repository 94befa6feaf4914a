//! NEON with the signed 8 bit dot product (Cortex-A55, A75, A76 and later).
//!
//! Activations are shifted by 128 to signed bytes; the sums begin at 128 times the column's weights instead of zero.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::cpu::packed::PackedInt8;

/// Columns of a panel.
pub(super) const WIDTH: usize = 16;
/// Columns of one register.
const LANES: usize = 4;
/// Registers of a panel.
const PARTS: usize = WIDTH / LANES;
/// Neighbouring weights of a column.
pub(super) const GROUP: usize = 4;
/// Depth of one register of activations.
const STEP: usize = 16;
/// Rows of a tile: six times four registers of sums and the six rows leave two of the 32 for the columns.
const ROWS: usize = 6;

/// # Safety
/// The CPU has NEON and the dot product; `a` has `rows` rows of `depth_padded`, a multiple of 16 above 0, `out` `rows` rows of
/// `columns_padded`.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn multiply_int8(a: &[u8], rows: usize, weights: &PackedInt8, out: &mut [i32]) {
    for first in (0..weights.columns_padded()).step_by(WIDTH) {
        let values = weights.values()[first * weights.depth_padded()..].as_ptr();
        let sums = weights.sums()[first..].as_ptr();
        for row in (0..rows).step_by(ROWS) {
            let a = a[row * weights.depth_padded()..].as_ptr();
            let out = out[row * weights.columns_padded() + first..].as_mut_ptr();
            let panel = Panel { a, w: values, sums, out, weights };
            // SAFETY: at least M rows are left; the panel has WIDTH x depth_padded weights and WIDTH sums.
            unsafe {
                match rows - row {
                    1 => tile::<1>(panel),
                    2 => tile::<2>(panel),
                    3 => tile::<3>(panel),
                    4 => tile::<4>(panel),
                    5 => tile::<5>(panel),
                    _ => six_rows(panel),
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
    let depth = panel.weights.depth_padded();
    let sign = vdupq_n_u8(0x80);
    // SAFETY: as the caller's.
    let mut sums = [unsafe { start(panel) }; M];
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
    // SAFETY: as the caller's.
    unsafe { store(panel, &sums) };
}

/// Returns the start values of the sums of sixteen columns: 128 times each column's weights.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn start(panel: Panel<'_>) -> [int32x4_t; PARTS] {
    let mut start = [vdupq_n_s32(0); PARTS];
    for (n, start) in start.iter_mut().enumerate() {
        // SAFETY: the panel has sixteen sums.
        *start = vshlq_n_s32::<7>(unsafe { vld1q_s32(panel.sums.add(n * LANES)) });
    }
    start
}

#[inline]
#[target_feature(enable = "neon")]
unsafe fn store<const M: usize>(panel: Panel<'_>, sums: &[[int32x4_t; PARTS]; M]) {
    for (m, sums) in sums.iter().enumerate() {
        for (n, sum) in sums.iter().enumerate() {
            // SAFETY: sixteen columns of row m lie within `out`.
            unsafe { vst1q_s32(panel.out.add(m * panel.weights.columns_padded() + n * LANES), *sum) };
        }
    }
}

/// Two registers of columns against lane `$lane` of the rows v24 to v29; sums are v0 to v23, four a row.
macro_rules! pair {
    ($lane:literal: $($sum:literal $next:literal $row:literal),*) => {
        concat!(
            "ldp q30, q31, [{w}], #32\n",
            $(concat!(
                "sdot v", $sum, ".4s, v30.16b, v", $row, ".4b[", $lane, "]\n",
                "sdot v", $next, ".4s, v31.16b, v", $row, ".4b[", $lane, "]\n",
            )),*
        )
    };
    ($lane:literal) => {
        concat!(
            pair!($lane: 0 1 24, 4 5 25, 8 9 26, 12 13 27, 16 17 28, 20 21 29),
            pair!($lane: 2 3 24, 6 7 25, 10 11 26, 14 15 27, 18 19 28, 22 23 29),
        )
    };
}

/// Six rows by sixteen columns. In assembly, because compilers run out of registers here and keep sums on the stack.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn six_rows(panel: Panel<'_>) {
    let depth = panel.weights.depth_padded();
    // SAFETY: as the caller's.
    let mut sums = [unsafe { start(panel) }; ROWS];
    let [s0, s1, s2, s3, s4, s5] = &mut sums;
    // SAFETY: reads six rows of `depth` bytes, a multiple of sixteen and not zero, and sixteen columns of as many weights.
    unsafe {
        asm!(
            "2:",
            "movi v30.16b, #0x80",
            "ldr q24, [{a0}], #16",
            "ldr q25, [{a1}], #16",
            "ldr q26, [{a2}], #16",
            "ldr q27, [{a3}], #16",
            "ldr q28, [{a4}], #16",
            "ldr q29, [{a5}], #16",
            "eor v24.16b, v24.16b, v30.16b",
            "eor v25.16b, v25.16b, v30.16b",
            "eor v26.16b, v26.16b, v30.16b",
            "eor v27.16b, v27.16b, v30.16b",
            "eor v28.16b, v28.16b, v30.16b",
            "eor v29.16b, v29.16b, v30.16b",
            pair!(0),
            pair!(1),
            pair!(2),
            pair!(3),
            "subs {steps}, {steps}, #1",
            "b.ne 2b",
            a0 = inout(reg) panel.a => _,
            a1 = inout(reg) panel.a.add(depth) => _,
            a2 = inout(reg) panel.a.add(2 * depth) => _,
            a3 = inout(reg) panel.a.add(3 * depth) => _,
            a4 = inout(reg) panel.a.add(4 * depth) => _,
            a5 = inout(reg) panel.a.add(5 * depth) => _,
            w = inout(reg) panel.w => _,
            steps = inout(reg) depth / STEP => _,
            inout("v0") s0[0], inout("v1") s0[1], inout("v2") s0[2], inout("v3") s0[3],
            inout("v4") s1[0], inout("v5") s1[1], inout("v6") s1[2], inout("v7") s1[3],
            inout("v8") s2[0], inout("v9") s2[1], inout("v10") s2[2], inout("v11") s2[3],
            inout("v12") s3[0], inout("v13") s3[1], inout("v14") s3[2], inout("v15") s3[3],
            inout("v16") s4[0], inout("v17") s4[1], inout("v18") s4[2], inout("v19") s4[3],
            inout("v20") s5[0], inout("v21") s5[1], inout("v22") s5[2], inout("v23") s5[3],
            out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _,
            out("v30") _, out("v31") _,
            options(nostack, readonly),
        );
        store(panel, &sums);
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
pub(super) fn dot<const LANE: usize>(sum: int32x4_t, weights: int8x16_t, row: int8x16_t) -> int32x4_t {
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
