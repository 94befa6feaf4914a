//! One connection of the control socket: fixed buffers, and limits on how long it may take.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::control::protocol::{self, MAX_REQUEST, Refusal, Reply, RequestId};
use crate::control::{LoopControl, PendingResult};
use crate::platform::poll::Events;

/// Time limits of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest time without a byte in either direction.
    pub idle: Duration,
    /// Longest time from the first byte of a request to its last, and for a client to take a response.
    pub line: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { idle: Duration::from_secs(300), line: Duration::from_secs(5) }
    }
}

/// A client's connection. Requests are carried out one after the other: the next one is read when the response to the
/// last has left, so at most one response is held.
pub struct Connection {
    stream: UnixStream,
    input: Box<[u8; MAX_REQUEST + 1]>,
    filled: usize,
    output: Vec<u8>,
    sent: usize,
    /// The `id` of the request whose result is pending, and the result.
    waiting: Option<(RequestId, PendingResult)>,
    /// When the last byte was sent or received.
    moved: Instant,
    /// When the current request or response began.
    begun: Option<Instant>,
    /// The client has closed its sending side.
    ended: bool,
    /// The connection closes when the response has left; nothing more is read.
    closing: bool,
}

impl Connection {
    pub fn new(stream: UnixStream, now: Instant) -> io::Result<Connection> {
        stream.set_nonblocking(true)?;
        Ok(Connection {
            stream,
            input: Box::new([0; MAX_REQUEST + 1]),
            filled: 0,
            output: Vec::new(),
            sent: 0,
            waiting: None,
            moved: now,
            begun: None,
            ended: false,
            closing: false,
        })
    }

    /// Returns the stream, to be polled.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Returns the events that poll waits for; none while the client waits for its turn.
    pub fn interest(&self) -> Events {
        match self.is_writing() {
            true => Events::WRITABLE,
            false if self.is_waiting() || self.ended || self.has_line() => Events::NONE,
            false => Events::READABLE,
        }
    }

    /// Returns whether a whole request is buffered.
    pub fn has_line(&self) -> bool {
        !self.is_writing() && !self.is_waiting() && !self.closing && self.line_end().is_some()
    }

    /// Returns whether a result is pending.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Returns whether the connection can be closed.
    pub fn is_done(&self) -> bool {
        !self.is_writing() && (self.closing || (self.ended && !self.is_waiting() && self.line_end().is_none()))
    }

    /// Returns when the connection is closed unless it makes progress.
    pub fn deadline(&self, limits: &Limits) -> Instant {
        let idle = self.moved + limits.idle;
        self.begun.map_or(idle, |begun| idle.min(begun + limits.line))
    }

    /// Does one round: reads, carries out one request, and writes.
    ///
    /// # Errors
    /// When the connection has failed.
    pub fn step(&mut self, events: Events, target: &dyn LoopControl, now: Instant) -> io::Result<()> {
        if !events.is_empty() && !self.is_writing() && !self.is_waiting() && !self.has_line() && !self.ended {
            self.read(now)?;
        }
        self.serve(target, now);
        self.write(now)
    }

    /// Reads what the client has sent, as far as there is room for it.
    fn read(&mut self, now: Instant) -> io::Result<()> {
        let count = match self.stream.read(&mut self.input[self.filled..]) {
            Err(error) if is_transient(&error) => return Ok(()),
            count => count?,
        };
        match count {
            0 => self.ended = true,
            _ => self.moved = now,
        }
        self.filled += count;
        if self.filled == self.input.len() && self.line_end().is_none() {
            self.refuse(&Refusal::TooLong, now);
        } else if self.filled > 0 {
            self.begun.get_or_insert(now);
        }
        Ok(())
    }

    /// Carries out the next request, if one is buffered.
    fn serve(&mut self, target: &dyn LoopControl, now: Instant) {
        if let Some((id, later)) = &mut self.waiting {
            let Some(result) = later() else { return };
            (self.output, self.sent) = (protocol::response(id, &result), 0);
            (self.waiting, self.begun) = (None, Some(now));
            return;
        }
        let Some(end) = self.line_end().filter(|_| self.has_line()) else { return };
        let line = self.input[..end].trim_ascii();
        // Blank lines are ignored: people type them.
        let blank = line.is_empty();
        if !blank {
            match protocol::answer(line, target) {
                Reply::Now(response) => (self.output, self.sent) = (response, 0),
                Reply::Pending(id, later) => self.waiting = Some((id, later)),
            }
        }
        self.input.copy_within(end + 1..self.filled, 0);
        self.filled -= end + 1;
        self.begun = (!self.is_waiting() && (!blank || self.filled > 0)).then_some(now);
    }

    /// Sends what is left of the response, without waiting.
    ///
    /// # Errors
    /// When the connection has failed.
    pub fn write(&mut self, now: Instant) -> io::Result<()> {
        while self.is_writing() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => (self.sent, self.moved) = (self.sent + count, now),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            if !self.is_writing() {
                self.begun = (self.filled > 0).then_some(now);
            }
        }
        Ok(())
    }

    /// Sends the reason why the connection is closed, and closes it.
    pub fn refuse(&mut self, refusal: &Refusal, now: Instant) {
        (self.output, self.sent) = (protocol::response(&RequestId::default(), &Err(refusal.clone())), 0);
        (self.closing, self.begun) = (true, Some(now));
    }

    /// Drops everything after the connection has failed.
    pub fn abandon(&mut self) {
        self.output.clear();
        (self.sent, self.waiting, self.closing) = (0, None, true);
    }

    fn is_writing(&self) -> bool {
        self.sent < self.output.len()
    }

    fn line_end(&self) -> Option<usize> {
        self.input[..self.filled].iter().position(|byte| *byte == b'\n')
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
