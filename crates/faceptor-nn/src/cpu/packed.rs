//! Weights in the order in which a kernel reads them, with lengths that are checked when they are packed.

use std::fmt;
use std::ops::Deref;

use crate::cpu::float::pack;
use crate::cpu::kernel::Kernel;
use crate::cpu::packing::{Memory, column_sums};
use crate::error::{Error, ErrorKind};

/// Alignment of packed weights, bytes: the widest register.
const ALIGNMENT: usize = 64;

/// Int8 weights in a kernel's order.
///
/// The fields are private, so that every value has `columns_padded * depth_padded` weights and `columns_padded` sums: the
/// kernels read as many through pointers.
#[derive(Debug)]
pub(crate) struct PackedInt8 {
    kernel: Kernel,
    columns_padded: usize,
    depth_padded: usize,
    values: Values,
    sums: Vec<i32>,
    narrow: bool,
}

/// The weights themselves: always `len` of them, whatever the memory does.
enum Values {
    Own {
        buffer: Vec<i8>,
        start: usize,
        len: usize,
    },
    /// Used in place: a bundle that was packed for this kernel.
    Lent {
        memory: Memory,
        start: usize,
        len: usize,
    },
}

impl Deref for Values {
    type Target = [i8];

    #[inline]
    fn deref(&self) -> &[i8] {
        match self {
            Values::Own { buffer, start, len } => &buffer[*start..start + len],
            Values::Lent { memory, start, len } => bytemuck::cast_slice(&(**memory).as_ref()[*start..start + len]),
        }
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if matches!(self, Values::Own { .. }) { "on the heap" } else { "in the bundle" };
        write!(f, "{} weights {place}", self.len())
    }
}

impl PackedInt8 {
    /// Packs `[columns, depth]`.
    ///
    /// # Errors
    /// If there are not `columns * depth` weights.
    pub(crate) fn new(kernel: Kernel, weights: &[i8], columns: usize, depth: usize) -> Result<PackedInt8, Error> {
        check_len("weights", weights.len(), columns.checked_mul(depth))?;
        let packing = kernel.packing();
        let [columns_padded, depth_padded] = packing.padded(columns, depth);
        let len = checked_len(columns_padded.checked_mul(depth_padded))?;
        let mut buffer = vec![0i8; len + ALIGNMENT];
        let start = buffer.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        packing.pack(weights, columns, depth, &mut buffer[start..start + len]);
        let sums = column_sums(weights, columns, depth);
        let narrow = !weights.contains(&i8::MIN);
        let values = Values::Own { buffer, start, len };
        Ok(PackedInt8 { kernel, columns_padded, depth_padded, values, sums, narrow })
    }

    /// Uses weights `[columns, depth]` in place: from byte `start` of `memory` on, they have the kernel's order already.
    /// `sums` are the sums of the padded columns; `narrow` is whether no weight is -128.
    ///
    /// # Errors
    /// If the memory ends before the weights do, or there are not as many sums as padded columns.
    pub(crate) fn in_place(
        kernel: Kernel,
        [columns, depth]: [usize; 2],
        memory: Memory,
        start: usize,
        sums: Vec<i32>,
        narrow: bool,
    ) -> Result<PackedInt8, Error> {
        let [columns_padded, depth_padded] = kernel.packing().padded(columns, depth);
        let len = checked_len(columns_padded.checked_mul(depth_padded))?;
        check_len("column sums", sums.len(), Some(columns_padded))?;
        let there = (*memory).as_ref().len().saturating_sub(start);
        check_len("packed weights", there.min(len), Some(len))?;
        let values = Values::Lent { memory, start, len };
        Ok(PackedInt8 { kernel, columns_padded, depth_padded, values, sums, narrow })
    }

    /// Returns the kernel whose order the weights have.
    #[inline(always)]
    pub(crate) fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Returns the columns of the results: a multiple of 16.
    #[inline(always)]
    pub(crate) fn columns_padded(&self) -> usize {
        self.columns_padded
    }

    /// Returns the elements of a row of activations: a multiple of [`Kernel::depth_group`].
    #[inline(always)]
    pub(crate) fn depth_padded(&self) -> usize {
        self.depth_padded
    }

