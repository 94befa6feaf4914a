//! AVX-512 with VNNI: tiles of rows by 16 to 64 columns held in registers.

use std::arch::x86_64::*;

use crate::cpu::DEPTH_GROUP;
use crate::cpu::float::Strided;
use crate::cpu::packed::PackedInt8;

/// Columns of a full panel.
pub(super) const PANEL: usize = 64;
/// Columns of one register.
pub(super) const LANES: usize = 16;

/// # Safety
/// The CPU has the features; `a` has `rows` rows of `depth_padded`, `out` `rows` rows of `columns_padded`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn multiply_int8(a: &[u8], rows: usize, weights: &PackedInt8, out: &mut [i32]) {
    let columns = weights.columns_padded();
    for first in (0..columns).step_by(PANEL) {
        // SAFETY: as the caller's; the panel's columns end within each row.
        unsafe { panel_int8(a.as_ptr(), rows, weights, first, out[first..].as_mut_ptr(), columns) };
    }
}

/// All rows against the panel that begins with column `first`; the rows of `out` are `pitch` apart.
///
/// # Safety
/// The CPU has the features; the panel exists, `a` has `rows` rows of `depth_padded`, each row of `out` the panel's columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn panel_int8(
    a: *const u8,
    rows: usize,
    weights: &PackedInt8,
    first: usize,
    out: *mut i32,
    pitch: usize,
) {
    let values = weights.values()[first * weights.depth_padded()..].as_ptr();
    // SAFETY: as the caller's; a panel has width x depth_padded weights.
    unsafe {
        match PANEL.min(weights.columns_padded() - first) / LANES {
            1 => rows_int8::<1>(a, rows, weights, values, out, pitch),
            2 => rows_int8::<2>(a, rows, weights, values, out, pitch),
            3 => rows_int8::<3>(a, rows, weights, values, out, pitch),
            _ => rows_int8::<4>(a, rows, weights, values, out, pitch),
        }
    }
}

