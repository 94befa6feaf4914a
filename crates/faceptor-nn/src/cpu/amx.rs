//! AMX: int8 products of whole tiles, sixteen results by sixteen columns by 64 of the depth in one instruction (Sapphire
//! Rapids and later). Weights have the order of the AVX-512 family: sixteen columns of it, groups of the depth below each
//! other, are a tile.
//!
//! The intrinsics are not stable, so the loops are assembly. Tiles hold what they are configured for until they are released:
//! [`Tiles`] does both, once a product.

use std::arch::asm;
use std::mem::MaybeUninit;
use std::ptr::null;

use crate::cpu::avx512::{LANES, PANEL};
use crate::cpu::avx512_finishing::finish_rows;
use crate::cpu::finishing::Finishing;
use crate::cpu::packed::PackedInt8;
use crate::cpu::windows::Windows;
use crate::cpu::{DEPTH_GROUP, avx512, avx512_finishing};

/// Rows of a tile, at most.
const ROWS: usize = 16;
/// Bytes of a row of a tile, at most.
const BYTES: usize = 64;
/// Fewer rows of results than this cost less without tiles.
const MIN_ROWS: usize = 6;
/// A shallower product than this costs less without tiles.
const MIN_DEPTH: usize = 64;
/// Shorter steps of the depth than this leave too much of a tile empty.
const MIN_STEP: usize = 24;

/// Returns how many bytes of the depth a tile takes, so that whole steps fill a run of that length; none if tiles do not pay for
/// so many runs.
pub(super) fn depth_step(runs: usize, run_len: usize) -> Option<usize> {
    if runs.checked_mul(run_len)? < MIN_DEPTH {
        return None;
    }
    let fewest = run_len.div_ceil(BYTES).max(1);
    let steps = (fewest..=run_len / MIN_STEP).find(|steps| run_len.is_multiple_of(steps * DEPTH_GROUP))?;
    Some(run_len / steps)
}

/// What the tiles of the CPU are configured with (the manual's table of `LDTILECFG`): 0 to 3 hold sums, 4 and 5 activations,
/// 6 and 7 weights.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// The configured tiles of this thread; released when dropped.
struct Tiles {
    rows: usize,
    step: usize,
}

