//! NEON without a dot product (Cortex-A53, A57, A72): bytes multiplied to 16 bits, pairs of those added to 32.
//!
//! Activations arrive shifted by 128 to signed bytes; what that takes from each sum is 128 times the column's weights.
//!
//! The loops of two rows are in assembly and do two steps of depth in a round. Cortex-A53 executes in order and has a product six
//! cycles after its start, so six of them are under way at a time; a search over the predictions of `llvm-mca` found the
//! order (`make bench-cores`).

use std::arch::aarch64::*;
use std::arch::asm;

use crate::cpu::packed::PackedInt8;

/// Columns of a panel.
pub(super) const WIDTH: usize = 4;
/// Neighbouring weights of a column.
pub(super) const GROUP: usize = 16;
/// Rows of a tile.
const ROWS: usize = 2;
/// Panels of a tile; the padded columns are a multiple of as many.
const PANELS: usize = 2;

/// # Safety
/// The CPU has NEON; `a` has `rows` rows of `depth_padded` signed bytes, a multiple of 16 above 0, `out` `rows` rows of
/// `columns_padded`.
// Its symbol is where `make bench-cores` looks for the loops.
#[inline(never)]
#[target_feature(enable = "neon")]
pub(super) unsafe fn multiply_int8(a: &[u8], rows: usize, weights: &PackedInt8, out: &mut [i32]) {
    for first in (0..weights.columns_padded()).step_by(PANELS * WIDTH) {
        let values = weights.values()[first * weights.depth_padded()..].as_ptr();
        let sums = weights.sums()[first..].as_ptr();
        for row in (0..rows).step_by(ROWS) {
            let a = a[row * weights.depth_padded()..].as_ptr();
            let out = out[row * weights.columns_padded() + first..].as_mut_ptr();
            let panel = Panel { a, w: values, sums, out, weights };
            // SAFETY: as many rows are left as the tile has; there are two panels of WIDTH x depth_padded weights.
            unsafe {
                match (rows - row, weights.is_narrow()) {
                    (1, true) => one_row::<true>(panel),
                    (1, false) => one_row::<false>(panel),
                    (_, true) => two_rows_narrow(panel),
                    (_, false) => two_rows_wide(panel),
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

/// One instruction. `mull`: the first eight products of a row and a column. `mull2`: the last eight. `mlal2`: those added to the
/// first ones. `add`: pairs of products added to a sum. `columns`: four registers of columns, the weights of a step.
macro_rules! instruction {
    (mull $to:literal $row:literal $column:literal) => {
        concat!("smull v", $to, ".8h, v", $row, ".8b, v", $column, ".8b\n")
    };
    (mull2 $to:literal $row:literal $column:literal) => {
        concat!("smull2 v", $to, ".8h, v", $row, ".16b, v", $column, ".16b\n")
    };
    (mlal2 $to:literal $row:literal $column:literal) => {
        concat!("smlal2 v", $to, ".8h, v", $row, ".16b, v", $column, ".16b\n")
    };
    (add $to:literal $products:literal) => {
        concat!("sadalp v", $to, ".4s, v", $products, ".8h\n")
    };
    (columns 16 $from:ident) => {
        concat!("ld1 {{v16.16b-v19.16b}}, [{", stringify!($from), "}]\n")
    };
    (columns 20 $from:ident) => {
        concat!("ld1 {{v20.16b-v23.16b}}, [{", stringify!($from), "}]\n")
    };
    (do $text:literal) => {
        concat!($text, "\n")
    };
}

macro_rules! instructions {
    ($([$($word:tt)*])*) => {
        concat!($(instruction!($($word)*)),*)
    };
}

/// Two rows by eight columns: sums v0 to v15, four for each row of the first panel, then of the second; columns v16 to v23, rows
/// v24 and v25, products v26 to v31. `$loop` does two steps, `$last` the step that is left where their number is odd.
macro_rules! two_rows {
    ($name:ident, $loop:expr, $last:expr) => {
        #[inline]
        #[target_feature(enable = "neon")]
        unsafe fn $name(panel: Panel<'_>) {
            let depth = panel.weights.depth_padded();
            let steps = depth / GROUP;
            let mut s = [vdupq_n_s32(0); 2 * PANELS * WIDTH];
            // SAFETY: reads two rows of `depth` bytes, a multiple of sixteen and not zero, and two panels of four columns of as
            // many weights. What the loop loads ahead of the first row and panel after their ends is the start of the second
            // ones, which follow them.
            unsafe {
                asm!(
                    "ldr q24, [{a}]",
                    instructions!([columns 16 w]),
                    "cbz {pairs}, 3f",
                    "2:",
                    $loop,
                    "3:",
                    "tbz {steps}, #0, 4f",
                    $last,
                    "4:",
                    a = inout(reg) panel.a => _,
                    w = in(reg) panel.w,
                    a1 = inout(reg) panel.w.wrapping_add(WIDTH * GROUP) => _,
                    a2 = inout(reg) panel.w.wrapping_add(2 * WIDTH * GROUP) => _,
                    b0 = inout(reg) panel.w.wrapping_add(WIDTH * depth) => _,
                    b1 = inout(reg) panel.w.wrapping_add(WIDTH * (depth + GROUP)) => _,
                    depth = in(reg) depth,
                    ahead = in(reg) depth + GROUP,
                    steps = in(reg) steps,
                    pairs = inout(reg) steps / 2 => _,
                    inout("v0") s[0], inout("v1") s[1], inout("v2") s[2], inout("v3") s[3],
                    inout("v4") s[4], inout("v5") s[5], inout("v6") s[6], inout("v7") s[7],
                    inout("v8") s[8], inout("v9") s[9], inout("v10") s[10], inout("v11") s[11],
                    inout("v12") s[12], inout("v13") s[13], inout("v14") s[14], inout("v15") s[15],
                    out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _,
                    out("v23") _, out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _,
                    out("v30") _, out("v31") _,
                    options(nostack, readonly),
                );
                let pitch = panel.weights.columns_padded();
                for (i, s) in s.chunks_exact(WIDTH).enumerate() {
                    let (row, first) = (i % ROWS, i / ROWS * WIDTH);
                    finish([s[0], s[1], s[2], s[3]], panel.sums.add(first), panel.out.add(row * pitch + first));
                }
            }
        }
    };
}

two_rows!(
    two_rows_narrow,
    instructions!(
        [do "ldr q25, [{a}, {depth}]"] [mull 26 24 16] [mull 27 24 17] [mull 28 24 18] [columns 20 b0] [mull 29 24 19]
        [mull 30 25 16] [mull 31 25 17] [mlal2 26 24 16] [mlal2 27 24 17] [mlal2 28 24 18] [mlal2 29 24 19]
        [mlal2 30 25 16] [mlal2 31 25 17] [add 0 26] [mull 26 25 18] [add 1 27] [mull 27 25 19] [add 3 29] [add 5 31]
        [mull 29 24 21] [add 2 28] [mull 28 24 20] [add 4 30] [mull 30 24 22] [mull 31 24 23] [mlal2 27 25 19]
        [mlal2 26 25 18] [columns 16 a1] [mlal2 28 24 20] [mlal2 30 24 22] [mlal2 29 24 21] [mlal2 31 24 23]
        [add 6 26] [add 7 27] [mull 27 25 21] [add 10 30] [mull 26 25 20] [add 8 28] [mull 28 25 22] [add 9 29]
        [mull 29 25 23] [do "ldr q24, [{a}, #16]"] [mlal2 27 25 21] [mlal2 26 25 20] [add 11 31] [mlal2 28 25 22]
        [mlal2 29 25 23] [do "ldr q25, [{a}, {ahead}]"] [add 13 27] [mull 30 24 16] [mull 31 24 17] [columns 20 b1]
        [add 14 28] [mull 28 25 16] [add 12 26] [mull 27 24 19] [mull 26 24 18] [add 15 29] [mull 29 25 17]
        [mlal2 31 24 17] [mlal2 30 24 16] [mlal2 28 25 16] [mlal2 27 24 19] [mlal2 29 25 17] [mlal2 26 24 18]
        [add 1 31] [add 0 30] [mull 30 25 18] [add 3 27] [add 4 28] [mull 28 24 22] [mull 31 25 19] [mull 27 24 21]
        [add 2 26] [mull 26 24 20] [add 5 29] [mull 29 24 23] [mlal2 30 25 18] [mlal2 31 25 19] [columns 16 a2]
        [mlal2 28 24 22] [mlal2 26 24 20] [mlal2 27 24 21] [mlal2 29 24 23] [add 6 30] [add 7 31] [mull 31 25 21]
        [mull 30 25 20] [add 8 26] [mull 26 25 22] [add 9 27] [mull 27 25 23] [mlal2 31 25 21] [add 10 28]
        [mlal2 30 25 20] [do "ldr q24, [{a}, #32]"] [mlal2 26 25 22] [mlal2 27 25 23] [add 13 31] [add 12 30]
        [add 11 29] [add 14 26] [add 15 27] [do "subs {pairs}, {pairs}, #1"] [do "add {b1}, {b1}, #128"]
        [do "add {b0}, {b0}, #128"] [do "add {a2}, {a2}, #128"] [do "add {a}, {a}, #32"] [do "add {a1}, {a1}, #128"]
        [do "b.ne 2b"]
    ),
    instructions!(
        [do "ldr q25, [{a}, {depth}]"] [columns 20 b0] [mull 26 24 16] [mull 27 24 17] [mull 28 24 18] [mull 29 24 19]
        [mull 30 25 16] [mull 31 25 17] [mlal2 26 24 16] [mlal2 27 24 17] [mlal2 28 24 18] [mlal2 29 24 19]
        [mlal2 30 25 16] [mlal2 31 25 17] [add 0 26] [add 1 27] [add 2 28] [add 3 29] [add 4 30] [add 5 31]
        [mull 26 25 18] [mull 27 25 19] [mull 28 24 20] [mull 29 24 21] [mull 30 24 22] [mull 31 24 23]
        [mlal2 26 25 18] [mlal2 27 25 19] [mlal2 28 24 20] [mlal2 29 24 21] [mlal2 30 24 22] [mlal2 31 24 23]
        [add 6 26] [add 7 27] [add 8 28] [add 9 29] [add 10 30] [add 11 31] [mull 26 25 20] [mull 27 25 21]
        [mull 28 25 22] [mull 29 25 23] [mlal2 26 25 20] [mlal2 27 25 21] [mlal2 28 25 22] [mlal2 29 25 23]
        [add 12 26] [add 13 27] [add 14 28] [add 15 29]
    )
);

two_rows!(
    two_rows_wide,
    instructions!(
        [do "ldr q25, [{a}, {depth}]"] [columns 20 b0] [mull 26 24 16] [mull 27 24 17] [mull 28 24 18]
        [mull2 29 24 16] [mull2 30 24 17] [mull2 31 24 18] [add 0 26] [mull 26 24 19] [add 1 27] [mull 27 25 16]
        [add 2 28] [mull 28 25 17] [add 0 29] [mull2 29 24 19] [add 1 30] [mull2 30 25 16] [add 2 31] [mull2 31 25 17]
        [add 3 26] [mull 26 25 18] [add 4 27] [mull 27 25 19] [add 5 28] [mull 28 24 20] [add 3 29] [mull2 29 25 18]
        [add 4 30] [mull2 30 25 19] [columns 16 a1] [add 5 31] [mull2 31 24 20] [add 6 26] [mull 26 24 21] [add 7 27]
        [mull 27 24 22] [add 8 28] [mull 28 24 23] [add 6 29] [mull2 29 24 21] [add 7 30] [mull2 30 24 22] [add 8 31]
        [mull2 31 24 23] [do "ldr q24, [{a}, #16]"] [add 9 26] [mull 26 25 20] [add 10 27] [mull 27 25 21] [add 11 28]
        [mull 28 25 22] [add 9 29] [mull2 29 25 20] [add 10 30] [mull2 30 25 21] [add 11 31] [mull2 31 25 22]
        [add 12 26] [mull 26 25 23] [add 13 27] [mull 27 24 16] [add 14 28] [mull 28 24 17] [add 12 29]
        [mull2 29 25 23] [do "ldr q25, [{a}, {ahead}]"] [columns 20 b1] [add 13 30] [mull2 30 24 16] [add 14 31]
        [mull2 31 24 17] [add 15 26] [mull 26 24 18] [add 0 27] [mull 27 24 19] [add 1 28] [mull 28 25 16] [add 15 29]
        [mull2 29 24 18] [add 0 30] [mull2 30 24 19] [add 1 31] [mull2 31 25 16] [add 2 26] [mull 26 25 17] [add 3 27]
        [mull 27 25 18] [add 4 28] [mull 28 25 19] [add 2 29] [mull2 29 25 17] [add 3 30] [mull2 30 25 18] [add 4 31]
        [mull2 31 25 19] [columns 16 a2] [add 5 26] [mull 26 24 20] [add 6 27] [mull 27 24 21] [add 7 28]
        [mull 28 24 22] [add 5 29] [mull2 29 24 20] [add 6 30] [mull2 30 24 21] [add 7 31] [mull2 31 24 22] [add 8 26]
        [mull 26 24 23] [add 9 27] [mull 27 25 20] [add 10 28] [mull 28 25 21] [add 8 29] [mull2 29 24 23]
        [do "ldr q24, [{a}, #32]"] [add 9 30] [mull2 30 25 20] [add 10 31] [mull2 31 25 21] [add 11 26]
        [mull 26 25 22] [add 12 27] [mull 27 25 23] [add 13 28] [add 11 29] [mull2 29 25 22] [add 12 30]
        [mull2 30 25 23] [add 13 31] [add 14 26] [add 15 27] [add 14 29] [add 15 30] [do "subs {pairs}, {pairs}, #1"]
        [do "add {a2}, {a2}, #128"] [do "add {b0}, {b0}, #128"] [do "add {a1}, {a1}, #128"]
        [do "add {b1}, {b1}, #128"] [do "add {a}, {a}, #32"] [do "b.ne 2b"]
    ),
    instructions!(
        [do "ldr q25, [{a}, {depth}]"] [columns 20 b0] [mull 26 24 16] [mull 27 24 17] [mull 28 24 18]
        [mull2 29 24 16] [mull2 30 24 17] [mull2 31 24 18] [add 0 26] [add 1 27] [add 2 28] [add 0 29] [add 1 30]
        [add 2 31] [mull 26 24 19] [mull 27 25 16] [mull 28 25 17] [mull2 29 24 19] [mull2 30 25 16] [mull2 31 25 17]
        [add 3 26] [add 4 27] [add 5 28] [add 3 29] [add 4 30] [add 5 31] [mull 26 25 18] [mull 27 25 19]
        [mull 28 24 20] [mull2 29 25 18] [mull2 30 25 19] [mull2 31 24 20] [add 6 26] [add 7 27] [add 8 28] [add 6 29]
        [add 7 30] [add 8 31] [mull 26 24 21] [mull 27 24 22] [mull 28 24 23] [mull2 29 24 21] [mull2 30 24 22]
        [mull2 31 24 23] [add 9 26] [add 10 27] [add 11 28] [add 9 29] [add 10 30] [add 11 31] [mull 26 25 20]
        [mull 27 25 21] [mull 28 25 22] [mull2 29 25 20] [mull2 30 25 21] [mull2 31 25 22] [add 12 26] [add 13 27]
        [add 14 28] [add 12 29] [add 13 30] [add 14 31] [mull 26 25 23] [mull2 29 25 23] [add 15 26] [add 15 29]
    )
);

/// One row by eight columns.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn one_row<const NARROW: bool>(panel: Panel<'_>) {
    let depth = panel.weights.depth_padded();
    let mut sums = [vdupq_n_s32(0); PANELS * WIDTH];
    for k in (0..depth).step_by(GROUP) {
        // SAFETY: sixteen bytes of the row and of each column lie within the depth.
        unsafe {
            let row = vreinterpretq_s8_u8(vld1q_u8(panel.a.add(k)));
            for (n, sum) in sums.iter_mut().enumerate() {
                let panel = panel.w.add(n / WIDTH * WIDTH * depth);
                let column = vld1q_s8(panel.add((k / GROUP * WIDTH + n % WIDTH) * GROUP));
                let low = vmull_s8(vget_low_s8(row), vget_low_s8(column));
                *sum = if NARROW {
                    vpadalq_s16(*sum, vmlal_high_s8(low, row, column))
                } else {
                    vpadalq_s16(vpadalq_s16(*sum, low), vmull_high_s8(row, column))
                };
            }
        }
    }
    for (panel_of, s) in sums.chunks_exact(WIDTH).enumerate() {
        let first = panel_of * WIDTH;
        // SAFETY: four columns of the row lie within `out`, four sums within theirs.
        unsafe { finish([s[0], s[1], s[2], s[3]], panel.sums.add(first), panel.out.add(first)) };
    }
}

/// Stores the results of four columns: their sums, and what the shift of the activations took from them.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn finish(s: [int32x4_t; WIDTH], weights: *const i32, out: *mut i32) {
    let total = vpaddq_s32(vpaddq_s32(s[0], s[1]), vpaddq_s32(s[2], s[3]));
    // SAFETY: as the caller's.
    unsafe { vst1q_s32(out, vaddq_s32(total, vshlq_n_s32::<7>(vld1q_s32(weights)))) };
}
