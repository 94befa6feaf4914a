//! A passphrase: from the environment, or typed on the terminal without being shown.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};

use anyhow::{Context, Result, ensure};
use zeroize::Zeroizing;

/// The variable that holds a passphrase.
pub(crate) const VARIABLE: &str = "FACEPTOR_PASSPHRASE";

/// Returns the passphrase of the environment, if there is one.
pub(crate) fn from_environment() -> Option<Zeroizing<String>> {
    std::env::var(VARIABLE).ok().filter(|text| !text.is_empty()).map(Zeroizing::new)
}

/// Asks for a passphrase on the terminal; twice for a new one.
///
/// # Errors
/// When there is no terminal, or the two differ.
pub(crate) fn ask(is_new: bool) -> Result<Zeroizing<String>> {
    let first = ask_once("Passphrase: ")?;
    if is_new {
        ensure!(*first == *ask_once("The same again: ")?, "the two passphrases differ");
    }
    Ok(first)
}

fn ask_once(prompt: &str) -> Result<Zeroizing<String>> {
    let terminal = File::options().read(true).write(true).open("/dev/tty");
    let terminal = terminal.with_context(|| format!("no terminal to ask for a passphrase on: set {VARIABLE}"))?;
    let mut output = &terminal;
    output.write_all(prompt.as_bytes())?;
    let silence = Silence::on(&terminal)?;
    let mut line = Zeroizing::new(String::new());
    let read = BufReader::new(&terminal).read_line(&mut line);
    drop(silence);
    output.write_all(b"\n")?;
    read.context("cannot read the passphrase")?;
    let length = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(length);
    Ok(line)
}

/// The signals that end a program at a terminal.
const ENDING: [libc::c_int; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];
/// The settings that a signal restores, and the terminal's descriptor.
static BEFORE: AtomicPtr<libc::termios> = AtomicPtr::new(ptr::null_mut());
static TERMINAL: AtomicI32 = AtomicI32::new(-1);

/// Keeps a terminal from showing what is typed, until it is dropped or a signal ends the program.
struct Silence {
    before: Box<libc::termios>,
    handlers: Vec<(libc::c_int, libc::sigaction)>,
}

impl Silence {
    fn on(terminal: &File) -> Result<Silence> {
        let fd = terminal.as_raw_fd();
        // SAFETY: termios is a plain record, and tcgetattr fills it.
        let before = unsafe {
            let mut before: Box<libc::termios> = Box::new(std::mem::zeroed());
            ensure!(libc::tcgetattr(fd, &mut *before) == 0, "the terminal does not answer");
            before
        };
        let mut silence = Silence { before, handlers: Vec::new() };
        TERMINAL.store(fd, Ordering::Release);
        BEFORE.store(&mut *silence.before, Ordering::Release);
        for signal in ENDING {
            // SAFETY: the records are plain, and the handler calls functions only that are safe in a handler of signals.
            unsafe {
                let (mut ours, mut former): (libc::sigaction, libc::sigaction) =
                    (std::mem::zeroed(), std::mem::zeroed());
                ours.sa_sigaction = show_again_and_end as *const () as usize;
                if libc::sigaction(signal, &ours, &mut former) == 0 {
                    silence.handlers.push((signal, former));
                }
            }
        }
        let mut silent = *silence.before;
        silent.c_lflag &= !libc::ECHO;
        // SAFETY: the record is one that tcgetattr filled.
        ensure!(unsafe { libc::tcsetattr(fd, libc::TCSAFLUSH, &silent) } == 0, "the terminal cannot be silenced");
        Ok(silence)
    }
}

/// Lets the terminal show what is typed, and ends the program by the signal, as it would have ended without a handler.
extern "C" fn show_again_and_end(signal: libc::c_int) {
    let before = BEFORE.load(Ordering::Acquire);
    // SAFETY: the settings live until the handler is removed; all three functions may be called in a handler.
    unsafe {
        if !before.is_null() {
            libc::tcsetattr(TERMINAL.load(Ordering::Acquire), libc::TCSANOW, before);
        }
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // SAFETY: the records are those that the system filled. Nothing more can be done when a call fails.
        unsafe {
            libc::tcsetattr(TERMINAL.load(Ordering::Acquire), libc::TCSAFLUSH, &*self.before);
            for (signal, former) in &self.handlers {
                libc::sigaction(*signal, former, ptr::null_mut());
            }
        }
        // After the handlers, which use it.
        BEFORE.store(ptr::null_mut(), Ordering::Release);
    }
}
