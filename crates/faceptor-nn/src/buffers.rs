//! The buffers that the values of a network lie in.

/// The place of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Index in the bundle's tensor table.
    Constant(u32),
    /// Slot of a float32 buffer.
    Float(usize),
    /// Slot of a buffer of bytes.
    Byte(usize),
}

/// The buffers.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    pub(crate) floats: Vec<Vec<f32>>,
    pub(crate) bytes: Vec<Vec<u8>>,
}

impl Buffers {
    /// Returns a float32 buffer.
    pub(crate) fn floats(&self, slot: usize) -> &[f32] {
        &self.floats[slot]
    }

    /// Returns a buffer of bytes.
    pub(crate) fn bytes(&self, slot: usize) -> &[u8] {
        &self.bytes[slot]
    }

    /// Returns a float32 buffer to write.
    pub(crate) fn floats_mut(&mut self, slot: usize) -> &mut [f32] {
        &mut self.floats[slot]
    }

    /// Returns a buffer of bytes to write.
    pub(crate) fn bytes_mut(&mut self, slot: usize) -> &mut [u8] {
        &mut self.bytes[slot]
    }

    /// Moves a buffer out while it is written, so that others can be read; the caller puts it back.
    pub(crate) fn take_floats(&mut self, slot: usize) -> Vec<f32> {
        std::mem::take(&mut self.floats[slot])
    }

    /// Moves a buffer out while it is written, so that others can be read; the caller puts it back.
    pub(crate) fn take_bytes(&mut self, slot: usize) -> Vec<u8> {
        std::mem::take(&mut self.bytes[slot])
    }

    /// Puts a buffer back.
    pub(crate) fn put_floats(&mut self, slot: usize, buffer: Vec<f32>) {
        self.floats[slot] = buffer;
    }

    /// Puts a buffer back.
    pub(crate) fn put_bytes(&mut self, slot: usize, buffer: Vec<u8>) {
        self.bytes[slot] = buffer;
    }

    /// Returns the size of all buffers, bytes.
    pub(crate) fn len_bytes(&self) -> usize {
        let floats: usize = self.floats.iter().map(Vec::len).sum();
        floats * 4 + self.bytes.iter().map(Vec::len).sum::<usize>()
    }
}
