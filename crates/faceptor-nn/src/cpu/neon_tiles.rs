//! The tiles of float32 products with NEON that are in assembly: rows by columns, four of depth a step.
//!
//! Compilers move each load back to its use, where CPUs that execute in order wait for it. These tiles load the columns
//! of a depth during the depth before, and a register of rows after its last use. Cortex-A53 waits for the latest product
//! before any load: there (`grouped`) the loads of a depth stand together; elsewhere (`spread`) each stands beside a product. A
//! search over the predictions of `llvm-mca` found the places (`make bench-cores`).

use std::arch::asm;

/// Floats of one register, and depth of one step.
pub(super) const LANES: usize = 4;

/// What a tile reads and writes.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// The first row.
    pub(super) a: *const f32,
    /// Elements from row to row, and from depth to depth.
    pub(super) row_stride: usize,
    pub(super) depth_stride: usize,
    /// The panel's columns, depth by depth.
    pub(super) b: *const f32,
    /// Steps of four of depth, at least one.
    pub(super) steps: usize,
    pub(super) out: *mut f32,
    /// Elements from row to row of the output.
    pub(super) pitch: usize,
}

/// Returns whether there is a tile of so many rows, which lie along registers, and registers of columns.
pub(super) const fn has_along(rows: usize, parts: usize) -> bool {
    matches!((rows, parts), (4, 5) | (3, 5) | (2, 5) | (1, 5) | (4, 4) | (3, 4) | (6, 3) | (4, 3) | (8, 2))
}

/// As [`has_along`], for rows that lie beside each other.
pub(super) const fn has_beside(rows: usize, parts: usize) -> bool {
    matches!((rows, parts), (4, 5) | (4, 4) | (8, 3) | (8, 2))
}

/// Adds to a sum the product of a register of columns and one lane of a row.
macro_rules! product {
    ($sum:literal $column:literal $row:literal $lane:literal) => {
        concat!("fmla v", $sum, ".4s, v", $column, ".4s, v", $row, ".s[", $lane, "]\n")
    };
}

/// Loads a register of columns for the depth after `$d`; with `last`, nothing.
macro_rules! load {
    (last $to:literal $d:literal $parts:literal $k:literal) => {
        ""
    };
    (more $to:literal $d:literal $parts:literal $k:literal) => {
        concat!("ldr q", $to, ", [{b}, #((", $d, " + 1) * ", $parts, " + ", $k, ") * 16]\n")
    };
}

/// Loads a register of rows of the next step or depth, where the mode has it.
macro_rules! row {
    (spread spread more $to:literal $from:ident) => {
        concat!("ldr q", $to, ", [{", stringify!($from), "}, {n}]\n")
    };
    (grouped grouped more $to:literal $from:ident) => {
        concat!("ldr q", $to, ", [{", stringify!($from), "}, {n}]\n")
    };
    ($mode:ident $here:ident $more:ident $to:literal $from:ident) => {
        ""
    };
}

/// One register of columns times all rows, with a load after the first product.
macro_rules! column {
    ([[$r:literal $lane:literal $then:expr] $([$rs:literal $lanes:literal $thens:expr])*]
        $c:literal: $s:literal $($ss:literal)*; $load:expr) => {
        concat!(product!($s $c $r $lane), $load, $then, $(product!($ss $c $rs $lanes), $thens,)*)
    };
}

/// Registers of columns times all rows; where loads are spread, each with a load for the next depth.
macro_rules! columns {
    (spread $more:ident $d:literal $parts:literal $rows:tt $([$c:literal $n:literal $k:literal: $($s:literal)*])*) => {
        concat!($(column!($rows $c: $($s)*; load!($more $n $d $parts $k)),)*)
    };
    (grouped $more:ident $d:literal $parts:literal $rows:tt $([$c:literal $n:literal $k:literal: $($s:literal)*])*) => {
        concat!($(column!($rows $c: $($s)*; ""),)*)
    };
}

