//! The best class of each pixel: dot products with the queries of all classes, of which only the winner is kept.
//!
//! Cells are lanes: a block of them is packed as the right factor, and for each pixel of a cell every class is a row of
//! products, which are compared lane by lane. They stay in the first-level cache.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::cpu::{Kernel, Strided, pack_float};
use crate::error::Error;
use crate::ops::context::{Preparation, StepRun};
use crate::ops::{Operator, PreparedOperator, Signature, ensure};
use crate::tensor::MAX_ELEMENTS;
use crate::tensor::{Element, Value};

/// A grid of cells with `cell` pixels each. The class of a pixel is the one whose query has the largest dot product with its
/// cell's features, the first of equals; a cell has a query for each of its pixels and each class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BestClass {
    /// Rows and columns of cells.
    pub grid: [usize; 2],
    /// Rows and columns of pixels within a cell.
    pub cell: [usize; 2],
    /// Number of classes, at most 255.
    pub classes: usize,
    /// Elements of a query and of a cell's features.
    pub depth: usize,
    /// Strides of the queries from row to row and column to column within a cell, from class to class, and along the depth,
    /// elements.
    pub query_strides: [usize; 4],
    /// Strides of the features from cell to cell, row by row, and along the depth, elements.
    pub pixel_strides: [usize; 2],
}

impl BestClass {
    fn lens(&self) -> impl Iterator<Item = &usize> {
        self.grid.iter().chain(&self.cell).chain([&self.classes, &self.depth])
    }
}

impl Operator for BestClass {
    fn name(&self) -> &'static str {
        "best class f32"
    }

    fn check(&self, operands: &Signature<'_>) -> Result<(), String> {
        let (queries, out) = operands.operands(2)?;
        let pixels = operands.inputs[1];
        let float = operands.inputs.iter().all(|value| value.element == Element::F32);
        ensure(float && out.element == Element::U8, "does not make bytes of float32")?;
        let small = self.lens().all(|len| (1..=MAX_ELEMENTS / 256).contains(len));
        ensure(small && self.classes <= usize::from(u8::MAX), "has an empty axis, or too long a one")?;
        // The scratch has a block of cells, and their products with the queries of one pixel.
        ensure(self.depth.saturating_mul(self.classes) <= MAX_ELEMENTS / 256, "is too large")?;
        let side = |axis: usize| self.grid[axis].checked_mul(self.cell[axis]);
        let shape = [Some(1), side(0), side(1)];
        ensure(out.shape.iter().copied().map(Some).eq(shape), "has an output of another shape")?;
        let within = |lens: &[usize], strides: &[usize], value: &Value| {
            let mut walks = lens.iter().zip(strides);
            let last = walks.try_fold(0usize, |n, (len, stride)| n.checked_add((len - 1).checked_mul(*stride)?));
            last.is_some_and(|last| last < value.len())
        };
        let fits = within(&[self.cell[0], self.cell[1], self.classes, self.depth], &self.query_strides, queries)
            && within(&[self.grid[0] * self.grid[1], self.depth], &self.pixel_strides, pixels);
        ensure(fits, "reaches outside its operands")
    }

    fn macs(&self, _operands: &Signature<'_>) -> Option<u64> {
        self.lens().try_fold(1u64, |n, len| n.checked_mul(*len as u64))
    }

    fn prepare(&self, step: &mut Preparation<'_>) -> Result<Box<dyn PreparedOperator>, Error> {
        let len = scratch_len(step.kernel(), self);
        step.scratch.reserve_float(len);
        Ok(Box::new(self.clone()))
    }
}

impl PreparedOperator for BestClass {
    fn run(&self, step: &mut StepRun<'_>) -> Result<(), Error> {
        let inputs = [step.inputs.floats(0)?, step.inputs.floats(1)?];
        let scratch = &mut *step.scratch;
        compute(step.kernel, self, inputs, step.outputs.bytes()?, &mut scratch.floats, &mut scratch.results);
        Ok(())
    }
}

/// Cells of a block, about.
const BLOCK: usize = 64;
/// Cells that are compared at once; the remainder of a kernel's padding is a multiple of [`FEW`].
const LANES: usize = 16;
const FEW: usize = 4;

/// Returns the cells of a block: whole panels.
fn block(kernel: Kernel) -> usize {
    let panel = kernel.panel_float();
    (BLOCK / panel).max(1) * panel
}

/// Returns the elements of scratch: a block's packed cells, and its products.
fn scratch_len(kernel: Kernel, op: &BestClass) -> [usize; 2] {
    let columns = kernel.pad_float(block(kernel));
    [columns * op.depth, columns * op.classes]
}

/// Computes the classes; `packed` and `results` are as long as [`scratch_len`] says.
fn compute(
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

/// Returns the row with the largest number in each of `N` columns; the first of equals.
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
    use faceptor_test_support::check;
    use proptest::collection::vec;
    use proptest::prelude::Strategy;

    use super::*;

    fn found(kernel: Kernel, op: &BestClass, queries: &[f32], pixels: &[f32]) -> Vec<u8> {
        let [packed, results] = scratch_len(kernel, op);
        // Old contents must not matter.
        let (mut packed, mut results) = (vec![f32::NAN; packed], vec![f32::NAN; results]);
        let mut out = vec![255; op.grid[0] * op.grid[1] * op.cell[0] * op.cell[1]];
        compute(kernel, op, [queries, pixels], &mut out, &mut packed, &mut results);
        out
    }

    /// Computes the classes by their definition. Small whole numbers make every sum exact, so that all families must agree, ties
    /// included.
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
    fn classes_equal_their_definition_on_every_family() {
        let numbers = |count: usize| vec((-2..=2i8).prop_map(f32::from), count);
        for (grid, cell, classes, depth) in
            [([7, 9], [2, 2], 19, 5), ([12, 12], [1, 1], 3, 8), ([1, 3], [3, 1], 1, 1), ([11, 13], [1, 2], 2, 33)]
        {
            let cells: usize = grid.iter().product();
            let count = cell[0] * cell[1] * classes;
            // By pixel of the cell, class, depth; depth first; by class, pixel, depth.
            let by_pixel = [cell[1] * classes * depth, classes * depth, depth, 1];
            let depth_first = [cell[1] * classes, classes, 1, count];
            let by_class = [cell[1] * depth, depth, cell[0] * cell[1] * depth, 1];
            for (query_strides, pixel_strides) in
                [(by_pixel, [depth, 1]), (depth_first, [depth, 1]), (by_class, [1, cells])]
            {
                let op = BestClass { grid, cell, classes, depth, query_strides, pixel_strides };
                check(4, (numbers(count * depth), numbers(cells * depth)), |(queries, pixels)| {
                    let expected = expected(&op, &queries, &pixels);
                    for kernel in Kernel::available() {
                        assert_eq!(found(kernel, &op, &queries, &pixels), expected, "{} {op:?}", kernel.name());
                    }
                });
            }
        }
    }

    #[test]
    fn the_first_of_equals_wins_and_nan_never_does() {
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
