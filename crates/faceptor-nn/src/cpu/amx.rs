//! AMX: int8 products of whole tiles, sixteen results by sixteen columns by 64 of the depth in one instruction (Sapphire
//! Rapids and later). Weights have the order of the AVX-512 family: sixteen columns of it, groups of the depth below each
//! other, are a tile.

use std::mem::MaybeUninit;
use std::ptr::null;

use crate::cpu::amx_tiles::{BYTES, Operands, ROWS, Tiles, one_by_one, one_by_two, two_by_one, two_by_two};
use crate::cpu::avx512::{LANES, PANEL};
use crate::cpu::avx512_finishing::finish_rows;
use crate::cpu::finishing::Finishing;
use crate::cpu::packed::PackedInt8;
use crate::cpu::windows::Windows;
use crate::cpu::{DEPTH_GROUP, avx512, avx512_finishing};

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
