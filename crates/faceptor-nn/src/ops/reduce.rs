//! Sums, maxima, softmax and layer norm.

use crate::ops::{Odometer, dense_strides};
use crate::plan::Reduction;

/// What a reduction walks: `outer` blocks of `len` rows of `inner` elements, each block becoming one row.
#[derive(Debug, Clone)]
pub struct Reduced {
    len: usize,
    inner: usize,
    /// Strides of the output over the input's shape, if the reduced axes do not lie side by side.
    scattered: Option<(Vec<usize>, Vec<usize>)>,
    /// Elements that become one.
    count: f32,
}

impl Reduced {
    /// Axes of an input of that shape.
    pub fn new(shape: &[usize], axes: &[usize]) -> Reduced {
        let count = axes.iter().map(|a| shape[*a]).product::<usize>();
        let first = axes.iter().copied().min().unwrap_or(0);
        let last = axes.iter().copied().max().unwrap_or(0);
        let side_by_side = (first..=last).all(|a| axes.contains(&a) || shape[a] == 1);
        let scattered = (!side_by_side).then(|| {
            let kept = shape.iter().enumerate().map(|(i, d)| if axes.contains(&i) { 1 } else { *d });
            let mut strides = dense_strides(&kept.collect::<Vec<_>>());
            axes.iter().for_each(|a| strides[*a] = 0);
            (shape.to_vec(), strides)
        });
        Reduced { len: count, inner: shape[last + 1..].iter().product(), scattered, count: count as f32 }
    }

    #[inline(always)]
    fn run(&self, start: f32, x: &[f32], out: &mut [f32], combine: impl Fn(f32, f32) -> f32) {
        out.fill(start);
        if let Some((shape, strides)) = &self.scattered {
            let mut odometer = Odometer::new(shape, [strides]);
            for x in x {
                let out = &mut out[odometer.at[0]];
                *out = combine(*out, *x);
                odometer.advance();
            }
            return;
        }
        for (x, out) in x.chunks_exact(self.len * self.inner).zip(out.chunks_exact_mut(self.inner)) {
            for x in x.chunks_exact(self.inner) {
                out.iter_mut().zip(x).for_each(|(o, x)| *o = combine(*o, *x));
            }
        }
    }
}

/// Keeps the reduced axes with length 1.
#[inline(always)]
pub fn reduce(by: Reduction, reduced: &Reduced, x: &[f32], out: &mut [f32]) {
    if reduced.inner == 1 && reduced.scattered.is_none() && matches!(by, Reduction::Sum | Reduction::MeanOfSquares) {
        for (out, x) in out.iter_mut().zip(x.chunks_exact(reduced.len)) {
            *out = if by == Reduction::Sum { sum_of(x, |x| x) } else { sum_of(x, |x| x * x) };
        }
    } else {
        match by {
            Reduction::Sum => reduced.run(0.0, x, out, |a, b| a + b),
            Reduction::Max => reduced.run(f32::NEG_INFINITY, x, out, f32::max),
            Reduction::Min => reduced.run(f32::INFINITY, x, out, f32::min),
            Reduction::MeanOfSquares => reduced.run(0.0, x, out, |a, b| a + b * b),
            Reduction::Product => reduced.run(1.0, x, out, |a, b| a * b),
        }
    }
    if by == Reduction::MeanOfSquares {
        out.iter_mut().for_each(|o| *o /= reduced.count);
    }
}

/// A sum in sixteen lanes, which vectorizes and errs less than one after another.
#[inline(always)]
fn sum_of(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; 16];
    let chunks = x.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().map(|x| f(*x)).sum();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(l, x)| *l += f(*x));
    }
    lanes.iter().sum::<f32>() + rest
}

/// Over an axis of `len` elements, `stride` apart.
#[inline(always)]
pub fn softmax(len: usize, stride: usize, x: &[f32], out: &mut [f32]) {
    if len == 0 || stride == 0 {
        return;
    }
    for (x, out) in x.chunks_exact(len * stride).zip(out.chunks_exact_mut(len * stride)) {
        if stride == 1 {
            let mut lanes = [f32::NEG_INFINITY; 16];
            let chunks = x.chunks_exact(16);
            let rest = chunks.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
            chunks.for_each(|c| lanes.iter_mut().zip(c).for_each(|(l, x)| *l = l.max(*x)));
            let max = lanes.iter().copied().fold(rest, f32::max);
            out.iter_mut().zip(x).for_each(|(o, x)| *o = crate::ops::elementwise::exp(x - max));
            let factor = 1.0 / sum_of(out, |x| x);
            out.iter_mut().for_each(|o| *o *= factor);
        } else {
            for i in 0..stride {
                let max = x[i..].iter().step_by(stride).copied().fold(f32::NEG_INFINITY, f32::max);
                let mut sum = 0.0;
                for (o, x) in out[i..].iter_mut().step_by(stride).zip(x[i..].iter().step_by(stride)) {
                    *o = crate::ops::elementwise::exp(x - max);
                    sum += *o;
                }
                out[i..].iter_mut().step_by(stride).for_each(|o| *o /= sum);
            }
        }
    }
}

/// `(x - mean) / sqrt(variance + epsilon) * gain + offset` over rows as long as `gain`.
#[inline(always)]
pub fn layer_norm(epsilon: f32, gain: &[f32], offset: &[f32], x: &[f32], out: &mut [f32]) {
    let len = gain.len().max(1);
    for (x, out) in x.chunks_exact(len).zip(out.chunks_exact_mut(len)) {
        let mean = sum_of(x, |x| x) / len as f32;
        let variance = sum_of(x, |x| (x - mean) * (x - mean)) / len as f32;
        let factor = 1.0 / (variance + epsilon).sqrt();
        for ((out, x), (gain, offset)) in out.iter_mut().zip(x).zip(gain.iter().zip(offset)) {
            *out = (x - mean) * factor * gain + offset;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reduces_any_axes() {
        let x: Vec<f32> = (0..24).map(|i| i as f32).collect();
        let sums = |axes: &[usize], len: usize| {
            let mut out = vec![0.0; len];
            reduce(Reduction::Sum, &Reduced::new(&[2, 3, 4], axes), &x, &mut out);
            out
        };
        assert_eq!(sums(&[2], 6), [6., 22., 38., 54., 70., 86.]);
        assert_eq!(sums(&[1], 8), [12., 15., 18., 21., 48., 51., 54., 57.]);
        assert_eq!(sums(&[0, 2], 3), [60., 92., 124.]);
        assert_eq!(sums(&[1, 2], 2), [66., 210.]);
    }

    #[test]
    fn softmax_over_a_middle_axis_equals_the_last() {
        let x: Vec<f32> = (0..12).map(|i| (i * 7 % 5) as f32).collect();
        let (mut middle, mut last) = ([0.0; 12], [0.0; 12]);
        softmax(3, 2, &x, &mut middle);
        let moved = |v: &[f32]| -> Vec<f32> { (0..12).map(|i| v[i / 6 * 6 + i % 3 * 2 + i / 3 % 2]).collect() };
        softmax(3, 1, &moved(&x), &mut last);
        assert!(moved(&middle).iter().zip(last).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}
