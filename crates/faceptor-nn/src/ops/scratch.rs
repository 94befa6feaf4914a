//! Buffers that the steps of an engine share while they run.

/// Buffers that are grown while steps are prepared; each thread has its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scratch {
    pub(crate) bytes: Vec<u8>,
    /// An image of 8 bit activations as a kernel of signed bytes reads it.
    pub(crate) shifted: Vec<u8>,
    pub(crate) sums: Vec<i32>,
    pub(crate) floats: Vec<f32>,
    pub(crate) results: Vec<f32>,
    /// The zero point's share of each column's sum.
    pub(crate) offsets: Vec<i32>,
}

impl Scratch {
    /// Grows the buffers of a packed float32 factor and of float32 results.
    pub(crate) fn reserve_float(&mut self, [packed, results]: [usize; 2]) {
        grow(&mut self.floats, packed);
        grow(&mut self.results, results);
    }

    /// Grows the buffers of gathered and of shifted 8 bit activations, of their sums, and of the columns' offsets.
    pub(crate) fn reserve_int8(&mut self, [gathered, shifted, sums, offsets]: [usize; 4]) {
        grow(&mut self.bytes, gathered);
        grow(&mut self.shifted, shifted);
        grow(&mut self.sums, sums);
        grow(&mut self.offsets, offsets);
    }

    /// Returns the size of all buffers, bytes.
    pub(crate) fn len_bytes(&self) -> usize {
        let words = self.floats.len() + self.results.len() + self.offsets.len() + self.sums.len();
        self.bytes.len() + self.shifted.len() + words * 4
    }
}

fn grow<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
}
