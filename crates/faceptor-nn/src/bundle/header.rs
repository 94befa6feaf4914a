//! The header of a bundle: offset, length and hash of each section.

use sha2::{Digest, Sha256};

use crate::bundle::{
    ALIGNMENT, BundleError, DATA, ENTRY_BYTES, FIXED_BYTES, HASH_BYTES, MAGIC, MANIFEST, MAX_BYTES, MAX_SECTIONS,
    OLDEST, PACKED, PLAN, TABLE, VERSION, aligned,
};

/// The hashes that are compared with the bytes that they belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hashes {
    /// SHA-256 sums of the header and of every section.
    All,
    /// Checks the header alone: enough for the network inside the program, which was checked as a whole when it was built in.
    /// Hashing millions of bytes takes tens of milliseconds of every start on a CPU without instructions for it.
    HeaderOnly,
}

/// A section of the file.
pub(super) struct Section {
    pub(super) kind: u32,
    pub(super) number: u32,
    pub(super) offset: usize,
    pub(super) len: usize,
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |n, b| n << 8 | *b as u32)
}

fn read_u64(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |n, b| n << 8 | *b as u64)
}

/// Checks magic, version, number of sections and length against the file's length.
pub(super) fn check_beginning(head: &[u8], len: u64) -> Result<(), BundleError> {
    if head.is_empty() || !head.starts_with(&MAGIC[..head.len().min(MAGIC.len())]) {
        return Err(BundleError::NotABundle);
    }
    if head.len() < FIXED_BYTES {
        return Err(BundleError::Truncated { expected: FIXED_BYTES as u64, found: len });
    }
    match read_u32(head, 8) {
        OLDEST..=VERSION => {}
        found if found < OLDEST => return Err(BundleError::Older { found }),
        found => return Err(BundleError::Newer { found }),
    }
    let sections = read_u32(head, 12);
    if sections > MAX_SECTIONS {
        return Err(BundleError::TooLarge(format!("{sections} sections, at most {MAX_SECTIONS}")));
    }
    let expected = read_u64(head, 16);
    if expected > MAX_BYTES {
        return Err(BundleError::TooLarge(format!("{expected} bytes, at most {MAX_BYTES}")));
    }
    if len < expected {
        return Err(BundleError::Truncated { expected, found: len });
    }
    if len > expected {
        return Err(BundleError::Trailing { expected, found: len });
    }
    Ok(())
}

/// Checks the header and the sections' hashes; returns the sections and the header's hash.
pub(super) fn read_header(file: &[u8], hashes: Hashes) -> Result<(Vec<Section>, [u8; HASH_BYTES]), BundleError> {
    check_beginning(&file[..file.len().min(FIXED_BYTES)], file.len() as u64)?;
    let count = read_u32(file, 12) as usize;
    let end = FIXED_BYTES + count * ENTRY_BYTES;
    let Some(stored) = file.get(end..end + HASH_BYTES) else {
        return Err(BundleError::Truncated { expected: (end + HASH_BYTES) as u64, found: file.len() as u64 });
    };
    let digest = Sha256::digest(&file[..end]);
    if digest[..] != *stored {
        return Err(BundleError::Damaged("header".into()));
    }
    let mut sections = Vec::with_capacity(count);
    let mut used = end + HASH_BYTES;
    for i in 0..count {
        let at = FIXED_BYTES + i * ENTRY_BYTES;
        let (kind, number) = (read_u32(file, at), read_u32(file, at + 4));
        let (offset, len) = (read_u64(file, at + 8), read_u64(file, at + 16));
        let malformed = || BundleError::Malformed(format!("section {i} does not lie after the one before it"));
        let offset = usize::try_from(offset).map_err(|_| malformed())?;
        let len = usize::try_from(len).map_err(|_| malformed())?;
        if offset != aligned(used) || offset.checked_add(len).is_none_or(|end| end > file.len()) {
            return Err(malformed());
        }
        check_padding(&file[used..offset])?;
        let name = match kind {
            MANIFEST => "manifest".to_string(),
            TABLE => "tensor table".to_string(),
            PLAN => format!("plan {number}"),
            DATA => "tensor data".to_string(),
            PACKED => "packing".to_string(),
            other => return Err(BundleError::Malformed(format!("section {i} has the unknown kind {other}"))),
        };
        let stored = &file[at + 24..at + 24 + HASH_BYTES];
        if hashes == Hashes::All && Sha256::digest(&file[offset..offset + len])[..] != *stored {
            return Err(BundleError::Damaged(name));
        }
        used = offset + len;
        sections.push(Section { kind, number, offset, len });
    }
    check_padding(&file[used..])?;
    Ok((sections, digest.into()))
}

fn check_padding(bytes: &[u8]) -> Result<(), BundleError> {
    if bytes.len() < ALIGNMENT && bytes.iter().all(|b| *b == 0) {
        return Ok(());
    }
    Err(BundleError::Damaged("padding".into()))
}
