//! The bundle: a compiled network in one file.
//!
//! ```text
//! magic "FACEPTOR" | version u32 | sections u32 | file length u64
//! sections x { kind u32, number u32, offset u64, length u64, SHA-256 }
//! SHA-256 of all bytes above
//! sections, each at a multiple of 64 bytes: manifest (TOML), tensor table, one plan per part and per view, tensor data,
//!     and, if the weights are packed, in which order (version 4)
//! ```
//! All numbers are little-endian; tables and plans are postcard. Tensors are stored once however many parts use them,
//! aligned to 64 bytes, so an engine uses them in place. Weights are `[columns, depth]`, or packed for one family of CPUs, which
//! then uses them in place too.

mod encoding;
mod header;
mod packing;
mod reader;
mod task_identity;
mod writer;

use serde::{Deserialize, Serialize};

pub use crate::bundle::encoding::{Encoding, TensorName};
pub use crate::bundle::reader::{Bundle, PartInfo, TensorInfo};
pub use crate::bundle::writer::Writer;

use crate::manifest::ManifestError;
use crate::plan::Element;

/// The newest bundle version that this build reads; packed bundles have it.
pub const VERSION: u32 = 4;

/// The oldest bundle version that this build reads; plain bundles have it.
const OLDEST: u32 = 3;

const MAGIC: &[u8; 8] = b"FACEPTOR";
const FIXED_BYTES: usize = 24;
const ENTRY_BYTES: usize = 56;
const HASH_BYTES: usize = 32;
/// Alignment of sections and of tensors within the data, bytes.
const ALIGNMENT: usize = 64;
/// The largest bundle, bytes: a larger length is that of a damaged or hostile file.
const MAX_BYTES: u64 = 1 << 30;
const MAX_SECTIONS: u32 = 1024;
/// The largest number of elements of one tensor.
const MAX_ELEMENTS: usize = 1 << 28;

const MANIFEST: u32 = 1;
const TABLE: u32 = 2;
const PLAN: u32 = 3;
const DATA: u32 = 4;
const PACKED: u32 = 5;

/// Reports why a bundle is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The file cannot be read.
    #[error("cannot read the bundle: {0}")]
    Io(#[from] std::io::Error),
    /// The file begins with other bytes.
    #[error("not a Faceptor bundle (it does not begin with FACEPTOR)")]
    NotABundle,
    /// A newer program has replaced the version of the file.
    #[error("bundle version {found} is older than version {OLDEST}, which this program reads: compile it again")]
    Older {
        /// Version of the file.
        found: u32,
    },
    /// The file needs a newer program.
    #[error("bundle version {found} is newer than version {VERSION}, which this program reads: update the program")]
    Newer {
        /// Version of the file.
        found: u32,
    },
    /// The file ends too early.
    #[error("bundle is truncated: {found} of {expected} bytes")]
    Truncated {
        /// Bytes that the header says.
        expected: u64,
        /// Bytes of the file.
        found: u64,
    },
    /// More bytes follow the bundle.
    #[error("bundle has {found} bytes, {expected} expected: something follows it")]
    Trailing {
        /// Bytes that the header says.
        expected: u64,
        /// Bytes of the file.
        found: u64,
    },
    /// A length or number is larger than any bundle needs.
    #[error("bundle asks for more than is allowed: {0}")]
    TooLarge(String),
    /// Bytes have changed since the bundle was written.
    #[error("bundle is damaged: the checksum of the {0} does not match")]
    Damaged(String),
    /// The contents contradict each other.
    #[error("bundle is malformed: {0}")]
    Malformed(String),
    /// The program holds no bundle.
    #[error("this program was built without a network inside: name a bundle")]
    NoneEmbedded,
    /// The manifest inside is refused.
    #[error("the bundle's {0}")]
    Manifest(#[from] ManifestError),
}

/// An entry of the tensor table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TensorEntry {
    element: Element,
    shape: Vec<usize>,
    /// Offset in the data section, bytes.
    offset: u64,
    /// Hash of the elements in their plain order.
    sha256: [u8; HASH_BYTES],
}

/// Returns the hexadecimal digits of a hash.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}
