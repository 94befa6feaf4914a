//! The gallery's errors: each names what was wrong and, where there is one, the remedy.

use std::io::{self, ErrorKind};

/// Result of the crate's functions.
pub(crate) type Result<T, E = GalleryError> = std::result::Result<T, E>;

/// Reports why a gallery cannot be used, or why a request to it was refused.
///
/// No text contains a name of a person or a number of an embedding, so that it may be logged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GalleryError {
    /// The file cannot be read or written.
    #[error("{action}: {reason}{}", remedy(reason))]
    Io {
        /// The attempted action, such as `cannot write the gallery`.
        action: &'static str,
        /// The reason of the operating system.
        reason: io::Error,
    },
    /// The file may not be changed by its mode.
    #[error("the gallery is write-protected: allow its owner to write it (chmod u+w) and try again")]
    Protected,
    /// The path leads to a folder, a device or another thing that holds no gallery.
    #[error("{0}: a gallery is one regular file")]
    NotAFile(&'static str),
    /// The file begins with other bytes.
    #[error("not a Faceptor gallery (it does not begin with FACEGALL)")]
    NotAGallery,
    /// The file needs a newer program.
    #[error("gallery version {found} is newer than version {known}, which this program reads: update the program")]
    Newer {
        /// Version of the file.
        found: u32,
        /// Newest version that this program reads.
        known: u32,
    },
    /// The header's bytes have changed.
    #[error("the gallery's header is damaged: {0}; restore the file from a copy")]
    DamagedHeader(&'static str),
    /// The header is intact and was sealed with another key.
    #[error("wrong key or passphrase: this gallery was made with another one")]
    WrongKey,
    /// The gallery's key comes from another kind of source.
    #[error("this gallery is opened with {expected}, not with {found}")]
    OtherKeySource {
        /// Source that the header names.
        expected: &'static str,
        /// Source of the key that was given.
        found: &'static str,
    },
    /// A record fails its authentication or cannot be read.
    #[error("record {record} of the gallery (at byte {at}) is damaged: {reason}; restore the file from a copy")]
    DamagedRecord {
        /// Number of the record, from 0 on.
        record: u64,
        /// Place in the file.
        at: u64,
        /// The mismatch.
        reason: &'static str,
    },
    /// A record lies where another belongs.
    #[error(
        "record {found} of the gallery lies where record {expected} belongs (at byte {at}): records were swapped, repeated \
         or taken out; restore the file from a copy"
    )]
    OutOfOrder {
        /// Number of the record that belongs there.
        expected: u64,
        /// Number of the record that lies there.
        found: u64,
        /// Place in the file.
        at: u64,
    },
    /// The file is shorter than its last complete write.
    #[error("the gallery is truncated: {found} bytes of {expected}; restore the file from a copy")]
    Truncated {
        /// Bytes after the last complete write.
        expected: u64,
        /// Bytes of the file.
        found: u64,
    },
    /// A newer state of the gallery was seen before.
    #[error(
        "the gallery is older than it was: generation {found}, and generation {seen} was seen before; an older file was \
         put in its place"
    )]
    Older {
        /// Generation of the file.
        found: u64,
        /// Newest generation that was seen.
        seen: u64,
    },
    /// The embeddings of the file belong to another network.
    #[error(
        "this gallery belongs to another network: its templates are of {gallery} (recognition {gallery_hash:.12}), and \
         {network} (recognition {network_hash:.12}) would compare them; use the network of the gallery, make the templates \
         again (`faceptor gallery migrate`, where crops were kept), or enrol the people again from their photos"
    )]
    OtherNetwork {
        /// Name of the gallery's network.
        gallery: String,
        /// Hash of its recognition, hexadecimal.
        gallery_hash: String,
        /// Name of the network in use.
        network: String,
        /// Hash of its recognition, hexadecimal.
        network_hash: String,
    },
    /// An embedding has another length than the gallery's, or has no direction: all zeros, or a number that is not finite.
    #[error("an embedding of {found} numbers cannot be used: the gallery holds embeddings of {expected}")]
    Dimension {
        /// Numbers of the gallery's embeddings.
        expected: usize,
        /// Numbers that were given; 0 for an embedding of zeros.
        found: usize,
    },
    /// A name cannot be stored.
    #[error("this name cannot be used: {0}")]
    Name(&'static str),
    /// A value that belongs to an enrolment cannot be stored.
    #[error("{0}")]
    Refused(String),
    /// The gallery holds no such person.
    #[error("the gallery holds no person of that name (`faceptor gallery list` shows all)")]
    NoSuchPerson,
    /// The gallery already holds a person of that name.
    #[error("the gallery already holds a person of that name")]
    NameTaken,
    /// Another process changes the gallery.
    #[error("another process changes this gallery now: try again when it has ended")]
    Busy,
    /// The gallery was opened for reading.
    #[error("the gallery was opened for reading only")]
    ReadOnly,
    /// Key material has a form that is not accepted.
    #[error("{0}")]
    Key(String),
    /// The file is larger than a gallery may be.
    #[error("the gallery has {0} bytes, more than are read")]
    TooLarge(u64),
}

/// Returns what the owner of the file can do, where the reason of the operating system is a known one.
fn remedy(reason: &io::Error) -> &'static str {
    match reason.kind() {
        ErrorKind::PermissionDenied => "; give this account the right to it (and to write in its folder, to change it)",
        ErrorKind::ReadOnlyFilesystem => "; mount its file system for writing, or keep the gallery on another one",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "; make room and try again: the gallery is as it was"
        }
        ErrorKind::NotFound => "; check the path and its folder: `faceptor enroll` makes a gallery, and no folder",
        ErrorKind::NotADirectory => "; check the path: a part of it is no folder",
        _ => "",
    }
}

impl GalleryError {
    /// Makes a function that puts a context before an error of the operating system.
    pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> GalleryError {
        move |reason| GalleryError::Io { action, reason }
    }
}
