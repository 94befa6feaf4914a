//! Inner loops of the products, for each family of CPUs, chosen once at start.
//!
//! The only place of the network with `unsafe`: calls of functions compiled for CPU features, after those features were
//! seen. Integer sums are equal on every family; float sums differ by rounding.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avxvnni;
pub mod float;
#[cfg(target_arch = "aarch64")]
mod i8mm;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_float;
pub mod packed;
mod peak;
mod scalar;
#[cfg(target_arch = "aarch64")]
mod sdot;
#[cfg(test)]
mod tests;

pub use crate::cpu::float::{Strided, pack as pack_float};
pub use crate::cpu::packed::{Memory, PACKINGS, PackedInt8, Packing, Values, column_sums, padded_columns};

/// A family of CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// Plain Rust for any CPU; the reference.
    Scalar,
    /// AVX2 and FMA, without the 8 bit dot product.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX2 with the 8 bit dot product.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// AVX-512 with the 8 bit dot product.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// NEON without the 8 bit dot product: Cortex-A53, A57, A72.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// NEON with the 8 bit dot product: Cortex-A55, A75, A76 and later.
    #[cfg(target_arch = "aarch64")]
    Sdot,
    /// NEON with 8 bit matrix products: Neoverse V1, Cortex-A510, A710 and later.
    #[cfg(target_arch = "aarch64")]
    I8mm,
}

