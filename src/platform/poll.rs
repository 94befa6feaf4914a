//! Waits until files are ready: the one place that calls `poll`.

use std::io;
use std::os::fd::RawFd;
use std::ptr;
use std::time::Duration;

/// Events of a file, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Events(libc::c_short);

impl Events {
    pub(crate) const NONE: Events = Events(0);
    /// There is something to read, or the end of it.
    pub(crate) const READABLE: Events = Events(libc::POLLIN);
    /// Writing would not block.
    pub(crate) const WRITABLE: Events = Events(libc::POLLOUT);
    /// Something exceptional, for example an event of a camera.
    pub(crate) const URGENT: Events = Events(libc::POLLPRI);
    /// An error, a closed other end, or a descriptor that is not open. Reported without being asked for.
    pub(crate) const FAILED: Events = Events(libc::POLLERR | libc::POLLHUP | libc::POLLNVAL);

    /// Returns the events of both sets.
    pub(crate) fn and(self, other: Events) -> Events {
        Events(self.0 | other.0)
    }

    /// Returns true if the sets have an event in common.
    pub(crate) fn intersects(self, other: Events) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns true if there is no event.
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// A file, the events to wait for, and after [`poll`] those that happened.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct PollEntry(libc::pollfd);

impl PollEntry {
    /// An entry that waits for nothing and keeps its place in the list.
    pub(crate) const UNUSED: PollEntry = PollEntry(libc::pollfd { fd: -1, events: 0, revents: 0 });

    /// Waits for `events` of a file. A descriptor that is not open is reported as [`Events::FAILED`].
    pub(crate) fn new(fd: RawFd, events: Events) -> PollEntry {
        PollEntry(libc::pollfd { fd, events: events.0, revents: 0 })
    }

    /// Returns the events that happened.
    pub(crate) fn happened(&self) -> Events {
        Events(self.0.revents)
    }
}

/// Waits until an event happens, for at most `timeout` (`None`: without a limit), and returns the number of entries with
/// an event. A signal ends the wait early with 0, so a caller with a deadline looks at the clock again.
///
/// # Errors
/// The kernel's, other than the interruption by a signal.
pub(crate) fn poll(entries: &mut [PollEntry], timeout: Option<Duration>) -> io::Result<usize> {
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos() as libc::c_long,
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    let (list, count) = (entries.as_mut_ptr().cast::<libc::pollfd>(), entries.len() as libc::nfds_t);
    // SAFETY: `list` has `count` entries of the layout of pollfd, borrowed for the call; the timeout is null or lives on
    // this stack; the signal mask is left as it is.
    match unsafe { libc::ppoll(list, count, timeout, ptr::null()) } {
        -1 => {
            // The kernel has written nothing; events of an earlier call must not be taken for new ones.
            entries.iter_mut().for_each(|entry| entry.0.revents = 0);
            match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
                error => Err(error),
            }
        }
        ready => Ok(ready as usize),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn reports_ready_entries_by_their_index() -> io::Result<()> {
        let (reader, mut writer) = io::pipe()?;
        let mut entries = [
            PollEntry::UNUSED,
            PollEntry::new(reader.as_raw_fd(), Events::READABLE),
            PollEntry::new(writer.as_raw_fd(), Events::WRITABLE.and(Events::URGENT)),
        ];
        assert_eq!(poll(&mut entries[..2], Some(Duration::from_millis(1)))?, 0);
        assert!(entries.iter().all(|entry| entry.happened().is_empty()));
        writer.write_all(b"a")?;
        assert_eq!(poll(&mut entries, None)?, 2);
        assert_eq!(entries.map(|entry| entry.happened()), [Events::NONE, Events::READABLE, Events::WRITABLE]);
        drop(writer);
        assert_eq!(poll(&mut entries[1..2], Some(Duration::MAX))?, 1);
        assert!(entries[1].happened().intersects(Events::FAILED), "the other end is closed");
        Ok(())
    }
}
