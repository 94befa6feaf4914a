//! Measures the most integer products that a core of this machine can do: the yardstick of a profile.

use std::hint::black_box;
use std::time::Instant;

#[cfg(target_arch = "x86_64")]
use crate::cpu::amx_tiles;
use crate::cpu::kernel::{Family, Kernel};
use crate::cpu::packed::PackedInt8;

/// Sums that are independent of each other, enough to hide the latency of the products.
#[cfg(target_arch = "x86_64")]
const SUMS: usize = 12;
#[cfg(target_arch = "aarch64")]
const SUMS: usize = 16;

/// Measures multiply-accumulates of 8 bit integers per second on one core: the best of several short bursts, some
/// milliseconds in all.
///
/// Families with a dot product or a matrix product are measured with nothing but that instruction; the others by their
/// own inner loop over operands in the first-level cache.
pub(super) fn int8_macs_per_second(kernel: Kernel) -> f64 {
    let mut best = 0f64;
    for _ in 0..30 {
        let start = Instant::now();
        let macs = burst(kernel);
        best = best.max(macs as f64 / start.elapsed().as_secs_f64());
    }
    best
}

/// Works for some tenths of a millisecond; returns how many multiply-accumulates that was.
fn burst(kernel: Kernel) -> u64 {
    const ROUNDS: u64 = 40_000;
    match kernel.family() {
        #[cfg(target_arch = "x86_64")]
        Family::Avx512Vnni => {
            // SAFETY: a `Kernel` of this family exists, so its features were detected.
            black_box(unsafe { avx512(ROUNDS) });
            ROUNDS * SUMS as u64 * 64
        }
        #[cfg(target_arch = "x86_64")]
        Family::Amx => {
            // SAFETY: a `Kernel` of this family exists, so its features were detected and the permission was given.
            unsafe { amx_tiles::products(ROUNDS) };
            ROUNDS * amx_tiles::MACS
        }
        #[cfg(target_arch = "x86_64")]
        Family::AvxVnni => {
            // SAFETY: a `Kernel` of this family exists, so its features were detected.
            black_box(unsafe { avxvnni(ROUNDS) });
            ROUNDS * SUMS as u64 * 32
        }
        #[cfg(target_arch = "aarch64")]
        Family::Sdot => {
            // SAFETY: a `Kernel` of this family exists, so its features were detected.
            black_box(unsafe { sdot(ROUNDS) });
            ROUNDS * SUMS as u64 * 16
        }
        #[cfg(target_arch = "aarch64")]
        Family::I8mm => {
            // SAFETY: a `Kernel` of this family exists, so its features were detected.
            black_box(unsafe { i8mm(ROUNDS) });
            ROUNDS * SUMS as u64 * 32
        }
        Family::Scalar => inner_loop(kernel),
        #[cfg(target_arch = "x86_64")]
        Family::Avx2 => inner_loop(kernel),
        #[cfg(target_arch = "aarch64")]
        Family::Neon => inner_loop(kernel),
    }
}

/// Runs the family's own inner loop over operands in the first-level cache.
fn inner_loop(kernel: Kernel) -> u64 {
    const SHAPE: [usize; 3] = [24, 256, 32];
    let [rows, depth, columns] = SHAPE;
    let Ok(weights) = PackedInt8::new(kernel, &vec![3; columns * depth], columns, depth) else {
        return 0;
    };
    let a = vec![5u8; rows * weights.depth_padded()];
    let mut out = vec![0; rows * weights.columns_padded()];
    for _ in 0..8 {
        kernel.multiply_int8(black_box(&a), rows, &weights, black_box(&mut out));
    }
    8 * SHAPE.iter().product::<usize>() as u64
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn avx512(rounds: u64) -> i32 {
    use std::arch::x86_64::*;
    let (a, w) = (_mm512_set1_epi8(black_box(3)), _mm512_set1_epi8(black_box(5)));
    let mut sums = [_mm512_setzero_si512(); SUMS];
    for _ in 0..rounds {
        sums.iter_mut().for_each(|sum| *sum = _mm512_dpbusd_epi32(*sum, a, w));
    }
    sums.iter().fold(0i32, |all, sum| all.wrapping_add(_mm512_reduce_add_epi32(*sum)))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,avxvnni")]
fn avxvnni(rounds: u64) -> i32 {
    use std::arch::x86_64::*;
    let (a, w) = (_mm256_set1_epi8(black_box(3)), _mm256_set1_epi8(black_box(5)));
    let mut sums = [_mm256_setzero_si256(); SUMS];
    for _ in 0..rounds {
        sums.iter_mut().for_each(|sum| *sum = _mm256_dpbusd_avx_epi32(*sum, a, w));
    }
    sums.iter().fold(0i32, |all, sum| all.wrapping_add(_mm256_extract_epi32::<0>(*sum)))
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon,dotprod")]
fn sdot(rounds: u64) -> i32 {
    use std::arch::aarch64::*;
    let (a, w) = (vdupq_n_s8(black_box(3)), vdupq_n_s8(black_box(5)));
    let mut sums = [vdupq_n_s32(0); SUMS];
    for _ in 0..rounds {
        sums.iter_mut().for_each(|sum| *sum = crate::cpu::sdot::dot::<0>(*sum, w, a));
    }
    sums.iter().fold(0i32, |all, sum| all.wrapping_add(vaddvq_s32(*sum)))
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon,i8mm")]
fn i8mm(rounds: u64) -> i32 {
    use std::arch::aarch64::*;
    let (a, w) = (vdupq_n_u8(black_box(3)), vdupq_n_s8(black_box(5)));
    let mut sums = [vdupq_n_s32(0); SUMS];
    for _ in 0..rounds {
        sums.iter_mut().for_each(|sum| *sum = crate::cpu::i8mm::multiply(*sum, a, w));
    }
    sums.iter().fold(0i32, |all, sum| all.wrapping_add(vaddvq_s32(*sum)))
}
