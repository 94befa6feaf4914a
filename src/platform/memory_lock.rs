//! Avoids page faults in the loop: touches memory ahead of time, and locks it as far as the limits allow without later
//! failures.
//!
//! Only pages that have been used are locked, because a run never reads most of the program's 30 MB. The loop touches its
//! code and data in the rounds before its first frame; this module touches the heap and the stacks.

use std::fs;
use std::hint::black_box;
use std::mem;

use serde::Serialize;

use crate::platform::limits;
use crate::platform::mmap::Mapping;
use crate::platform::scheduling::check;

/// Bytes of stack that are touched ahead in each thread of the loop; the stages use a small part of them.
const STACK: usize = 256 * 1024;
/// Bytes of heap, beyond those in use, that are touched ahead for later allocations.
const HEAP: usize = 2 << 20;
/// Bytes of one piece: small enough to come from the heap and not from a mapping of its own.
const HEAP_PIECE: usize = 64 << 10;
/// Arenas of the heap: one for the loop's thread, which allocates nothing, and one for all other threads.
#[cfg(target_env = "gnu")]
const ARENAS: libc::c_int = 2;
/// Bytes that a run maps and locks later (camera buffers, threads, frames), beside those mapped at the start.
const HEADROOM: u64 = 64 << 20;

/// The part of the process's memory that is locked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Locked {
    #[default]
    Nothing,
    /// Memory that was mapped at the start.
    Present,
    /// Memory that was mapped at the start or is mapped later.
    PresentAndFuture,
}

impl Locked {
    /// Returns a description for people.
    pub fn describe(self) -> &'static str {
        match self {
            Locked::Nothing => "memory not locked",
            Locked::Present => "memory of the start locked",
            Locked::PresentAndFuture => "memory locked",
        }
    }
}

/// How much memory the process may lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockLimit {
    Unlimited,
    Bytes(u64),
}

/// Returns the limit of this process; with the capability `CAP_IPC_LOCK` there is none.
pub fn lock_limit() -> LockLimit {
    match limits::locked_memory_bytes() {
        Some(bytes) if !exceeds(bytes) => LockLimit::Bytes(bytes),
        _ => LockLimit::Unlimited,
    }
}

/// Tries whether a lock above the limit is permitted: in a container, root may lack the capability that it seems to have.
fn exceeds(limit: u64) -> bool {
    let Some(size) = usize::try_from(limit).ok().and_then(|size| size.checked_add(1 << 16)) else { return false };
    // Locked on fault, address space without content takes no memory.
    Mapping::reserve(size).and_then(|mapping| mapping.lock_on_fault()).is_ok()
}

/// Locks the memory of the process.
///
/// Future memory is locked only if there is no limit: with a limit, allocations that reach it would fail.
///
/// # Errors
/// A note that names the limit and what would permit the lock.
pub fn lock() -> Result<Locked, String> {
    let needed = mapped_bytes() + HEADROOM;
    let (flags, locked) = match lock_limit() {
        LockLimit::Unlimited => (libc::MCL_CURRENT | libc::MCL_FUTURE, Locked::PresentAndFuture),
        LockLimit::Bytes(limit) if limit >= needed => (libc::MCL_CURRENT, Locked::Present),
        LockLimit::Bytes(limit) => {
            return Err(format!(
                "locked memory: the limit is {} KiB, {} KiB are needed; raise it by LimitMEMLOCK=infinity in the unit, \
                 `ulimit -l unlimited`, or CAP_IPC_LOCK",
                limit / 1024,
                needed / 1024
            ));
        }
    };
    // SAFETY: no pointers; pages stay resident once they are, nothing else changes.
    let lock = |flags| check(unsafe { libc::mlockall(flags) }.into());
    // Kernels before 4.4 cannot lock only the pages that are used.
    match lock(flags | libc::MCL_ONFAULT).or_else(|_| lock(flags)) {
        Ok(()) => Ok(locked),
        Err(error) => Err(format!("locked memory: {error}")),
    }
}

/// Returns the size of all mappings in bytes: a lock of everything counts it against the limit.
fn mapped_bytes() -> u64 {
    // The first number of the line is in pages.
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
    // SAFETY: no pointers.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages * u64::try_from(page).unwrap_or(4096)
}

/// Keeps freed memory in the process, so that later allocations fault no page, and touches some heap ahead. Called on the
/// thread that the loop will run on.
pub fn keep_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointers; changes when the allocator gives memory back to the kernel, and how many arenas it makes.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
    }
    // Ones, because zeroed memory would be requested and not written.
    let pieces: Vec<Vec<u8>> = (0..HEAP / HEAP_PIECE).map(|_| vec![1; HEAP_PIECE]).collect();
    black_box(&pieces);
}

