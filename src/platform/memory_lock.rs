//! Memory without page faults to come: touched ahead, and locked as far as the limits let it be locked without failing
//! later.
//!
//! What is locked is what has been used: most of the program's 30 MB are never read by a run, and a board has better uses
//! for them. The loop touches its code and data in the rounds before its first frame; the heap and the stacks are touched
//! here.

use std::fs;
use std::hint::black_box;
use std::mem;

use serde::Serialize;

use crate::platform::limits;
use crate::platform::mmap::Mapping;
use crate::platform::scheduling::check;

/// Touched ahead in each thread of the loop; what our stages and the executor use of it is a small part.
const STACK: usize = 256 * 1024;
/// Of the heap, so much more than is in use is touched ahead, for what is allocated later.
const HEAP: usize = 2 << 20;
/// Touched in pieces so small that they come from the heap and not from mappings of their own.
const HEAP_PIECE: usize = 64 << 10;
/// Arenas of the heap: one for the loop's thread, which allocates nothing, and one for all others.
#[cfg(target_env = "gnu")]
const ARENAS: libc::c_int = 2;
/// Locked later within a limit, besides what is mapped now: buffers of the camera, threads, frames.
const HEADROOM: u64 = 64 << 20;

/// How much of the process's memory is locked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Locked {
    #[default]
    Nothing,
    /// What was mapped at the start.
    Present,
    /// That, and whatever is mapped later.
    PresentAndFuture,
}

impl Locked {
    /// For people.
    pub fn describe(self) -> &'static str {
        match self {
            Locked::Nothing => "memory not locked",
            Locked::Present => "memory of the start locked",
            Locked::PresentAndFuture => "memory locked",
        }
    }
}

/// How much may be locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockLimit {
    Unlimited,
    Bytes(u64),
}

/// The limit of this process; root's capability counts as none.
pub fn allowance() -> LockLimit {
    match limits::locked_memory_bytes() {
        Some(bytes) if !exceeds(bytes) => LockLimit::Bytes(bytes),
        _ => LockLimit::Unlimited,
    }
}

/// Whether a lock above the limit is permitted: in a container, root may lack the capability that it seems to have.
fn exceeds(limit: u64) -> bool {
    let Some(size) = usize::try_from(limit).ok().and_then(|size| size.checked_add(1 << 16)) else { return false };
    // Locked on fault, address space without content takes no memory.
    Mapping::reserve(size).and_then(|mapping| mapping.lock_on_fault()).is_ok()
}

/// Locks the memory of the process; the error says what would permit it.
///
/// Memory to come is only locked without a limit: with one, allocations would fail on reaching it.
pub fn lock() -> Result<Locked, String> {
    let needed = mapped_bytes() + HEADROOM;
    let (flags, locked) = match allowance() {
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
    // Kernels before 4.4 do not know how to lock what is used only.
    match lock(flags | libc::MCL_ONFAULT).or_else(|_| lock(flags)) {
        Ok(()) => Ok(locked),
        Err(error) => Err(format!("locked memory: {error}")),
    }
}

/// Size of all mappings, what a lock of everything counts against the limit.
fn mapped_bytes() -> u64 {
    // Pages, the first number of the line.
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
    // SAFETY: no pointers.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages * u64::try_from(page).unwrap_or(4096)
}

/// Keeps freed memory in the process, so that what is allocated again is there already, and touches some ahead. For the
/// thread that the loop will run on.
pub fn keep_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointers; changes when the allocator gives memory back to the kernel, and how many arenas it makes.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
    }
    // Ones: zeroed memory would be asked for and not written.
    let pieces: Vec<Vec<u8>> = (0..HEAP / HEAP_PIECE).map(|_| vec![1; HEAP_PIECE]).collect();
    black_box(&pieces);
}

/// Touches the stack below the caller's frame, so that deeper calls fault no more.
#[inline(never)]
pub fn prefault_stack() {
    // Written, or the pages would all be the one of zeros.
    let mut stack = mem::MaybeUninit::<[u8; STACK]>::uninit();
    for offset in (0..STACK).step_by(1024) {
        // SAFETY: inside the array; volatile, so that the writes stay although nobody reads them.
        unsafe { stack.as_mut_ptr().cast::<u8>().add(offset).write_volatile(1) };
    }
    black_box(&mut stack);
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    /// In a process of its own: locked memory and limits stay with a process, and the other tests share this one. A child
    /// that does not end is made again: in QEMU's user mode (7.2) it inherits the emulator's own locks, and one that another
    /// thread held while it was made is never released.
    fn in_child(work: impl Fn() -> bool) -> bool {
        (0..3).find_map(|_| attempt(&work)).expect("a child that ends")
    }

    /// What a child says of `work`; `None` where it had not ended after 20 seconds.
    fn attempt(work: impl Fn() -> bool) -> Option<bool> {
        // SAFETY: the child calls `work` and ends by _exit. Other threads of the tests are not copied; `work` takes no
        // lock of theirs except the allocator's, which glibc makes safe across fork. It is this process's own until waited for.
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
    fn what_is_said_to_be_locked_is_locked() {
        assert!(in_child(|| match lock() {
            Ok(Locked::PresentAndFuture) => {
                let before = locked_kb();
                let more = black_box(vec![1u8; 8 << 20]);
                locked_kb() > before && before > Some(0) && more[1] == 1
            }
            Ok(_) => locked_kb() > Some(0),
            Err(reason) => locked_kb() == Some(0) && reason.contains("LimitMEMLOCK"),
        }));
    }

    #[test]
    fn under_a_limit_nothing_fails_later() {
        assert!(in_child(|| {
            if !limit(1 << 20) || allowance() == LockLimit::Unlimited {
                // Root's capability: no limit holds. Given up where that is permitted, to see the limit.
                // SAFETY: concerns this child alone.
                let dropped = unsafe { libc::setuid(65534) } == 0;
                if !dropped || allowance() == LockLimit::Unlimited {
                    return false;
                }
            }
            let refused = lock().is_err_and(|reason| reason.contains("the limit is 1024 KiB"));
            let later = black_box(vec![1u8; 64 << 20]);
            refused && locked_kb() == Some(0) && later[5] == 1
        }));
    }

    /// Page faults of this thread so far that needed no disk.
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
    fn what_is_allocated_after_the_heap_was_touched_faults_no_more() {
        assert!(in_child(|| {
            let allocate = || black_box((0..HEAP / HEAP_PIECE / 2).map(|_| vec![1u8; HEAP_PIECE]).collect::<Vec<_>>());
            // Once before: the code's own pages, and under emulation its translation, fault too. The heap is given back.
            drop(allocate());
            keep_heap();
            let before = faults();
            drop(allocate());
            faults() - before <= 8
        }));
    }

    #[test]
    fn the_stack_is_touched_in_a_small_thread_too() {
        let work = || {
            prefault_stack();
            true
        };
        let thread = std::thread::Builder::new().stack_size(2 * STACK).spawn(work).expect("a thread");
        assert!(thread.join().expect("no overflow"));
    }
}
