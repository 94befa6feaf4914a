//! Encrypted connections by rustls: the server must have a certificate for its host name, signed by an authority that is trusted.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::outputs::http::connection::Connection;

/// Time from the first to the last byte of the handshake.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of a file of certificates; those of Debian have 0.2 MB.
const MOST_BYTES: u64 = 8 << 20;
/// Files in which systems keep the authorities that they trust, beside `$SSL_CERT_FILE`.
const SYSTEM_FILES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Encryption of connections, with the authorities that are trusted.
#[derive(Clone)]
pub(crate) struct Encryption(Arc<ClientConfig>);

impl PartialEq for Encryption {
    /// Reports whether both are one.
    fn eq(&self, other: &Encryption) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Encryption {}

impl Encryption {
    /// This build encrypts connections.
    pub(crate) const EXISTS: bool = true;

    /// Trusts the authorities of a file (PEM), or those that the system trusts.
    ///
    /// # Errors
    /// A text for the user, when the file cannot be read or has no certificate.
    pub(crate) fn trusting(authorities: Option<&Path>) -> Result<Encryption, String> {
        let by_variable = || env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
        let by_system = || SYSTEM_FILES.map(PathBuf::from).into_iter().find(|path| path.exists());
        let file = authorities.map(Path::to_owned).or_else(by_variable).or_else(by_system).ok_or(
            "this system has no list of trusted authorities: install ca-certificates, or name a file of certificates by --tls-ca",
        )?;
        let within = |reason: &dyn std::fmt::Display| format!("the trusted authorities {}: {reason}", file.display());
        let kind = fs::metadata(&file).map_err(|error| within(&error))?;
        if !kind.is_file() || kind.len() > MOST_BYTES {
            return Err(within(&"is not a regular file of at most 8 MiB"));
        }
        let bytes = fs::read(&file).map_err(|error| within(&error))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&bytes) {
            let certificate = certificate.map_err(|error| within(&format!("not in PEM format: {error}")))?;
            // Lists of systems contain some that no client can use.
            if let Err(error) = roots.add(certificate) {
                log::debug!("{}: a certificate is left out: {error}", file.display());
            }
        }
        if roots.is_empty() {
            return Err(within(&"it has no certificate of an authority (PEM, -----BEGIN CERTIFICATE-----)"));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?;
        Ok(Encryption(Arc::new(builder.with_root_certificates(roots).with_no_client_auth())))
    }

    /// Makes the handshake, after which the server is known to be `host`.
    ///
    /// # Errors
    /// When the server does not answer in time, does not speak TLS, or has no certificate that is trusted for this host.
    pub(crate) fn begin(&self, socket: TcpStream, host: &str) -> io::Result<Connection> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| invalid("no certificate can be for this host name".to_owned()))?;
        let limits = (socket.read_timeout()?, socket.write_timeout()?);
        let mut session = ClientConnection::new(self.0.clone(), name).map_err(|error| invalid(error.to_string()))?;
        let mut timed = Timed { socket: &socket, until: Instant::now() + PATIENCE };
        while session.is_handshaking() {
            session.complete_io(&mut timed).map_err(|error| named(error, host))?;
        }
        socket.set_read_timeout(limits.0)?;
        socket.set_write_timeout(limits.1)?;
        Ok(Connection::new(socket.try_clone()?, StreamOwned::new(session, socket)))
    }
}

/// A socket whose reads and writes end at one moment.
struct Timed<'a> {
    socket: &'a TcpStream,
    until: Instant,
}

impl Timed<'_> {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(self.left()?)?;
        self.socket.read(bytes)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(self.left()?)?;
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, reason)
}

/// Says why a handshake failed, and what to do.
fn named(error: io::Error, host: &str) -> io::Error {
    let Some(reason) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => io::Error::new(
                ErrorKind::TimedOut,
                format!("no complete TLS handshake within {} s: is this the server's TLS port?", PATIENCE.as_secs()),
            ),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => io::Error::new(
                error.kind(),
                "the server closed the connection in the TLS handshake: is this its TLS port?",
            ),
            _ => error,
        };
    };
    use CertificateError as Refused;
    invalid(match reason {
        rustls::Error::InvalidCertificate(refused) => match refused {
            Refused::Expired | Refused::ExpiredContext { .. } => {
                "the server's certificate has expired; renew it, or set this machine's clock".to_owned()
            }
            Refused::NotValidYet | Refused::NotValidYetContext { .. } => {
                "the server's certificate is not valid yet: is this machine's clock right?".to_owned()
            }
            Refused::NotValidForName | Refused::NotValidForNameContext { .. } => {
                format!("the server's certificate is not for the host {host}: use a name that it was made for")
            }
            Refused::UnknownIssuer => {
                "the server's certificate is signed by no trusted authority: --tls-ca FILE names the \
                                       certificate of another one"
                    .to_owned()
            }
            other => format!("the server's certificate is refused: {other}"),
        },
        rustls::Error::InvalidMessage(_) => "the server does not speak TLS on this port".to_owned(),
        other => format!("the TLS handshake failed: {other}"),
    })
}