/// Touches the stack below the caller's frame, so that deeper calls fault no page.
#[inline(never)]
pub fn prefault_stack() {
    // Written, because pages that are only read share one page of zeros.
    let mut stack = mem::MaybeUninit::<[u8; STACK]>::uninit();
    for offset in (0..STACK).step_by(1024) {
        // SAFETY: inside the array. Volatile, so that the compiler keeps writes that are never read.
        unsafe { stack.as_mut_ptr().cast::<u8>().add(offset).write_volatile(1) };
    }
    black_box(&mut stack);
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::platform::mmap::Mapping;

    /// Runs `work` in a child process, because locks and limits stay with a process that the other tests share. A child
    /// that does not end is started again: in QEMU's user mode (7.2) it inherits the emulator's locks, and one that another
    /// thread held during the fork is never released.
    fn in_child(work: impl Fn() -> bool) -> bool {
        (0..3).find_map(|_| attempt(&work)).expect("a child that ends")
    }

    /// Returns the result of `work` in a child; `None` if the child had not ended after 20 seconds.
    fn attempt(work: impl Fn() -> bool) -> Option<bool> {
        // SAFETY: the child calls `work` and ends by _exit. Other threads of the tests are not copied; `work` takes no
        // lock of theirs except the allocator's, which glibc makes safe across fork. The child's number stays valid until it is waited for.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::_exit(if work() { 0 } else { 1 });
            }
            assert!(child > 0, "no child");
            let (begun, mut status) = (Instant::now(), 0);
            loop {
                match libc::waitpid(child, &mut status, libc::WNOHANG) {
                    0 if begun.elapsed() < Duration::from_secs(20) => thread::sleep(Duration::from_millis(5)),
                    0 => {
                        libc::kill(child, libc::SIGKILL);
                        libc::waitpid(child, &mut status, 0);
                        return None;
                    }
                    ended => {
                        assert_eq!(ended, child);
                        return Some(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0);
                    }
                }
            }
        }
    }

    fn locked_kb() -> Option<u64> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find(|line| line.starts_with("VmLck:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    fn limit(bytes: u64) -> bool {
        let limit = libc::rlimit { rlim_cur: bytes as libc::rlim_t, rlim_max: bytes as libc::rlim_t };
        // SAFETY: reads one rlimit.
        unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) == 0 }
    }

    #[test]
    fn reports_the_locked_memory() {
        assert!(in_child(|| match lock() {
            Ok(Locked::PresentAndFuture) => {
                // A new mapping: the allocator could return memory that was there, and locked, before.
                let before = locked_kb().unwrap_or(0);
                let later = Mapping::reserve(8 << 20);
                before > 0 && later.is_ok() && locked_kb() >= Some(before + (8 << 10))
            }
            Ok(_) => locked_kb() > Some(0),
            Err(reason) => locked_kb() == Some(0) && reason.contains("LimitMEMLOCK"),
        }));
    }

    #[test]
    fn later_allocations_succeed_under_a_limit() {
        assert!(in_child(|| {
            if !limit(1 << 20) || lock_limit() == LockLimit::Unlimited {
                // With root's capability no limit holds, so the child gives it up.
                // SAFETY: concerns this child alone.
                let dropped = unsafe { libc::setuid(65534) } == 0;
                if !dropped || lock_limit() == LockLimit::Unlimited {
                    return false;
                }
            }
            let refused = lock().is_err_and(|reason| reason.contains("the limit is 1024 KiB"));
            let later = black_box(vec![1u8; 64 << 20]);
            refused && locked_kb() == Some(0) && later[5] == 1
        }));
    }

    /// Returns the page faults of this thread that needed no disk.
    #[cfg(target_env = "gnu")]
    fn faults() -> i64 {
        // SAFETY: all zeros is a valid rusage, and the call writes one.
        let usage = unsafe {
            let mut usage: libc::rusage = mem::zeroed();
            libc::getrusage(libc::RUSAGE_THREAD, &mut usage);
            usage
        };
        usage.ru_minflt as i64
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn allocations_from_the_touched_heap_fault_no_page() {
        assert!(in_child(|| {
            let allocate = || black_box((0..HEAP / HEAP_PIECE / 2).map(|_| vec![1u8; HEAP_PIECE]).collect::<Vec<_>>());
            // Once before, because pages of the code, and of its translation under emulation, fault too.
            drop(allocate());
            keep_heap();
            let before = faults();
            drop(allocate());
            faults() - before <= 8
        }));
    }

    #[test]
    fn touches_the_stack_of_a_small_thread() {
        let work = || {
            prefault_stack();
            true
        };
        let thread = std::thread::Builder::new().stack_size(2 * STACK).spawn(work).expect("a thread");
        assert!(thread.join().expect("no overflow"));
    }
}
