//! The results of an integer product from its sums: scale, bias, activations, residual, requantization.

use std::ops::Range;

use crate::cpu::kernel::Kernel;
use crate::cpu::packed::PackedInt8;
use crate::cpu::quantizer::Quantizer;
use crate::cpu::windows::Windows;
#[cfg(target_arch = "x86_64")]
use crate::cpu::{amx, avx512_finishing, kernel::Family};

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
        assert!(fits(a.len(), rows, weights.depth_padded()), "activations are too short");
        assert!(fits(sums.len(), rows, weights.columns_padded()), "too few sums");
        finishing.check(rows, weights);
        match self.family() {
            // SAFETY: a `Kernel` of this family exists, so its features were detected. The lengths were asserted above; the
            // weights have those that `PackedInt8` guarantees for this kernel.
            #[cfg(target_arch = "x86_64")]
            Family::Avx512Vnni => unsafe { avx512_finishing::product_int8(a, rows, weights, sums, finishing) },
            // SAFETY: as for AVX-512; the permission to use tiles was given.
            #[cfg(target_arch = "x86_64")]
            Family::Amx => unsafe { amx::product_int8(a, rows, weights, sums, finishing) },
            _ => {}
        }
    }

    /// Multiplies windows of activations where they lie, and turns the sums of those rows that lie in `rows` into results;
    /// the first row of `finishing` is the first of them. Returns `false`, with nothing done, if the family has no such loop
    /// for these shapes.
    ///
    /// # Panics
    /// If the weights are packed for another kernel or have another depth, or a slice is too short.
    pub(crate) fn product_of_windows(
        self,
        a: &[u8],
        windows: &Windows,
        rows: Range<usize>,
        weights: &PackedInt8,
        finishing: &mut Finishing<'_>,
    ) -> bool {
        assert!(weights.kernel() == self, "weights are packed for another kernel");
        assert!(windows.depth() == weights.depth_padded(), "windows and weights have another depth");
        assert!(windows.valid > 0 && windows.valid <= windows.period, "windows without rows");
        assert!(windows.reach().is_some_and(|reach| reach <= a.len()), "activations are too short");
        assert!(rows.start <= rows.end, "rows end before they begin");
        finishing.check(rows.len(), weights);
        match self.family() {
            // SAFETY: as in `product_int8`; the windows were seen to lie within the activations.
            #[cfg(target_arch = "x86_64")]
            Family::Amx => unsafe { amx::product_of_windows(a, windows, [rows.start, rows.end], weights, finishing) },
            _ => false,
        }
    }

    /// Returns whether [`Kernel::product_of_windows`] has a loop for windows of `runs` runs of `run_len` bytes.
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
    pub(crate) fn takes_windows(self, runs: usize, run_len: usize) -> bool {
        match self.family() {
            #[cfg(target_arch = "x86_64")]
            Family::Amx => amx::depth_step(runs, run_len).is_some(),
            _ => false,
        }
    }

    /// Returns whether the family has a loop for [`Kernel::product_int8`].
    #[inline(always)]
    pub(crate) fn finishes_int8(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return matches!(self.family(), Family::Avx512Vnni | Family::Amx);
        #[cfg(not(target_arch = "x86_64"))]
        return false;
    }
}

/// Returns whether a slice of that length holds `rows` rows of `width`.
fn fits(len: usize, rows: usize, width: usize) -> bool {
    rows.checked_mul(width).is_some_and(|needed| needed <= len)
}

impl Finishing<'_> {
    /// Asserts that every slice holds a row or `rows` rows of as many columns as there are offsets.
    fn check(&self, rows: usize, weights: &PackedInt8) {
        let columns = self.offsets.len();
        assert!(columns <= weights.columns_padded(), "too few sums");
        assert!(self.scale.len() >= columns && self.bias.len() >= columns, "scale or bias is too short");
        let residual = match self.residual {
            ResidualRows::Nothing => true,
            ResidualRows::Floats(values) => fits(values.len(), rows, columns),
            ResidualRows::Bytes { values, .. } => fits(values.len(), rows, columns),
        };
        let floats = self.floats.as_ref().is_none_or(|floats| fits(floats.len(), rows, columns));
        let bytes = self.bytes.as_ref().is_none_or(|(bytes, _)| fits(bytes.len(), rows, columns));
        assert!(residual && floats && bytes, "residual or results are too short");
    }
}
