//! Calls the functions of a kernel's family, after the lengths of the operands are checked.

use crate::cpu::float::{self, Strided};
use crate::cpu::kernel::{Family, Kernel};
use crate::cpu::packed::PackedInt8;
use crate::cpu::scalar;

#[cfg(target_arch = "x86_64")]
use crate::cpu::{amx, avx2, avx2_float, avx512, avxvnni};
#[cfg(target_arch = "aarch64")]
use crate::cpu::{i8mm, neon, neon_float, sdot};

/// Mask that turns an unsigned byte into the signed one that is less by 128.
const SIGN: u8 = 0x80;

impl Kernel {
    /// Runs a closure compiled for the family's instructions; only what is inlined into it profits.
    #[inline(always)]
    pub(crate) fn vectorize<R>(self, work: impl FnOnce() -> R) -> R {
        match self.family() {
            Family::Scalar => work(),
            // SAFETY: a `Kernel` of this family exists, so its features were detected: those of `with_avx2` among them.
            #[cfg(target_arch = "x86_64")]
            Family::Avx2 | Family::AvxVnni => unsafe { with_avx2(work) },
            // SAFETY: as above, for `with_avx512`.
            #[cfg(target_arch = "x86_64")]
            Family::Avx512Vnni | Family::Amx => unsafe { with_avx512(work) },
            // Every build for arm64 has NEON.
            #[cfg(target_arch = "aarch64")]
            Family::Neon | Family::Sdot | Family::I8mm => work(),
        }
    }

    /// Returns whether the family multiplies signed bytes: it reads activations that [`Kernel::shift`] has changed.
    #[inline(always)]
    pub(crate) fn reads_shifted(self) -> bool {
        match self.family() {
            Family::Scalar => false,
            #[cfg(target_arch = "x86_64")]
            Family::Avx2 | Family::AvxVnni | Family::Avx512Vnni | Family::Amx => false,
            #[cfg(target_arch = "aarch64")]
            Family::Neon | Family::Sdot => true,
            #[cfg(target_arch = "aarch64")]
            Family::I8mm => false,
        }
    }

    /// Shifts activations by 128, from unsigned to signed bytes, if the family reads them so.
    pub(crate) fn shift(self, a: &mut [u8]) {
        if self.reads_shifted() {
            a.iter_mut().for_each(|a| *a ^= SIGN);
        }
    }

    /// Copies activations and shifts the copy, as [`Kernel::shift`] does.
    pub(crate) fn copy_shifted(self, from: &[u8], to: &mut [u8]) {
        let sign = if self.reads_shifted() { SIGN } else { 0 };
        to.iter_mut().zip(from).for_each(|(to, from)| *to = from ^ sign);
    }

    /// Computes `out[row, column] = sum of a[row, k] w[column, k]` for `rows` rows of unsigned activations, prepared by
    /// [`Kernel::shift`].
    ///
    /// `a` has [`PackedInt8::depth_padded`] elements a row (those after the depth do not matter), `out`
    /// [`PackedInt8::columns_padded`].
    ///
    /// # Panics
    /// If the weights are packed for another kernel, or `a` or `out` is too short.
    pub(crate) fn multiply_int8(self, a: &[u8], rows: usize, weights: &PackedInt8, out: &mut [i32]) {
        assert!(weights.kernel() == self, "weights are packed for another kernel");
        let (depth, columns) = (weights.depth_padded(), weights.columns_padded());
        let fits = |len: usize, width: usize| rows.checked_mul(width).is_some_and(|needed| needed <= len);
        assert!(fits(a.len(), depth) && fits(out.len(), columns), "activations or results are too short");
        // The families' loops begin with a step of depth.
        if depth == 0 {
            return out[..rows * columns].fill(0);
        }
        match self.family() {
            // SAFETY: a `Kernel` of this family exists, so its features were detected. The activations and results have the
            // lengths that were asserted above, the weights and sums those that `PackedInt8` guarantees for this kernel.
            #[cfg(target_arch = "x86_64")]
            Family::Avx512Vnni => unsafe { avx512::multiply_int8(a, rows, weights, out) },
            // SAFETY: as for AVX-512; the permission to use tiles was given.
            #[cfg(target_arch = "x86_64")]
            Family::Amx => unsafe { amx::multiply_int8(a, rows, weights, out) },
            // SAFETY: as for AVX-512.
            #[cfg(target_arch = "x86_64")]
            Family::AvxVnni => unsafe { avxvnni::multiply_int8(a, rows, weights, out) },
            // SAFETY: as for AVX-512.
            #[cfg(target_arch = "x86_64")]
            Family::Avx2 => unsafe { avx2::multiply_int8(a, rows, weights, out) },
            // SAFETY: as for AVX-512; the padded depth is a multiple of 16, and was seen not to be zero.
            #[cfg(target_arch = "aarch64")]
            Family::I8mm => unsafe { i8mm::multiply_int8(a, rows, weights, out) },
            // SAFETY: as for I8MM.
            #[cfg(target_arch = "aarch64")]
            Family::Sdot => unsafe { sdot::multiply_int8(a, rows, weights, out) },
            // SAFETY: as for I8MM.
            #[cfg(target_arch = "aarch64")]
            Family::Neon => unsafe { neon::multiply_int8(a, rows, weights, out) },
            Family::Scalar => scalar::multiply_int8(a, rows, weights, out),
        }
    }

