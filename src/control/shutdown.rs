//! SIGTERM and SIGINT end the loop, a second one ends the process at once; SIGUSR1 prints the statistics.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::{self, JoinHandle};

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;
use signal_hook::iterator::{Handle, Signals as Waiting};

/// Stack of that thread: it prints a table.
const STACK_BYTES: usize = 512 << 10;

/// The handlers of a process and the thread that prints; that thread ends when this is dropped.
#[derive(Debug)]
pub struct Signals {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

/// Sets `quit` on SIGTERM and SIGINT, and calls `print` on a thread of its own for SIGUSR1.
///
/// The flag is set in the signal handler itself: nothing that `print` waits for delays it. A second SIGTERM or SIGINT
/// finds the flag set and ends the process there and then, with the shell's status 128 + signal.
pub fn start(quit: Arc<AtomicBool>, mut print: impl FnMut() + Send + 'static) -> io::Result<Signals> {
    for signal in [SIGTERM, SIGINT] {
        // In this order: the first signal finds the flag unset and sets it.
        flag::register_conditional_shutdown(signal, 128 + signal, quit.clone())?;
        flag::register(signal, quit.clone())?;
    }
    let mut waiting = Waiting::new([SIGUSR1])?;
    let handle = waiting.handle();
    let work = move || {
        crate::platform::scheduling::yield_to_others();
        waiting.forever().for_each(|_| print());
    };
    let thread = thread::Builder::new().name("signals".to_owned()).stack_size(STACK_BYTES).spawn(work)?;
    Ok(Signals { handle, thread: Some(thread) })
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    // The signals that end a process are tested on the program itself, in tests/control.rs.
    #[test]
    fn usr1_prints_each_time() {
        let (sender, receiver) = mpsc::channel();
        let signals = start(Arc::default(), move || _ = sender.send(())).expect("handlers");
        for _ in 0..3 {
            signal_hook::low_level::raise(SIGUSR1).expect("raised");
            receiver.recv_timeout(Duration::from_secs(10)).expect("printed");
        }
        drop(signals);
        assert!(receiver.recv_timeout(Duration::from_secs(10)).is_err(), "the thread has ended");
    }
}
