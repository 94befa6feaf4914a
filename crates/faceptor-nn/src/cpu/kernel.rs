//! The choice of a family of inner loops, and the detection of the CPU features that it needs.

use crate::cpu::packing::Packing;
use crate::cpu::{DEPTH_GROUP, peak};
use crate::error::{Error, ErrorKind};

#[cfg(target_arch = "x86_64")]
use crate::cpu::amx_permission;
#[cfg(target_arch = "aarch64")]
use crate::cpu::{i8mm, neon, neon_float, sdot};

/// A family of inner loops that this CPU can run.
///
/// The value is the proof: only the constructors make one, and only after they have detected the instructions that the
/// family needs. So safe code cannot run instructions that the CPU lacks:
///
/// ```compile_fail,E0423
/// // The field is private: a kernel cannot be made without detection.
/// let kernel = faceptor_nn::Kernel(panic!());
/// ```
///
/// ```compile_fail,E0616
/// let family = faceptor_nn::Kernel::SCALAR.0;
/// ```
///
/// ```compile_fail,E0599
/// # #[cfg(target_arch = "x86_64")]
/// let kernel = faceptor_nn::Kernel::Avx512Vnni;
/// # #[cfg(not(target_arch = "x86_64"))]
/// # let kernel = faceptor_nn::Kernel::Sdot;
/// ```
///
/// ```
/// use faceptor_nn::Kernel;
///
/// let fastest = Kernel::available().last().unwrap();
/// assert_eq!(Kernel::named(fastest.name()).unwrap(), fastest);
/// assert!(Kernel::named("abacus").is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel(Family);

/// The families that this build knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
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
    /// AVX-512 with the 8 bit dot product, and int8 products of tiles.
    #[cfg(target_arch = "x86_64")]
    Amx,
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

/// Names the environment variable that overrides [`Kernel::choose`].
pub const OVERRIDE: &str = "FACEPTOR_KERNEL";

/// All families of this build, slowest first.
pub(super) const FAMILIES: &[Family] = &[
    Family::Scalar,
    #[cfg(target_arch = "x86_64")]
    Family::Avx2,
    #[cfg(target_arch = "x86_64")]
    Family::AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Family::Avx512Vnni,
    #[cfg(target_arch = "x86_64")]
    Family::Amx,
    #[cfg(target_arch = "aarch64")]
    Family::Neon,
    #[cfg(target_arch = "aarch64")]
    Family::Sdot,
    #[cfg(target_arch = "aarch64")]
    Family::I8mm,
];

impl Family {
    pub(super) fn name(self) -> &'static str {
        match self {
            Family::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Family::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Family::AvxVnni => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            Family::Avx512Vnni => "avx512vnni",
            #[cfg(target_arch = "x86_64")]
            Family::Amx => "amx",
            #[cfg(target_arch = "aarch64")]
            Family::Neon => "neon",
            #[cfg(target_arch = "aarch64")]
            Family::Sdot => "sdot",
            #[cfg(target_arch = "aarch64")]
            Family::I8mm => "i8mm",
        }
    }

    /// Returns whether this CPU has every instruction that the family's functions are compiled for.
    fn is_detected(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        let avx2 =
            || is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("bmi2");
        match self {
            Family::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Family::Avx2 => avx2(),
            #[cfg(target_arch = "x86_64")]
            Family::AvxVnni => avx2() && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Family::Avx512Vnni => {
                avx2()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "x86_64")]
            Family::Amx => Family::Avx512Vnni.is_detected() && amx_permission::is_permitted(),
            #[cfg(target_arch = "aarch64")]
            Family::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            #[cfg(target_arch = "aarch64")]
            Family::Sdot => {
                std::arch::is_aarch64_feature_detected!("neon") && std::arch::is_aarch64_feature_detected!("dotprod")
            }
            #[cfg(target_arch = "aarch64")]
            Family::I8mm => {
                std::arch::is_aarch64_feature_detected!("neon") && std::arch::is_aarch64_feature_detected!("i8mm")
            }
        }
    }
}

impl Kernel {
    /// Plain Rust for any CPU: the slowest family, and the reference for the others.
    pub const SCALAR: Kernel = Kernel(Family::Scalar);

    /// Detects which families this CPU can run; slowest first, and at least [`Kernel::SCALAR`].
    pub fn available() -> impl DoubleEndedIterator<Item = Kernel> {
        FAMILIES.iter().filter_map(|family| Kernel::detect(*family))
    }

    /// Returns the fastest family that this CPU can run, or the one that `FACEPTOR_KERNEL` names.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownKernel`] or [`ErrorKind::UnsupportedKernel`] if the variable names a family that this build
    /// or this CPU does not have.
    pub fn choose() -> Result<Kernel, Error> {
        match std::env::var(OVERRIDE) {
            Ok(name) => find(&name, &format!("{OVERRIDE}={name}")),
            Err(_) => Ok(Kernel::available().next_back().unwrap_or(Kernel::SCALAR)),
        }
    }

