//! Inner loops of the products, for each family of CPUs, chosen once at start.
//!
//! The only place with `unsafe`: calls of functions compiled for CPU features, after those features were seen. Integer
//! sums are equal on every family; float sums differ by rounding.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod float;
mod scalar;

/// A family of CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// Plain Rust for any CPU; the reference.
    Scalar,
    /// AVX2 and FMA, without the 8 bit dot product.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 with the 8 bit dot product.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
}

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
            Kernel::Avx512Vnni,
        ]
    }

    /// As `FACEPTOR_KERNEL` has it.
    pub fn name(self) -> &'static str {
        match self {
            Kernel::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512Vnni => "avx512vnni",
        }
    }

    /// Whether this CPU has what the family needs.
    pub fn is_supported(self) -> bool {
        match self {
            Kernel::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512Vnni => {
                Kernel::Avx2.is_supported()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vnni")
            }
        }
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

    /// Columns side by side in a panel of packed weights; results are padded to a multiple of 16.
    pub fn panel(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512Vnni => 64,
            _ => 16,
        }
    }

    /// Neighbouring weights of one column in a panel.
    fn group(self) -> usize {
        match self {
            Kernel::Scalar => 1,
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 | Kernel::Avx512Vnni => DEPTH_GROUP,
        }
    }

    /// Runs a closure compiled for the family's instructions; what it calls must be inlined to profit.
    #[inline(always)]
    pub fn vectorize<R>(self, work: impl FnOnce() -> R) -> R {
        match self {
            Kernel::Scalar => work(),
            // Safety: a kernel is only ever chosen, and handed to an engine, if `is_supported` has seen its features.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe { with_avx2(work) },
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512Vnni => unsafe { with_avx512(work) },
        }
    }

    /// `out[row, column] = sum of a[row, k] w[column, k]` for `rows` rows of unsigned activations.
    ///
    /// `a` has [`PackedInt8::depth_padded`] elements per row (what lies behind the depth does not matter), `out`
    /// [`PackedInt8::columns_padded`].
    pub fn multiply_int8(self, a: &[u8], rows: usize, weights: &PackedInt8, out: &mut [i32]) {
        assert!(weights.kernel == self, "weights are packed for another kernel");
        assert!(a.len() >= rows * weights.depth_padded && out.len() >= rows * weights.columns_padded);
        match self {
            // Safety: features as in `vectorize`; lengths asserted above, and the packing is our own.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512Vnni => unsafe { avx512::multiply_int8(a, rows, weights, out) },
            // Safety: the same.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe { avx2::multiply_int8(a, rows, weights, out) },
            Kernel::Scalar => scalar::multiply_int8(a, rows, weights, out),
        }
    }

    /// `out[row, column] = sum over k of a[row, k] b[k, column]` in float32; `a` by strides, `b` packed, `out` with
    /// rows of [`float::padded`] columns.
    pub fn multiply_float(self, a: Strided<'_>, rows: usize, depth: usize, b: &[f32], out: &mut [f32]) {
        if rows == 0 || depth == 0 {
            out.fill(0.0);
            return;
        }
        let last = (rows - 1) * a.row_stride + (depth - 1) * a.depth_stride;
        let columns = b.len() / depth;
        assert!(a.values.len() > last && b.len() == columns * depth && columns.is_multiple_of(16));
        assert!(out.len() >= rows * columns);
        match self {
            // Safety: features as in `vectorize`; lengths asserted above.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512Vnni => unsafe { avx512::multiply_float(a, rows, depth, b, out) },
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => self.vectorize(
                #[inline(always)]
                || float::multiply::<true>(a, rows, depth, b, out),
            ),
            Kernel::Scalar => float::multiply::<{ cfg!(target_arch = "aarch64") }>(a, rows, depth, b, out),
        }
    }
}

pub use float::{Strided, pack as pack_float, padded as padded_columns};

/// Int8 weights in a kernel's order: panels of columns, and within them groups of depth.
#[derive(Debug)]
pub struct PackedInt8 {
    pub kernel: Kernel,
    pub columns: usize,
    /// Multiple of 16.
    pub columns_padded: usize,
    /// Multiple of 4.
    pub depth_padded: usize,
    pub values: Vec<i8>,
    /// Sum of each column's weights: what a zero point of 1 adds to every result.
    pub sums: Vec<i32>,
}

