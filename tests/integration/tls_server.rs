//! Certificates of an own authority, made by openssl, and the server's side of TLS.

use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::program::Folder;

/// Files of certificates and keys, by name.
pub struct Certificates(pub Folder);

impl Certificates {
    /// Makes the authorities `ours` and `foreign`.
    pub fn new() -> Certificates {
        let made = Certificates(Folder::new());
        for name in ["ours", "foreign"] {
            let subject = format!("/CN=the authority {name}");
            made.openssl(&format!("req -x509 -nodes -days 2 -out {name}.pem -keyout {name}.key"), &["-subj", &subject]);
        }
        made
    }

    /// Makes a certificate `name` for host names, such as `DNS:localhost`, signed by an authority, for so many days from now.
    pub fn sign(&self, name: &str, authority: &str, hosts: &str, days: i32) {
        let extension = self.0.write("extension", format!("subjectAltName={hosts}\n").as_bytes());
        self.openssl(&format!("req -nodes -out {name}.csr -keyout {name}.key -subj /CN=server"), &[]);
        let sign = format!(
            "x509 -req -in {name}.csr -out {name}.pem -CA {authority}.pem -CAkey {authority}.key -CAcreateserial -days {days}"
        );
        self.openssl(&sign, &["-extfile", &extension]);
    }

    /// Runs openssl in the folder; new keys are elliptic, because such are made quickly.
    fn openssl(&self, words: &str, more: &[&str]) {
        let mut command = Command::new("openssl");
        command.current_dir(self.0.path()).args(words.split(' ')).args(more).stderr(Stdio::piped());
        if words.starts_with("req") {
            command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        }
        let run = command.output().expect("openssl is installed: .ci/install openssl");
        assert!(run.status.success(), "{words}: {}", String::from_utf8_lossy(&run.stderr));
    }

    /// Returns the path of a certificate.
    pub fn file(&self, name: &str) -> String {
        self.0.file(&format!("{name}.pem"))
    }

    /// Returns what a server with this certificate does with a connection.
    pub fn server(&self, name: &str) -> TlsServer {
        let certificate = CertificateDer::from_pem_file(self.file(name)).expect("made");
        let key = PrivateKeyDer::from_pem_file(self.0.file(&format!("{name}.key"))).expect("made");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
        let config = builder.with_no_client_auth().with_single_cert(vec![certificate], key).expect("a pair");
        TlsServer(Arc::new(config))
    }
}

/// A server's certificate and key.
pub struct TlsServer(Arc<ServerConfig>);

impl TlsServer {
    /// Makes the handshake; `None` when the client refuses.
    pub fn accept(&self, mut socket: TcpStream) -> Option<StreamOwned<ServerConnection, TcpStream>> {
        let mut session = ServerConnection::new(self.0.clone()).expect("a configuration");
        while session.is_handshaking() {
            session.complete_io(&mut socket).ok()?;
        }
        Some(StreamOwned::new(session, socket))
    }
}
