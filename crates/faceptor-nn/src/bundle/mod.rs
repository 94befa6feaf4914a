//! The bundle: a compiled network in one file.
//!
//! ```text
//! magic "FACEPTOR" | version u32 | sections u32 | file length u64
//! sections x { kind u32, number u32, offset u64, length u64, SHA-256 }
//! SHA-256 of all bytes above
//! sections, each at a multiple of 64 bytes: manifest (TOML), tensor table, one plan per part, tensor data,
//!     and, if the weights are packed, for what (version 4)
//! ```
//! All numbers are little-endian; tables and plans are postcard. Tensors are stored once however many parts use them,
//! aligned to 64 bytes, so they are used in place. Weights are `[columns, depth]`, or packed for one family of CPUs, which
//! then uses them in place too.

pub mod packing;
pub mod reader;
pub mod writer;

use serde::{Deserialize, Serialize};

pub use crate::bundle::reader::{Bundle, PartInfo, TensorInfo};
pub use crate::bundle::writer::Writer;

use crate::manifest::ManifestError;
use crate::plan::Element;

/// The newest bundle version that this build reads; packed bundles have it.
pub const VERSION: u32 = 4;

/// The oldest one, which plain bundles have.
const OLDEST: u32 = 3;

const MAGIC: &[u8; 8] = b"FACEPTOR";
const FIXED_BYTES: usize = 24;
const ENTRY_BYTES: usize = 56;
const HASH_BYTES: usize = 32;
/// Alignment of sections and of tensors within the data, bytes.
const ALIGNMENT: usize = 64;
/// No bundle is larger, bytes: a length beyond it is a damaged or hostile file.
const MAX_BYTES: u64 = 1 << 30;
const MAX_SECTIONS: u32 = 1024;
/// Largest number of elements of one value.
const MAX_ELEMENTS: usize = 1 << 28;

const MANIFEST: u32 = 1;
const TABLE: u32 = 2;
const PLAN: u32 = 3;
const DATA: u32 = 4;
const PACKED: u32 = 5;

/// What follows a tensor's name where parts hand it on in a form of their own: quantized, or as float32 in another order of
/// axes. The tensor itself is then made by a view, a plan behind those of the manifest's parts, for whoever asks for it.
pub const QUANTIZED_FORM: &str = " (u8)";
pub const FLOAT_FORM: &str = " (f32)";

/// The forms of what parsing says: the two factors of its scores, which the part hands on, and what views make of them for
/// whoever asks: the scores cell by cell, classes last, or the best classes alone.
pub const QUERIES_FORM: &str = " (queries)";
pub const PIXELS_FORM: &str = " (pixels)";
pub const CELLS_FORM: &str = " (cells)";
pub const LABELS_FORM: &str = " (labels)";

/// Forms in which a part hands a tensor on.
const HANDED_FORMS: [&str; 4] = [QUANTIZED_FORM, FLOAT_FORM, QUERIES_FORM, PIXELS_FORM];
/// Forms that a view makes.
const VIEWED_FORMS: [&str; 2] = [CELLS_FORM, LABELS_FORM];

/// The tensor that a form is one of.
pub fn tensor_of(form: &str) -> &str {
    HANDED_FORMS.iter().chain(&VIEWED_FORMS).find_map(|suffix| form.strip_suffix(suffix)).unwrap_or(form)
}

/// Why a bundle is refused.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("cannot read the bundle: {0}")]
    Io(#[from] std::io::Error),
    #[error("not a Faceptor bundle (it does not begin with FACEPTOR)")]
    NotABundle,
    #[error("bundle version {found} is older than version {OLDEST}, which this program reads: compile it again")]
    Older { found: u32 },
    #[error("bundle version {found} is newer than version {VERSION}, which this program reads: update the program")]
    Newer { found: u32 },
    #[error("bundle is truncated: {found} of {expected} bytes")]
    Truncated { expected: u64, found: u64 },
    #[error("bundle has {found} bytes, {expected} expected: something follows it")]
    Trailing { expected: u64, found: u64 },
    #[error("bundle asks for more than is allowed: {0}")]
    TooLarge(String),
    #[error("bundle is damaged: the checksum of the {0} does not match")]
    Damaged(String),
    #[error("bundle is malformed: {0}")]
    Malformed(String),
    #[error("this program was built without a network inside: name a bundle")]
    NoneEmbedded,
    #[error("the bundle's {0}")]
    Manifest(#[from] ManifestError),
}

/// One tensor of the data section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TensorEntry {
    element: Element,
    shape: Vec<usize>,
    /// In the data section, bytes.
    offset: u64,
    /// Of the tensor's elements, in their plain order.
    sha256: [u8; HASH_BYTES],
}

/// Hexadecimal digits of a hash.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}