    /// Returns the family of that name.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownKernel`] if this build has none of that name, [`ErrorKind::UnsupportedKernel`] if this CPU
    /// cannot run it.
    pub fn named(name: &str) -> Result<Kernel, Error> {
        find(name, &format!("kernel {name}"))
    }

    /// Returns the names of all families of this build, slowest first, whether this CPU can run them or not.
    pub fn known_names() -> impl Iterator<Item = &'static str> {
        FAMILIES.iter().map(|family| family.name())
    }

    fn detect(family: Family) -> Option<Kernel> {
        family.is_detected().then_some(Kernel(family))
    }

    pub(super) fn family(self) -> Family {
        self.0
    }

    /// Returns the family's name, as `FACEPTOR_KERNEL` has it.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// Measures how many multiply-accumulates of 8 bit integers one core does per second with the family's
    /// instructions, at most. Takes some milliseconds.
    pub fn int8_peak(self) -> f64 {
        peak::int8_macs_per_second(self)
    }

    /// Returns the order in which the family reads int8 weights.
    pub fn packing(self) -> Packing {
        self.0.packing()
    }

    /// Returns how many columns lie side by side in a panel of packed float32 factors.
    pub(crate) fn panel_float(self) -> usize {
        match self.0 {
            Family::Scalar => 16,
            #[cfg(target_arch = "x86_64")]
            Family::Avx2 | Family::AvxVnni => 16,
            #[cfg(target_arch = "x86_64")]
            Family::Avx512Vnni | Family::Amx => 64,
            #[cfg(target_arch = "aarch64")]
            Family::Neon | Family::Sdot | Family::I8mm => neon_float::WIDTH,
        }
    }

    /// Returns how many columns packed float32 factors and their results have: whole registers.
    pub(crate) fn pad_float(self, columns: usize) -> usize {
        columns.next_multiple_of(match self.0 {
            Family::Scalar => 16,
            #[cfg(target_arch = "x86_64")]
            Family::Avx2 | Family::AvxVnni | Family::Avx512Vnni | Family::Amx => 16,
            #[cfg(target_arch = "aarch64")]
            Family::Neon | Family::Sdot | Family::I8mm => 4,
        })
    }

    /// Returns what rows of 8 bit activations are padded to a multiple of, elements.
    pub(crate) fn depth_group(self) -> usize {
        self.0.depth_group()
    }

    /// Returns whether fused multiply-add is one instruction within `vectorize`, and not a call of a library.
    pub(crate) fn is_fused(self) -> bool {
        cfg!(target_arch = "aarch64") || self.0 != Family::Scalar
    }
}

impl Family {
    pub(super) fn packing(self) -> Packing {
        let (panel, group) = match self {
            Family::Scalar => (16, 1),
            #[cfg(target_arch = "x86_64")]
            Family::Avx2 | Family::AvxVnni => (16, DEPTH_GROUP),
            #[cfg(target_arch = "x86_64")]
            Family::Avx512Vnni | Family::Amx => (64, DEPTH_GROUP),
            #[cfg(target_arch = "aarch64")]
            Family::Neon => (neon::WIDTH, neon::GROUP),
            #[cfg(target_arch = "aarch64")]
            Family::Sdot => (sdot::WIDTH, sdot::GROUP),
            #[cfg(target_arch = "aarch64")]
            Family::I8mm => (i8mm::WIDTH, i8mm::GROUP),
        };
        Packing { panel: panel as u16, group: group as u16, depth: self.depth_group() as u16 }
    }

    fn depth_group(self) -> usize {
        match self {
            Family::Scalar => DEPTH_GROUP,
            #[cfg(target_arch = "x86_64")]
            Family::Avx2 | Family::AvxVnni | Family::Avx512Vnni | Family::Amx => DEPTH_GROUP,
            #[cfg(target_arch = "aarch64")]
            Family::Neon | Family::Sdot | Family::I8mm => 16,
        }
    }
}

/// Detects the family of a name; `what` begins the message of a refusal.
fn find(name: &str, what: &str) -> Result<Kernel, Error> {
    let Some(family) = FAMILIES.iter().copied().find(|family| family.name() == name) else {
        let known: Vec<&str> = Kernel::known_names().collect();
        let message = format!("{what}: no such kernel, this build has {}", known.join(", "));
        return Err(Error::new(ErrorKind::UnknownKernel, message));
    };
    Kernel::detect(family)
        .ok_or_else(|| Error::new(ErrorKind::UnsupportedKernel, format!("{what}: this CPU does not support it")))
}
