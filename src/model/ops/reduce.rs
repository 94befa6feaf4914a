//! Sums, maxima, softmax and layer norm.

use super::{Odometer, dense_strides};
use crate::model::plan::Reduction;

/// Keeps the reduced axes with length 1. `shape` is the input's.
#[inline(always)]
pub fn reduce(by: Reduction, strides: &[usize], shape: &[usize], count: f32, x: &[f32], out: &mut [f32]) {
    let (start, combine): (f32, fn(f32, f32) -> f32) = match by {
        Reduction::Sum => (0.0, |a, b| a + b),
        Reduction::Max => (f32::NEG_INFINITY, f32::max),
        Reduction::Min => (f32::INFINITY, f32::min),
        Reduction::MeanOfSquares => (0.0, |a, b| a + b * b),
    };
    // Only trailing axes: one run of neighbours per result.
    let run = x.len() / out.len().max(1);
    let trailing = strides.iter().zip(shape).skip_while(|(s, len)| **s != 0 || **len == 1);
    if trailing.clone().all(|(s, len)| *s == 0 || *len == 1) {
        for (out, x) in out.iter_mut().zip(x.chunks_exact(run.max(1))) {
            *out = match by {
                Reduction::Sum => sum_of(x, |x| x),
                Reduction::MeanOfSquares => sum_of(x, |x| x * x),
                _ => x.iter().fold(start, |a, b| combine(a, *b)),
            };
        }
    } else {
        out.fill(start);
        let mut odometer = Odometer::new(shape, [strides]);
        for x in x {
            let out = &mut out[odometer.at[0]];
            *out = combine(*out, *x);
            odometer.advance();
        }
    }
    if by == Reduction::MeanOfSquares {
        out.iter_mut().for_each(|o| *o /= count);
    }
}

/// Where each element of the input goes: the strides of the output, 0 on the reduced axes; and how many go to each.
pub fn reduction_strides(shape: &[usize], axes: &[usize]) -> (Vec<usize>, usize) {
    let kept: Vec<usize> = shape.iter().enumerate().map(|(i, d)| if axes.contains(&i) { 1 } else { *d }).collect();
    let mut strides = dense_strides(&kept);
    axes.iter().for_each(|a| strides[*a] = 0);
    (strides, axes.iter().map(|a| shape[*a]).product())
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
            out.iter_mut().zip(x).for_each(|(o, x)| *o = super::elementwise::exp(x - max));
            let factor = 1.0 / sum_of(out, |x| x);
            out.iter_mut().for_each(|o| *o *= factor);
        } else {
            for i in 0..stride {
                let max = x[i..].iter().step_by(stride).copied().fold(f32::NEG_INFINITY, f32::max);
                let mut sum = 0.0;
                for (o, x) in out[i..].iter_mut().step_by(stride).zip(x[i..].iter().step_by(stride)) {
                    *o = super::elementwise::exp(x - max);
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
