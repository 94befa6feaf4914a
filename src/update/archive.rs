//! The file of an update: a network, its signature and its reference, as a tar archive (ustar) that every `tar` lists.

use std::fmt::Write as _;
use std::io::{self, Write};

use crate::update::versions::VersionFile;
use crate::update::{NETWORK, REFERENCE, SIGNATURE};

/// Archives consist of blocks.
const BLOCK: usize = 512;
/// Longest name in a header.
const NAME: usize = 100;
/// The mark of such archives, and its place in the header.
const MARK: &[u8] = b"ustar";
const MARK_AT: usize = 257;
const SUM_AT: usize = 148;
const KIND_AT: usize = 156;

/// Reason why an archive is no update.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ArchiveError {
    #[error("it is damaged or cut short at byte {0}")]
    Damaged(usize),
    #[error("it holds {0:?}, which belongs to no update: make it with `faceptor bundle pack`")]
    Foreign(String),
    #[error("it holds {0} twice")]
    Twice(String),
    #[error("it holds no {0}: make it with `faceptor bundle pack`")]
    Missing(&'static str),
}

/// Returns whether the bytes are an archive, rather than a bundle.
pub(crate) fn is_archive(bytes: &[u8]) -> bool {
    bytes.get(MARK_AT..).is_some_and(|rest| rest.starts_with(MARK))
}

/// Returns the files of an update, which have a network and a signature among them.
///
/// # Errors
/// When the archive is damaged, or holds anything else.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<VersionFile<'_>>, ArchiveError> {
    let mut files: Vec<VersionFile> = Vec::new();
    let mut at = 0;
    loop {
        let header = bytes.get(at..at + BLOCK).ok_or(ArchiveError::Damaged(at))?;
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        let damaged = || ArchiveError::Damaged(at);
        if !is_archive(header) || octal(&header[SUM_AT..SUM_AT + 8]) != Some(checksum(header)) {
            return Err(damaged());
        }
        let length = octal(&header[124..136]).and_then(|length| usize::try_from(length).ok()).ok_or_else(damaged)?;
        let name = header[..NAME].split(|byte| *byte == 0).next().unwrap_or_default();
        let name = String::from_utf8_lossy(name).trim_start_matches("./").to_owned();
        let begin = at + BLOCK;
        let end = begin.checked_add(length).ok_or_else(damaged)?;
        let content = bytes.get(begin..end).ok_or_else(damaged)?;
        at = end.checked_next_multiple_of(BLOCK).ok_or_else(damaged)?;
        match header[KIND_AT] {
            // `tar` adds an entry for each folder.
            b'5' if length == 0 && (name.is_empty() || name.trim_end_matches('/') == REFERENCE) => continue,
            // A name that continues elsewhere in the header is longer than any name of an update.
            b'0' | 0 if header[345] == 0 && belongs(&name) => {}
            _ => return Err(ArchiveError::Foreign(name)),
        }
        if files.iter().any(|(other, _)| *other == name) {
            return Err(ArchiveError::Twice(name));
        }
        files.push((name, content));
    }
    for needed in [NETWORK, SIGNATURE] {
        if !files.iter().any(|(name, _)| name == needed) {
            return Err(ArchiveError::Missing(needed));
        }
    }
    Ok(files)
}

/// Returns whether an update has a file of this name.
pub(crate) fn belongs(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let in_reference = name.strip_prefix(REFERENCE).and_then(|rest| rest.strip_prefix('/'));
    name == NETWORK
        || name == SIGNATURE
        || in_reference.is_some_and(|name| !name.is_empty() && !name.starts_with('.') && name.chars().all(allowed))
}

