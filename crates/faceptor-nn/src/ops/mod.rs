//! The operators, over slices: each a plain function of its inputs, with no memory of its own.

pub mod attention;
pub mod best_class;
pub mod depthwise;
pub mod elementwise;
pub mod matmul;
pub mod movement;
pub mod product;
pub mod reduce;
pub mod sample;

/// The elements of a value.
#[derive(Debug, Clone, Copy)]
pub enum Data<'a> {
    F32(&'a [f32]),
    U8(&'a [u8]),
    I8(&'a [i8]),
}

impl<'a> Data<'a> {
    /// Its float elements; empty if it has others, which the plan's check excludes.
    pub fn floats(self) -> &'a [f32] {
        if let Data::F32(values) = self { values } else { &[] }
    }

    /// Its unsigned elements; empty if it has others.
    pub fn bytes(self) -> &'a [u8] {
        if let Data::U8(values) = self { values } else { &[] }
    }

    /// Its signed elements; empty if it has others.
    pub fn weights(self) -> &'a [i8] {
        if let Data::I8(values) = self { values } else { &[] }
    }
}

/// Most axes that a value may have.
pub const MAX_RANK: usize = 8;

/// An index and its offset in up to two tensors, counted up in row-major order without allocating.
#[derive(Debug, Clone)]
pub struct Odometer<const TENSORS: usize> {
    shape: [usize; MAX_RANK],
    strides: [[usize; MAX_RANK]; TENSORS],
    index: [usize; MAX_RANK],
    rank: usize,
    /// Where the index points in each tensor.
    pub at: [usize; TENSORS],
}

impl<const TENSORS: usize> Odometer<TENSORS> {
    /// Walks `shape`, which has at most [`MAX_RANK`] axes.
    pub fn new(shape: &[usize], strides: [&[usize]; TENSORS]) -> Self {
        let rank = shape.len().min(MAX_RANK);
        let fill = |from: &[usize]| {
            let mut to = [0; MAX_RANK];
            to[..rank].copy_from_slice(&from[..rank]);
            to
        };
        Odometer { shape: fill(shape), strides: strides.map(fill), index: [0; MAX_RANK], rank, at: [0; TENSORS] }
    }

    /// One step on; starts over after the last.
    #[inline(always)]
    pub fn advance(&mut self) {
        for axis in (0..self.rank).rev() {
            self.index[axis] += 1;
            for (at, strides) in self.at.iter_mut().zip(&self.strides) {
                *at += strides[axis];
            }
            if self.index[axis] < self.shape[axis] {
                return;
            }
            self.index[axis] = 0;
            for (at, strides) in self.at.iter_mut().zip(&self.strides) {
                *at -= strides[axis] * self.shape[axis];
            }
        }
    }
}

/// Strides of a dense row-major shape, 0 on axes of length 1 that `out` repeats, for the axes of `out`.
pub fn broadcast_strides(shape: &[usize], out: &[usize]) -> Vec<usize> {
    let mut strides = vec![0; out.len()];
    let mut stride = 1;
    for (axis, len) in shape.iter().enumerate().rev() {
        let target = axis + out.len() - shape.len();
        if *len != 1 {
            strides[target] = stride;
        }
        stride *= len;
    }
    strides
}

/// Strides of a dense row-major shape.
pub fn dense_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Joins neighbouring axes that follow each other in every tensor, and drops axes of length 1.
pub fn collapse<const TENSORS: usize>(
    shape: &[usize],
    strides: [Vec<usize>; TENSORS],
) -> (Vec<usize>, [Vec<usize>; TENSORS]) {
    let mut out_shape: Vec<usize> = Vec::new();
    let mut out: [Vec<usize>; TENSORS] = std::array::from_fn(|_| Vec::new());
    for (axis, len) in shape.iter().copied().enumerate().filter(|(_, len)| *len != 1) {
        let joins =
            !out_shape.is_empty() && (0..TENSORS).all(|t| out[t].last().copied() == Some(strides[t][axis] * len));
        if joins {
            if let Some(last) = out_shape.last_mut() {
                *last *= len;
            }
            for t in 0..TENSORS {
                if let Some(last) = out[t].last_mut() {
                    *last = strides[t][axis];
                }
            }
        } else {
            out_shape.push(len);
            for t in 0..TENSORS {
                out[t].push(strides[t][axis]);
            }
        }
    }
    if out_shape.is_empty() {
        out_shape.push(1);
        out.iter_mut().for_each(|s| s.push(0));
    }
    (out_shape, out)
}
