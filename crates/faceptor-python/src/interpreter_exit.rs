//! Work without the interpreter's lock, and what becomes of it when the interpreter ends.
//!
//! A daemon thread that asks for the lock after Python 3.13 and earlier has begun to end is ended inside that call, by unwinding
//! its stack. Rust's frames lie on it, and a wheel has an unwinder of its own, which the unwinder of the C library does not know:
//! the process crashed. So such a thread waits here instead, as threads of later Pythons do by themselves.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

/// The thread that ends the interpreter, once it does.
static ENDED_BY: OnceLock<ThreadId> = OnceLock::new();
/// Threads that ask for the lock.
static ASKING: AtomicUsize = AtomicUsize::new(0);
/// The longest wait for threads that asked for the lock before the end began.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs `work` without the interpreter's lock. Does not return if the interpreter ends meanwhile, except in the thread that ends
/// it.
pub fn unlocked<T: Send>(python: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    let result = python.detach(|| {
        let result = work();
        ASKING.fetch_add(1, Ordering::SeqCst);
        if ENDED_BY.get().is_some_and(|thread| *thread != thread::current().id()) {
            ASKING.fetch_sub(1, Ordering::SeqCst);
            loop {
                thread::park();
            }
        }
        result
    });
    ASKING.fetch_sub(1, Ordering::SeqCst);
    result
}

/// Lets the threads that ask for the lock have it, and stops later ones. Python calls it before it ends.
#[pyfunction]
pub fn end(python: Python<'_>) {
    if ENDED_BY.set(thread::current().id()).is_err() {
        return;
    }
    python.detach(|| {
        let start = Instant::now();
        while ASKING.load(Ordering::SeqCst) > 0 && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(1));
        }
    });
}
