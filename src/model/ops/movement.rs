//! Elements to other places, unchanged.

use super::{Odometer, broadcast_strides, collapse, dense_strides};

/// Where each element of the output comes from, joined to as few axes as possible.
#[derive(Debug, Clone)]
pub struct Gather {
    /// Of the first element.
    start: usize,
    outer: Vec<usize>,
    outer_strides: Vec<usize>,
    inner: usize,
    inner_stride: usize,
}

impl Gather {
    fn new(shape: &[usize], strides: Vec<usize>) -> Gather {
        let (mut outer, [mut outer_strides]) = collapse(shape, [strides]);
        let inner = outer.pop().unwrap_or(1);
        let inner_stride = outer_strides.pop().unwrap_or(0);
        Gather { start: 0, outer, outer_strides, inner, inner_stride }
    }

    /// Output axis `i` is input axis `order[i]`.
    pub fn transpose(input: &[usize], order: &[usize]) -> Gather {
        let strides = dense_strides(input);
        let shape: Vec<usize> = order.iter().map(|i| input[*i]).collect();
        Gather::new(&shape, order.iter().map(|i| strides[*i]).collect())
    }

    /// Axes of length 1 repeated.
    pub fn broadcast(input: &[usize], out: &[usize]) -> Gather {
        Gather::new(out, broadcast_strides(input, out))
    }

    /// Every `step`th index of an axis, from `start` on.
    pub fn sample(input: &[usize], out: &[usize], axis: usize, start: usize, step: usize) -> Gather {
        let mut strides = dense_strides(input);
        let first = strides[axis] * start;
        strides[axis] *= step;
        Gather { start: first, ..Gather::new(out, strides) }
    }

    #[inline(always)]
    pub fn run<T: Copy>(&self, x: &[T], out: &mut [T]) {
        let mut odometer = Odometer::new(&self.outer, [&self.outer_strides]);
        for out in out.chunks_exact_mut(self.inner) {
            let x = &x[self.start + odometer.at[0]..];
            match self.inner_stride {
                1 => out.copy_from_slice(&x[..self.inner]),
                0 => out.fill(x[0]),
                stride => out.iter_mut().zip(x.iter().step_by(stride)).for_each(|(o, x)| *o = *x),
            }
            odometer.advance();
        }
    }
}

/// Copies one input of a concatenation into its place: rows of `run` elements, every `pitch` elements from `start`.
pub fn place<T: Copy>(x: &[T], run: usize, start: usize, pitch: usize, out: &mut [T]) {
    if run == 0 || pitch == 0 {
        return;
    }
    for (x, out) in x.chunks_exact(run).zip(out.chunks_exact_mut(pitch)) {
        out[start..start + run].copy_from_slice(x);
    }
}

/// The reverse: rows of `run` elements, taken every `pitch` elements from `start`.
pub fn take<T: Copy>(x: &[T], run: usize, start: usize, pitch: usize, out: &mut [T]) {
    if run == 0 || pitch == 0 {
        return;
    }
    for (x, out) in x.chunks_exact(pitch).zip(out.chunks_exact_mut(run)) {
        out.copy_from_slice(&x[start..start + run]);
    }
}

/// Writes the input into the middle of `out`, at `before` on each axis, and `value` around it.
pub fn pad(shape: &[usize], before: &[usize], out_shape: &[usize], value: f32, x: &[f32], out: &mut [f32]) {
    out.fill(value);
    let strides = dense_strides_array(out_shape);
    let start: usize = before.iter().zip(&strides).map(|(b, s)| b * s).sum();
    let Some((&run, outer)) = shape.split_last() else {
        out.copy_from_slice(x);
        return;
    };
    if run == 0 {
        return;
    }
    let mut odometer = Odometer::new(outer, [&strides[..outer.len()]]);
    for x in x.chunks_exact(run) {
        let at = start + odometer.at[0];
        out[at..at + run].copy_from_slice(x);
        odometer.advance();
    }
}

fn dense_strides_array(shape: &[usize]) -> [usize; super::MAX_RANK] {
    let mut strides = [1; super::MAX_RANK];
    for axis in (1..shape.len().min(super::MAX_RANK)).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposes() {
        let gather = Gather::transpose(&[2, 3, 2], &[2, 0, 1]);
        let x: Vec<u8> = (0..12).collect();
        let mut out = [0; 12];
        gather.run(&x, &mut out);
        assert_eq!(out, [0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11]);
    }

    #[test]
    fn pads_on_both_sides() {
        let mut out = [0.0; 12];
        pad(&[1, 2], &[1, 1], &[3, 4], 9.0, &[1.0, 2.0], &mut out);
        assert_eq!(out, [9., 9., 9., 9., 9., 1., 2., 9., 9., 9., 9., 9.]);
    }
}