/// The loads of a depth, where they are grouped.
macro_rules! group {
    (spread $more:ident $d:literal $parts:literal $([$c:literal $n:literal $k:literal: $($s:literal)*])*) => {
        ""
    };
    (grouped $more:ident $d:literal $parts:literal $([$c:literal $n:literal $k:literal: $($s:literal)*])*) => {
        concat!($(load!($more $n $d $parts $k),)*)
    };
}

/// One depth, the last of a step where `$then` loads rows: the last register of columns stands alone, for these loads.
macro_rules! along_depth {
    ($mode:ident $more:ident $d:literal $parts:literal $then:ident [$([$r:literal $a:ident])*] [$($head:tt)*] $tail:tt) => {
        concat!(
            columns!($mode $more $d $parts [$([$r $d ""])*] $($head)*),
            columns!($mode $more $d $parts [$([$r $d row!($mode spread $then $r $a)])*] $tail),
            group!($mode $more $d $parts $($head)* $tail),
            $(row!($mode grouped $then $r $a),)*
        )
    };
}

/// Four of depth of rows that lie along registers.
macro_rules! along_step {
    ($mode:ident $more:ident $parts:literal $rows:tt [$h0:tt $t0:tt] [$h1:tt $t1:tt] [$h2:tt $t2:tt] [$h3:tt $t3:tt]) => {
        concat!(
            along_depth!($mode more 0 $parts last $rows $h0 $t0),
            along_depth!($mode more 1 $parts last $rows $h1 $t1),
            along_depth!($mode more 2 $parts last $rows $h2 $t2),
            along_depth!($mode $more 3 $parts $more $rows $h3 $t3),
        )
    };
}

/// One depth of rows that lie across registers, four in each; the first register of columns stands alone, for the loads of rows.
macro_rules! beside_depth {
    ($mode:ident $more:ident $d:literal $parts:literal [$(($r:literal $next:literal $a:ident))*] $first:tt [$($rest:tt)*]) => {
        concat!(
            columns!($mode $more $d $parts
                [$([$r 0 ""] [$r 1 ""] [$r 2 row!($mode spread $more $next $a)] [$r 3 ""])*] $first),
            columns!($mode $more $d $parts [$([$r 0 ""] [$r 1 ""] [$r 2 ""] [$r 3 ""])*] $($rest)*),
            group!($mode $more $d $parts $first $($rest)*),
            $(row!($mode grouped $more $next $a),)*
        )
    };
}

/// Four of depth of rows that lie across registers.
macro_rules! beside_step {
    ($mode:ident $more:ident $parts:literal
        [$r0:tt $f0:tt $c0:tt] [$r1:tt $f1:tt $c1:tt] [$r2:tt $f2:tt $c2:tt] [$r3:tt $f3:tt $c3:tt]) => {
        concat!(
            beside_depth!($mode more 0 $parts $r0 $f0 $c0),
            beside_depth!($mode more 1 $parts $r1 $f1 $c1),
            beside_depth!($mode more 2 $parts $r2 $f2 $c2),
            beside_depth!($mode $more 3 $parts $r3 $f3 $c3),
        )
    };
}

/// The assembly of a tile: zero sums, all steps but the last in a loop, the last step, which loads nothing ahead, and the stores.
macro_rules! assembly {
    ($tile:ident [$($a:ident $from:expr,)*] $by:expr, [$($start:expr,)*] $bytes:literal $next:expr, $last:expr,
        [$([$($k:literal $s:literal)*])*]) => {
        // SAFETY: the caller's. Reads the rows and columns of `steps` steps and writes one row of sums after the other.
        unsafe {
            let by = $by * size_of::<f32>();
            let end = by * $tile.steps;
            asm!(
                $($(concat!("movi v", $s, ".4s, #0"),)*)*
                $($start,)*
                "adds {n}, {n}, {by}",
                "b.eq 3f",
                "2:",
                $next,
                concat!("add {b}, {b}, #", $bytes),
                "adds {n}, {n}, {by}",
                "b.ne 2b",
                "3:",
                $last,
                $(
                    $(concat!("str q", $s, ", [{out}, #", $k, " * 16]"),)*
                    "add {out}, {out}, {pitch}",
                )*
                // Offsets from the ends of the rows on, so that the loop ends at zero.
                $($a = in(reg) $from.wrapping_byte_add(end),)*
                by = in(reg) by,
                n = inout(reg) end.wrapping_neg() => _,
                b = inout(reg) $tile.b => _,
                out = inout(reg) $tile.out => _,
                pitch = in(reg) $tile.pitch * size_of::<f32>(),
                out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v14") _,
                out("v15") _, out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _,
                out("v22") _, out("v23") _, out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _,
                out("v29") _, out("v30") _, out("v31") _,
                options(nostack),
            );
        }
    };
}