/// Depth taken at once by the dot product instructions; rows of activations are padded to a multiple of it.
pub const DEPTH_GROUP: usize = 4;

impl PackedInt8 {
    /// Packs `[columns, depth]`.
    pub fn new(kernel: Kernel, weights: &[i8], columns: usize, depth: usize) -> PackedInt8 {
        let columns_padded = padded_columns(columns);
        let depth_padded = depth.next_multiple_of(DEPTH_GROUP);
        let mut values = vec![0i8; columns_padded * depth_padded];
        let (panel, group) = (kernel.panel(), kernel.group());
        for column in 0..columns {
            let first = column / panel * panel;
            let width = panel.min(columns_padded - first);
            let base = first * depth_padded;
            for k in 0..depth {
                let at = base + (k / group * width + column - first) * group + k % group;
                values[at] = weights[column * depth + k];
            }
        }
        let mut sums = vec![0i32; columns_padded];
        for (sum, row) in sums.iter_mut().zip(weights.chunks_exact(depth.max(1))) {
            *sum = row.iter().map(|w| *w as i32).sum();
        }
        PackedInt8 { kernel, columns, columns_padded, depth_padded, values, sums }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A small generator of our own, so that the tests need no crate.
    fn random(seed: &mut u64) -> u64 {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    }

    #[test]
    fn integer_kernels_equal_the_plain_sum() {
        let mut seed = 88172645463325252;
        for case in 0..300 {
            let rows = (random(&mut seed) % 20) as usize + 1;
            let columns = (random(&mut seed) % 150) as usize + 1;
            let depth = (random(&mut seed) % 90) as usize + 1;
            // Every third case at the limits, where a 16 bit intermediate would saturate.
            let extreme = case % 3 == 0;
            let mut byte = || if extreme { 255 } else { random(&mut seed) as u8 };
            let padded = depth.next_multiple_of(DEPTH_GROUP);
            let a: Vec<u8> = (0..rows * padded).map(|_| byte()).collect();
            let weights: Vec<i8> =
                (0..columns * depth).map(|i| if extreme { [127, -128][i % 7 % 2] } else { byte() as i8 }).collect();
            for kernel in Kernel::all().iter().copied().filter(|k| k.is_supported()) {
                let packed = PackedInt8::new(kernel, &weights, columns, depth);
                let mut out = vec![-1; rows * packed.columns_padded];
                kernel.multiply_int8(&a, rows, &packed, &mut out);
                for row in 0..rows {
                    for column in 0..columns {
                        let expected: i32 =
                            (0..depth).map(|k| a[row * padded + k] as i32 * weights[column * depth + k] as i32).sum();
                        let found = out[row * packed.columns_padded + column];
                        assert_eq!(found, expected, "{} {rows}x{depth}x{columns}", kernel.name());
                    }
                }
            }
        }
    }

    #[test]
    fn float_kernels_equal_the_plain_sum() {
        let mut seed = 1234567;
        for _ in 0..200 {
            let rows = (random(&mut seed) % 20) as usize + 1;
            let columns = (random(&mut seed) % 100) as usize + 1;
            let depth = (random(&mut seed) % 50) as usize + 1;
            let mut number = || (random(&mut seed) % 2001) as f32 / 1000.0 - 1.0;
            // Depth outermost: a transposed left factor.
            let a: Vec<f32> = (0..rows * depth).map(|_| number()).collect();
            let b: Vec<f32> = (0..columns * depth).map(|_| number()).collect();
            for kernel in Kernel::all().iter().copied().filter(|k| k.is_supported()) {
                let mut packed = vec![0.0; padded_columns(columns) * depth];
                pack_float(kernel, &b, columns, depth, [columns, 1], &mut packed);
                let width = padded_columns(columns);
                let mut out = vec![f32::NAN; rows * width];
                let strided = Strided { values: &a, row_stride: 1, depth_stride: rows };
                kernel.multiply_float(strided, rows, depth, &packed, &mut out);
                for row in 0..rows {
                    for column in 0..columns {
                        let expected: f32 = (0..depth).map(|k| a[k * rows + row] * b[k * columns + column]).sum();
                        let found = out[row * width + column];
                        assert!((found - expected).abs() < 1e-4, "{}: {found} {expected}", kernel.name());
                    }
                }
            }
        }
    }
}