/// Name of a CPU feature, and what tells whether this CPU has it.
pub type Feature = (&'static str, fn() -> bool);

/// Environment variable that overrides the choice.
pub const OVERRIDE: &str = "FACEPTOR_KERNEL";

impl Kernel {
    /// All families this build knows, slowest first.
    pub fn all() -> &'static [Kernel] {
        &[
            Kernel::Scalar,
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2,
            #[cfg(target_arch = "x86_64")]
            Kernel::AvxVnni,
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512Vnni,
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon,
            #[cfg(target_arch = "aarch64")]
            Kernel::Sdot,
            #[cfg(target_arch = "aarch64")]
            Kernel::I8mm,
        ]
    }

    /// As `FACEPTOR_KERNEL` has it.
    pub fn name(self) -> &'static str {
        match self {
            Kernel::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kernel::AvxVnni => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512Vnni => "avx512vnni",
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon => "neon",
            #[cfg(target_arch = "aarch64")]
            Kernel::Sdot => "sdot",
            #[cfg(target_arch = "aarch64")]
            Kernel::I8mm => "i8mm",
        }
    }

    /// The CPU features that the family needs, as the system names them; each with whether this CPU has it.
    pub fn features(self) -> &'static [Feature] {
        match self {
            Kernel::Scalar => &[],
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => {
                &[("avx2", || is_x86_feature_detected!("avx2")), ("fma", || is_x86_feature_detected!("fma")), BMI2]
            }
            #[cfg(target_arch = "x86_64")]
            Kernel::AvxVnni => &[
                ("avx2", || is_x86_feature_detected!("avx2")),
                ("fma", || is_x86_feature_detected!("fma")),
                BMI2,
                ("avx_vnni", || is_x86_feature_detected!("avxvnni")),
            ],
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512Vnni => &[
                ("avx2", || is_x86_feature_detected!("avx2")),
                ("fma", || is_x86_feature_detected!("fma")),
                BMI2,
                ("avx512f", || is_x86_feature_detected!("avx512f")),
                ("avx512bw", || is_x86_feature_detected!("avx512bw")),
                ("avx512vl", || is_x86_feature_detected!("avx512vl")),
                ("avx512dq", || is_x86_feature_detected!("avx512dq")),
                ("avx512_vnni", || is_x86_feature_detected!("avx512vnni")),
            ],
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon => &[ASIMD],
            #[cfg(target_arch = "aarch64")]
            Kernel::Sdot => &[ASIMD, ("asimddp", || std::arch::is_aarch64_feature_detected!("dotprod"))],
            #[cfg(target_arch = "aarch64")]
            Kernel::I8mm => &[ASIMD, ("i8mm", || std::arch::is_aarch64_feature_detected!("i8mm"))],
        }
    }

    /// Whether this CPU has what the family needs.
    pub fn is_supported(self) -> bool {
        self.features().iter().all(|(_, present)| present())
    }

    /// The fastest family that this CPU supports, or the one that `FACEPTOR_KERNEL` names.
    pub fn choose() -> anyhow::Result<Kernel> {
        let Ok(name) = std::env::var(OVERRIDE) else {
            return Ok(Kernel::all().iter().copied().rev().find(|k| k.is_supported()).unwrap_or(Kernel::Scalar));
        };
        let known: Vec<&str> = Kernel::all().iter().map(|k| k.name()).collect();
        let Some(kernel) = Kernel::all().iter().copied().find(|k| k.name() == name) else {
            anyhow::bail!("{OVERRIDE}={name}: no such kernel, this build has {}", known.join(", "));
        };
        anyhow::ensure!(kernel.is_supported(), "{OVERRIDE}={name}: this CPU does not support it");
        Ok(kernel)
    }

    /// Multiply-accumulates of 8 bit integers per second that one core of this machine can do with the family's
    /// instructions, measured now, in some milliseconds; 0 if the CPU lacks them.
    pub fn int8_peak(self) -> f64 {
        peak::int8_macs_per_second(self)
    }

    /// Columns side by side in a panel of packed int8 weights; results are padded to a multiple of 16.
    fn panel_int8(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512Vnni => 64,
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon => neon::WIDTH,
            #[cfg(target_arch = "aarch64")]
            Kernel::Sdot => sdot::WIDTH,
            #[cfg(target_arch = "aarch64")]
            Kernel::I8mm => i8mm::WIDTH,
            _ => 16,
        }
    }

    /// The order in which it reads int8 weights.
    pub fn packing(self) -> Packing {
        Packing { panel: self.panel_int8() as u16, group: self.group() as u16, depth: self.depth_group() as u16 }
    }

    /// Columns side by side in a panel of packed float32 factors.
    pub fn panel_float(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512Vnni => 64,
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon | Kernel::Sdot | Kernel::I8mm => neon_float::WIDTH,
            _ => 16,
        }
    }

    /// Columns that packed float32 factors and their results have: whole registers.
    pub fn pad_float(self, columns: usize) -> usize {
        columns.next_multiple_of(match self {
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon | Kernel::Sdot | Kernel::I8mm => 4,
            _ => 16,
        })
    }

    /// Neighbouring weights of one column in a panel.
    fn group(self) -> usize {
        match self {
            Kernel::Scalar => 1,
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 | Kernel::AvxVnni | Kernel::Avx512Vnni => DEPTH_GROUP,
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon => neon::GROUP,
            #[cfg(target_arch = "aarch64")]
            Kernel::Sdot => sdot::GROUP,
            #[cfg(target_arch = "aarch64")]
            Kernel::I8mm => i8mm::GROUP,
        }
    }

    /// What rows of 8 bit activations are padded to a multiple of, elements.
    pub fn depth_group(self) -> usize {
        match self {
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon | Kernel::Sdot | Kernel::I8mm => 16,
            _ => DEPTH_GROUP,
        }
    }

    /// Whether fused multiply-add is one instruction within [`Kernel::vectorize`], and not a call of a library.
    pub fn is_fused(self) -> bool {
        cfg!(target_arch = "aarch64") || self != Kernel::Scalar
    }

    /// Runs a closure compiled for the family's instructions; what it calls must be inlined to profit.
    #[inline(always)]
    pub fn vectorize<R>(self, work: impl FnOnce() -> R) -> R {
        match self {
            Kernel::Scalar => work(),
            // SAFETY: a kernel is only ever chosen, and handed to an engine, if `is_supported` has seen its features.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 | Kernel::AvxVnni => unsafe { with_avx2(work) },
            // SAFETY: the same.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512Vnni => unsafe { with_avx512(work) },
            // Every build for arm64 has NEON.
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon | Kernel::Sdot | Kernel::I8mm => work(),
        }
    }

    /// `out[row, column] = sum of a[row, k] w[column, k]` for `rows` rows of unsigned activations.
    ///
    /// `a` has [`PackedInt8::depth_padded`] elements per row (what lies behind the depth does not matter), `out`
    /// [`PackedInt8::columns_padded`].
    pub fn multiply_int8(self, a: &[u8], rows: usize, weights: &PackedInt8, out: &mut [i32]) {
        assert!(weights.kernel == self, "weights are packed for another kernel");
        assert!(a.len() >= rows * weights.depth_padded && out.len() >= rows * weights.columns_padded);
        // The families' loops begin with a step of depth.
        if weights.depth_padded == 0 {
            return out[..rows * weights.columns_padded].fill(0);
        }
        match self {
            // SAFETY: features as in `vectorize`; lengths asserted above, and the packing is our own.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512Vnni => unsafe { avx512::multiply_int8(a, rows, weights, out) },
            // SAFETY: the same.
            #[cfg(target_arch = "x86_64")]
            Kernel::AvxVnni => unsafe { avxvnni::multiply_int8(a, rows, weights, out) },
            // SAFETY: the same.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe { avx2::multiply_int8(a, rows, weights, out) },
            // SAFETY: the same.
            #[cfg(target_arch = "aarch64")]
            Kernel::I8mm => unsafe { i8mm::multiply_int8(a, rows, weights, out) },
            // SAFETY: the same.
            #[cfg(target_arch = "aarch64")]
            Kernel::Sdot => unsafe { sdot::multiply_int8(a, rows, weights, out) },
            // SAFETY: the same.
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon => unsafe { neon::multiply_int8(a, rows, weights, out) },
            Kernel::Scalar => scalar::multiply_int8(a, rows, weights, out),
        }
    }

    /// Packs a panel of `used` columns, whose `depth` elements each lie side by side, `stride` after `stride`: they become
    /// rows of `width`, a multiple of 16 on x86, whose rest is zero.
    fn transpose_float(self, b: &[f32], used: usize, depth: usize, stride: usize, width: usize, panel: &mut [f32]) {
        assert!(used <= width && panel.len() == width * depth);
        assert!(used == 0 || b.len() >= (used - 1) * stride + depth);
        match self {
            // SAFETY: features as in `vectorize`; lengths asserted above, and the width is a multiple of 16.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512Vnni if width.is_multiple_of(16) => unsafe {
                avx512::transpose_float(b, used, depth, stride, width, panel);
            },
            // SAFETY: the same.
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon | Kernel::Sdot | Kernel::I8mm => unsafe {
                neon_float::transpose_float(b, used, depth, stride, width, panel);
            },
            _ => float::transpose(b, used, depth, [1, stride], width, panel),
        }
    }

    /// `out[row, column] = sum over k of a[row, k] b[k, column]` in float32; `a` by strides, `b` packed, `out` with
    /// rows of [`Kernel::pad_float`] columns.
    pub fn multiply_float(self, a: Strided<'_>, rows: usize, depth: usize, b: &[f32], out: &mut [f32]) {
        if rows == 0 || depth == 0 {
            out.fill(0.0);
            return;
        }
        let last = (rows - 1) * a.row_stride + (depth - 1) * a.depth_stride;
        let columns = b.len() / depth;
        assert!(a.values.len() > last && b.len() == columns * depth && columns == self.pad_float(columns));
        assert!(out.len() >= rows * columns);
        match self {
            // SAFETY: features as in `vectorize`; lengths asserted above.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512Vnni => unsafe { avx512::multiply_float(a, rows, depth, b, out) },
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 | Kernel::AvxVnni => self.vectorize(
                #[inline(always)]
                || float::multiply::<true>(a, rows, depth, b, out),
            ),
            // SAFETY: the same.
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon | Kernel::Sdot | Kernel::I8mm => unsafe { neon_float::multiply_float(a, rows, depth, b, out) },
            Kernel::Scalar => float::multiply::<{ cfg!(target_arch = "aarch64") }>(a, rows, depth, b, out),
        }
    }
}

#[cfg(target_arch = "x86_64")]
const BMI2: Feature = ("bmi2", || is_x86_feature_detected!("bmi2"));
#[cfg(target_arch = "aarch64")]
const ASIMD: Feature = ("asimd", || std::arch::is_aarch64_feature_detected!("neon"));

/// Depth that the dot product instructions take at once.
const DEPTH_GROUP: usize = 4;

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