/// Loads the first registers of columns.
macro_rules! first_columns {
    ([$([$c:literal $n:literal $k:literal: $($s:literal)*])*]) => {
        concat!($("ldr q", $c, ", [{b}, #", $k, " * 16]\n",)*)
    };
}

/// Defines a tile whose rows lie along registers, four of depth in each. It takes each row with its number, register, pointer and
/// sums; then, for each depth, each register of columns with the register that is loaded after its first product, its place, and its
/// sums.
macro_rules! along {
    ($name:ident $mode:ident $parts:literal $bytes:literal [$([$m:literal $r:literal $a:ident: $($k:literal $s:literal)*])*]
        [$($h0:tt)*] $t0:tt, $h1:tt $t1:tt, $h2:tt $t2:tt, $h3:tt $t3:tt) => {
        #[inline]
        #[target_feature(enable = "neon")]
        unsafe fn $name(tile: Tile) {
            assembly!(tile
                [$($a tile.a.wrapping_add($m * tile.row_stride),)*] LANES,
                [first_columns!([$($h0)* $t0]), $(concat!("ldr q", $r, ", [{", stringify!($a), "}, {n}]"),)*] $bytes
                along_step!($mode more $parts [$([$r $a])*] [[$($h0)*] $t0] [$h1 $t1] [$h2 $t2] [$h3 $t3]),
                along_step!($mode last $parts [$([$r $a])*] [[$($h0)*] $t0] [$h1 $t1] [$h2 $t2] [$h3 $t3]),
                [$([$($k $s)*])*]
            );
        }
    };
}