    /// Returns the weights: `columns_padded * depth_padded` of them.
    #[inline(always)]
    pub(super) fn values(&self) -> &[i8] {
        &self.values
    }

    /// Returns the sum of each padded column's weights: what a zero point of 1 adds to every result.
    #[inline(always)]
    pub(crate) fn sums(&self) -> &[i32] {
        &self.sums
    }

    /// Returns whether no weight is -128, so that two products of signed bytes fit into 16 bits.
    #[cfg_attr(not(target_arch = "aarch64"), allow(dead_code))]
    #[inline(always)]
    pub(super) fn is_narrow(&self) -> bool {
        self.narrow
    }

    /// Returns the bytes of the heap that weights and sums take.
    pub(crate) fn own_bytes(&self) -> usize {
        let weights = if let Values::Own { buffer, .. } = &self.values { buffer.len() } else { 0 };
        weights + self.sums.len() * 4
    }
}

/// Float32 weights in a kernel's order: [`Kernel::pad_float`] columns times depth.
#[derive(Debug)]
pub(crate) struct PackedFloat {
    values: Vec<f32>,
}

impl PackedFloat {
    /// Packs `[columns, depth]`.
    ///
    /// # Errors
    /// If there are not `columns * depth` weights.
    pub(crate) fn new(kernel: Kernel, weights: &[f32], columns: usize, depth: usize) -> Result<PackedFloat, Error> {
        check_len("weights", weights.len(), columns.checked_mul(depth))?;
        let mut values = vec![0.0; checked_len(kernel.pad_float(columns).checked_mul(depth))?];
        pack(kernel, weights, columns, depth, [1, depth], &mut values);
        Ok(PackedFloat { values })
    }

    /// Returns the packed weights.
    #[inline(always)]
    pub(crate) fn values(&self) -> &[f32] {
        &self.values
    }

    /// Returns the bytes of the heap that the weights take.
    pub(crate) fn own_bytes(&self) -> usize {
        self.values.len() * 4
    }
}

fn checked_len(len: Option<usize>) -> Result<usize, Error> {
    len.ok_or_else(|| Error::new(ErrorKind::Network, "a matrix has more weights than can be counted"))
}

fn check_len(what: &str, found: usize, expected: Option<usize>) -> Result<(), Error> {
    let expected = checked_len(expected)?;
    if found == expected {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Network, format!("a matrix has {found} {what}, {expected} are needed")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn weights_of_a_wrong_length_are_refused() {
        for kernel in Kernel::available() {
            for len in [0, 19, 21] {
                let error = PackedInt8::new(kernel, &vec![1; len], 4, 5).expect_err("a wrong length");
                assert_eq!(error.to_string(), format!("a matrix has {len} weights, 20 are needed"));
                assert!(PackedFloat::new(kernel, &vec![1.0; len], 4, 5).is_err());
            }
            assert!(PackedInt8::new(kernel, &[], usize::MAX, 2).is_err());
            assert!(
                PackedInt8::new(kernel, &[1; 20], 4, 5).is_ok() && PackedFloat::new(kernel, &[1.0; 20], 4, 5).is_ok()
            );
        }
    }

    #[test]
    fn weights_in_place_have_all_their_bytes_and_sums() {
        for kernel in Kernel::available() {
            let [columns, depth] = kernel.packing().padded(20, 30);
            let packed = |bytes: usize, start: usize, sums: usize| {
                let memory: Memory = Arc::new(vec![1u8; bytes]);
                PackedInt8::in_place(kernel, [20, 30], memory, start, vec![30; sums], true)
            };
            let len = columns * depth;
            assert!(packed(len, 0, columns).is_ok() && packed(len + 64, 64, columns).is_ok());
            assert!(packed(len - 1, 0, columns).is_err() && packed(len, 1, columns).is_err());
            assert!(packed(len, usize::MAX, columns).is_err());
            assert!(packed(len, 0, columns - 1).is_err() && packed(len, 0, columns + 1).is_err());
        }
    }
}
