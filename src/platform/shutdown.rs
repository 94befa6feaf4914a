//! The one shutdown state of a run, and the signals that change it.
//!
//! Signal handlers, `ctl quit`, the loop, the publisher and the outputs all share one [`Shutdown`]. The state only moves
//! forward: from [`State::Running`] to [`State::Draining`] to [`State::Now`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level;

/// How far a run has come on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// The loop takes frames.
    Running,
    /// The loop ends by itself, because its results are no longer taken. What was published goes out; slow readers are
    /// waited for as the source allows.
    Draining,
    /// A signal or `ctl quit` has asked for the end. What was published still goes out, but readers are waited for a few
    /// seconds at most.
    Now,
}

/// Bits of the state. Each is only ever set, so that concurrent requests need no more than `fetch_or`.
const DRAINING: u8 = 1;
const NOW: u8 = 1 << 1;
/// A termination signal has come. The next one ends the process.
const SIGNALLED: u8 = 1 << 2;

/// The shutdown state of a run. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(Arc<AtomicU8>);

impl Shutdown {
    /// Returns the state. Costs one load.
    pub fn state(&self) -> State {
        match self.0.load(Ordering::Acquire) {
            bits if bits & NOW != 0 => State::Now,
            bits if bits & DRAINING != 0 => State::Draining,
            _ => State::Running,
        }
    }

    /// Returns whether the loop goes on.
    pub fn is_running(&self) -> bool {
        self.state() == State::Running
    }

    /// Returns whether the end was asked for, by a signal or `ctl quit`.
    pub fn is_requested(&self) -> bool {
        self.state() == State::Now
    }

    /// Ends the loop because its results are no longer taken. This is not a request to end: see [`Shutdown::is_requested`].
    pub fn drain(&self) {
        self.0.fetch_or(DRAINING, Ordering::Release);
    }

    /// Ends the run, and bounds the wait for slow readers.
    pub fn drain_now(&self) {
        self.0.fetch_or(NOW, Ordering::Release);
    }

    /// Notes a termination signal. Returns whether one had come before. Async-signal-safe.
    fn note_signal(&self) -> bool {
        self.0.fetch_or(NOW | SIGNALLED, Ordering::AcqRel) & SIGNALLED != 0
    }
}

/// Makes the first SIGTERM or SIGINT call [`Shutdown::drain_now`], and the second end the process with the status
/// 128 + signal, which is also the shell's.
///
/// Only signals count: the first one after `ctl quit`, or during the last flush, still lets the outputs finish.
///
/// # Errors
/// When the system refuses a handler.
pub fn end_on_signals(shutdown: &Shutdown) -> io::Result<()> {
    for signal in [SIGTERM, SIGINT] {
        let shutdown = shutdown.clone();
        let handle = move || {
            if shutdown.note_signal() {
                low_level::exit(128 + signal);
            }
        };
        // SAFETY: the handler is async-signal-safe: one atomic operation and `_exit`. It takes no lock and no memory.
        unsafe { low_level::register(signal, handle) }?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_moves_forward_only() {
        let shutdown = Shutdown::default();
        assert_eq!(shutdown.state(), State::Running);
        shutdown.drain();
        assert_eq!((shutdown.state(), shutdown.is_running()), (State::Draining, false));
        shutdown.clone().drain_now();
        shutdown.drain();
        assert_eq!(shutdown.state(), State::Now, "clones share the state");
    }

    #[test]
    fn draining_does_not_request_the_end() {
        let shutdown = Shutdown::default();
        shutdown.drain();
        assert!(!shutdown.is_requested());
    }

    #[test]
    fn only_the_second_signal_ends_the_process() {
        let shutdown = Shutdown::default();
        // The run drains, and `ctl quit` was called: neither is a signal.
        shutdown.drain();
        shutdown.drain_now();
        assert!(!shutdown.note_signal(), "the first signal lets the outputs finish");
        assert!(shutdown.note_signal());
        let shutdown = Shutdown::default();
        assert!(!shutdown.note_signal());
        assert_eq!(shutdown.state(), State::Now);
    }

    // tests/integration/control.rs tests on the program itself that the second signal ends the process.
    #[test]
    fn first_signal_asks_for_the_end() -> io::Result<()> {
        let shutdown = Shutdown::default();
        end_on_signals(&shutdown)?;
        low_level::raise(SIGTERM)?;
        assert_eq!(shutdown.state(), State::Now);
        Ok(())
    }
}
