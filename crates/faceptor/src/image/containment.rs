//! Contains the panics of picture decoders: their input is untrusted, and a panic must cost one picture, not the program.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::thread;

thread_local! {
    /// True while a decoder runs on this thread: a panic is then reported as an error, without a backtrace.
    static DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Installs once a panic hook that is silent on threads on which a decoder runs. All other panics go to the hook that
/// was there before.
fn install_hook() {
    static INSTALLED: Once = Once::new();
    // The hook cannot be exchanged by a thread that panics.
    if thread::panicking() {
        return;
    }
    INSTALLED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |information| {
            if !DECODING.try_with(Cell::get).unwrap_or(false) {
                before(information);
            }
        }));
    });
}

/// Runs a decoder. Returns `None` when it panics; nothing is printed then.
///
/// After a panic, the decoder's target must not be used.
pub fn contain<T>(decode: impl FnOnce() -> T) -> Option<T> {
    // To a fuzzer, every panic is a finding.
    if cfg!(fuzzing) {
        return Some(decode());
    }
    install_hook();
    let outer = DECODING.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(decode));
    DECODING.set(outer);
    outcome.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_of_a_decoder_becomes_none() {
        assert_eq!(contain(|| 7), Some(7));
        let none: &[u8] = &[];
        assert_eq!(contain(|| none[none.len()]), None);
        assert!(!DECODING.get(), "later panics of this thread are printed again");
        assert_eq!(contain(|| contain(|| none[none.len()]).is_none() && DECODING.get()), Some(true));
    }

    #[test]
    fn panics_of_several_threads_are_contained() {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                thread::spawn(|| (0..50).all(|i: usize| contain(|| [0u8; 4][i + 4 - i.min(4)]).is_some() == (i > 0)))
            })
            .collect();
        for thread in threads {
            assert!(thread.join().is_ok());
        }
    }
}
