//! Float32 products with a packed right factor, in plain Rust.

use crate::cpu::kernel::Kernel;

/// A matrix by strides, in elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strided<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) row_stride: usize,
    pub(crate) depth_stride: usize,
}

/// Packs `b[k, column]`, at `k * strides[0] + column * strides[1]`, into panels of the kernel's width, each panel with
/// one row of columns per depth; `out` has [`Kernel::pad_float`] columns times depth elements.
pub(crate) fn pack(kernel: Kernel, b: &[f32], columns: usize, depth: usize, strides: [usize; 2], out: &mut [f32]) {
    let all = kernel.pad_float(columns);
    let mut first = 0;
    while first < all {
        let width = kernel.panel_float().min(all - first);
        let panel = &mut out[first * depth..][..width * depth];
        let used = width.min(columns.saturating_sub(first));
        let b = &b[first * strides[1]..];
        match strides {
            [_, 1] if used == width && used.is_multiple_of(WIDTH) => copy::<WIDTH>(b, strides[0], width, panel),
            [_, 1] if used == width && used.is_multiple_of(PART) => copy::<PART>(b, strides[0], width, panel),
            [_, 1] => {
                for (k, row) in panel.chunks_exact_mut(width).enumerate() {
                    row[..used].copy_from_slice(&b[k * strides[0]..][..used]);
                    row[used..].fill(0.0);
                }
            }
            [1, stride] => kernel.transpose_float(b, used, depth, stride, width, panel),
            _ => transpose(b, used, depth, strides, width, panel),
        }
        first += width;
    }
}

/// Copies one panel whose columns lie side by side already, in pieces of fixed length, which need no call.
fn copy<const N: usize>(b: &[f32], stride: usize, width: usize, panel: &mut [f32]) {
    for (k, row) in panel.chunks_exact_mut(width).enumerate() {
        for (to, from) in row.as_chunks_mut::<N>().0.iter_mut().zip(b[k * stride..].as_chunks::<N>().0.iter()) {
            to.copy_from_slice(from);
        }
    }
}

/// Packs one panel: `used` columns become rows of `width`, whose remaining columns are zero.
pub(super) fn transpose(b: &[f32], used: usize, depth: usize, strides: [usize; 2], width: usize, panel: &mut [f32]) {
    for (k, row) in panel.chunks_exact_mut(width).enumerate().take(depth) {
        let b = &b[k * strides[0]..];
        row[..used].iter_mut().enumerate().for_each(|(column, to)| *to = b[column * strides[1]]);
        row[used..].fill(0.0);
    }
}

/// Columns of one panel.
const WIDTH: usize = 16;
/// The number of columns that the panels of every other kernel are multiples of.
const PART: usize = 4;
/// Rows that share a panel's columns while those are in registers.
const ROWS: usize = 4;

/// Multiplies by panels of [`WIDTH`] columns. `FUSED`: the CPU has fused multiply-add; without it, each one would be a call
/// of a library.
#[inline(always)]
pub(super) fn multiply<const FUSED: bool>(a: Strided<'_>, rows: usize, depth: usize, b: &[f32], out: &mut [f32]) {
    let columns = b.len() / depth;
    for (panel, b) in b.chunks_exact(WIDTH * depth).enumerate() {
        let mut row = 0;
        while row < rows {
            let here = ROWS.min(rows - row);
            let mut sums = [[0f32; WIDTH]; ROWS];
            for (k, b) in b.as_chunks::<WIDTH>().0.iter().enumerate() {
                for (i, sums) in sums.iter_mut().enumerate() {
                    // Rows past the end repeat the last one; their sums are dropped.
                    let a = a.values[(row + i.min(here - 1)) * a.row_stride + k * a.depth_stride];
                    for (sum, b) in sums.iter_mut().zip(b) {
                        *sum = if FUSED { a.mul_add(*b, *sum) } else { a * *b + *sum };
                    }
                }
            }
            for (i, sums) in sums.iter().enumerate().take(here) {
                out[(row + i) * columns + panel * WIDTH..][..WIDTH].copy_from_slice(sums);
            }
            row += here;
        }
    }
}
