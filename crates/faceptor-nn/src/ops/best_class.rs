//! The best class of each pixel: dot products with the queries of all classes, of which only the winner is kept.
//!
//! Cells are lanes: a block of them is packed as the right factor, and for each pixel of a cell every class is a row of
//! products, which are compared lane by lane. They stay in the first-level cache.

use std::ops::Range;

use crate::cpu::{Kernel, Strided, pack_float};
use crate::plan::BestClass;

/// Cells of a block, about.
const BLOCK: usize = 64;
/// Cells that are compared at once; what a kernel's padding leaves over is a multiple of [`FEW`].
const LANES: usize = 16;
const FEW: usize = 4;

/// Cells of a block: whole panels.
fn block(kernel: Kernel) -> usize {
    let panel = kernel.panel_float();
    (BLOCK / panel).max(1) * panel
}

/// Elements of scratch: a block's packed cells, and its products.
pub fn scratch_len(kernel: Kernel, op: &BestClass) -> [usize; 2] {
    let columns = kernel.pad_float(block(kernel));
    [columns * op.depth, columns * op.classes]
}

/// Runs it; `packed` and `results` are as long as [`scratch_len`] says.
pub fn run(
    kernel: Kernel,
    op: &BestClass,
    [queries, pixels]: [&[f32]; 2],
    out: &mut [u8],
    packed: &mut [f32],
    results: &mut [f32],
) {
    let (cells, block) = (op.grid[0] * op.grid[1], block(kernel));
    let [row_step, column_step, row_stride, depth_stride] = op.query_strides;
    let [step, along] = op.pixel_strides;
    for first in (0..cells).step_by(block) {
        let here = block.min(cells - first);
        let columns = kernel.pad_float(here);
        let packed = &mut packed[..columns * op.depth];
        let results = &mut results[..columns * op.classes];
        pack_float(kernel, &pixels[first * step..], here, op.depth, [along, step], packed);
        for place in 0..op.cell[0] * op.cell[1] {
            let [row, column] = [place / op.cell[1], place % op.cell[1]];
            let values = &queries[row * row_step + column * column_step..];
            kernel.multiply_float(Strided { values, row_stride, depth_stride }, op.classes, op.depth, packed, results);
            kernel.vectorize(
                #[inline(always)]
                || compare(op, first..first + here, [row, column], columns, results, out),
            );
        }
    }
}

/// Stores the classes of the block's cells, for the pixel at `row`, `column` of each.
#[inline(always)]
fn compare(
    op: &BestClass,
    cells: Range<usize>,
    [row, column]: [usize; 2],
    columns: usize,
    results: &[f32],
    out: &mut [u8],
) {
    let width = op.grid[1] * op.cell[1];
    let mut store = |start: usize, best: &[u8]| {
        let first = cells.start + start;
        let (mut y, mut x) = (first / op.grid[1], first % op.grid[1]);
        for class in &best[..best.len().min(cells.end.saturating_sub(first))] {
            out[(y * op.cell[0] + row) * width + x * op.cell[1] + column] = *class;
            x += 1;
            if x == op.grid[1] {
                (y, x) = (y + 1, 0);
            }
        }
    };
    let mut start = 0;
    while start + LANES <= columns {
        store(start, &best::<LANES>(results, columns, start));
        start += LANES;
    }
    while start + FEW <= columns {
        store(start, &best::<FEW>(results, columns, start));
        start += FEW;
    }
}