/// A tile whose rows lie across registers, four in each, or eight in two.
macro_rules! beside {
    ($name:ident $mode:ident $parts:literal $bytes:literal [$([$($k:literal $s:literal)*])*] four [$r:literal $q:literal]
        $f0:tt [$($c0:tt)*], $f1:tt $c1:tt, $f2:tt $c2:tt, $f3:tt $c3:tt) => {
        #[inline]
        #[target_feature(enable = "neon")]
        unsafe fn $name(tile: Tile) {
            // The rows of depth 1 to 3 are loaded after the offset has gone on to the next step.
            let at = |depth: usize| tile.a.wrapping_add(depth * tile.depth_stride);
            let back = |depth: usize| at(depth).wrapping_sub(LANES * tile.depth_stride);
            assembly!(tile
                [a0 at(0), a1 back(1), a2 back(2), a3 back(3),] LANES * tile.depth_stride,
                [first_columns!([$f0 $($c0)*]), concat!("ldr q", $r, ", [{a0}, {n}]"),] $bytes
                beside_step!($mode more $parts [[($r $q a1)] $f0 [$($c0)*]] [[($q $r a2)] $f1 $c1]
                    [[($r $q a3)] $f2 $c2] [[($q $r a0)] $f3 $c3]),
                beside_step!($mode last $parts [[($r $q a1)] $f0 [$($c0)*]] [[($q $r a2)] $f1 $c1]
                    [[($r $q a3)] $f2 $c2] [[($q $r a0)] $f3 $c3]),
                [$([$($k $s)*])*]
            );
        }
    };
    ($name:ident $mode:ident $parts:literal $bytes:literal [$([$($k:literal $s:literal)*])*]
        eight [$r:literal $q:literal $u:literal $v:literal]
        $f0:tt [$($c0:tt)*], $f1:tt $c1:tt, $f2:tt $c2:tt, $f3:tt $c3:tt) => {
        #[inline]
        #[target_feature(enable = "neon")]
        unsafe fn $name(tile: Tile) {
            let at = |depth: usize, row: usize| tile.a.wrapping_add(depth * tile.depth_stride + row);
            let back = |depth: usize, row: usize| at(depth, row).wrapping_sub(LANES * tile.depth_stride);
            assembly!(tile
                [
                    a0 at(0, 0), a1 back(1, 0), a2 back(2, 0), a3 back(3, 0),
                    a4 at(0, LANES), a5 back(1, LANES), a6 back(2, LANES), a7 back(3, LANES),
                ] LANES * tile.depth_stride,
                [
                    first_columns!([$f0 $($c0)*]),
                    concat!("ldr q", $r, ", [{a0}, {n}]"), concat!("ldr q", $u, ", [{a4}, {n}]"),
                ] $bytes
                beside_step!($mode more $parts [[($r $q a1) ($u $v a5)] $f0 [$($c0)*]] [[($q $r a2) ($v $u a6)] $f1 $c1]
                    [[($r $q a3) ($u $v a7)] $f2 $c2] [[($q $r a0) ($v $u a4)] $f3 $c3]),
                beside_step!($mode last $parts [[($r $q a1) ($u $v a5)] $f0 [$($c0)*]] [[($q $r a2) ($v $u a6)] $f1 $c1]
                    [[($r $q a3) ($u $v a7)] $f2 $c2] [[($q $r a0) ($v $u a4)] $f3 $c3]),
                [$([$($k $s)*])*]
            );
        }
    };
}

