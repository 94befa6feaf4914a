//! Encrypted connections of `gallery push`, the webhook and MQTT, with certificates of an own authority: `make test-tls`.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;

use faceptor_test_support::skip;
use serde_json::Value;

use crate::buses::{NO_MOSQUITTO, broker_with, has_mosquitto, message, run_until, start, subscribe_with};
use crate::program::{Folder, faceptor};
use crate::push::filled;
use crate::streams::free_port;
use crate::tls_server::Certificates;
use crate::vector_store::Server;

#[test]
fn a_push_reaches_the_right_server_and_no_other() {
    let certificates = Certificates::new();
    certificates.sign("good", "ours", "DNS:localhost,IP:127.0.0.1", 2);
    certificates.sign("other-host", "ours", "DNS:other.example", 2);
    certificates.sign("expired", "ours", "DNS:localhost", -1);
    certificates.sign("by-foreign", "foreign", "DNS:localhost", 2);
    let ours = certificates.file("ours");
    let place = filled(1, &[2, 1]);
    let url = |server: &Server, host: &str| format!("qdrants://{host}:{}/faces", server.port);

    let good = Server::encrypted(certificates.server("good"));
    for host in ["localhost", "127.0.0.1"] {
        let run = place.push(&url(&good, host), &["--tls-ca", &ours, "--json"]).expect(0);
        assert!(run.json()[0]["collection"].as_str().is_some_and(|text| text.starts_with("qdrants://")), "{run:?}");
    }
    assert_eq!(good.state().points_of("faces").len(), 2);
    good.lines();
    // The system does not know the authority; neither does who trusts another one.
    for more in [&[][..], &["--tls-ca", &certificates.file("foreign")]] {
        let run = place.push(&url(&good, "localhost"), more).expect(1);
        assert!(run.err.contains("signed by no trusted authority: --tls-ca"), "{run:?}");
    }
    for (name, expected) in [
        ("other-host", "not for the host localhost"),
        ("expired", "has expired"),
        ("by-foreign", "signed by no trusted authority"),
        // A server must not present an authority's own certificate.
        ("foreign", "the server's certificate is"),
    ] {
        let server = Server::encrypted(certificates.server(name));
        let run = place.push(&url(&server, "localhost"), &["--tls-ca", &ours, "--insecure"]).expect(1);
        assert!(run.err.contains(expected) && run.err.contains("qdrants://localhost"), "{name}: {run:?}");
        assert!(server.lines().is_empty(), "nothing was sent to {name}");
    }
    assert!(good.lines().is_empty());
    // A server without TLS sees no request either, and one that speaks TLS alone is not taken for Qdrant.
    let plain = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = plain.local_addr().expect("bound").port();
    let heard = thread::spawn(move || {
        let (mut socket, _) = plain.accept().expect("a connection");
        let mut bytes = [0; 4096];
        let count = socket.read(&mut bytes).expect("a greeting");
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("taken");
        bytes[..count].to_vec()
    });
    let run = place.push(&format!("qdrants://localhost:{port}/faces"), &["--tls-ca", &ours]).expect(1);
    assert!(run.err.contains("does not speak TLS on this port"), "{run:?}");
    assert_eq!(heard.join().expect("no panic").first(), Some(&0x16), "a TLS handshake");
    let run = place.push(&good.url("faces"), &[]).expect(1);
    assert!(run.err.contains("not HTTP") || run.err.contains("without an answer"), "{run:?}");
}

#[test]
fn a_server_that_hangs_in_the_handshake_is_left() {
    let certificates = Certificates::new();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("qdrants://localhost:{}/faces", silent.local_addr().expect("bound").port());
    let run = filled(1, &[1, 1]).push(&url, &["--tls-ca", &certificates.file("ours")]).expect(1);
    assert!(run.err.contains("no complete TLS handshake within 10 s"), "{run:?}");
}

#[test]
fn events_are_posted_encrypted() {
    let certificates = Certificates::new();
    certificates.sign("good", "ours", "DNS:localhost", 2);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://me:geheim@localhost:{}/hook", listener.local_addr().expect("bound").port());
    let (server, (sender, events)) = (certificates.server("good"), channel());
    thread::spawn(move || {
        for socket in listener.incoming() {
            let Some(mut stream) = server.accept(socket.expect("a connection")) else { continue };
            let (mut request, mut piece) = (Vec::new(), [0; 4096]);
            while !request.ends_with(b"}") {
                let count = stream.read(&mut piece).expect("a request");
                request.extend_from_slice(&piece[..count]);
            }
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("taken");
            stream.conn.send_close_notify();
            let _ = stream.flush();
            if sender.send(String::from_utf8(request).expect("text")).is_err() {
                break;
            }
        }
    });
    let run = start(&["--webhook", &url, "--tls-ca", &certificates.file("ours")]);
    let mut posted = None;
    run_until(&run, "an event", || {
        posted = posted.take().or(events.try_recv().ok());
        posted.is_some()
    });
    let posted = posted.expect("it came");
    assert!(posted.starts_with("POST /hook HTTP/1.1\r\n") && posted.contains("\"event\":\"appeared\""), "{posted}");
    run.signal(libc::SIGTERM);
    let (ended, _) = run.end();
    assert!(ended.status == Some(0) && !ended.err.contains("geheim"), "{}", ended.err);
}

