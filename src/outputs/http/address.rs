//! The parts of an address such as `mqtt://user:password@host:1883/topic`.

use std::fmt;
use std::io;
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use crate::outputs::http::connection::Connection;
use crate::outputs::http::tls::Encryption;
use crate::platform::redaction;

/// Longest wait for a connection to one of a host's addresses.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Longest wait for a peer to take or to give bytes.
const PEER_PATIENCE: Duration = Duration::from_secs(5);

/// An address of a server. Printed without credentials.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    scheme: String,
    /// User name and password, decoded.
    pub credentials: Option<(String, String)>,
    /// The host, without the brackets of IPv6.
    pub host: String,
    pub port: u16,
    /// From the first slash on, as it stands; empty without one.
    pub path: String,
    /// The connection has to be encrypted.
    pub is_encrypted: bool,
    /// How it is encrypted, once [`Address::trusting`] has been called.
    encryption: Option<Encryption>,
}

/// Reason why an address is refused. It contains no part of the address, which may have a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    #[error("an address such as {0}://host:port/... is needed")]
    Scheme(&'static str),
    #[error(
        "this build has no encryption (TLS): use {0}:// to a server on this machine or in a network that you trust, or a build \
         with the cargo feature tls (docs/buses.md)"
    )]
    Encrypted(&'static str),
    #[error("the address has no host, or a wrong port")]
    Host,
    #[error("the address contains a space or a control character: write it as %20")]
    Space,
}

/// No address of the host may be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host may not be connected to")]
pub(crate) struct NotPermitted;

impl Address {
    /// Parses an address with this scheme, or, in builds with TLS, with this scheme and an `s`; each has its usual port.
    ///
    /// # Errors
    /// When it has another scheme, no host, or characters that no address has.
    pub(crate) fn parse(text: &str, scheme: &'static str, usual_ports: [u16; 2]) -> Result<Address, AddressError> {
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(AddressError::Space);
        }
        let (found, rest) = text.split_once("://").ok_or(AddressError::Scheme(scheme))?;
        let is_encrypted = found.eq_ignore_ascii_case(&format!("{scheme}s"));
        if is_encrypted && !Encryption::EXISTS {
            return Err(AddressError::Encrypted(scheme));
        }
        if !is_encrypted && !found.eq_ignore_ascii_case(scheme) {
            return Err(AddressError::Scheme(scheme));
        }
        let (place, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (user_info, host) = place.rsplit_once('@').map_or((None, place), |(user, host)| (Some(user), host));
        let credentials = user_info.map(|user_info| {
            let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
            (redaction::percent_decoded(user), redaction::percent_decoded(password))
        });
        let (host, port) = match host.strip_prefix('[').map(|rest| rest.split_once(']').ok_or(AddressError::Host)) {
            Some(brackets) => {
                let (host, rest) = brackets?;
                (host, rest.strip_prefix(':').or(rest.is_empty().then_some("")))
            }
            None => host.split_once(':').map_or((host, Some("")), |(host, port)| (host, Some(port))),
        };
        let port = match port.ok_or(AddressError::Host)? {
            "" => usual_ports[usize::from(is_encrypted)],
            digits => digits.parse().map_err(|_| AddressError::Host)?,
        };
        if host.is_empty() || port == 0 {
            return Err(AddressError::Host);
        }
        Ok(Address {
            scheme: found.to_ascii_lowercase(),
            credentials,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
            is_encrypted,
            encryption: None,
        })
    }

    /// Trusts the authorities of a file, or those of the system, where the connection has to be encrypted.
    ///
    /// # Errors
    /// A text for the user, when there are none.
    pub(crate) fn trusting(self, authorities: Option<&Path>) -> Result<Address, String> {
        let encryption = self.is_encrypted.then(|| Encryption::trusting(authorities)).transpose()?;
        Ok(Address { encryption, ..self })
    }

    /// Connects, with time limits on the connection and on everything that is sent and received.
    ///
    /// # Errors
    /// When the host has no address, or none of its addresses answers.
    pub(crate) fn connect(&self) -> io::Result<Connection> {
        self.connect_where(|_| true)
    }

    /// Connects as [`Address::connect`] does, but only to addresses of the host that may be connected to.
    ///
    /// # Errors
    /// As [`Address::connect`]; [`NotPermitted`] when no address of the host may be connected to.
    pub(crate) fn connect_where(&self, may: impl Fn(IpAddr) -> bool) -> io::Result<Connection> {
        let mut last = None;
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            if !may(address.ip().to_canonical()) {
                last.get_or_insert(io::Error::other(NotPermitted));
                continue;
            }
            match TcpStream::connect_timeout(&address, CONNECT_PATIENCE) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(PEER_PATIENCE))?;
                    stream.set_write_timeout(Some(PEER_PATIENCE))?;
                    stream.set_nodelay(true)?;
                    return self.begin(stream);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the host has no address")))
    }

    /// Encrypts the connection where that is asked for. Nothing was sent before.
    fn begin(&self, socket: TcpStream) -> io::Result<Connection> {
        match (&self.encryption, self.is_encrypted) {
            (Some(encryption), _) => encryption.begin(socket, &self.host),
            (None, false) => Ok(Connection::new(socket.try_clone()?, socket)),
            (None, true) => Err(io::Error::other("the trusted authorities were not read")),
        }
    }

    /// Returns host and port as in the header `Host`.
    pub(crate) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        // A secret may stand in the path, as in the addresses of chat services.
        write!(f, "{}://{}", self.scheme, self.authority())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_parts() {
        let parse = |text| Address::parse(text, "mqtt", [1883, 8883]);
        let all = parse("MQTT://me:p%40ss:x@board.lan:1884/home/door").expect("right");
        assert_eq!(all.credentials, Some(("me".to_owned(), "p@ss:x".to_owned())));
        assert_eq!((all.host.as_str(), all.port, all.path.as_str()), ("board.lan", 1884, "/home/door"));
        assert_eq!(format!("{all} {all:?}"), "mqtt://board.lan:1884 mqtt://board.lan:1884");
        let six = parse("mqtt://[::1]/x").expect("right");
        assert_eq!((six.host.as_str(), six.port, six.authority().as_str()), ("::1", 1883, "[::1]:1883"));
        assert_eq!(parse("mqtt://[fe80::1]:7").map(|a| a.port), Ok(7));
        for (text, expected) in [
            ("host/topic", AddressError::Scheme("mqtt")),
            ("http://host", AddressError::Scheme("mqtt")),
            ("mqtt://", AddressError::Host),
            ("mqtt://u:p@/x", AddressError::Host),
            ("mqtt://host:0", AddressError::Host),
            ("mqtt://host:x", AddressError::Host),
            ("mqtt://host:70000", AddressError::Host),
            ("mqtt://[::1", AddressError::Host),
            ("mqtt://[::1]x", AddressError::Host),
            ("mqtt://ho st", AddressError::Space),
            ("mqtt://host/\r\nX: y", AddressError::Space),
        ] {
            assert_eq!(parse(text), Err(expected), "{text}");
        }
        let encrypted = parse("MQTTS://u:p@host/x");
        match Encryption::EXISTS {
            true => assert!(
                encrypted.is_ok_and(|address| address.is_encrypted && address.to_string() == "mqtts://host:8883")
            ),
            false => assert_eq!(encrypted, Err(AddressError::Encrypted("mqtt"))),
        }
    }
}
