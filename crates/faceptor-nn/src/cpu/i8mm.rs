//! NEON with 8 bit matrix products (Neoverse V1, Cortex-A510, A710 and later): unsigned times signed bytes, two rows by
//! two columns by a depth of eight in one instruction.
//!
//! The loops are in assembly, for Cortex-A510, which starts three instructions a cycle in order: a load or an addition, then
//! two products. What is not needed at once has the latency of the products: loads of four registers, and pointers that
//! move by a multiplication. `make bench-cores` reports what each loop takes on each CPU.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::cpu::packed::PackedInt8;

/// Columns of a panel.
pub(super) const WIDTH: usize = 8;
/// Panels of a tile; the padded columns are a multiple of as many.
const PANELS: usize = 2;
/// Registers of sums of a pair of rows, for each panel.
const PARTS: usize = WIDTH / 2;
/// Neighbouring weights of a column.
pub(super) const GROUP: usize = 8;
/// Depth of one load of activations.
const STEP: usize = 16;
/// Rows of a tile.
const ROWS: usize = 4;

/// # Safety
/// The CPU has NEON and the matrix product; `a` has `rows` rows of `depth_padded`, a multiple of 16 above 0, `out` `rows`
/// rows of `columns_padded`.
// Its symbol is where `make bench-cores` looks for the loops.
#[inline(never)]
#[target_feature(enable = "neon,i8mm")]
pub(super) unsafe fn multiply_int8(a: &[u8], rows: usize, weights: &PackedInt8, out: &mut [i32]) {
    let (depth, pitch) = (weights.depth_padded(), weights.columns_padded());
    for first in (0..pitch).step_by(PANELS * WIDTH) {
        let w = weights.values()[first * depth..].as_ptr();
        for row in (0..rows).step_by(ROWS) {
            let a = a[row * depth..].as_ptr();
            let out = out[row * pitch + first..].as_mut_ptr();
            let here = ROWS.min(rows - row);
            // SAFETY: `here` rows are left; there are two panels of WIDTH x depth weights.
            unsafe {
                if here <= 2 {
                    store(one_pair(a, here, w, depth), here, out, pitch);
                } else {
                    let [upper, lower] = two_pairs(a, here, w, depth);
                    store(upper, 2, out, pitch);
                    store(lower, here - 2, out.add(2 * pitch), pitch);
                }
            }
        }
    }
}

/// The sums of a pair of rows and sixteen columns: each has two columns of the upper row, then of the lower one.
type Sums = [int32x4_t; PANELS * PARTS];

/// Stores one or two rows of sixteen columns.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn store(sums: Sums, rows: usize, out: *mut i32, pitch: usize) {
    for i in 0..PARTS {
        let (left, right) = (vreinterpretq_s64_s32(sums[2 * i]), vreinterpretq_s64_s32(sums[2 * i + 1]));
        // SAFETY: four columns of either row lie within `out`; a row that was taken twice is not stored.
        unsafe {
            let to = out.add(i * 4);
            vst1q_s32(to, vreinterpretq_s32_s64(vzip1q_s64(left, right)));
            if rows == 2 {
                vst1q_s32(to.add(pitch), vreinterpretq_s32_s64(vzip2q_s64(left, right)));
            }
        }
    }
}

/// Two columns times a pair of rows each.
macro_rules! products {
    ($($sum:literal $rows:literal $columns:literal),*) => {
        concat!($("usmmla v", $sum, ".4s, v", $rows, ".16b, v", $columns, ".16b\n"),*)
    };
}

/// Loads four pairs of columns: eight of depth of a panel.
macro_rules! columns {
    (16 $from:literal) => {
        concat!("ld1 {{v16.16b-v19.16b}}, [{", $from, "}]\n")
    };
    (20 $from:literal) => {
        concat!("ld1 {{v20.16b-v23.16b}}, [{", $from, "}]\n")
    };
}

/// Moves a pointer by `$by`, with the latency of a product.
macro_rules! advance {
    ($pointer:literal $by:literal) => {
        concat!("umaddl {", $pointer, "}, {one:w}, {", $by, ":w}, {", $pointer, "}\n")
    };
}

