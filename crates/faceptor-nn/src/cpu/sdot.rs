//! NEON with the signed 8 bit dot product (Cortex-A55, A75, A76 and later).
//!
//! Activations arrive shifted by 128 to signed bytes; the sums begin at 128 times the column's weights instead of zero.
//!
//! The loops are in assembly: compilers move loads back to their uses, and sums to the stack. CPUs that execute in order wait
//! for a load that is used at once, so each register of columns is loaded again as soon as it was multiplied. `make
//! bench-cores` reports what each loop takes on each CPU.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::cpu::packed::PackedInt8;

/// Columns of a panel.
pub(super) const WIDTH: usize = 16;
/// Neighbouring weights of a column.
pub(super) const GROUP: usize = 4;
/// Depth of one register of activations.
const STEP: usize = 16;
/// Rows of a tile: six times four registers of sums and the six rows leave two of the 32 for the columns.
const ROWS: usize = 6;

/// # Safety
/// The CPU has NEON and the dot product; `a` has `rows` rows of `depth_padded` signed bytes, a multiple of 16 above 0, `out`
/// `rows` rows of `columns_padded`.
// Its symbol is where `make bench-cores` looks for the loops.
#[inline(never)]
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn multiply_int8(a: &[u8], rows: usize, weights: &PackedInt8, out: &mut [i32]) {
    for first in (0..weights.columns_padded()).step_by(WIDTH) {
        let values = weights.values()[first * weights.depth_padded()..].as_ptr();
        let sums = weights.sums()[first..].as_ptr();
        for row in (0..rows).step_by(ROWS) {
            let a = a[row * weights.depth_padded()..].as_ptr();
            let out = out[row * weights.columns_padded() + first..].as_mut_ptr();
            let panel = Panel { a, w: values, sums, out, weights };
            // SAFETY: as many rows are left as the tile has; the panel has WIDTH x depth_padded weights and WIDTH sums.
            unsafe {
                match rows - row {
                    1 => one_row(panel),
                    2 => two_rows(panel),
                    3 => three_rows(panel),
                    4 => four_rows(panel),
                    5 => five_rows(panel),
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

/// Loads four columns; `-` loads nothing. The offset lies in a register: so an in-order CPU starts the load beside a product.
macro_rules! load {
    ($w:literal - $n:literal) => {
        ""
    };
    ($w:literal $p:ident $n:literal) => {
        concat!("ldr q", $w, ", [{", stringify!($p), "}, {", $n, "}, lsl #4]\n")
    };
}

/// Multiplies four columns by lane `$lane` of each row, and executes `$then` after the row.
macro_rules! dots {
    ($lane:literal $w:literal: $([$sum:literal $row:literal $then:expr])*) => {
        concat!($("sdot v", $sum, ".4s, v", $w, ".16b, v", $row, ".4b[", $lane, "]\n", $then,)*)
    };
}

/// As [`dots`], with a load after none, one or two of the rows.
macro_rules! dots_and_load {
    (0 $load:expr, $lane:literal $w:literal: $($rows:tt)*) => {
        concat!($load, dots!($lane $w: $($rows)*))
    };
    (1 $load:expr, $lane:literal $w:literal: $first:tt $($rows:tt)*) => {
        concat!(dots!($lane $w: $first), $load, dots!($lane $w: $($rows)*))
    };
    (2 $load:expr, $lane:literal $w:literal: $first:tt $second:tt $($rows:tt)*) => {
        concat!(dots!($lane $w: $first $second), $load, dots!($lane $w: $($rows)*))
    };
}

/// One step: sixteen of depth. `$w0` to `$x3` are the registers of columns in turn; each is loaded again, through `$p0` to `$q3`,
/// `$d0`, `$d1` or `$d2` rows after its last use. A row of the next step is loaded after the last use of its register
/// (`$then`). The lanes have a list of rows each, with the sums of four columns.
macro_rules! step {
    (
        [$d0:tt $d1:tt $d2:tt] [$w0:literal $w1:literal $w2:literal $w3:literal] [$x0:literal $x1:literal $x2:literal $x3:literal]
        [$p0:tt $q0:tt $p1:tt $q1:tt $p2:tt $q2:tt $p3:tt $q3:tt] $advance:literal $again:literal
        [$([$i0:literal $i1:literal $i2:literal $i3:literal $i:literal])*]
        [$([$j0:literal $j1:literal $j2:literal $j3:literal $j:literal])*]
        [$([$k0:literal $k1:literal $k2:literal $k3:literal $k:literal])*]
        [$([$l0:literal $l1:literal $l2:literal $l3:literal $l:literal $then:expr])*]
    ) => {
        concat!(
            dots!(0 $w0: $([$i0 $i ""])*),
            dots_and_load!($d0 load!($w0 $p0 "n"), 0 $w1: $([$i1 $i ""])*),
            dots_and_load!($d1 load!($w1 $p0 "n1"), 0 $w2: $([$i2 $i ""])*),
            dots_and_load!($d2 load!($w2 $q0 "n"), 0 $w3: $([$i3 $i ""])*),
            dots_and_load!($d0 load!($w3 $q0 "n1"), 1 $x0: $([$j0 $j ""])*),
            dots_and_load!($d1 load!($x0 $p1 "n"), 1 $x1: $([$j1 $j ""])*),
            dots_and_load!($d2 load!($x1 $p1 "n1"), 1 $x2: $([$j2 $j ""])*),
            dots_and_load!($d0 load!($x2 $q1 "n"), 1 $x3: $([$j3 $j ""])*),
            dots_and_load!($d1 load!($x3 $q1 "n1"), 2 $w0: $([$k0 $k ""])*),
            dots_and_load!($d2 load!($w0 $p2 "n"), 2 $w1: $([$k1 $k ""])*),
            dots_and_load!($d0 load!($w1 $p2 "n1"), 2 $w2: $([$k2 $k ""])*),
            dots_and_load!($d1 load!($w2 $q2 "n"), 2 $w3: $([$k3 $k ""])*),
            dots_and_load!($d2 load!($w3 $q2 "n1"), 3 $x0: $([$l0 $l ""])*),
            dots_and_load!(0 load!($x0 $p3 "n"), 3 $x1: $([$l1 $l ""])*),
            dots_and_load!(0 load!($x1 $p3 "n1"), 3 $x2: $([$l2 $l ""])*),
            dots_and_load!(0 load!($x2 $q3 "n"), 3 $x3: $([$l3 $l $then])*),
            $advance,
            load!($x3 $q3 "n1"),
            $again,
        )
    };
}

/// The steps of a tile: all but the last in a loop, then the last, which loads nothing ahead.
macro_rules! steps {
    ($delays:tt $even:tt $odd:tt [$($next:tt)*] [$($last:tt)*] $i:tt $j:tt $k:tt
        [$([$l0:literal $l1:literal $l2:literal $l3:literal $l:literal $a:ident])*]) => {
        concat!(
            "cbz {n}, 3f\n",
            "2:\n",
            step!(
                $delays $even $odd [$($next)*] "adds {n}, {n}, #16\n" "add {n1}, {n1}, #16\nb.ne 2b\n" $i $j $k
                [$([$l0 $l1 $l2 $l3 $l concat!("ldr q", $l, ", [{", stringify!($a), "}, {n}]\n")])*]
            ),
            "3:\n",
            step!($delays $even $odd [$($last)*] "" "" $i $j $k [$([$l0 $l1 $l2 $l3 $l ""])*]),
        )
    };
}

/// A tile: its rows with their number, sums, register and pointer; pointers to the columns of a step, two registers each, and
/// those of the next step that are loaded ahead; then the assembly of the start, the steps and the end.
macro_rules! tile {
    ($name:ident: [$([$m:tt $s0:literal $s1:literal $s2:literal $s3:literal $row:literal $a:ident])*]
        [$($p:ident $offset:literal)*] $start:expr, $steps:expr, $end:expr) => {
        #[inline]
        #[target_feature(enable = "neon,dotprod")]
        unsafe fn $name(panel: Panel<'_>) {
            let depth = panel.weights.depth_padded();
            // SAFETY: reads the rows that are listed, of `depth` bytes, a multiple of sixteen and not zero; sixteen columns of
            // as many weights; sixteen sums. Writes sixteen columns of each row. The last step loads nothing ahead.
            unsafe {
                asm!(
                    "ldp q0, q1, [{sums}]",
                    "ldp q2, q3, [{sums}, #32]",
                    $start,
                    concat!($("ldr q", $row, ", [{", stringify!($a), "}]\nadd {", stringify!($a), "}, {", stringify!($a), "}, {depth}\n",)*),
                    concat!($("add {", stringify!($p), "}, {last}, #", $offset, "\n",)*),
                    "shl v0.4s, v0.4s, #7",
                    "shl v1.4s, v1.4s, #7",
                    "shl v2.4s, v2.4s, #7",
                    "shl v3.4s, v3.4s, #7",
                    concat!($(start_sums!($m $s0 $s1 $s2 $s3),)*),
                    $steps,
                    $end,
                    concat!($(
                        "stp q", $s0, ", q", $s1, ", [{out}]\n",
                        "stp q", $s2, ", q", $s3, ", [{out}, #32]\n",
                        "add {out}, {out}, {pitch}\n",
                    )*),
                    $($a = inout(reg) panel.a.wrapping_add($m * depth) => _,)*
                    $($p = out(reg) _,)*
                    w = in(reg) panel.w,
                    last = in(reg) panel.w.wrapping_add((depth - STEP) * WIDTH),
                    n = inout(reg) STEP as isize - depth as isize => _,
                    n1 = inout(reg) STEP as isize - depth as isize + 1 => _,
                    depth = in(reg) depth,
                    sums = in(reg) panel.sums,
                    out = inout(reg) panel.out => _,
                    pitch = in(reg) panel.weights.columns_padded() * size_of::<i32>(),
                    out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                    out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v14") _,
                    out("v15") _, out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _,
                    out("v22") _, out("v23") _, out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _,
                    out("v29") _, out("v30") _, out("v31") _,
                    options(nostack),
                );
            }
        }
    };
}

/// Copies the start values of the first row's sums to those of another row.
macro_rules! start_sums {
    (0 $s0:literal $s1:literal $s2:literal $s3:literal) => {
        ""
    };
    ($m:literal $s0:literal $s1:literal $s2:literal $s3:literal) => {
        concat!(
            "mov v",
            $s0,
            ".16b, v0.16b\nmov v",
            $s1,
            ".16b, v1.16b\n",
            "mov v",
            $s2,
            ".16b, v2.16b\nmov v",
            $s3,
            ".16b, v3.16b\n",
        )
    };
}

/// A tile of two to five rows, which leave four registers for the columns.
macro_rules! low_tile {
    ($name:ident $delays:tt: $([$m:tt $s0:literal $s1:literal $s2:literal $s3:literal $row:literal $a:ident])*) => {
        tile!($name: [$([$m $s0 $s1 $s2 $s3 $row $a])*] [p2 64 p3 96 p4 128 p5 160 p6 192 p7 224 p8 256 p9 288]
            "ldp q20, q21, [{w}]\nldp q22, q23, [{w}, #32]\n",
            steps!($delays [20 21 22 23] [20 21 22 23] [p2 p3 p4 p5 p6 p7 p8 p9] [p2 p3 p4 p5 p6 p7 - -]
                [$([$s0 $s1 $s2 $s3 $row])*] [$([$s0 $s1 $s2 $s3 $row])*] [$([$s0 $s1 $s2 $s3 $row])*]
                [$([$s0 $s1 $s2 $s3 $row $a])*]),
            ""
        );
    };
}

tile!(six_rows:
    [
        [0 0 1 2 3 24 a0] [1 4 5 6 7 25 a1] [2 8 9 10 11 26 a2]
        [3 12 13 14 15 27 a3] [4 16 17 18 19 28 a4] [5 20 21 22 23 29 a5]
    ]
    [p1 32 p2 64 p3 96 p4 128 p5 160 p6 192 p7 224 p8 256]
    "ldp q30, q31, [{w}]\n",
    steps!([0 1 2] [30 31 30 31] [30 31 30 31] [p1 p2 p3 p4 p5 p6 p7 p8] [p1 p2 p3 p4 p5 p6 p7 -]
        [[0 1 2 3 24] [4 5 6 7 25] [8 9 10 11 26] [12 13 14 15 27] [16 17 18 19 28] [20 21 22 23 29]]
        [[0 1 2 3 24] [4 5 6 7 25] [8 9 10 11 26] [12 13 14 15 27] [16 17 18 19 28] [20 21 22 23 29]]
        [[0 1 2 3 24] [4 5 6 7 25] [8 9 10 11 26] [12 13 14 15 27] [16 17 18 19 28] [20 21 22 23 29]]
        [[0 1 2 3 24 a0] [4 5 6 7 25 a1] [8 9 10 11 26 a2] [12 13 14 15 27 a3] [16 17 18 19 28 a4] [20 21 22 23 29 a5]]),
    ""
);

low_tile!(five_rows [0 2 1]: [0 0 1 2 3 24 a0] [1 4 5 6 7 25 a1] [2 8 9 10 11 26 a2] [3 12 13 14 15 27 a3] [4 16 17 18 19 28 a4]);
low_tile!(four_rows [0 0 0]: [0 0 1 2 3 24 a0] [1 4 5 6 7 25 a1] [2 8 9 10 11 26 a2] [3 12 13 14 15 27 a3]);
low_tile!(three_rows [0 1 2]: [0 0 1 2 3 24 a0] [1 4 5 6 7 25 a1] [2 8 9 10 11 26 a2]);
low_tile!(two_rows [0 2 1]: [0 0 1 2 3 24 a0] [1 4 5 6 7 25 a1]);

// Each lane has sums of its own: four alone would wait for their own additions.
tile!(one_row: [[0 0 1 2 3 24 a0]] [p4 128 p5 160 p6 192 p7 224 p8 256 p9 288 p10 320 p11 352]
    concat!(
        "ldp q16, q17, [{w}]\nldp q18, q19, [{w}, #32]\nldp q20, q21, [{w}, #64]\nldp q22, q23, [{w}, #96]\n",
        "movi v4.16b, #0\nmovi v5.16b, #0\nmovi v6.16b, #0\nmovi v7.16b, #0\n",
        "movi v8.16b, #0\nmovi v9.16b, #0\nmovi v10.16b, #0\nmovi v11.16b, #0\n",
        "movi v12.16b, #0\nmovi v13.16b, #0\nmovi v14.16b, #0\nmovi v15.16b, #0\n",
    ),
    steps!([0 0 0] [16 17 18 19] [20 21 22 23] [p4 p5 p6 p7 p8 p9 p10 p11] [p4 p5 p6 p7 - - - -]
        [[0 1 2 3 24]] [[4 5 6 7 24]] [[8 9 10 11 24]] [[12 13 14 15 24 a0]]),
    concat!(
        "add v0.4s, v0.4s, v4.4s\nadd v1.4s, v1.4s, v5.4s\nadd v2.4s, v2.4s, v6.4s\nadd v3.4s, v3.4s, v7.4s\n",
        "add v8.4s, v8.4s, v12.4s\nadd v9.4s, v9.4s, v13.4s\nadd v10.4s, v10.4s, v14.4s\nadd v11.4s, v11.4s, v15.4s\n",
        "add v0.4s, v0.4s, v8.4s\nadd v1.4s, v1.4s, v9.4s\nadd v2.4s, v2.4s, v10.4s\nadd v3.4s, v3.4s, v11.4s\n",
    )
);

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
