//! A connection to a server: plain, or encrypted by TLS in builds that have it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What carries the bytes.
pub(crate) trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// A connection whose reads and writes have time limits.
pub(crate) struct Connection {
    /// The socket below, for its limits.
    socket: TcpStream,
    stream: Box<dyn Stream>,
}

impl Connection {
    /// Takes a connection on whose socket `stream` sends and receives.
    pub(crate) fn new(socket: TcpStream, stream: impl Stream + 'static) -> Connection {
        Connection { socket, stream: Box::new(stream) }
    }

    /// Limits the time of a read.
    ///
    /// # Errors
    /// When the limit is zero.
    pub(crate) fn set_read_timeout(&self, limit: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(limit))
    }

    /// Limits the time of a write.
    ///
    /// # Errors
    /// When the limit is zero.
    pub(crate) fn set_write_timeout(&self, limit: Duration) -> io::Result<()> {
        self.socket.set_write_timeout(Some(limit))
    }
}

impl Read for Connection {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.read(bytes)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