impl Tiles {
    /// Configures tiles for `rows` rows of results and `step` bytes of the depth.
    ///
    /// # Safety
    /// The process may use tiles, see `amx_permission`.
    unsafe fn new(rows: usize, step: usize) -> Tiles {
        let mut config = Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        for tile in 0..8 {
            let (row_bytes, rows) = match tile {
                0..4 => (BYTES, rows),
                4..6 => (step, rows),
                _ => (BYTES, step / DEPTH_GROUP),
            };
            (config.row_bytes[tile], config.rows[tile]) = (row_bytes as u16, rows as u8);
        }
        // SAFETY: as the caller's; the configuration has at most 16 rows of 64 bytes, as the palette allows.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &config, options(nostack, readonly)) };
        Tiles { rows, step }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the process may use tiles: there was a configuration.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// Operands of one or two tiles of rows by one or two tiles of columns, as the assembly reads them.
#[repr(C)]
struct Operands {
    /// Windows of the first row of each tile.
    a: [*const u8; 2],
    /// Bytes between the windows of rows.
    a_step: usize,
    /// Weights of the first column.
    b: *const i8,
    /// Bytes between groups of the depth.
    b_step: usize,
    /// Bytes between steps of the depth.
    b_next: usize,
    /// Steps of the depth in a run.
    steps: usize,
    /// Bytes of a step.
    step: usize,
    runs: usize,
    /// Bytes between the end of a run and the next one.
    gap: usize,
    /// Sums of the first row and column of each tile.
    out: [*mut i32; 2],
    /// Bytes between rows of sums.
    out_step: usize,
}

/// Defines a function that multiplies tiles: the tiles that are cleared, the products of a step, the tiles that are stored.
macro_rules! multiply_tiles {
    ($name:ident, $clear:literal, $products:literal, $store:literal) => {
        /// # Safety
        /// Tiles are configured, and all operands lie in memory that may be read or written.
        unsafe fn $name(operands: &Operands) {
            // SAFETY: as the caller's.
            unsafe {
                asm!(
                    "mov r8, [rdi]",
                    "mov r9, [rdi + 8]",
                    "mov r10, [rdi + 16]",
                    "mov rsi, [rdi + 24]",
                    "mov r11, [rdi + 32]",
                    "mov rdx, [rdi + 56]",
                    "mov rcx, [rdi + 64]",
                    $clear,
                    "3:",
                    "mov rax, [rdi + 48]",
                    "2:",
                    $products,
                    "add r8, rdx",
                    "add r9, rdx",
                    "add rsi, [rdi + 40]",
                    "dec rax",
                    "jnz 2b",
                    "add r8, [rdi + 72]",
                    "add r9, [rdi + 72]",
                    "dec rcx",
                    "jnz 3b",
                    "mov r8, [rdi + 80]",
                    "mov r9, [rdi + 88]",
                    "mov r10, [rdi + 96]",
                    $store,
                    in("rdi") operands,
                    out("rax") _, out("rcx") _, out("rdx") _, out("rsi") _,
                    out("r8") _, out("r9") _, out("r10") _, out("r11") _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack)
                );
            }
        }
    };
}

multiply_tiles!(
    two_by_two,
    "tilezero tmm0\n tilezero tmm1\n tilezero tmm2\n tilezero tmm3",
    "tileloadd tmm6, [rsi + r11]
     tileloadd tmm4, [r8 + r10]
     tileloadd tmm7, [rsi + r11 + 64]
     tdpbusd tmm0, tmm4, tmm6
     tileloadd tmm5, [r9 + r10]
     tdpbusd tmm1, tmm4, tmm7
     tdpbusd tmm2, tmm5, tmm6
     tdpbusd tmm3, tmm5, tmm7",
    "tilestored [r8 + r10], tmm0
     tilestored [r8 + r10 + 64], tmm1
     tilestored [r9 + r10], tmm2
     tilestored [r9 + r10 + 64], tmm3"
);
multiply_tiles!(
    two_by_one,
    "tilezero tmm0\n tilezero tmm2",
    "tileloadd tmm6, [rsi + r11]
     tileloadd tmm4, [r8 + r10]
     tileloadd tmm5, [r9 + r10]
     tdpbusd tmm0, tmm4, tmm6
     tdpbusd tmm2, tmm5, tmm6",
    "tilestored [r8 + r10], tmm0
     tilestored [r9 + r10], tmm2"
);
multiply_tiles!(
    one_by_two,
    "tilezero tmm0\n tilezero tmm1",
    "tileloadd tmm4, [r8 + r10]
     tileloadd tmm6, [rsi + r11]
     tileloadd tmm7, [rsi + r11 + 64]
     tdpbusd tmm0, tmm4, tmm6
     tdpbusd tmm1, tmm4, tmm7",
    "tilestored [r8 + r10], tmm0
     tilestored [r8 + r10 + 64], tmm1"
);
multiply_tiles!(
    one_by_one,
    "tilezero tmm0",
    "tileloadd tmm4, [r8 + r10]
     tileloadd tmm6, [rsi + r11]
     tdpbusd tmm0, tmm4, tmm6",
    "tilestored [r8 + r10], tmm0"
);

/// A product that tiles compute: activations, the places of the windows, weights.
struct Work<'a> {
    a: *const u8,
    windows: &'a Windows,
    weights: &'a PackedInt8,
    tiles: Tiles,
    tiles_of_line: usize,
}