/// The row with the largest number, in each of `N` columns; the first of equals.
#[inline(always)]
fn best<const N: usize>(results: &[f32], columns: usize, start: usize) -> [u8; N] {
    let (mut top, mut best) = ([0f32; N], [0u32; N]);
    top.copy_from_slice(&results[start..start + N]);
    for (class, row) in results.chunks_exact(columns).enumerate().skip(1) {
        let row = &row[start..start + N];
        for lane in 0..N {
            let larger = row[lane] > top[lane];
            top[lane] = if larger { row[lane] } else { top[lane] };
            best[lane] = if larger { class as u32 } else { best[lane] };
        }
    }
    best.map(|class| class as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(kernel: Kernel, op: &BestClass, queries: &[f32], pixels: &[f32]) -> Vec<u8> {
        let [packed, results] = scratch_len(kernel, op);
        // Whatever was there before must not matter.
        let (mut packed, mut results) = (vec![f32::NAN; packed], vec![f32::NAN; results]);
        let mut out = vec![255; op.grid[0] * op.grid[1] * op.cell[0] * op.cell[1]];
        run(kernel, op, [queries, pixels], &mut out, &mut packed, &mut results);
        out
    }

    /// By its definition. Small whole numbers: every sum is exact, so that all families must agree, ties included.
    fn expected(op: &BestClass, queries: &[f32], pixels: &[f32]) -> Vec<u8> {
        let [height, width] = [op.grid[0] * op.cell[0], op.grid[1] * op.cell[1]];
        let score = |y: usize, x: usize, class: usize| -> f32 {
            let cell = y / op.cell[0] * op.grid[1] + x / op.cell[1];
            let [q, p] = [&op.query_strides[..], &op.pixel_strides];
            let query = y % op.cell[0] * q[0] + x % op.cell[1] * q[1] + class * q[2];
            (0..op.depth).map(|k| queries[query + k * q[3]] * pixels[cell * p[0] + k * p[1]]).sum()
        };
        let best = |y: usize, x: usize| {
            (0..op.classes).fold(0, |best, class| if score(y, x, class) > score(y, x, best) { class } else { best })
        };
        (0..height * width).map(|i| best(i / width, i % width) as u8).collect()
    }

    #[test]
    fn it_is_what_its_definition_says_on_every_family() {
        let mut state = 1u32;
        let mut number = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as f32 % 5.0 - 2.0
        };
        for (grid, cell, classes, depth) in
            [([7, 9], [2, 2], 19, 5), ([12, 12], [1, 1], 3, 8), ([1, 3], [3, 1], 1, 1), ([11, 13], [1, 2], 2, 33)]
        {
            let cells: usize = grid.iter().product();
            let count = cell[0] * cell[1] * classes;
            let queries: Vec<f32> = (0..count * depth).map(|_| number()).collect();
            let pixels: Vec<f32> = (0..cells * depth).map(|_| number()).collect();
            // By pixel of the cell, class, depth; depth first; by class, pixel, depth.
            let by_pixel = [cell[1] * classes * depth, classes * depth, depth, 1];
            let depth_first = [cell[1] * classes, classes, 1, count];
            let by_class = [cell[1] * depth, depth, cell[0] * cell[1] * depth, 1];
            for (query_strides, pixel_strides) in
                [(by_pixel, [depth, 1]), (depth_first, [depth, 1]), (by_class, [1, cells])]
            {
                let op = BestClass { grid, cell, classes, depth, query_strides, pixel_strides };
                let expected = expected(&op, &queries, &pixels);
                for kernel in Kernel::available() {
                    assert_eq!(found(kernel, &op, &queries, &pixels), expected, "{} {op:?}", kernel.name());
                }
            }
        }
    }

    #[test]
    fn the_first_of_equals_wins_and_what_is_no_number_never_does() {
        let op = BestClass {
            grid: [1, 5],
            cell: [1, 1],
            classes: 3,
            depth: 1,
            query_strides: [3, 3, 1, 1],
            pixel_strides: [1, 1],
        };
        let pixels = [1.0, 0.0, -1.0, 2.0, -2.0];
        for kernel in Kernel::available() {
            assert_eq!(found(kernel, &op, &[1.0, 2.0, 2.0], &pixels), [1, 0, 0, 1, 0]);
            assert_eq!(found(kernel, &op, &[-1.0, f32::NAN, -2.0], &pixels), [0, 0, 2, 0, 2]);
        }
    }
}
