//! Products of one row of signed bytes with many others: an exact search for the most similar template.
//!
//! The rows are read once, in their order, and are far larger than the caches: the loops have to keep up with the memory.

use crate::cpu::kernel::{Family, Kernel};
use crate::cpu::scalar;

#[cfg(target_arch = "x86_64")]
use crate::cpu::{avx512, avxvnni};

/// The most numbers of a row: sums of so many products of bytes fit 32 bits.
const MOST: usize = 1 << 16;

impl Kernel {
    /// Computes `out[row] = sum of query[k] rows[row * query.len() + k]` for as many rows as `out` has elements. Equal on
    /// every family.
    ///
    /// # Panics
    /// If `rows` has another length, or a row has more than 65,536 numbers.
    pub fn dot_rows(self, query: &[i8], rows: &[i8], out: &mut [i32]) {
        assert!(query.len() <= MOST, "a row is too long");
        assert!(query.len().checked_mul(out.len()) == Some(rows.len()), "the rows have another length");
        match self.family() {
            // SAFETY: a `Kernel` of this family exists, so its features were detected; the lengths were asserted above.
            #[cfg(target_arch = "x86_64")]
            Family::Avx512Vnni | Family::Amx => unsafe { avx512::dot_rows(query, rows, out) },
            // SAFETY: as for AVX-512.
            #[cfg(target_arch = "x86_64")]
            Family::AvxVnni => unsafe { avxvnni::dot_rows(query, rows, out) },
            #[cfg(target_arch = "x86_64")]
            Family::Avx2 => self.vectorize(
                #[inline(always)]
                || scalar::dot_rows(query, rows, out),
            ),
            // SAFETY: both features were detected, the second one here: a CPU of the last family need not have it.
            #[cfg(target_arch = "aarch64")]
            Family::Sdot | Family::I8mm if std::arch::is_aarch64_feature_detected!("dotprod") => unsafe {
                with_dot_product(query, rows, out);
            },
            #[cfg(target_arch = "aarch64")]
            Family::Neon | Family::Sdot | Family::I8mm => scalar::dot_rows(query, rows, out),
            Family::Scalar => scalar::dot_rows(query, rows, out),
        }
    }

    /// Adds the 64 bit words of `bytes`, as fast as one core reads them: the measure of [`Kernel::dot_rows`].
    pub fn read_words(self, bytes: &[i8]) -> u64 {
        self.vectorize(
            #[inline(always)]
            || {
                // Eight sums hide the latency of each.
                let (blocks, _) = bytes.as_chunks::<64>();
                let mut sums = [0u64; 8];
                for block in blocks {
                    for (sum, word) in sums.iter_mut().zip(block.as_chunks::<8>().0) {
                        *sum = sum.wrapping_add(u64::from_le_bytes(word.map(|byte| byte as u8)));
                    }
                }
                sums.iter().fold(0u64, |all, sum| all.wrapping_add(*sum))
            },
        )
    }
}

/// The loop compiled for the 8 bit dot product, which the compiler then uses.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon,dotprod")]
fn with_dot_product(query: &[i8], rows: &[i8], out: &mut [i32]) {
    scalar::dot_rows(query, rows, out);
}