/// One tile of rows: its line, and the positions in it that no tile before has.
#[derive(Clone, Copy)]
struct Place {
    line: usize,
    /// The first position of the tile. The last tile of a line begins where it ends with the line, within the tile before.
    start: usize,
    /// The first position that is new.
    fresh: usize,
    end: usize,
}

impl Work<'_> {
    /// Returns none if tiles do not pay for these shapes.
    ///
    /// # Safety
    /// The process may use tiles.
    unsafe fn new<'a>(a: &'a [u8], windows: &'a Windows, weights: &'a PackedInt8) -> Option<Work<'a>> {
        let step = depth_step(windows.runs, windows.run_len)?;
        if windows.lines * windows.positions < MIN_ROWS {
            return None;
        }
        let tiles_of_line = windows.positions.div_ceil(ROWS);
        let rows = windows.positions.div_ceil(tiles_of_line);
        // SAFETY: as the caller's.
        let tiles = unsafe { Tiles::new(rows, step) };
        Some(Work { a: a.as_ptr(), windows, weights, tiles, tiles_of_line })
    }

    fn tiles(&self) -> usize {
        self.windows.lines * self.tiles_of_line
    }

    fn place(&self, tile: usize) -> Place {
        let (line, tile) = (tile / self.tiles_of_line, tile % self.tiles_of_line);
        let (rows, positions) = (self.tiles.rows, self.windows.positions);
        let start = (tile * rows).min(positions - rows);
        Place { line, start, fresh: tile * rows, end: start + rows }
    }

    /// Multiplies the windows of one or two tiles of rows by the panel that begins with column `first`; the sums of the tiles'
    /// first rows go to `out`, rows are `pitch` apart.
    ///
    /// # Safety
    /// The panel exists, the activations hold all windows, and the rows of `out` the panel's columns.
    unsafe fn multiply(&self, places: &[Place], first: usize, out: [*mut i32; 2], pitch: usize) {
        let (windows, weights) = (self.windows, self.weights);
        let width = PANEL.min(weights.columns_padded() - first);
        let step = self.tiles.step;
        // SAFETY: as the caller's: windows lie within the activations, columns within the panel and the rows of `out`.
        unsafe {
            let window = |place: Option<&Place>| {
                place.map_or(null(), |p| self.a.add(p.line * windows.line_step + p.start * windows.step))
            };
            let values = weights.values()[first * weights.depth_padded()..].as_ptr();
            for column in (0..width).step_by(2 * LANES) {
                let operands = Operands {
                    a: [window(places.first()), window(places.get(1))],
                    a_step: windows.step,
                    b: values.add(column * DEPTH_GROUP),
                    b_step: width * DEPTH_GROUP,
                    b_next: width * step,
                    steps: windows.run_len / step,
                    step,
                    runs: windows.runs,
                    gap: windows.run_step.wrapping_sub(windows.run_len),
                    out: out.map(|out| out.wrapping_add(column)),
                    out_step: pitch * size_of::<i32>(),
                };
                match (places.len(), width - column) {
                    (1, LANES) => one_by_one(&operands),
                    (1, _) => one_by_two(&operands),
                    (_, LANES) => two_by_one(&operands),
                    _ => two_by_two(&operands),
                }
            }
        }
    }
}

/// # Safety
/// The CPU has AVX-512 VNNI and the process may use tiles; `a` has `rows` rows of `depth_padded`, `out` as many of
/// `columns_padded`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn multiply_int8(a: &[u8], rows: usize, weights: &PackedInt8, out: &mut [i32]) {
    let (columns, windows) = (weights.columns_padded(), Windows::dense(rows, weights.depth_padded()));
    // SAFETY: as the caller's; a tile's rows are rows of `a` and of `out`.
    unsafe {
        let Some(work) = Work::new(a, &windows, weights) else {
            return avx512::multiply_int8(a, rows, weights, out);
        };
        let out = out.as_mut_ptr();
        for panel in (0..columns).step_by(PANEL) {
            for tile in 0..work.tiles() {
                let place = work.place(tile);
                let out = out.add(place.start * columns + panel);
                work.multiply(&[place], panel, [out, out], columns);
            }
        }
    }
}