/// All rows against a panel of `N` registers of columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn rows_int8<const N: usize>(
    a: *const u8,
    rows: usize,
    p: &PackedInt8,
    w: *const i8,
    out: *mut i32,
    pitch: usize,
) {
    let mut row = 0;
    while row < rows {
        // SAFETY: rows `row..row + taken` exist, see `panel_int8`.
        unsafe {
            let (a, out) = (a.add(row * p.depth_padded()), out.add(row * pitch));
            row += match rows - row {
                1 => tile_int8::<1, N>(a, p, w, out, pitch),
                2 => tile_int8::<2, N>(a, p, w, out, pitch),
                3 => tile_int8::<3, N>(a, p, w, out, pitch),
                4 => tile_int8::<4, N>(a, p, w, out, pitch),
                5 => tile_int8::<5, N>(a, p, w, out, pitch),
                6 | 7 => tile_int8::<6, N>(a, p, w, out, pitch),
                _ if N > 2 => tile_int8::<6, N>(a, p, w, out, pitch),
                // Narrow panels leave registers for more rows, which hide the latency of the sums.
                8..12 => tile_int8::<8, N>(a, p, w, out, pitch),
                _ => tile_int8::<12, N>(a, p, w, out, pitch),
            };
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn tile_int8<const M: usize, const N: usize>(
    a: *const u8,
    p: &PackedInt8,
    w: *const i8,
    out: *mut i32,
    pitch: usize,
) -> usize {
    let mut sums = [[_mm512_setzero_si512(); N]; M];
    for group in 0..p.depth_padded() / DEPTH_GROUP {
        // SAFETY: group by group within the panel and within each row; the reads need no alignment.
        unsafe {
            let w = w.add(group * N * LANES * DEPTH_GROUP);
            let mut columns = [_mm512_setzero_si512(); N];
            for (n, column) in columns.iter_mut().enumerate() {
                *column = _mm512_loadu_si512(w.add(n * LANES * DEPTH_GROUP).cast());
            }
            for (m, sums) in sums.iter_mut().enumerate() {
                let four = a.add(m * p.depth_padded() + group * DEPTH_GROUP).cast::<i32>().read_unaligned();
                let four = _mm512_set1_epi32(four);
                for (sum, column) in sums.iter_mut().zip(&columns) {
                    *sum = _mm512_dpbusd_epi32(*sum, four, *column);
                }
            }
        }
    }
    for (m, sums) in sums.iter().enumerate() {
        for (n, sum) in sums.iter().enumerate() {
            // SAFETY: M rows of N x 16 columns lie within `out`.
            unsafe { _mm512_storeu_si512(out.add(m * pitch + n * LANES).cast(), *sum) };
        }
    }
    M
}

/// # Safety
/// The CPU has the features; the lengths fit, as `Kernel::multiply_float` asserts.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn multiply_float(a: Strided<'_>, rows: usize, depth: usize, b: &[f32], out: &mut [f32]) {
    let columns = b.len() / depth;
    let mut first = 0;
    while first < columns {
        let width = PANEL.min(columns - first);
        let panel = Panel { b: b[first * depth..].as_ptr(), depth, columns };
        let out = out[first..].as_mut_ptr();
        // SAFETY: as the caller's.
        unsafe {
            match width / LANES {
                1 => rows_float::<1>(a, rows, panel, out),
                2 => rows_float::<2>(a, rows, panel, out),
                3 => rows_float::<3>(a, rows, panel, out),
                _ => rows_float::<4>(a, rows, panel, out),
            }
        }
        first += width;
    }
}

#[derive(Clone, Copy)]
struct Panel {
    b: *const f32,
    depth: usize,
    /// Columns of a row of the output.
    columns: usize,
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn rows_float<const N: usize>(a: Strided<'_>, rows: usize, panel: Panel, out: *mut f32) {
    let mut row = 0;
    while row < rows {
        let here = Strided { values: &a.values[row * a.row_stride..], ..a };
        // SAFETY: rows `row..row + taken` exist.
        unsafe {
            let out = out.add(row * panel.columns);
            row += match rows - row {
                1 => tile_float::<1, N>(here, panel, out),
                2 => tile_float::<2, N>(here, panel, out),
                3 => tile_float::<3, N>(here, panel, out),
                4 => tile_float::<4, N>(here, panel, out),
                5 => tile_float::<5, N>(here, panel, out),
                6 | 7 => tile_float::<6, N>(here, panel, out),
                _ if N > 2 => tile_float::<6, N>(here, panel, out),
                8..12 => tile_float::<8, N>(here, panel, out),
                _ => tile_float::<12, N>(here, panel, out),
            };
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn tile_float<const M: usize, const N: usize>(a: Strided<'_>, panel: Panel, out: *mut f32) -> usize {
    let mut sums = [[_mm512_setzero_ps(); N]; M];
    let values = a.values.as_ptr();
    for k in 0..panel.depth {
        // SAFETY: within the panel, and within the strided rows.
        unsafe {
            let b = panel.b.add(k * N * LANES);
            let mut columns = [_mm512_setzero_ps(); N];
            for (n, column) in columns.iter_mut().enumerate() {
                *column = _mm512_loadu_ps(b.add(n * LANES));
            }
            for (m, sums) in sums.iter_mut().enumerate() {
                let one = _mm512_set1_ps(*values.add(m * a.row_stride + k * a.depth_stride));
                for (sum, column) in sums.iter_mut().zip(&columns) {
                    *sum = _mm512_fmadd_ps(one, *column, *sum);
                }
            }
        }
    }
    for (m, sums) in sums.iter().enumerate() {
        for (n, sum) in sums.iter().enumerate() {
            // SAFETY: M rows of N x 16 columns lie within `out`.
            unsafe { _mm512_storeu_ps(out.add(m * panel.columns + n * LANES), *sum) };
        }
    }
    M
}

/// # Safety
/// The CPU has the features; `b` holds `used` times `depth` elements, `stride` apart, `panel` `depth` rows of `width`, a
/// multiple of 16 and at least `used`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn transpose_float(
    b: &[f32],
    used: usize,
    depth: usize,
    stride: usize,
    width: usize,
    panel: &mut [f32],
) {
    for first in (0..width).step_by(LANES) {
        for k in (0..depth).step_by(LANES) {
            let here = LANES.min(depth - k);
            let mask = (u16::MAX >> (LANES - here)) as __mmask16;
            let mut block = [_mm512_setzero_ps(); LANES];
            for (i, column) in block.iter_mut().enumerate() {
                let mask = if first + i < used { mask } else { 0 };
                // Past the last column nothing is read.
                let at = (first + i).min(used.saturating_sub(1)) * stride + k;
                // SAFETY: elements `k..k + here` of a column that is one of those used.
                *column = unsafe { _mm512_maskz_loadu_ps(mask, b.as_ptr().wrapping_add(at)) };
            }
            let rows = transposed(block);
            // SAFETY: 16 columns of rows `k..k + here` of the panel.
            unsafe {
                let to = panel.as_mut_ptr().add(k * width + first);
                if here == LANES {
                    for (i, row) in rows.into_iter().enumerate() {
                        _mm512_storeu_ps(to.add(i * width), row);
                    }
                } else {
                    for (i, row) in rows.into_iter().enumerate().take(here) {
                        _mm512_storeu_ps(to.add(i * width), row);
                    }
                }
            }
        }
    }
}

/// Sixteen rows become sixteen columns.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(rows: [__m512; LANES]) -> [__m512; LANES] {
    let mut pairs = rows;
    for i in (0..LANES).step_by(2) {
        pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
    }
    // In each quarter of `fours[4 i + j]`: element j of that quarter, of rows 4 i to 4 i + 3.
    let mut fours = pairs;
    for i in (0..LANES).step_by(4) {
        for j in 0..2 {
            let (upper, lower) = (_mm512_castps_pd(pairs[i + j]), _mm512_castps_pd(pairs[i + j + 2]));
            fours[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(upper, lower));
            fours[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(upper, lower));
        }
    }
    let mut out = fours;
    for j in 0..4 {
        let even = _mm512_shuffle_f32x4::<0b10_00_10_00>(fours[j], fours[4 + j]);
        let odd = _mm512_shuffle_f32x4::<0b11_01_11_01>(fours[j], fours[4 + j]);
        let even_below = _mm512_shuffle_f32x4::<0b10_00_10_00>(fours[8 + j], fours[12 + j]);
        let odd_below = _mm512_shuffle_f32x4::<0b11_01_11_01>(fours[8 + j], fours[12 + j]);
        out[j] = _mm512_shuffle_f32x4::<0b10_00_10_00>(even, even_below);
        out[8 + j] = _mm512_shuffle_f32x4::<0b11_01_11_01>(even, even_below);
        out[4 + j] = _mm512_shuffle_f32x4::<0b10_00_10_00>(odd, odd_below);
        out[12 + j] = _mm512_shuffle_f32x4::<0b11_01_11_01>(odd, odd_below);
    }
    out
}

/// Signed bytes of one register.
const BYTES: usize = 64;
/// Rows whose sums fill one register.
const BLOCK: usize = 16;

/// Products of a row of signed bytes with others of the same length.
///
/// The instruction multiplies unsigned by signed bytes: the rows are shifted by 128, and 128 times the query's sum is subtracted.
///
/// # Safety
/// The CPU has the features; `rows` has `query.len()` bytes for each element of `out`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn dot_rows(query: &[i8], rows: &[i8], out: &mut [i32]) {
    let depth = query.len();
    let shift = 128 * query.iter().map(|&number| i32::from(number)).sum::<i32>();
    let (blocks, rest) = out.as_chunks_mut::<BLOCK>();
    let blocked = blocks.len() * BLOCK;
    for (block, out) in blocks.iter_mut().enumerate() {
        // SAFETY: rows `block * BLOCK + row` lie within `rows`.
        let four = |row: usize| unsafe {
            let from = rows.as_ptr().add((block * BLOCK + row) * depth);
            let [a, b, c, d] = [0, 1, 2, 3].map(|row| row_sums(query, from.add(row * depth)));
            add_quads(add_pairs(a, b), add_pairs(c, d))
        };
        let [a, b, c, d] = [four(0), four(4), four(8), four(12)];
        let sums = _mm512_sub_epi32(add_quarters(add_quarters(a, b), add_quarters(c, d)), _mm512_set1_epi32(shift));
        // SAFETY: a block has as many elements as the register.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), sums) };
    }
    for (row, out) in rest.iter_mut().enumerate() {
        // SAFETY: the row lies within `rows`.
        let sums = unsafe { row_sums(query, rows.as_ptr().add((blocked + row) * depth)) };
        *out = _mm512_reduce_add_epi32(sums) - shift;
    }
}

/// Sixteen sums, which add up to the product of the query with a shifted row of its length.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn row_sums(query: &[i8], row: *const i8) -> __m512i {
    let sign = _mm512_set1_epi8(i8::MIN);
    let mut sums = _mm512_setzero_si512();
    let (whole, rest) = query.as_chunks::<BYTES>();
    for (word, query) in whole.iter().enumerate() {
        // SAFETY: the row is as long as the query; the reads need no alignment.
        unsafe {
            let row = _mm512_xor_si512(_mm512_loadu_si512(row.add(word * BYTES).cast()), sign);
            sums = _mm512_dpbusd_epi32(sums, row, _mm512_loadu_si512(query.as_ptr().cast()));
        }
    }
    if !rest.is_empty() {
        let mask = (1 << rest.len()) - 1;
        // SAFETY: the mask ends with the query and the row; past it the query is 0.
        unsafe {
            let row = _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, row.add(whole.len() * BYTES)), sign);
            sums = _mm512_dpbusd_epi32(sums, row, _mm512_maskz_loadu_epi8(mask, rest.as_ptr()));
        }
    }
    sums
}

/// Adds the even to the odd elements of two registers, which interleave in the result.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_pairs(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b))
}

/// Adds the halves of each quarter of two registers; each quarter of the result has two elements of either.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_quads(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b))
}

/// Adds the even to the odd quarters of two registers, those of the first before those of the second.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_quarters(a: __m512i, b: __m512i) -> __m512i {
    let even = _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b);
    _mm512_add_epi32(even, _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b))
}