#[test]
fn the_state_is_published_encrypted() {
    if !has_mosquitto() {
        return skip(NO_MOSQUITTO);
    }
    let certificates = Certificates::new();
    certificates.sign("good", "ours", "DNS:localhost", 2);
    certificates.sign("expired", "ours", "DNS:localhost", -1);
    let ours = certificates.file("ours");
    let settings = |name: &str| {
        format!(
            "user root\ncertfile {}\nkeyfile {}\n",
            certificates.file(name),
            certificates.0.file(&format!("{name}.key"))
        )
    };
    let (folder, port) = (Folder::new(), free_port());
    let _server = broker_with(&folder, port, &settings("good"));
    let (_subscriber, messages) = subscribe_with("localhost", port, &["--cafile", &ours]);
    let run = start(&["--mqtt", &format!("mqtts://u:geheim@localhost:{port}/door"), "--tls-ca", &ours]);
    let state = message(&run, &messages, "door/state {");
    let state: Value = serde_json::from_str(state.split_once(' ').expect("a payload").1).expect("JSON");
    assert_eq!(state["presence"], "ON");
    // The program is killed: the broker publishes the will.
    run.signal(libc::SIGKILL);
    drop(run.end());
    let mut seen = false;
    crate::program::wait_until("the will", || {
        seen |= messages.try_iter().any(|line| line == "door/availability offline");
        seen
    });
    // Brokers that are not trusted get nothing, and the loop goes on.
    let (other_folder, other_port) = (Folder::new(), free_port());
    let _other = broker_with(&other_folder, other_port, &settings("expired"));
    for (port, ca, expected) in [
        (port, certificates.file("foreign"), "signed by no trusted authority"),
        (other_port, ours.clone(), "has expired"),
    ] {
        let run = start(&["--mqtt", &format!("mqtts://u:geheim@localhost:{port}/door"), "--tls-ca", &ca]);
        for _ in 0..30 {
            run.frame();
        }
        run.signal(libc::SIGTERM);
        let (ended, _) = run.end();
        assert_eq!(ended.status, Some(0), "{}", ended.err);
        assert!(ended.err.contains(expected) && !ended.err.contains("geheim"), "{expected}: {}", ended.err);
    }
    assert!(!messages.try_iter().any(|line| line.starts_with("door/state")), "nothing more came");
}

#[test]
fn files_that_name_no_authority_are_refused_at_the_start() {
    let certificates = Certificates::new();
    let folder = &certificates.0;
    for (file, expected) in [
        (folder.file("none.pem"), "No such file"),
        (folder.path().display().to_string(), "not a regular file"),
        ("/dev/zero".to_owned(), "not a regular file"),
        (folder.write("empty.pem", b""), "no certificate of an authority"),
        (folder.write("text.pem", b"hello\n"), "no certificate of an authority"),
        (folder.file("ours.key"), "no certificate of an authority"),
        (folder.write("cut.pem", b"-----BEGIN CERTIFICATE-----\nMIIB\n"), "PEM"),
        (
            folder.write("odd.pem", b"-----BEGIN CERTIFICATE-----\nTUlJQg==\n-----END CERTIFICATE-----\n"),
            "no certificate",
        ),
    ] {
        for (option, url) in [("--mqtt", "mqtts://localhost/x"), ("--webhook", "https://localhost/x")] {
            let run = faceptor(&["run", "--source", "demo", option, url, "--tls-ca", &file]).expect(2);
            assert!(run.err.contains(expected) && run.err.contains(&file), "{file}: {run:?}");
        }
        let run = filled(1, &[1, 1]).push("qdrants://localhost/x", &["--tls-ca", &file]).expect(2);
        assert!(run.err.contains(expected) && run.err.contains(&file), "{file}: {run:?}");
    }
    let mut no_file = Command::new(env!("CARGO_BIN_EXE_faceptor"));
    no_file
        .args(["run", "--source", "demo", "--mqtt", "mqtts://localhost/x"])
        .env("SSL_CERT_FILE", "/none")
        .stdin(Stdio::null());
    let run = crate::program::finish(no_file).expect(2);
    assert!(run.err.contains("/none"), "{run:?}");
}
