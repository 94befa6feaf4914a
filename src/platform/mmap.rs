//! A file's bytes without a copy: pages are read when they are used, shared with other processes, and given up by the
//! kernel first when memory is short.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::slice;

/// A regular file that is mapped for reading.
///
/// It must not be cut short while it is in use: touching what is gone ends the process (SIGBUS). A new file that is renamed
/// to its name is fine, the old one stays until it is unmapped; `faceptor compile` writes that way.
pub struct Mapped {
    address: NonNull<u8>,
    len: usize,
}

// SAFETY: the pages are only ever read, and unmapped by the one owner.
unsafe impl Send for Mapped {}
// SAFETY: the same.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Maps a file as a whole.
    ///
    /// # Errors
    /// When it cannot be opened, is empty or no regular file, or the kernel refuses.
    pub fn open(path: &Path) -> io::Result<Mapped> {
        let file = File::open(path)?;
        let about = file.metadata()?;
        let len = usize::try_from(about.len()).map_err(io::Error::other)?;
        if !about.is_file() || len == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file that can be mapped"));
        }
        // SAFETY: a new mapping at an address of the kernel's choice; the descriptor may be closed afterwards.
        let address =
            unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = NonNull::new(address.cast()).ok_or_else(|| io::Error::other("mapped at no address"))?;
        Ok(Mapped { address, len })
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: mapped with this length for as long as `self` lives; nothing writes to it.
        unsafe { slice::from_raw_parts(self.address.as_ptr(), self.len) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: made by mmap with this length; nothing borrows it any more.
        unsafe { libc::munmap(self.address.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Folder;

    #[test]
    fn what_is_in_a_file_is_in_memory_until_it_is_dropped() {
        let folder = Folder::new().expect("a folder");
        let path = folder.path().join("mapped");
        std::fs::write(&path, b"some bytes").expect("written");
        let mapped = Mapped::open(&path).expect("a file");
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(mapped.as_ref(), b"some bytes");
        assert_eq!(mapped.as_ref().as_ptr().align_offset(64), 0);
    }

    #[test]
    fn what_cannot_be_mapped_is_an_error() {
        let folder = Folder::new().expect("a folder");
        let path = folder.path().join("empty");
        std::fs::write(&path, b"").expect("written");
        for path in [path.as_path(), Path::new("/dev/null"), Path::new("/proc"), Path::new("/nowhere/at/all")] {
            assert!(Mapped::open(path).is_err(), "{}", path.display());
        }
    }
}
