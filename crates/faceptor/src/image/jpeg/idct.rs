//! The inverse cosine transform of an 8 x 8 block, with the integer arithmetic of libjpeg's accurate method ("islow"), so
//! that the pixels are the same.

/// Bits of the fractions of the constants.
const FRACTION: u32 = 13;
/// Additional bits kept between the two passes.
const KEPT: u32 = 2;

/// Eight rows or columns of eight values: the passes work on all eight columns at once, which compilers turn into vector
/// instructions.
type Lanes<T> = [[T; 8]; 8];

/// Transforms one dimension of eight vectors: `x[k][lane]` to values scaled by 2^13 x sqrt(8), rounded and divided by 2^`BITS`.
/// Loeffler, Ligtenberg and Moschytz (1989). Inputs beyond `N` are zero.
#[inline(always)]
fn transform<const N: usize, const BITS: u32>(x: &Lanes<i16>) -> Lanes<i16> {
    let mut out = [[0; 8]; 8];
    for lane in 0..8 {
        let x = |k: usize| if k < N { x[k][lane] } else { 0 };
        // 16 bits hold the inputs and sums of two of any picture; others wrap. The products are of 32 bits.
        let times = |value: i16, factor: i16| i32::from(value) * i32::from(factor);
        // Even part.
        let z = times(x(2).wrapping_add(x(6)), 4433);
        let two = z + times(x(6), -15137);
        let three = z + times(x(2), 6270);
        let zero = i32::from(x(0).wrapping_add(x(4))) << FRACTION;
        let one = i32::from(x(0).wrapping_sub(x(4))) << FRACTION;
        // Odd part.
        let z1 = times(x(7).wrapping_add(x(1)), -7373);
        let z2 = times(x(5).wrapping_add(x(3)), -20995);
        let (a, b) = (x(7).wrapping_add(x(3)), x(5).wrapping_add(x(1)));
        let z5 = times(a, 9633).wrapping_add(times(b, 9633));
        let z3 = z5.wrapping_add(times(a, -16069));
        let z4 = z5.wrapping_add(times(b, -3196));
        let odd = [
            times(x(1), 12299).wrapping_add(z1).wrapping_add(z4),
            times(x(3), 25172).wrapping_add(z2).wrapping_add(z3),
            times(x(5), 16819).wrapping_add(z2).wrapping_add(z4),
            times(x(7), 2446).wrapping_add(z1).wrapping_add(z3),
        ];
        let even = [zero.wrapping_add(three), one.wrapping_add(two), one.wrapping_sub(two), zero.wrapping_sub(three)];
        for k in 0..4 {
            out[k][lane] = narrow::<BITS>(even[k].wrapping_add(odd[k]));
            out[7 - k][lane] = narrow::<BITS>(even[k].wrapping_sub(odd[k]));
        }
    }
    out
}

/// Divides by 2^`BITS`, rounded, and saturates.
#[inline(always)]
fn narrow<const BITS: u32>(value: i32) -> i16 {
    (value.wrapping_add(1 << (BITS - 1)) >> BITS).clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16
}

/// Exchanges rows and columns.
#[inline(always)]
fn transposed(rows: &Lanes<i16>) -> Lanes<i16> {
    let mut columns = [[0; 8]; 8];
    for (y, row) in rows.iter().enumerate() {
        for (x, &value) in row.iter().enumerate() {
            columns[x][y] = value;
        }
    }
    columns
}

/// Transforms a block of quantized coefficients (row by row) into 8 rows of `out`, `stride` bytes apart. `last` is the
/// index, in zigzag order, of the last coefficient that is not zero.
#[inline]
pub(crate) fn inverse(coefficients: &[i16; 64], quantizers: &[u16; 64], last: usize, out: &mut [u8], stride: usize) {
    if last == 0 {
        let level = i32::from(coefficients[0].wrapping_mul(quantizers[0] as i16)) << KEPT;
        let value = sample(narrow::<{ KEPT + 3 }>(level));
        for row in out.chunks_mut(stride).take(8) {
            if let Some(row) = row.first_chunk_mut::<8>() {
                *row = [value; 8];
            }
        }
    } else if last < 10 {
        // The first ten in zigzag order lie in the first four rows and columns.
        both_passes::<4>(coefficients, quantizers, out, stride);
    } else {
        both_passes::<8>(coefficients, quantizers, out, stride);
    }
}

