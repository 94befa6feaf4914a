//! Memory mappings: made, measured and removed in one place.
//!
//! A mapping of a file is not offered. A file that another program cuts short while it is mapped ends the process with
//! SIGBUS at the next read, so files are read into memory instead. What is mapped here cannot shrink: memory of a driver
//! and address space without content.

use std::ffi::c_uint;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::slice;

/// Pages of this process, unmapped when this is dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the pages belong to the process; any thread may read or unmap them.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps a buffer of a driver for reading, at the offset in bytes that the driver named.
    ///
    /// # Errors
    /// The kernel's, for instance when the driver has no such buffer.
    pub(crate) fn of_driver(device: BorrowedFd, offset: u32, length: usize) -> io::Result<Mapping> {
        // SAFETY: a new mapping at an address of the kernel's choice, which replaces nothing.
        unsafe { Mapping::new(length, libc::PROT_READ, libc::MAP_SHARED, device.as_raw_fd(), offset) }
    }

    /// Reserves address space that can be neither read nor written.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn reserve(length: usize) -> io::Result<Mapping> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice, which replaces nothing.
        unsafe { Mapping::new(length, libc::PROT_NONE, flags, -1, 0) }
    }

    /// # Safety
    /// The flags must not contain `MAP_FIXED`: the mapping would replace memory that is in use.
    unsafe fn new(
        length: usize,
        protection: libc::c_int,
        flags: libc::c_int,
        fd: libc::c_int,
        offset: u32,
    ) -> io::Result<Mapping> {
        // SAFETY: no memory of this process is read, written or replaced, as the caller warrants.
        let start = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, fd, offset as libc::off_t) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address zero"))?;
        Ok(Mapping { start, length })
    }

    /// Returns the length in bytes.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Returns the first `length` bytes, or all of them if there are fewer.
    ///
    /// # Safety
    /// The mapping was made by [`Mapping::of_driver`], and the driver does not write to it while the slice lives.
    pub(crate) unsafe fn bytes(&self, length: usize) -> &[u8] {
        // SAFETY: the pages are mapped for reading with at least this length until `self` is dropped, and the caller
        // warrants that they do not change.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), length.min(self.length)) }
    }

    /// Locks the pages that are touched from now on, so that they stay in memory.
    ///
    /// # Errors
    /// The kernel's: a limit, or a kernel before 4.4.
    pub(crate) fn lock_on_fault(&self) -> io::Result<()> {
        let (start, flags) = (self.start.as_ptr(), libc::MLOCK_ONFAULT as c_uint);
        // The system call itself, because older C libraries have no function for it.
        // SAFETY: the range is this mapping; a lock changes no content.
        match unsafe { libc::syscall(libc::SYS_mlock2, start, self.length, flags) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by mmap with this length and unmapped only here; slices of it borrow `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn reserves_address_space_and_reports_the_kernels_refusal() {
        let reserved = Mapping::reserve(1 << 20).expect("address space");
        assert_eq!(reserved.length(), 1 << 20);
        assert!(Mapping::reserve(usize::MAX).is_err());
        let folder = File::open("/proc").expect("every Linux has it");
        assert!(Mapping::of_driver(folder.as_fd(), 0, 4096).is_err());
    }
}