/// Halves of two rows, side by side: `zip1` the first eight of depth, `zip2` the last.
macro_rules! pair {
    ($zip:literal $to:literal $upper:literal $lower:literal) => {
        concat!($zip, " v", $to, ".2d, v", $upper, ".2d, v", $lower, ".2d\n")
    };
}

/// One step of two pairs of rows; before each two products comes one of the other instructions.
macro_rules! two_pairs_step {
    ($x1:expr, $x2:expr, $x3:expr, $x5:expr, $x6:expr, $x7:expr, $x9:expr, $x10:expr, $x11:expr,
        $x12:expr, $x13:expr, $x14:expr, $x15:expr, $x16:expr, $zip1:expr, $x17:expr, $zip2:expr) => {
        concat!(
            products!(0 24 16, 8 25 16), $x1, products!(1 24 17, 9 25 17), $x2, products!(2 24 18, 10 25 18),
            $x3, products!(3 24 19, 11 25 19), columns!(16 "p"), products!(4 24 20, 12 25 20), $x5, products!(5 24 21, 13 25 21),
            $x6, products!(6 24 22, 14 25 22), $x7, products!(7 24 23, 15 25 23), columns!(20 "q"), products!(0 26 16, 8 27 16),
            $x9, products!(1 26 17, 9 27 17), $x10, products!(2 26 18, 10 27 18), $x11, products!(3 26 19, 11 27 19),
            $x12, products!(4 26 20, 12 27 20), $x13, products!(5 26 21, 13 27 21), $x14, products!(6 26 22, 14 27 22),
            $x15, products!(7 26 23, 15 27 23), $x16, $zip1, $x17, $zip2,
        )
    };
}

