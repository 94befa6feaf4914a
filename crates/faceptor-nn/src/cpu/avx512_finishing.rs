//! AVX-512: sums of integer products become results, sixteen columns at a time, while they are in the nearest cache.

use std::arch::x86_64::*;
use std::ptr::null_mut;

use crate::cpu::avx512::{LANES, PANEL, panel_int8};
use crate::cpu::finishing::{Finishing, ResidualRows};
use crate::cpu::packed::PackedInt8;

/// Rows whose sums with one panel of weights are finished at once: 6 KB.
const ROWS: usize = 24;

/// # Safety
/// The CPU has the features; `a` has `rows` rows of `depth_padded`, `sums` as many of `columns_padded`, and the slices of
/// `finishing` a row or `rows` rows of as many columns as it has offsets.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn product_int8(
    a: &[u8],
    rows: usize,
    weights: &PackedInt8,
    sums: &mut [i32],
    finishing: &mut Finishing<'_>,
) {
    for panel in (0..weights.columns_padded()).step_by(PANEL) {
        let width = PANEL.min(weights.columns_padded() - panel);
        for first in (0..rows).step_by(ROWS) {
            let here = ROWS.min(rows - first);
            // SAFETY: `first + here` rows exist; the sums hold `here` rows of a panel, which is no wider than all columns.
            unsafe {
                let a = a.as_ptr().add(first * weights.depth_padded());
                panel_int8(a, here, weights, panel, sums.as_mut_ptr(), width);
                finish_rows(sums.as_ptr(), [here, width], [first, panel], finishing);
            }
        }
    }
}

/// Finishes the sums of some rows of a panel, see `finish`.
///
/// # Safety
/// The CPU has the features; `sums` has `rows` rows of `width`, a whole number of registers, and the slices of `finishing` a row
/// or `first + rows` rows of as many columns as it has offsets.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn finish_rows(
    sums: *const i32,
    rows_and_width: [usize; 2],
    first_and_panel: [usize; 2],
    finishing: &mut Finishing<'_>,
) {
    // SAFETY: as the caller's.
    unsafe {
        match finishing.residual {
            ResidualRows::Nothing => finish::<0>(sums, rows_and_width, first_and_panel, finishing),
            ResidualRows::Floats(_) => finish::<1>(sums, rows_and_width, first_and_panel, finishing),
            ResidualRows::Bytes { .. } => finish::<2>(sums, rows_and_width, first_and_panel, finishing),
        }
    }
}

/// Finishes the sums of `rows` rows of `width` columns, of which the first is row `first` and column `panel` of the results.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn finish<const RESIDUAL: u8>(
    sums: *const i32,
    [rows, width]: [usize; 2],
    [first, panel]: [usize; 2],
    finishing: &mut Finishing<'_>,
) {
    let columns = finishing.offsets.len();
    let [first_floor, second_floor] = finishing.floors.map(|floor| _mm512_set1_ps(floor));
    let (floats_added, bytes_added, from, scale_added) = match finishing.residual {
        ResidualRows::Nothing => (null_mut::<f32>().cast_const(), null_mut::<u8>().cast_const(), 0, 0.0),
        ResidualRows::Floats(values) => (values.as_ptr(), null_mut::<u8>().cast_const(), 0, 0.0),
        ResidualRows::Bytes { values, zero_point, scale } => {
            (null_mut::<f32>().cast_const(), values.as_ptr(), zero_point, scale)
        }
    };
    let (from, scale_added) = (_mm512_set1_epi32(from), _mm512_set1_ps(scale_added));
    let floats = finishing.floats.as_mut().map_or(null_mut(), |floats| floats.as_mut_ptr());
    let (bytes, to) = match &mut finishing.bytes {
        Some((bytes, to)) => (bytes.as_mut_ptr(), Some(*to)),
        None => (null_mut(), None),
    };
    let [factor, low, high] = to.map_or([0.0; 3], |to| [to.factor, to.low, to.high]).map(|x| _mm512_set1_ps(x));
    let zero_point = _mm512_set1_epi32(to.map_or(0, |to| to.zero_point()));
    for column in (panel..columns.min(panel + width)).step_by(LANES) {
        let mask = (u16::MAX >> (LANES - LANES.min(columns - column))) as __mmask16;
        // SAFETY: the mask ends with the last column, and rows and columns lie within the slices, see `product_int8`.
        unsafe {
            let offsets = _mm512_maskz_loadu_epi32(mask, finishing.offsets.as_ptr().add(column));
            let scale = _mm512_maskz_loadu_ps(mask, finishing.scale.as_ptr().add(column));
            let bias = _mm512_maskz_loadu_ps(mask, finishing.bias.as_ptr().add(column));
            for row in 0..rows {
                let at = (first + row) * columns + column;
                let sum = _mm512_loadu_si512(sums.add(row * width + column - panel).cast());
                let value = _mm512_cvtepi32_ps(_mm512_sub_epi32(sum, offsets));
                // Not fused: every family rounds twice. If the value is no number, the second operand is the result.
                let value = _mm512_add_ps(_mm512_mul_ps(value, scale), bias);
                let value = _mm512_max_ps(first_floor, value);
                let value = match RESIDUAL {
                    0 => value,
                    1 => _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, floats_added.add(at))),
                    _ => {
                        let added = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, bytes_added.add(at).cast()));
                        let added = _mm512_cvtepi32_ps(_mm512_sub_epi32(added, from));
                        _mm512_add_ps(value, _mm512_mul_ps(added, scale_added))
                    }
                };
                let value = _mm512_max_ps(second_floor, value);
                if !floats.is_null() {
                    _mm512_mask_storeu_ps(floats.add(at), mask, value);
                }
                if !bytes.is_null() {
                    let value = _mm512_min_ps(_mm512_max_ps(_mm512_mul_ps(value, factor), low), high);
                    // Rounds half to even.
                    let whole = _mm512_add_epi32(_mm512_cvtps_epi32(value), zero_point);
                    _mm512_mask_cvtepi32_storeu_epi8(bytes.add(at).cast(), mask, whole);
                }
            }
        }
    }
}