/// # Safety
/// The CPU has AVX-512 VNNI and the process may use tiles; `a` has `rows` rows of `depth_padded`, `sums` as many of
/// `columns_padded`, and the slices of `finishing` a row or `rows` rows of as many columns as it has offsets.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn product_int8(
    a: &[u8],
    rows: usize,
    weights: &PackedInt8,
    sums: &mut [i32],
    finishing: &mut Finishing<'_>,
) {
    let windows = Windows::dense(rows, weights.depth_padded());
    // SAFETY: as the caller's.
    unsafe {
        if !product_of_windows(a, &windows, [0, rows], weights, finishing) {
            avx512_finishing::product_int8(a, rows, weights, sums, finishing);
        }
    }
}

/// The sums of two tiles of rows with one panel of weights: 8 KB.
#[repr(align(64))]
struct Sums(MaybeUninit<[i32; 2 * ROWS * PANEL]>);

/// Multiplies windows of activations and finishes those rows that lie in `from..to`; the finished row 0 is row `from`.
/// Returns `false`, with nothing done, if tiles do not pay.
///
/// # Safety
/// The CPU has AVX-512 VNNI and the process may use tiles; `a` holds all windows, of the weights' depth, and the slices of
/// `finishing` a row or `to - from` rows of as many columns as it has offsets.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn product_of_windows(
    a: &[u8],
    windows: &Windows,
    [from, to]: [usize; 2],
    weights: &PackedInt8,
    finishing: &mut Finishing<'_>,
) -> bool {
    // SAFETY: as the caller's. The sums have room for two tiles of rows of a panel; the rows that are finished have sums and
    // lie within the slices.
    unsafe {
        let Some(work) = Work::new(a, windows, weights) else {
            return false;
        };
        let (rows_of_line, mut sums) = (windows.rows_of_line(), Sums(MaybeUninit::uninit()));
        let sums = sums.0.as_mut_ptr().cast::<i32>();
        for panel in (0..weights.columns_padded()).step_by(PANEL) {
            let width = PANEL.min(weights.columns_padded() - panel);
            for first in (0..work.tiles()).step_by(2) {
                let places = [work.place(first), work.place((first + 1).min(work.tiles() - 1))];
                let places = &places[..2.min(work.tiles() - first)];
                let out = [sums, sums.add(work.tiles.rows * width)];
                work.multiply(places, panel, out, width);
                for (place, out) in places.iter().zip(out) {
                    windows.for_rows(place.fresh..place.end, |position, rows| {
                        let line = place.line * rows_of_line;
                        let (start, end) = ((line + rows.start).max(from), (line + rows.end).min(to));
                        if start < end {
                            let skipped = position - place.start + start - (line + rows.start);
                            let sums = out.add(skipped * width);
                            finish_rows(sums, [end - start, width], [start - from, panel], finishing);
                        }
                    });
                }
            }
        }
    }
    true
}

/// Multiply-accumulates of one round of [`products`].
pub(super) const MACS: u64 = 4 * (ROWS * LANES * BYTES) as u64;

/// Multiplies full tiles, nothing else.
///
/// # Safety
/// The process may use tiles.
pub(super) unsafe fn products(rounds: u64) {
    // SAFETY: as the caller's; the products touch no memory.
    unsafe {
        let _tiles = Tiles::new(ROWS, BYTES);
        asm!(
            "2:",
            "tdpbusd tmm0, tmm4, tmm6",
            "tdpbusd tmm1, tmm4, tmm7",
            "tdpbusd tmm2, tmm5, tmm6",
            "tdpbusd tmm3, tmm5, tmm7",
            "dec {rounds}",
            "jnz 2b",
            rounds = inout(reg) rounds.max(1) => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, nomem)
        );
    }
}