/// Three or four rows by sixteen columns; of three, the last is taken twice. Returns the sums of either pair.
#[inline]
#[target_feature(enable = "neon,i8mm")]
unsafe fn two_pairs(a: *const u8, rows: usize, w: *const i8, depth: usize) -> [Sums; 2] {
    let mut s = [vdupq_n_s32(0); 2 * PANELS * PARTS];
    // SAFETY: reads `rows` rows of `depth` bytes, a multiple of sixteen and not zero, and two panels of eight columns of as many
    // weights. The last step loads nothing ahead.
    unsafe {
        asm!(
            "ld1 {{v28.16b}}, [{a0}], #16",
            "ld1 {{v29.16b}}, [{a1}], #16",
            "ld1 {{v30.16b}}, [{a2}], #16",
            "ld1 {{v31.16b}}, [{a3}], #16",
            "ld1 {{v16.16b-v19.16b}}, [{p}], #64",
            "ld1 {{v20.16b-v23.16b}}, [{q}], #64",
            pair!("zip1" 24 28 29), pair!("zip1" 25 30 31), pair!("zip2" 26 28 29), pair!("zip2" 27 30 31),
            "cbz {n}, 3f",
            "2:",
            two_pairs_step!(
                "ld1 {{v28.16b}}, [{a0}]\n", advance!("a0" "row"), "ld1 {{v29.16b}}, [{a1}]\n", advance!("p" "panel"),
                advance!("a1" "row"), "ld1 {{v30.16b}}, [{a2}]\n", advance!("q" "panel"), advance!("a2" "row"),
                "ld1 {{v31.16b}}, [{a3}]\n", columns!(16 "p"), advance!("p" "panel"), advance!("a3" "row"),
                "umsubl {n}, {one:w}, {one:w}, {n}\n", columns!(20 "q"),
                concat!(pair!("zip1" 24 28 29), pair!("zip1" 25 30 31)), advance!("q" "panel"),
                concat!(pair!("zip2" 26 28 29), pair!("zip2" 27 30 31))
            ),
            "cbnz {n}, 2b",
            "3:",
            two_pairs_step!("", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", ""),
            a0 = inout(reg) a => _,
            a1 = inout(reg) a.add(depth) => _,
            a2 = inout(reg) a.add(2 * depth) => _,
            a3 = inout(reg) a.add((rows - 1) * depth) => _,
            p = inout(reg) w => _,
            q = inout(reg) w.add(WIDTH * depth) => _,
            n = inout(reg) depth / STEP - 1 => _,
            one = in(reg) 1usize,
            row = in(reg) STEP,
            panel = in(reg) WIDTH * GROUP,
            inout("v0") s[0], inout("v1") s[1], inout("v2") s[2], inout("v3") s[3],
            inout("v4") s[4], inout("v5") s[5], inout("v6") s[6], inout("v7") s[7],
            inout("v8") s[8], inout("v9") s[9], inout("v10") s[10], inout("v11") s[11],
            inout("v12") s[12], inout("v13") s[13], inout("v14") s[14], inout("v15") s[15],
            out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _, out("v30") _, out("v31") _,
            options(nostack, readonly),
        );
    }
    [std::array::from_fn(|i| s[i]), std::array::from_fn(|i| s[PANELS * PARTS + i])]
}

/// One step of a pair of rows. The two halves of the depth have sums of their own: eight alone would wait for their own
/// additions.
macro_rules! one_pair_step {
    ($x0:expr, $x1:expr, $x6:expr, $zip1:expr, $x8:expr, $zip2:expr) => {
        concat!(
            products!(0 24 16), $x0, products!(1 24 17, 2 24 18), $x1, products!(3 24 19),
            columns!(16 "p1"), products!(4 24 20, 5 24 21), products!(6 24 22, 7 24 23),
            columns!(20 "q1"), products!(8 25 16, 9 25 17), products!(10 25 18, 11 25 19),
            $x6, $zip1, products!(12 25 20, 13 25 21), products!(14 25 22, 15 25 23), $x8, $zip2,
        )
    };
}

/// One or two rows by sixteen columns; one row is taken twice.
#[inline]
#[target_feature(enable = "neon,i8mm")]
unsafe fn one_pair(a: *const u8, rows: usize, w: *const i8, depth: usize) -> Sums {
    let mut s = [vdupq_n_s32(0); 2 * PANELS * PARTS];
    // SAFETY: as for `two_pairs`.
    unsafe {
        asm!(
            "ld1 {{v28.16b}}, [{a0}], #16",
            "ld1 {{v29.16b}}, [{a1}], #16",
            columns!(16 "p"),
            columns!(20 "q"),
            "add {p}, {p}, #128",
            "add {q}, {q}, #128",
            pair!("zip1" 24 28 29), pair!("zip2" 25 28 29),
            "cbz {n}, 3f",
            "2:",
            one_pair_step!(
                "ld1 {{v28.16b}}, [{a0}]\n", "ld1 {{v29.16b}}, [{a1}]\n", columns!(16 "p"), pair!("zip1" 24 28 29),
                columns!(20 "q"), pair!("zip2" 25 28 29)
            ),
            "add {p}, {p}, #128",
            "add {q}, {q}, #128",
            "add {p1}, {p1}, #128",
            "add {q1}, {q1}, #128",
            "add {a0}, {a0}, #16",
            "add {a1}, {a1}, #16",
            "subs {n}, {n}, #1",
            "b.ne 2b",
            "3:",
            one_pair_step!("", "", "", "", "", ""),
            a0 = inout(reg) a => _,
            a1 = inout(reg) a.add((rows - 1) * depth) => _,
            p = inout(reg) w => _,
            p1 = inout(reg) w.add(WIDTH * GROUP) => _,
            q = inout(reg) w.add(WIDTH * depth) => _,
            q1 = inout(reg) w.add(WIDTH * (depth + GROUP)) => _,
            n = inout(reg) depth / STEP - 1 => _,
            inout("v0") s[0], inout("v1") s[1], inout("v2") s[2], inout("v3") s[3],
            inout("v4") s[4], inout("v5") s[5], inout("v6") s[6], inout("v7") s[7],
            inout("v8") s[8], inout("v9") s[9], inout("v10") s[10], inout("v11") s[11],
            inout("v12") s[12], inout("v13") s[13], inout("v14") s[14], inout("v15") s[15],
            out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            out("v24") _, out("v25") _, out("v28") _, out("v29") _,
            options(nostack, readonly),
        );
    }
    std::array::from_fn(|i| vaddq_s32(s[i], s[i + PANELS * PARTS]))
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