/// Writes an archive. The same files give the same bytes: it holds no time and no owner.
pub(crate) fn write(out: &mut dyn Write, files: &[VersionFile]) -> io::Result<()> {
    for (name, content) in files {
        if name.len() >= NAME || content.len() as u64 > 0o77_777_777_777 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name}: its name or it is too long for an update"),
            ));
        }
        let mut header = [0; BLOCK];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, "0000644");
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", content.len()));
        put(136, "00000000000");
        put(SUM_AT, "        ");
        put(KIND_AT, "0");
        put(MARK_AT, "ustar\x0000");
        let mut sum = String::new();
        // Writing to a String cannot fail.
        let _ = write!(sum, "{:06o}\0 ", checksum(&header));
        header[SUM_AT..SUM_AT + 8].copy_from_slice(sum.as_bytes());
        out.write_all(&header)?;
        out.write_all(content)?;
        out.write_all(&[0; BLOCK][..content.len().next_multiple_of(BLOCK) - content.len()])?;
    }
    out.write_all(&[0; 2 * BLOCK])
}

/// Returns the sum of a header's bytes, in which the sum itself counts as spaces.
fn checksum(header: &[u8]) -> u64 {
    let own = |at: usize| (SUM_AT..SUM_AT + 8).contains(&at);
    header.iter().enumerate().map(|(at, byte)| u64::from(if own(at) { b' ' } else { *byte })).sum()
}

/// Reads an octal number that a space or a zero byte ends.
fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    u64::from_str_radix(text.trim_matches([' ', '\0']), 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let files: Vec<VersionFile> = files.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect();
        let mut bytes = Vec::new();
        write(&mut bytes, &files).expect("a vector takes it");
        bytes
    }

    fn good() -> Vec<u8> {
        archive(&[
            (NETWORK, &[7; 700]),
            (SIGNATURE, b"signature"),
            ("reference/reference.json", b""),
            ("reference/0.png", &[1; 512]),
        ])
    }

    #[test]
    fn what_was_written_is_read_and_every_cut_is_noticed() {
        let bytes = good();
        let files = read(&bytes).expect("whole");
        let lengths: Vec<(&str, usize)> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.len())).collect();
        let expected = [(NETWORK, 700), (SIGNATURE, 9), ("reference/reference.json", 0), ("reference/0.png", 512)];
        assert_eq!(lengths, expected);
        // The second of the two empty blocks at the end says nothing.
        for length in 0..bytes.len() - BLOCK {
            assert!(read(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_changed_header_is_noticed() {
        let bytes = good();
        // The sum itself may be written in several ways.
        for at in (0..BLOCK).filter(|at| !(SUM_AT..SUM_AT + 8).contains(at)) {
            for value in [0, b'0', b'/', 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                let is_same = changed == bytes;
                assert!(is_same || read(&changed).is_err(), "{at} {value}");
            }
        }
    }

    #[test]
    fn names_lead_nowhere_else() {
        for foreign in [
            "/etc/passwd",
            "../x",
            "reference/../x",
            "reference/a/b",
            "reference/.x",
            "reference/",
            "reference",
            "other",
            "reference/a\nb",
            "reference/\u{e9}",
        ] {
            let bytes = archive(&[(NETWORK, b"n"), (foreign, b"x"), (SIGNATURE, b"s")]);
            assert!(matches!(read(&bytes), Err(ArchiveError::Foreign(_))), "{foreign}: {:?}", read(&bytes));
        }
        let twice = archive(&[(NETWORK, b"n"), (NETWORK, b"m"), (SIGNATURE, b"s")]);
        assert_eq!(read(&twice), Err(ArchiveError::Twice(NETWORK.to_owned())));
        assert_eq!(read(&archive(&[(SIGNATURE, b"s")])), Err(ArchiveError::Missing(NETWORK)));
        assert_eq!(read(&archive(&[(NETWORK, b"n")])), Err(ArchiveError::Missing(SIGNATURE)));
        assert!(!is_archive(b"FACEPTOR") && !is_archive(&[0; 600]) && is_archive(&twice));
    }

    #[test]
    fn links_and_devices_are_refused() {
        for kind in *b"12346xgL" {
            let mut bytes = archive(&[(NETWORK, b""), (SIGNATURE, b"s")]);
            bytes[KIND_AT] = kind;
            let sum = format!("{:06o}\0 ", checksum(&bytes[..BLOCK]));
            bytes[SUM_AT..SUM_AT + 8].copy_from_slice(sum.as_bytes());
            assert_eq!(read(&bytes), Err(ArchiveError::Foreign(NETWORK.to_owned())), "{}", kind as char);
        }
    }
}
