//! Prints results on standard output.

use std::io::{self, Write};

use anyhow::{Context, Result};

use crate::outputs::format::terminal;

/// The reader of standard output has closed its end (`faceptor ... | head`): the command ends without a message.
#[derive(Debug, thiserror::Error)]
#[error("standard output was closed")]
pub struct Closed;

/// Writes a text of lines, in which nothing controls the terminal, and flushes it, so that a reader gets each result at once.
pub fn print(text: &str) -> Result<()> {
    write(&terminal::lines(text))
}

/// Writes one JSON object as a line.
pub fn print_json(value: &impl serde::Serialize) -> Result<()> {
    write(&json_line(value)?)
}

/// Returns one JSON object as a line, in which nothing controls the terminal.
pub fn json_line(value: &impl serde::Serialize) -> Result<String> {
    let line = serde_json::to_string(value).context("this result cannot be written as JSON")?;
    Ok(terminal::json(&line).into_owned() + "\n")
}

/// Writes lines as they are.
pub fn write(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
        written => written.context("cannot write to standard output"),
    }
}
