//! Progress over many files, on a terminal only.

use std::io::{IsTerminal, Write};

/// Files from which on progress is shown.
const MANY: usize = 20;

/// Shows how many files are done.
pub(crate) struct Progress {
    all: usize,
    done: usize,
    shown: bool,
}

impl Progress {
    /// Begins with none of `all` files done.
    pub fn of(all: usize) -> Progress {
        Progress { all, done: 0, shown: all >= MANY && std::io::stderr().is_terminal() }
    }

    /// Counts a file.
    pub fn step(&mut self) {
        self.done += 1;
        if self.shown {
            // A closed standard error is no failure.
            let _ = write!(std::io::stderr(), "\r{} of {} photos", self.done, self.all);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
