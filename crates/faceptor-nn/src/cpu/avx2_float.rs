//! Float32 products on 256 bit registers: tiles of up to six rows by sixteen columns.
//!
//! Written with intrinsics: from the plain loop of [`crate::cpu::float`] the compiler makes scalar code whose sums lie in memory.

use std::arch::x86_64::*;

use crate::cpu::float::Strided;

/// Columns of a panel: two registers.
const WIDTH: usize = 16;
/// Columns of one register.
const LANES: usize = 8;

/// # Safety
/// The CPU has AVX2 and FMA; the lengths fit, as `Kernel::multiply_float` asserts.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn multiply_float(a: Strided<'_>, rows: usize, depth: usize, b: &[f32], out: &mut [f32]) {
    let columns = b.len() / depth;
    for (panel, b) in b.chunks_exact(WIDTH * depth).enumerate() {
        let out = out[panel * WIDTH..].as_mut_ptr();
        let mut row = 0;
        while row < rows {
            let here = Strided { values: &a.values[row * a.row_stride..], ..a };
            // SAFETY: rows `row..row + taken` exist, and the panel's columns end within each row of the results.
            unsafe {
                let out = out.add(row * columns);
                row += match rows - row {
                    1 => tile::<1>(here, b, out, columns),
                    2 => tile::<2>(here, b, out, columns),
                    3 => tile::<3>(here, b, out, columns),
                    4 => tile::<4>(here, b, out, columns),
                    5 => tile::<5>(here, b, out, columns),
                    _ => tile::<6>(here, b, out, columns),
                };
            }
        }
    }
}

/// Multiplies `M` rows by one panel; the rows of the results are `pitch` apart.
///
/// # Safety
/// The CPU has AVX2 and FMA; `a` has `M` rows of the panel's depth, `out` as many of its columns.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const M: usize>(a: Strided<'_>, b: &[f32], out: *mut f32, pitch: usize) -> usize {
    let mut sums = [[_mm256_setzero_ps(); 2]; M];
    let values = a.values.as_ptr();
    for (k, b) in b.as_chunks::<WIDTH>().0.iter().enumerate() {
        // SAFETY: within the panel, and within the strided rows.
        unsafe {
            let columns = [_mm256_loadu_ps(b.as_ptr()), _mm256_loadu_ps(b.as_ptr().add(LANES))];
            for (m, sums) in sums.iter_mut().enumerate() {
                let one = _mm256_broadcast_ss(&*values.add(m * a.row_stride + k * a.depth_stride));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = _mm256_fmadd_ps(one, column, *sum);
                }
            }
        }
    }
    for (m, sums) in sums.iter().enumerate() {
        for (n, sum) in sums.iter().enumerate() {
            // SAFETY: M rows of WIDTH columns lie within `out`.
            unsafe { _mm256_storeu_ps(out.add(m * pitch + n * LANES), *sum) };
        }
    }
    M
}
