//! The reference for integer products, in a form that compilers turn into vector code on any CPU.

use crate::cpu::packed::PackedInt8;

/// Columns of one panel.
const WIDTH: usize = 16;
/// Rows that share a panel's weights while those are in registers.
const ROWS: usize = 4;

/// Multiplies by panels that have one row of [`WIDTH`] columns per depth.
#[inline(always)]
pub(super) fn multiply_int8(a: &[u8], rows: usize, weights: &PackedInt8, out: &mut [i32]) {
    let depth = weights.depth_padded();
    for (panel, values) in weights.values().chunks_exact(WIDTH * depth).enumerate() {
        let mut row = 0;
        while row < rows {
            let here = ROWS.min(rows - row);
            // Rows past the end repeat the last one; their sums are dropped.
            let a: [&[u8]; ROWS] = std::array::from_fn(|i| &a[(row + i.min(here - 1)) * depth..][..depth]);
            let mut sums = [[0i32; WIDTH]; ROWS];
            for (k, w) in values.as_chunks::<WIDTH>().0.iter().enumerate() {
                for (sums, a) in sums.iter_mut().zip(a) {
                    // Through 16 bits, for which CPUs have a widening multiplication.
                    let a = a[k] as i16 as i32;
                    for (sum, w) in sums.iter_mut().zip(w) {
                        *sum += a * (*w as i16 as i32);
                    }
                }
            }
            for (i, sums) in sums.iter().enumerate().take(here) {
                out[(row + i) * weights.columns_padded() + panel * WIDTH..][..WIDTH].copy_from_slice(sums);
            }
            row += here;
        }
    }
}

/// Multiplies a row with others of the same length; the compiler turns the loop into the vector instructions of the function
/// that it is inlined into. Usual lengths are known to the compiler.
#[inline(always)]
pub(super) fn dot_rows(query: &[i8], rows: &[i8], out: &mut [i32]) {
    match query.len() {
        0 => out.fill(0),
        128 => dot_fixed_rows::<128>(query, rows, out),
        256 => dot_fixed_rows::<256>(query, rows, out),
        512 => dot_fixed_rows::<512>(query, rows, out),
        length => rows.chunks_exact(length).zip(out).for_each(|(row, out)| *out = dot(query, row)),
    }
}

#[inline(always)]
fn dot_fixed_rows<const N: usize>(query: &[i8], rows: &[i8], out: &mut [i32]) {
    let Some(query) = query.first_chunk::<N>() else { return };
    rows.as_chunks::<N>().0.iter().zip(out).for_each(|(row, out)| *out = dot(query, row));
}

#[inline(always)]
fn dot(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}