/// Runs both passes for a block whose coefficients lie in the first `N` rows and columns.
#[inline(always)]
fn both_passes<const N: usize>(coefficients: &[i16; 64], quantizers: &[u16; 64], out: &mut [u8], stride: usize) {
    let mut x = [[0; 8]; 8];
    let stored = coefficients.as_chunks::<8>().0.iter().zip(quantizers.as_chunks::<8>().0);
    for (row, (coefficients, quantizers)) in x.iter_mut().zip(stored).take(N) {
        for (value, (&coefficient, &quantizer)) in row.iter_mut().zip(coefficients.iter().zip(quantizers)) {
            *value = coefficient.wrapping_mul(quantizer as i16);
        }
    }
    let columns = transform::<N, { FRACTION - KEPT }>(&x);
    let rows = transform::<N, { FRACTION + KEPT + 3 }>(&transposed(&columns));
    for (line, row) in out.chunks_mut(stride).zip(transposed(&rows)) {
        if let Some(line) = line.first_chunk_mut::<8>() {
            *line = row.map(sample);
        }
    }
}

#[inline(always)]
fn sample(value: i16) -> u8 {
    value.saturating_add(128).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computes the transform by its definition, in floats.
    fn reference(coefficients: &[i16; 64], quantizers: &[u16; 64]) -> Vec<f64> {
        let c = |k: usize| if k == 0 { 0.5f64.sqrt() } else { 1.0 };
        let angle = |x: usize, k: usize| ((2 * x + 1) as f64 * k as f64 * std::f64::consts::PI / 16.0).cos();
        let pixel = |i: usize| {
            let (y, x) = (i / 8, i % 8);
            let term = |k: usize| {
                let (v, u) = (k / 8, k % 8);
                let value = f64::from(coefficients[k]) * f64::from(quantizers[k]);
                c(u) * c(v) * value * angle(x, u) * angle(y, v)
            };
            ((0..64).map(term).sum::<f64>() / 4.0 + 128.0).clamp(0.0, 255.0)
        };
        (0..64).map(pixel).collect()
    }

    #[test]
    fn blocks_are_those_of_the_definition() {
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as i16 - 128
        };
        for case in 0..300 {
            let mut coefficients = [0i16; 64];
            let (places, last): (Vec<usize>, usize) = match case % 3 {
                0 => (vec![0], 0),
                1 => (vec![0, 1, 8, 16, 9, 2, 3, 10, 17, 24], 9),
                _ => ((0..64).step_by(2).collect(), 63),
            };
            places.iter().for_each(|&place| coefficients[place] = random());
            let quantizers = [7u16; 64];
            let mut out = vec![0; 8 * 11];
            inverse(&coefficients, &quantizers, last, &mut out, 11);
            for (i, expected) in reference(&coefficients, &quantizers).into_iter().enumerate() {
                let seen = f64::from(out[i / 8 * 11 + i % 8]);
                assert!((seen - expected).abs() <= 1.0, "case {case}, pixel {i}: {seen} instead of {expected}");
            }
        }
    }

    #[test]
    fn largest_values_saturate() {
        for value in [i16::MIN, i16::MAX] {
            let mut out = [0; 64];
            for last in [0, 9, 63] {
                inverse(&[value; 64], &[u16::MAX; 64], last, &mut out, 8);
            }
            let mut flat = [0; 64];
            inverse(&[value; 64], &[1; 64], 0, &mut flat, 8);
            assert_eq!(flat, [if value < 0 { 0 } else { 255 }; 64]);
        }
    }
}
