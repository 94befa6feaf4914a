//! Indices of one axis that are made of a few others: resizing, pooling, gathering, padding by repetition.

use crate::plan::{Combine, Sample};

/// What a sample walks: `len` rows of `inner` elements become one row for each index of the output.
#[derive(Debug, Clone)]
pub struct Sampled {
    op: Sample,
    len: usize,
    inner: usize,
}

impl Sampled {
    /// For an input of that shape.
    pub fn new(op: &Sample, shape: &[usize]) -> Sampled {
        Sampled { op: op.clone(), len: shape[op.axis], inner: shape[op.axis + 1..].iter().product() }
    }

    /// `weights` has one for each position, or is empty where all are 1.
    #[inline(always)]
    pub fn run(&self, x: &[f32], weights: &[f32], out: &mut [f32]) {
        match self.op.by {
            Combine::Max => self.walk(x, &[], out, f32::max),
            Combine::Sum => self.walk(x, weights, out, |sum, x| sum + x),
        }
    }

    #[inline(always)]
    fn walk(&self, x: &[f32], weights: &[f32], out: &mut [f32], combine: impl Fn(f32, f32) -> f32) {
        let (taps, inner) = (self.op.taps, self.inner);
        let rows = self.op.positions.len() / taps.max(1);
        for (x, out) in x.chunks_exact(self.len * inner).zip(out.chunks_exact_mut(rows * inner)) {
            for (row, out) in out.chunks_exact_mut(inner).enumerate() {
                for (tap, position) in self.op.positions[row * taps..][..taps].iter().enumerate() {
                    let x = &x[*position as usize * inner..][..inner];
                    let weight = weights.get(row * taps + tap).copied();
                    match (tap, weight) {
                        (0, None) => out.copy_from_slice(x),
                        (0, Some(weight)) => out.iter_mut().zip(x).for_each(|(o, x)| *o = x * weight),
                        (_, None) => out.iter_mut().zip(x).for_each(|(o, x)| *o = combine(*o, *x)),
                        (_, Some(weight)) => out.iter_mut().zip(x).for_each(|(o, x)| *o = combine(*o, x * weight)),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(axis: usize, taps: usize, by: Combine, positions: &[u32]) -> Sample {
        Sample { axis, taps, by, positions: positions.to_vec() }
    }

    #[test]
    fn resizes_pools_and_gathers() {
        let x: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let mut out = [0.0; 8];
        let op = sample(1, 2, Combine::Sum, &[0, 1, 1, 2]);
        Sampled::new(&op, &[2, 3, 2]).run(&x, &[0.5, 0.5, 0.25, 0.75], &mut out);
        assert_eq!(out, [1.0, 2.0, 3.5, 4.5, 7.0, 8.0, 9.5, 10.5]);
        let op = sample(1, 2, Combine::Max, &[0, 1, 2, 0]);
        Sampled::new(&op, &[2, 3, 2]).run(&x, &[], &mut out);
        assert_eq!(out, [2.0, 3.0, 4.0, 5.0, 8.0, 9.0, 10.0, 11.0]);
        let mut out = [0.0; 16];
        Sampled::new(&sample(2, 1, Combine::Sum, &[3, 3, 0, 1]), &[1, 3, 4]).run(&x, &[], &mut out[..12]);
        assert_eq!(out[..12], [3., 3., 0., 1., 7., 7., 4., 5., 11., 11., 8., 9.]);
    }
}
