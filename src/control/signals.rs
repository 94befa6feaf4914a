//! Signals of a run: SIGTERM and SIGINT end it, SIGUSR1 prints the statistics.

use std::io;
use std::thread::{self, JoinHandle};

use signal_hook::consts::SIGUSR1;
use signal_hook::iterator::{Handle, Signals as SignalQueue};

use crate::platform::scheduling;
use crate::platform::shutdown::{self, Shutdown};

/// Stack of the thread that prints a table.
const STACK_BYTES: usize = 512 << 10;

/// The signal handlers of a run and the thread that prints. Dropping it ends the thread; the handlers stay.
#[derive(Debug)]
pub struct Signals {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Signals {
    /// Ends the run on SIGTERM and SIGINT, and calls `print` on a thread of its own for each SIGUSR1.
    ///
    /// The state is changed in the signal handler itself, so nothing that `print` waits for delays it.
    ///
    /// # Errors
    /// When the system refuses a handler or the thread.
    pub fn start(shutdown: &Shutdown, mut print: impl FnMut() + Send + 'static) -> io::Result<Signals> {
        shutdown::end_on_signals(shutdown)?;
        let mut queue = SignalQueue::new([SIGUSR1])?;
        let handle = queue.handle();
        let work = move || {
            scheduling::yield_to_others();
            queue.forever().for_each(|_| print());
        };
        let thread = thread::Builder::new().name("signals".to_owned()).stack_size(STACK_BYTES).spawn(work)?;
        Ok(Signals { handle, thread: Some(thread) })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // The panic hook has already printed a panic of this thread.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn usr1_prints_each_time() {
        let (sender, receiver) = mpsc::channel();
        let signals = Signals::start(&Shutdown::default(), move || _ = sender.send(())).expect("handlers");
        for _ in 0..3 {
            signal_hook::low_level::raise(SIGUSR1).expect("raised");
            receiver.recv_timeout(Duration::from_secs(10)).expect("printed");
        }
        drop(signals);
        assert!(receiver.recv_timeout(Duration::from_secs(10)).is_err(), "the thread has ended");
    }
}
