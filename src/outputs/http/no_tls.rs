//! Stands for TLS in builds without it: no connection is encrypted.

use std::io;
use std::net::TcpStream;
use std::path::Path;

use crate::outputs::http::connection::Connection;

/// Encryption of connections, which this build cannot make.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Encryption {}

impl Encryption {
    /// This build encrypts connections.
    pub(crate) const EXISTS: bool = false;

    /// Refuses, because nothing can be encrypted.
    ///
    /// # Errors
    /// Always.
    pub(crate) fn trusting(_authorities: Option<&Path>) -> Result<Encryption, String> {
        Err("this build has no encryption (TLS)".to_owned())
    }

    pub(crate) fn begin(&self, _socket: TcpStream, _host: &str) -> io::Result<Connection> {
        match *self {}
    }
}
