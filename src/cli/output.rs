//! Prints results on standard output.

use std::io::{self, Write};

use anyhow::{Context, Result};

/// The reader of standard output has closed its end (`faceptor ... | head`): the command ends without a message.
#[derive(Debug, thiserror::Error)]
#[error("standard output was closed")]
pub struct Closed;

/// Writes a text and flushes it, so that a reader gets each result at once.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
        written => written.context("cannot write to standard output"),
    }
}

/// Writes one JSON object as a line.
pub fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let mut line = serde_json::to_string(value).context("this result cannot be written as JSON")?;
    line.push('\n');
    print(&line)
}
