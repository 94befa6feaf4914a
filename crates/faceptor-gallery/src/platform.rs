//! Functions of the operating system that the standard library lacks.

use std::fs::File;
use std::io;
use std::path::Path;

/// Supplies random bytes and new files. The crate itself has no dependency on an operating system.
#[derive(Clone, Copy, Debug)]
pub struct Platform {
    /// Fills a slice with bytes that no one can predict, such as those of `getrandom`.
    pub random: fn(&mut [u8]) -> io::Result<()>,
    /// Creates an empty file for reading and writing that only its owner may read, or empties the one that is there.
    pub create: fn(&Path) -> io::Result<File>,
}

impl Platform {
    /// Returns this many random bytes.
    pub(crate) fn bytes<const N: usize>(&self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        (self.random)(&mut bytes)?;
        Ok(bytes)
    }
}
