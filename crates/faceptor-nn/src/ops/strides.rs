//! Strides of tensors, and walks over them.

/// The most axes that a value may have.
pub(crate) const MAX_RANK: usize = 8;

/// An index that counts up in row-major order without allocating, and its offset in some tensors.
#[derive(Debug, Clone)]
pub(crate) struct Odometer<const TENSORS: usize> {
    shape: [usize; MAX_RANK],
    strides: [[usize; MAX_RANK]; TENSORS],
    index: [usize; MAX_RANK],
    rank: usize,
    /// The offset of the index in each tensor.
    pub(crate) at: [usize; TENSORS],
}

impl<const TENSORS: usize> Odometer<TENSORS> {
    /// Starts at the first index of `shape`, which has at most [`MAX_RANK`] axes.
    pub(crate) fn new(shape: &[usize], strides: [&[usize]; TENSORS]) -> Self {
        let rank = shape.len().min(MAX_RANK);
        let fill = |from: &[usize]| {
            let mut to = [0; MAX_RANK];
            to[..rank].copy_from_slice(&from[..rank]);
            to
        };
        Odometer { shape: fill(shape), strides: strides.map(fill), index: [0; MAX_RANK], rank, at: [0; TENSORS] }
    }

    /// Moves on to the next index; after the last to the first.
    #[inline(always)]
    pub(crate) fn advance(&mut self) {
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

/// Returns strides of a dense row-major shape for the axes of `out`: 0 on axes of length 1 that `out` repeats.
pub(crate) fn broadcast_strides(shape: &[usize], out: &[usize]) -> Vec<usize> {
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

/// Returns the strides of a dense row-major shape.
pub(crate) fn dense_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Joins neighbouring axes that follow each other in every tensor, and drops axes of length 1.
pub(crate) fn collapse<const TENSORS: usize>(
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

/// Returns whether `from` can be broadcast to `to` from the right.
pub(crate) fn broadcasts(from: &[usize], to: &[usize]) -> bool {
    from.len() <= to.len() && {
        let skipped = to.len() - from.len();
        from.iter().zip(&to[skipped..]).all(|(a, b)| a == b || *a == 1)
    }
}

/// Returns whether two shapes differ on the given axis at most.
pub(crate) fn agree_but_for(axis: usize, a: &[usize], b: &[usize]) -> bool {
    a.len() == b.len() && a.iter().zip(b).enumerate().all(|(i, (a, b))| i == axis || a == b)
}
