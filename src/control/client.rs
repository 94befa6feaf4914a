//! The other end of the control socket: one request, and its response.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::control::protocol::MAX_RESPONSE;
use crate::control::socket;

/// Longest wait for the loop to take a connection and a request.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends one request and waits for its response.
///
/// # Errors
/// When nothing listens there, or there is no response in that time; the message names the socket and the remedy.
pub(crate) fn ask(path: &Path, request: &Value, patience: Duration) -> Result<Value> {
    let stream = socket::connect(path, PATIENCE).map_err(|error| unreachable(path, &error))?;
    let failed = || format!("no answer from the loop at {}", path.display());
    stream.set_read_timeout(Some(patience)).with_context(failed)?;
    stream.set_write_timeout(Some(PATIENCE)).with_context(failed)?;
    // A connection that is refused at once (too many clients) has an answer, although the request could not be written.
    let written = (&stream).write_all(format!("{request}\n").as_bytes());
    let mut line = String::new();
    let read = BufReader::new((&stream).take(MAX_RESPONSE as u64)).read_line(&mut line);
    if line.is_empty() {
        written.with_context(failed)?;
    }
    match read {
        Ok(0) => bail!("{}: it closed the connection", failed()),
        Ok(_) => serde_json::from_str(&line).with_context(|| format!("{}: the response is not JSON", failed())),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            bail!("{} within {} s", failed(), patience.as_secs())
        }
        Err(error) => Err(error).with_context(failed),
    }
}

/// Says why nothing answers there, and what to do.
fn unreachable(path: &Path, error: &io::Error) -> anyhow::Error {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            anyhow!("nothing listens at {shown}: there is no such socket; start `faceptor run --control {shown}`")
        }
        io::ErrorKind::ConnectionRefused if !socket::is_socket(path) => {
            anyhow!("{shown}: this file is not a socket; give the one of `faceptor run --control`")
        }
        io::ErrorKind::ConnectionRefused => {
            anyhow!(
                "nothing listens at {shown} any more: its faceptor has ended; start `faceptor run --control {shown}`"
            )
        }
        io::ErrorKind::PermissionDenied => {
            anyhow!("{shown}: this loop belongs to another user; only that user may control it")
        }
        io::ErrorKind::WouldBlock => anyhow!("{shown}: the loop does not take connections"),
        _ => anyhow!("{shown}: {error}"),
    }
}