/// The tiles with the loads of one mode.
macro_rules! tiles {
    ($mode:ident) => {
        use super::*;

        along!(along_4x5 $mode 5 320
            [[0 20 a0: 0 0 1 1 2 2 3 3 4 4] [1 21 a1: 0 5 1 6 2 7 3 8 4 9] [2 22 a2: 0 10 1 11 2 12 3 13 4 14]
            [3 23 a3: 0 15 1 16 2 17 3 18 4 19]]
            [[24 29 0: 0 5 10 15] [25 30 1: 1 6 11 16] [26 31 2: 2 7 12 17] [27 24 3: 3 8 13 18]] [28 25 4: 4 9 14 19],
            [[29 26 0: 0 5 10 15] [30 27 1: 1 6 11 16] [31 28 2: 2 7 12 17] [24 29 3: 3 8 13 18]] [25 30 4: 4 9 14 19],
            [[26 25 0: 0 5 10 15] [27 31 1: 1 6 11 16] [28 27 2: 2 7 12 17] [29 28 3: 3 8 13 18]] [30 29 4: 4 9 14 19],
            [[25 24 0: 0 5 10 15] [31 25 1: 1 6 11 16] [27 26 2: 2 7 12 17] [28 27 3: 3 8 13 18]] [29 28 4: 4 9 14 19]
        );
        along!(along_3x5 $mode 5 320
            [[0 15 a0: 0 0 1 1 2 2 3 3 4 4] [1 16 a1: 0 5 1 6 2 7 3 8 4 9] [2 17 a2: 0 10 1 11 2 12 3 13 4 14]]
            [[18 23 0: 0 5 10] [19 24 1: 1 6 11] [20 25 2: 2 7 12] [21 26 3: 3 8 13]] [22 27 4: 4 9 14],
            [[23 18 0: 0 5 10] [24 19 1: 1 6 11] [25 20 2: 2 7 12] [26 21 3: 3 8 13]] [27 22 4: 4 9 14],
            [[18 23 0: 0 5 10] [19 24 1: 1 6 11] [20 25 2: 2 7 12] [21 26 3: 3 8 13]] [22 27 4: 4 9 14],
            [[23 18 0: 0 5 10] [24 19 1: 1 6 11] [25 20 2: 2 7 12] [26 21 3: 3 8 13]] [27 22 4: 4 9 14]
        );
        along!(along_2x5 $mode 5 320
            [[0 10 a0: 0 0 1 1 2 2 3 3 4 4] [1 11 a1: 0 5 1 6 2 7 3 8 4 9]]
            [[12 17 0: 0 5] [13 18 1: 1 6] [14 19 2: 2 7] [15 20 3: 3 8]] [16 21 4: 4 9],
            [[17 12 0: 0 5] [18 13 1: 1 6] [19 14 2: 2 7] [20 15 3: 3 8]] [21 16 4: 4 9],
            [[12 17 0: 0 5] [13 18 1: 1 6] [14 19 2: 2 7] [15 20 3: 3 8]] [16 21 4: 4 9],
            [[17 12 0: 0 5] [18 13 1: 1 6] [19 14 2: 2 7] [20 15 3: 3 8]] [21 16 4: 4 9]
        );
        along!(along_1x5 $mode 5 320
            [[0 5 a0: 0 0 1 1 2 2 3 3 4 4]]
            [[6 11 0: 0] [7 12 1: 1] [8 13 2: 2] [9 14 3: 3]] [10 15 4: 4],
            [[11 6 0: 0] [12 7 1: 1] [13 8 2: 2] [14 9 3: 3]] [15 10 4: 4],
            [[6 11 0: 0] [7 12 1: 1] [8 13 2: 2] [9 14 3: 3]] [10 15 4: 4],
            [[11 6 0: 0] [12 7 1: 1] [13 8 2: 2] [14 9 3: 3]] [15 10 4: 4]
        );
        along!(along_4x4 $mode 4 256
            [[0 16 a0: 0 0 1 1 2 2 3 3] [1 17 a1: 0 4 1 5 2 6 3 7] [2 18 a2: 0 8 1 9 2 10 3 11] [3 19 a3: 0 12 1 13 2 14 3 15]
            ]
            [[20 24 0: 0 4 8 12] [21 25 1: 1 5 9 13] [22 26 2: 2 6 10 14]] [23 27 3: 3 7 11 15],
            [[24 20 0: 0 4 8 12] [25 21 1: 1 5 9 13] [26 22 2: 2 6 10 14]] [27 23 3: 3 7 11 15],
            [[20 24 0: 0 4 8 12] [21 25 1: 1 5 9 13] [22 26 2: 2 6 10 14]] [23 27 3: 3 7 11 15],
            [[24 20 0: 0 4 8 12] [25 21 1: 1 5 9 13] [26 22 2: 2 6 10 14]] [27 23 3: 3 7 11 15]
        );
        along!(along_3x4 $mode 4 256
            [[0 12 a0: 0 0 1 1 2 2 3 3] [1 13 a1: 0 4 1 5 2 6 3 7] [2 14 a2: 0 8 1 9 2 10 3 11]]
            [[15 19 0: 0 4 8] [16 20 1: 1 5 9] [17 21 2: 2 6 10]] [18 22 3: 3 7 11],
            [[19 15 0: 0 4 8] [20 16 1: 1 5 9] [21 17 2: 2 6 10]] [22 18 3: 3 7 11],
            [[15 19 0: 0 4 8] [16 20 1: 1 5 9] [17 21 2: 2 6 10]] [18 22 3: 3 7 11],
            [[19 15 0: 0 4 8] [20 16 1: 1 5 9] [21 17 2: 2 6 10]] [22 18 3: 3 7 11]
        );
        along!(along_6x3 $mode 3 192
            [[0 18 a0: 0 0 1 1 2 2] [1 19 a1: 0 3 1 4 2 5] [2 20 a2: 0 6 1 7 2 8] [3 21 a3: 0 9 1 10 2 11]
            [4 22 a4: 0 12 1 13 2 14] [5 23 a5: 0 15 1 16 2 17]]
            [[24 27 0: 0 3 6 9 12 15] [25 28 1: 1 4 7 10 13 16]] [26 29 2: 2 5 8 11 14 17],
            [[27 24 0: 0 3 6 9 12 15] [28 25 1: 1 4 7 10 13 16]] [29 26 2: 2 5 8 11 14 17],
            [[24 27 0: 0 3 6 9 12 15] [25 28 1: 1 4 7 10 13 16]] [26 29 2: 2 5 8 11 14 17],
            [[27 24 0: 0 3 6 9 12 15] [28 25 1: 1 4 7 10 13 16]] [29 26 2: 2 5 8 11 14 17]
        );
        along!(along_4x3 $mode 3 192
            [[0 12 a0: 0 0 1 1 2 2] [1 13 a1: 0 3 1 4 2 5] [2 14 a2: 0 6 1 7 2 8] [3 15 a3: 0 9 1 10 2 11]]
            [[16 19 0: 0 3 6 9] [17 20 1: 1 4 7 10]] [18 21 2: 2 5 8 11],
            [[19 16 0: 0 3 6 9] [20 17 1: 1 4 7 10]] [21 18 2: 2 5 8 11],
            [[16 19 0: 0 3 6 9] [17 20 1: 1 4 7 10]] [18 21 2: 2 5 8 11],
            [[19 16 0: 0 3 6 9] [20 17 1: 1 4 7 10]] [21 18 2: 2 5 8 11]
        );
        along!(along_8x2 $mode 2 128
            [[0 16 a0: 0 0 1 1] [1 17 a1: 0 2 1 3] [2 18 a2: 0 4 1 5] [3 19 a3: 0 6 1 7] [4 20 a4: 0 8 1 9]
            [5 21 a5: 0 10 1 11] [6 22 a6: 0 12 1 13] [7 23 a7: 0 14 1 15]]
            [[24 26 0: 0 2 4 6 8 10 12 14]] [25 27 1: 1 3 5 7 9 11 13 15],
            [[26 24 0: 0 2 4 6 8 10 12 14]] [27 25 1: 1 3 5 7 9 11 13 15],
            [[24 26 0: 0 2 4 6 8 10 12 14]] [25 27 1: 1 3 5 7 9 11 13 15],
            [[26 24 0: 0 2 4 6 8 10 12 14]] [27 25 1: 1 3 5 7 9 11 13 15]
        );
        beside!(beside_4x5 $mode 5 320
            [[0 0 1 1 2 2 3 3 4 4] [0 5 1 6 2 7 3 8 4 9] [0 10 1 11 2 12 3 13 4 14] [0 15 1 16 2 17 3 18 4 19]]
            four [20 21]
            [22 27 0: 0 5 10 15] [[23 28 1: 1 6 11 16] [24 29 2: 2 7 12 17] [25 30 3: 3 8 13 18] [26 31 4: 4 9 14 19]],
            [27 22 0: 0 5 10 15] [[28 23 1: 1 6 11 16] [29 24 2: 2 7 12 17] [30 25 3: 3 8 13 18] [31 26 4: 4 9 14 19]],
            [22 27 0: 0 5 10 15] [[23 28 1: 1 6 11 16] [24 29 2: 2 7 12 17] [25 30 3: 3 8 13 18] [26 31 4: 4 9 14 19]],
            [27 22 0: 0 5 10 15] [[28 23 1: 1 6 11 16] [29 24 2: 2 7 12 17] [30 25 3: 3 8 13 18] [31 26 4: 4 9 14 19]]
        );
        beside!(beside_4x4 $mode 4 256
            [[0 0 1 1 2 2 3 3] [0 4 1 5 2 6 3 7] [0 8 1 9 2 10 3 11] [0 12 1 13 2 14 3 15]]
            four [16 17]
            [18 22 0: 0 4 8 12] [[19 23 1: 1 5 9 13] [20 24 2: 2 6 10 14] [21 25 3: 3 7 11 15]],
            [22 18 0: 0 4 8 12] [[23 19 1: 1 5 9 13] [24 20 2: 2 6 10 14] [25 21 3: 3 7 11 15]],
            [18 22 0: 0 4 8 12] [[19 23 1: 1 5 9 13] [20 24 2: 2 6 10 14] [21 25 3: 3 7 11 15]],
            [22 18 0: 0 4 8 12] [[23 19 1: 1 5 9 13] [24 20 2: 2 6 10 14] [25 21 3: 3 7 11 15]]
        );
        beside!(beside_8x3 $mode 3 192
            [[0 0 1 1 2 2] [0 3 1 4 2 5] [0 6 1 7 2 8] [0 9 1 10 2 11] [0 12 1 13 2 14] [0 15 1 16 2 17] [0 18 1 19 2 20]
            [0 21 1 22 2 23]]
            eight [28 30 29 31]
            [24 27 0: 0 3 6 9 12 15 18 21] [[25 24 1: 1 4 7 10 13 16 19 22] [26 25 2: 2 5 8 11 14 17 20 23]],
            [27 26 0: 0 3 6 9 12 15 18 21] [[24 27 1: 1 4 7 10 13 16 19 22] [25 24 2: 2 5 8 11 14 17 20 23]],
            [26 25 0: 0 3 6 9 12 15 18 21] [[27 26 1: 1 4 7 10 13 16 19 22] [24 27 2: 2 5 8 11 14 17 20 23]],
            [25 24 0: 0 3 6 9 12 15 18 21] [[26 25 1: 1 4 7 10 13 16 19 22] [27 26 2: 2 5 8 11 14 17 20 23]]
        );
        beside!(beside_8x2 $mode 2 128
            [[0 0 1 1] [0 2 1 3] [0 4 1 5] [0 6 1 7] [0 8 1 9] [0 10 1 11] [0 12 1 13] [0 14 1 15]]
            eight [16 18 17 19]
            [20 22 0: 0 2 4 6 8 10 12 14] [[21 23 1: 1 3 5 7 9 11 13 15]],
            [22 20 0: 0 2 4 6 8 10 12 14] [[23 21 1: 1 3 5 7 9 11 13 15]],
            [20 22 0: 0 2 4 6 8 10 12 14] [[21 23 1: 1 3 5 7 9 11 13 15]],
            [22 20 0: 0 2 4 6 8 10 12 14] [[23 21 1: 1 3 5 7 9 11 13 15]]
        );

        /// Computes a tile of `M` rows by `N` registers of columns. Returns whether there is one of that shape for rows along
        /// registers.
        #[inline]
        #[target_feature(enable = "neon")]
        pub(in crate::cpu) unsafe fn along<const M: usize, const N: usize>(tile: Tile) -> bool {
            // SAFETY: as the caller's.
            unsafe {
                match (M, N) {
                    (4, 5) => along_4x5(tile),
                    (3, 5) => along_3x5(tile),
                    (2, 5) => along_2x5(tile),
                    (1, 5) => along_1x5(tile),
                    (4, 4) => along_4x4(tile),
                    (3, 4) => along_3x4(tile),
                    (6, 3) => along_6x3(tile),
                    (4, 3) => along_4x3(tile),
                    (8, 2) => along_8x2(tile),
                    _ => return false,
                }
            }
            true
        }

        /// As [`along`], for rows that lie beside each other.
        #[inline]
        #[target_feature(enable = "neon")]
        pub(in crate::cpu) unsafe fn beside<const M: usize, const N: usize>(tile: Tile) -> bool {
            // SAFETY: as the caller's.
            unsafe {
                match (M, N) {
                    (4, 5) => beside_4x5(tile),
                    (4, 4) => beside_4x4(tile),
                    (8, 3) => beside_8x3(tile),
                    (8, 2) => beside_8x2(tile),
                    _ => return false,
                }
            }
            true
        }
    };
}

/// For CPUs that load beside a product.
pub(super) mod spread {
    tiles!(spread);
}

/// For Cortex-A53.
pub(super) mod grouped {
    tiles!(grouped);
}
