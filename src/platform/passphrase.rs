//! A passphrase: from the environment, or typed on the terminal without being shown.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};

use anyhow::{Context, Result, ensure};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
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
/// Without a terminal, or when the two differ.
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

/// Keeps a terminal from showing what is typed, until it is dropped.
struct Silence<'a> {
    terminal: &'a File,
    before: Termios,
}

impl Silence<'_> {
    fn on(terminal: &File) -> Result<Silence<'_>> {
        let before = tcgetattr(terminal).context("the terminal does not answer")?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal, OptionalActions::Flush, &silent).context("the terminal cannot be silenced")?;
        Ok(Silence { terminal, before })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        // Nothing more can be done when this fails.
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}
