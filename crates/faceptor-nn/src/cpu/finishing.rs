//! The results of an integer product from its sums: scale, bias, activations, residual, requantization.

use crate::cpu::kernel::Kernel;
use crate::cpu::packed::PackedInt8;
use crate::cpu::quantizer::Quantizer;
#[cfg(target_arch = "x86_64")]
use crate::cpu::{avx512_finishing, kernel::Family};

/// How the sums of some rows become results, row by row without gaps:
/// `max(second, max(first, (sum - offset) * scale + bias) + added)`.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "read by families of x86 only"))]
pub(crate) struct Finishing<'a> {
    /// The zero point's share of each column's sum.
    pub(crate) offsets: &'a [i32],
    /// Factor of each column.
    pub(crate) scale: &'a [f32],
    /// What is added to each column.
    pub(crate) bias: &'a [f32],
    /// Bounds below which results do not fall, before and after the residual is added.
    pub(crate) floors: [f32; 2],
    pub(crate) residual: ResidualRows<'a>,
    /// Results as float32.
    pub(crate) floats: Option<&'a mut [f32]>,
    /// Results as bytes.
    pub(crate) bytes: Option<(&'a mut [u8], Quantizer)>,
}

/// The residual of the rows.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "read by families of x86 only"))]
#[derive(Clone, Copy)]
pub(crate) enum ResidualRows<'a> {
    Nothing,
    Floats(&'a [f32]),
    /// Bytes, of which `zero_point` is subtracted before they are multiplied by `scale`.
    Bytes {
        values: &'a [u8],
        zero_point: i32,
        scale: f32,
    },
}

impl Kernel {
    /// Multiplies as [`Kernel::multiply_int8`] does, and turns the sums into results. `sums` is scratch.
    ///
    /// # Panics
    /// If the family has no such loop, or the weights are packed for another kernel, or a slice is too short.
    pub(crate) fn product_int8(
        self,
        a: &[u8],
        rows: usize,
        weights: &PackedInt8,
        sums: &mut [i32],
        finishing: &mut Finishing<'_>,
    ) {
        assert!(self.finishes_int8(), "the family does not finish sums");
        assert!(weights.kernel() == self, "weights are packed for another kernel");
        let columns = finishing.offsets.len();
        let fits = |len: usize, width: usize| rows.checked_mul(width).is_some_and(|needed| needed <= len);
        assert!(fits(a.len(), weights.depth_padded()), "activations are too short");
        assert!(fits(sums.len(), weights.columns_padded()) && columns <= weights.columns_padded(), "too few sums");
        assert!(finishing.scale.len() >= columns && finishing.bias.len() >= columns, "scale or bias is too short");
        let residual = match finishing.residual {
            ResidualRows::Nothing => true,
            ResidualRows::Floats(values) => fits(values.len(), columns),
            ResidualRows::Bytes { values, .. } => fits(values.len(), columns),
        };
        let floats = finishing.floats.as_ref().is_none_or(|floats| fits(floats.len(), columns));
        let bytes = finishing.bytes.as_ref().is_none_or(|(bytes, _)| fits(bytes.len(), columns));
        assert!(residual && floats && bytes, "residual or results are too short");
        #[cfg(target_arch = "x86_64")]
        if self.family() == Family::Avx512Vnni {
            // SAFETY: a `Kernel` of this family exists, so its features were detected. The lengths were asserted above; the
            // weights have those that `PackedInt8` guarantees for this kernel.
            unsafe { avx512_finishing::product_int8(a, rows, weights, sums, finishing) };
        }
    }

    /// Returns whether the family has a loop for [`Kernel::product_int8`].
    #[inline(always)]
    pub(crate) fn finishes_int8(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self.family() == Family::Avx512Vnni;
        #[cfg(not(target_arch = "x86_64"))]
        return false;
    }
}
