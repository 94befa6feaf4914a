//! AVX-VNNI: the 8 bit dot product on 256 bit registers, for CPUs without AVX-512 (Alder Lake, N100 and later).

use std::arch::x86_64::*;

use crate::cpu::DEPTH_GROUP;
use crate::cpu::packed::PackedInt8;

/// Columns of a panel.
const WIDTH: usize = 16;
/// Columns of one register.
const LANES: usize = 8;
/// Registers of a panel.
const PARTS: usize = WIDTH / LANES;

/// # Safety
/// The CPU has AVX2 and AVX-VNNI; `a` has `rows` rows of `depth_padded`, `out` `rows` rows of `columns_padded`.
#[target_feature(enable = "avx2,avxvnni")]
pub(super) unsafe fn multiply_int8(a: &[u8], rows: usize, weights: &PackedInt8, out: &mut [i32]) {
    for first in (0..weights.columns_padded()).step_by(WIDTH) {
        let values = weights.values()[first * weights.depth_padded()..].as_ptr();
        let out = out[first..].as_mut_ptr();
        let mut row = 0;
        while row < rows {
            // SAFETY: rows `row..row + taken` exist, and the panel has WIDTH x depth_padded weights.
            unsafe {
                let (a, out) = (a.as_ptr().add(row * weights.depth_padded()), out.add(row * weights.columns_padded()));
                row += match rows - row {
                    1 => tile::<1>(a, weights, values, out),
                    2 => tile::<2>(a, weights, values, out),
                    3 => tile::<3>(a, weights, values, out),
                    4 => tile::<4>(a, weights, values, out),
                    5 => tile::<5>(a, weights, values, out),
                    _ => tile::<6>(a, weights, values, out),
                };
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn tile<const M: usize>(a: *const u8, p: &PackedInt8, w: *const i8, out: *mut i32) -> usize {
    let mut sums = [[_mm256_setzero_si256(); PARTS]; M];
    for group in 0..p.depth_padded() / DEPTH_GROUP {
        // SAFETY: group by group within the panel and within each row; the reads need no alignment.
        unsafe {
            let w = w.add(group * WIDTH * DEPTH_GROUP);
            let columns = [_mm256_loadu_si256(w.cast()), _mm256_loadu_si256(w.add(LANES * DEPTH_GROUP).cast())];
            for (m, sums) in sums.iter_mut().enumerate() {
                let four = a.add(m * p.depth_padded() + group * DEPTH_GROUP).cast::<i32>().read_unaligned();
                let four = _mm256_set1_epi32(four);
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = _mm256_dpbusd_avx_epi32(*sum, four, column);
                }
            }
        }
    }
    for (m, sums) in sums.iter().enumerate() {
        for (n, sum) in sums.iter().enumerate() {
            // SAFETY: M rows of WIDTH columns lie within `out`.
            unsafe { _mm256_storeu_si256(out.add(m * p.columns_padded() + n * LANES).cast(), *sum) };
        }
    }
    M
}

/// Signed bytes of one register.
const BYTES: usize = 32;

/// Products of a row of signed bytes with others of the same length, as the AVX-512 family computes them.
///
/// # Safety
/// The CPU has AVX2 and AVX-VNNI; `rows` has `query.len()` bytes for each element of `out`.
#[target_feature(enable = "avx2,avxvnni")]
pub(super) unsafe fn dot_rows(query: &[i8], rows: &[i8], out: &mut [i32]) {
    let depth = query.len();
    let shift = 128 * query.iter().map(|&number| i32::from(number)).sum::<i32>();
    let (whole, rest) = query.as_chunks::<BYTES>();
    // Past the end of the row the query is 0, and the row does not matter.
    let mut last = [0; BYTES];
    last[..rest.len()].copy_from_slice(rest);
    let row_sums = |row: usize| {
        let row = &rows[row * depth..][..depth];
        let (row_whole, row_rest) = row.as_chunks::<BYTES>();
        let mut sums = _mm256_setzero_si256();
        for (row, query) in row_whole.iter().zip(whole) {
            sums = add_products(sums, row, query);
        }
        if !row_rest.is_empty() {
            let mut row = [0; BYTES];
            row[..row_rest.len()].copy_from_slice(row_rest);
            sums = add_products(sums, &row, &last);
        }
        sums
    };
    let (blocks, rest) = out.as_chunks_mut::<LANES>();
    let blocked = blocks.len() * LANES;
    for (block, out) in blocks.iter_mut().enumerate() {
        let four = |row: usize| {
            let [a, b, c, d] = [0, 1, 2, 3].map(|next| row_sums(block * LANES + row + next));
            _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d))
        };
        let (a, b) = (four(0), four(4));
        let (low, high) = (_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b));
        let sums = _mm256_sub_epi32(_mm256_add_epi32(low, high), _mm256_set1_epi32(shift));
        // SAFETY: a block has as many elements as the register.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), sums) };
    }
    for (row, out) in rest.iter_mut().enumerate() {
        let mut sums = [0; LANES];
        // SAFETY: the array is as large as the register.
        unsafe { _mm256_storeu_si256(sums.as_mut_ptr().cast(), row_sums(blocked + row)) };
        *out = sums.iter().sum::<i32>() - shift;
    }
}

/// Adds the products of a shifted row with the query, four to each sum.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
fn add_products(sums: __m256i, row: &[i8; BYTES], query: &[i8; BYTES]) -> __m256i {
    // SAFETY: both arrays are as large as the register; the reads need no alignment.
    let (row, query) = unsafe { (_mm256_loadu_si256(row.as_ptr().cast()), _mm256_loadu_si256(query.as_ptr().cast())) };
    _mm256_dpbusd_avx_epi32(sums, _mm256_xor_si256(row, _mm256_set1_epi8(i8::MIN)), query)
}
