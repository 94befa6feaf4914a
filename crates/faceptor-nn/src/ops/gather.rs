//! Elements moved by strides, unchanged: what transposing, broadcasting and slicing have in common.

use crate::error::Error;
use crate::ops::PreparedOperator;
use crate::ops::context::StepRun;
use crate::ops::strides::{Odometer, broadcast_strides, collapse, dense_strides};
use crate::tensor::Movable;

/// The place in the input of each element of the output, joined to as few axes as possible and walked in an order that stays
/// within the nearest cache.
#[derive(Debug, Clone)]
pub(crate) struct Gather {
    /// The place of the first element.
    start: usize,
    outer: Vec<usize>,
    from: Vec<usize>,
    to: Vec<usize>,
    inner: Axis,
    /// Elements move two by two; all strides are in pairs.
    pairs: bool,
}

/// An axis and its strides in the input and in the output.
#[derive(Debug, Clone, Copy)]
struct Axis {
    len: usize,
    from: usize,
    to: usize,
}

/// Steps of a strided axis that are walked at once: as many cache lines stay near while the next axis goes on.
const TILE: usize = 32;
/// Shorter axes are not worth being walked innermost.
const SHORT: usize = 16;

impl Gather {
    fn new(start: usize, shape: &[usize], strides: Vec<usize>) -> Gather {
        let (lens, [from, to]) = collapse(shape, [strides, dense_strides(shape)]);
        let mut axes: Vec<Axis> = (0..lens.len()).map(|i| Axis { len: lens[i], from: from[i], to: to[i] }).collect();
        let mut start = start;
        let even = |axes: &[Axis]| axes.iter().all(|a| a.from.is_multiple_of(2) && a.to.is_multiple_of(2));
        let mut pairs = false;
        if let [others @ .., Axis { len: 2, from: 1, .. }] = &axes[..]
            && !others.is_empty()
            && start.is_multiple_of(2)
            && even(others)
        {
            pairs = true;
            start /= 2;
            axes.pop();
            axes.iter_mut().for_each(|a| (a.from, a.to) = (a.from / 2, a.to / 2));
        }
        let mut inner = axes.pop().unwrap_or(Axis { len: 1, from: 0, to: 1 });
        if inner.from > 1 {
            let dense = axes.iter().position(|a| a.from == 1 && inner.len < SHORT && a.len >= SHORT);
            if let Some(other) = dense {
                // A few elements from far apart, such as the channels of an image: one long row after another is faster.
                std::mem::swap(&mut inner, &mut axes[other]);
            } else if let Some(len) = (SHORT..=TILE).rev().find(|n| inner.len > TILE && inner.len.is_multiple_of(*n)) {
                axes.push(Axis { len: inner.len / len, from: inner.from * len, to: inner.to * len });
                inner.len = len;
            }
            axes.sort_by_key(|a| std::cmp::Reverse(a.from));
        }
        let each = |f: fn(&Axis) -> usize| axes.iter().map(f).collect();
        Gather { start, outer: each(|a| a.len), from: each(|a| a.from), to: each(|a| a.to), inner, pairs }
    }

    /// Makes output axis `i` of input axis `order[i]`.
    pub(crate) fn transpose(input: &[usize], order: &[usize]) -> Gather {
        let strides = dense_strides(input);
        let shape: Vec<usize> = order.iter().map(|i| input[*i]).collect();
        Gather::new(0, &shape, order.iter().map(|i| strides[*i]).collect())
    }

    /// Repeats axes of length 1.
    pub(crate) fn broadcast(input: &[usize], out: &[usize]) -> Gather {
        Gather::new(0, out, broadcast_strides(input, out))
    }

    /// Takes every `step`th index of an axis, from `start` on.
    pub(crate) fn sample(input: &[usize], out: &[usize], axis: usize, start: usize, step: usize) -> Gather {
        let mut strides = dense_strides(input);
        let first = strides[axis] * start;
        strides[axis] *= step;
        Gather::new(first, out, strides)
    }

    /// Moves the elements.
    #[inline(always)]
    pub(crate) fn run<T: bytemuck::Pod>(&self, x: &[T], out: &mut [T]) {
        if !self.pairs {
            return self.walk(x, out);
        }
        let whole = x.len() / 2 * 2;
        // Pairs have the alignment of their elements, and the output has an even number of them.
        self.walk::<[T; 2]>(bytemuck::cast_slice(&x[..whole]), bytemuck::cast_slice_mut(out));
    }

    #[inline(always)]
    fn walk<T: Copy>(&self, x: &[T], out: &mut [T]) {
        let Axis { len, from, to } = self.inner;
        let mut odometer = Odometer::new(&self.outer, [&self.from, &self.to]);
        for _ in 0..self.outer.iter().product() {
            let x = &x[self.start + odometer.at[0]..];
            let out = &mut out[odometer.at[1]..];
            match (from, to) {
                (1, 1) => out[..len].copy_from_slice(&x[..len]),
                (0, 1) => out[..len].fill(x[0]),
                (_, 1) => out[..len].iter_mut().zip(x.iter().step_by(from)).for_each(|(o, x)| *o = *x),
                (1, _) => out.iter_mut().step_by(to).zip(&x[..len]).for_each(|(o, x)| *o = *x),
                _ => (0..len).for_each(|i| out[i * to] = x[i * from]),
            }
            odometer.advance();
        }
    }
}

impl PreparedOperator for Gather {
    fn run(&self, step: &mut StepRun<'_>) -> Result<(), Error> {
        match step.inputs.get(0)?.movable() {
            Movable::Floats(x) => Gather::run(self, x, step.outputs.floats()?),
            Movable::Bytes(x) => Gather::run(self, x, step.outputs.bytes()?),
        }
        Ok(())
    }
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
    fn moves_every_element_of_any_shape() {
        for shape in [[7, 48, 3, 2], [1, 64, 24, 24], [24, 24, 64, 2], [3, 96, 1, 5], [2, 3, 40, 4], [66, 2, 5, 1]] {
            let len = shape.iter().product::<usize>();
            let x: Vec<u32> = (0..len as u32).collect();
            for order in [[0, 2, 3, 1], [0, 3, 1, 2], [3, 2, 1, 0], [1, 0, 2, 3], [2, 0, 1, 3], [1, 3, 0, 2]] {
                let mut out = vec![u32::MAX; len];
                Gather::transpose(&shape, &order).run(&x, &mut out);
                let from = dense_strides(&shape);
                let to = dense_strides(&order.map(|axis| shape[axis]));
                for (i, found) in out.iter().enumerate() {
                    let at: usize = (0..4).map(|a| i / to[a] % shape[order[a]] * from[order[a]]).sum();
                    assert_eq!(*found, at as u32, "{shape:?} {order:?}");
                }
            }
        }
    }

    #[test]
    fn samples_and_repeats() {
        let x: Vec<u8> = (0..24).collect();
        let mut out = [0; 12];
        Gather::sample(&[3, 8], &[3, 4], 1, 1, 2).run(&x, &mut out);
        assert_eq!(out, [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23]);
        let mut out = [0; 12];
        Gather::broadcast(&[3, 1, 2], &[3, 2, 2]).run(&x[..6], &mut out);
        assert_eq!(out, [0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 4, 5]);
    }
}