    /// Packs a panel of `used` columns. The `depth` elements of a column lie side by side, columns `stride` apart; they
    /// become rows of `width`, a multiple of 16 on x86, whose remaining columns are zero.
    ///
    /// # Panics
    /// If `b` or `panel` has another length.
    pub(super) fn transpose_float(
        self,
        b: &[f32],
        used: usize,
        depth: usize,
        stride: usize,
        width: usize,
        panel: &mut [f32],
    ) {
        assert!(used <= width && Some(panel.len()) == width.checked_mul(depth), "the panel has another length");
        let last = used.saturating_sub(1).checked_mul(stride).and_then(|last| last.checked_add(depth));
        assert!(used == 0 || last.is_some_and(|last| last <= b.len()), "the factor is too short");
        match self.family() {
            // SAFETY: a `Kernel` of this family exists, so its features were detected; the lengths were asserted above, and
            // the width is a multiple of 16.
            #[cfg(target_arch = "x86_64")]
            Family::Avx512Vnni | Family::Amx if width.is_multiple_of(16) => unsafe {
                avx512::transpose_float(b, used, depth, stride, width, panel);
            },
            #[cfg(target_arch = "x86_64")]
            Family::Avx2 | Family::AvxVnni | Family::Avx512Vnni | Family::Amx => {
                float::transpose(b, used, depth, [1, stride], width, panel);
            }
            // SAFETY: as above, with any width.
            #[cfg(target_arch = "aarch64")]
            Family::Neon | Family::Sdot | Family::I8mm => unsafe {
                neon_float::transpose_float(b, used, depth, stride, width, panel);
            },
            Family::Scalar => float::transpose(b, used, depth, [1, stride], width, panel),
        }
    }

    /// Computes `out[row, column] = sum over k of a[row, k] b[k, column]` in float32. `a` is read by strides, `b` is packed
    /// by [`crate::cpu::pack_float`], and `out` has rows of [`Kernel::pad_float`] columns.
    ///
    /// # Panics
    /// If `b` is not a whole number of registers wide, or `a` or `out` is too short.
    pub(crate) fn multiply_float(self, a: Strided<'_>, rows: usize, depth: usize, b: &[f32], out: &mut [f32]) {
        if rows == 0 || depth == 0 {
            out.fill(0.0);
            return;
        }
        let reach = |len: usize, stride: usize| (len - 1).checked_mul(stride);
        let last = reach(rows, a.row_stride).zip(reach(depth, a.depth_stride)).and_then(|(r, d)| r.checked_add(d));
        assert!(last.is_some_and(|last| last < a.values.len()), "the left factor is too short");
        let columns = b.len() / depth;
        assert!(b.len() == columns * depth && columns == self.pad_float(columns), "the right factor is not packed");
        assert!(rows.checked_mul(columns).is_some_and(|needed| needed <= out.len()), "the results are too short");
        match self.family() {
            // SAFETY: a `Kernel` of this family exists, so its features were detected; the lengths were asserted above.
            #[cfg(target_arch = "x86_64")]
            Family::Avx512Vnni | Family::Amx => unsafe { avx512::multiply_float(a, rows, depth, b, out) },
            // SAFETY: as for AVX-512.
            #[cfg(target_arch = "x86_64")]
            Family::Avx2 | Family::AvxVnni => unsafe { avx2_float::multiply_float(a, rows, depth, b, out) },
            // SAFETY: as for AVX-512.
            #[cfg(target_arch = "aarch64")]
            Family::Neon => unsafe { neon_float::multiply_float_grouped(a, rows, depth, b, out) },
            // SAFETY: as for AVX-512.
            #[cfg(target_arch = "aarch64")]
            Family::Sdot | Family::I8mm => unsafe { neon_float::multiply_float(a, rows, depth, b, out) },
            Family::Scalar => float::multiply::<{ cfg!(target_arch = "aarch64") }>(a, rows, depth, b, out),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi2")]
fn with_avx2<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,bmi2")]
fn with_avx512<R>(work: impl FnOnce() -> R) -> R {
    work()
}
