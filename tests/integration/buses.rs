//! Results on the buses of other systems: metrics, a webhook, an MQTT broker that is killed, hangs, or refuses.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use faceptor_test_support::skip;
use serde_json::Value;

use crate::control::Run;
use crate::program::{Folder, PATIENCE, command, faceptor, wait_until};
use crate::streams::{Helper, free_port};

pub(crate) const NO_MOSQUITTO: &str = "mosquitto is not installed: .ci/install mosquitto mosquitto-clients";
const MOSQUITTO: &str = "/usr/sbin/mosquitto";

/// Starts an endless run of the demo at a rate.
pub(crate) fn start(more: &[&str]) -> Run {
    let arguments = ["--fps", "15", "--frames", "1000000", "--json", "--tasks", "age,expression"];
    Run::with(Folder::new(), &[&arguments, more].concat(), true)
}

/// Lets frames go on until a condition holds.
pub(crate) fn run_until(run: &Run, what: &str, mut holds: impl FnMut() -> bool) {
    wait_until(what, || {
        while run.lines.as_ref().is_some_and(|lines| lines.try_recv().is_ok()) {}
        holds()
    });
}

pub(crate) fn fetch(port: u16, path: &str, accept: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: board.lan\r\nAccept: {accept}\r\n\r\n").expect("taken");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("text");
    text
}

pub(crate) fn sample(page: &str, name: &str) -> f64 {
    let line = page.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    let line = line.unwrap_or_else(|| panic!("no {name}:\n{page}"));
    line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
}

#[test]
fn metrics_are_served_in_both_formats() {
    let port = free_port();
    let run = start(&["--metrics", &port.to_string(), "--preview", "0"]);
    // A client that sends nothing does not delay the others.
    let _silent = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let old = "text/plain";
    run_until(&run, "frames are counted", || sample(&fetch(port, "/metrics", old), "faceptor_frames_total") > 3.0);
    let page = fetch(port, "/metrics", old);
    assert!(page.contains("Content-Type: text/plain; version=0.0.4") && !page.contains("# EOF"), "{page}");
    assert!(page.contains("# TYPE faceptor_frames_total counter\n"), "{page}");
    let frames = sample(&page, "faceptor_frames_total");
    assert!((sample(&page, "faceptor_latency_seconds_count") - frames).abs() <= 1.0, "{page}");
    assert_eq!(sample(&page, "faceptor_faces"), 1.0);
    for name in [
        "faceptor_stage_seconds_count{stage=\"encode\"}",
        "faceptor_deadline_misses_total",
        "faceptor_frames_lost_total{reason=\"stale\"}",
        "faceptor_output_lost_total{output=\"preview\"}",
        "faceptor_source_events_total{event=\"reopened\"}",
        "faceptor_degradation_level",
    ] {
        sample(&page, name);
    }
    let open = fetch(port, "/metrics", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
    assert!(
        open.contains("Content-Type: application/openmetrics-text; version=1.0.0") && open.ends_with("# EOF\n"),
        "{open}"
    );
    assert!(open.contains("# TYPE faceptor_frames counter\n"), "{open}");
    assert!(fetch(port, "/other", old).starts_with("HTTP/1.1 404 "));
    run.ctl(&["quit"]).expect(0);
    assert_eq!(run.end().0.status, Some(0));
    // The port is taken.
    let held = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = held.local_addr().expect("an address").to_string();
    let refused = faceptor(&["run", "--source", "demo", "--metrics", &taken]).expect(1);
    assert!(refused.err.contains("cannot serve the metrics"), "{refused:?}");
    faceptor(&["run", "--source", "demo", "--metrics", "nowhere"]).expect(2);
}

/// Takes every posted event.
pub(crate) fn hook(listener: TcpListener) -> Receiver<Value> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = Vec::new();
            let mut piece = [0; 4096];
            while !request.ends_with(b"}") {
                match stream.read(&mut piece) {
                    Ok(count @ 1..) => request.extend_from_slice(&piece[..count]),
                    _ => break,
                }
            }
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
            let text = String::from_utf8_lossy(&request).into_owned();
            let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
            if sender.send(body.and_then(|body| serde_json::from_str(body).ok()).unwrap_or_default()).is_err() {
                return;
            }
        }
    });
    receiver
}

#[test]
fn events_are_posted_also_to_a_server_that_comes_later() {
    let first_server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = first_server.local_addr().expect("an address").port();
    let address = format!("http://me:geh-eim@127.0.0.1:{port}/hook?token=geh-eim");
    let run = start(&["--webhook", &address, "-v"]);
    run.frame_with(&["age", "expression"]);
    // It hangs up without an answer, so that the first post has failed for certain before the next server comes.
    drop(first_server.accept().expect("a post"));
    drop(first_server);
    let events = hook(TcpListener::bind(("127.0.0.1", port)).expect("the port is free"));
    let first = events.recv_timeout(PATIENCE).expect("an event");
    assert_eq!((&first["event"], &first["id"]), (&Value::from("appeared"), &Value::from(1)));
    assert!(first["source"].as_str().is_some_and(|source| source.contains("demo")), "{first}");
    run.signal(libc::SIGTERM);
    let (ended, _) = run.end();
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    // A machine that drops many frames may have lost and found the face meanwhile.
    while events.recv_timeout(PATIENCE).expect("an event")["event"] != "left" {}
    assert!(ended.err.contains("trying again") && !ended.err.contains("geh-eim"), "{}", ended.err);
    if cfg!(not(feature = "tls")) {
        let refused = faceptor(&["run", "--source", "demo", "--webhook", "https://me:geh-eim@host/x"]).expect(2);
        assert!(refused.err.contains("no encryption") && !refused.err.contains("geh-eim"), "{refused:?}");
        assert!(refused.err.contains("cargo feature tls"), "{refused:?}");
    }
    for address in ["--webhook=http://host/x", "--mqtt=mqtt://host/x"] {
        let refused = faceptor(&["run", "--source", "demo", address, "--tls-ca", "/none"]).expect(2);
        assert!(refused.err.contains("--tls-ca: neither --mqtt nor --webhook"), "{refused:?}");
    }
}

pub(crate) fn has_mosquitto() -> bool {
    std::path::Path::new(MOSQUITTO).exists()
        && Command::new("mosquitto_sub").arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

pub(crate) fn broker(folder: &Folder, port: u16) -> Helper {
    broker_with(folder, port, "")
}

/// Starts a broker whose listener has more settings.
pub(crate) fn broker_with(folder: &Folder, port: u16, more: &str) -> Helper {
    let settings = format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n{more}");
    let mut broker = Command::new(MOSQUITTO);
    broker.arg("-c").arg(folder.write("mosquitto.conf", settings.as_bytes())).stdout(Stdio::null());
    let started = Helper::start(&mut broker);
    wait_until("the broker listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    started
}

/// Returns the messages below all topics, as `TOPIC PAYLOAD`.
pub(crate) fn subscribe(port: u16) -> (Helper, Receiver<String>) {
    subscribe_with("127.0.0.1", port, &[])
}

/// Subscribes by this name of the broker and with more options.
pub(crate) fn subscribe_with(host: &str, port: u16, more: &[&str]) -> (Helper, Receiver<String>) {
    let mut subscriber = Command::new("mosquitto_sub");
    let options = ["-h", host, "-p", &port.to_string(), "-t", "#", "-v"];
    subscriber.args(options).args(more).stdout(Stdio::piped());
    let mut subscriber = Helper::start(&mut subscriber);
    let out = subscriber.0.stdout.take().expect("a pipe");
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    (subscriber, receiver)
}

/// Waits for a message that begins so.
pub(crate) fn message(run: &Run, messages: &Receiver<String>, begins: &str) -> String {
    let mut found = None;
    run_until(run, begins, || {
        found = messages.try_iter().find(|line| line.starts_with(begins));
        found.is_some()
    });
    found.expect("waited for")
}

#[test]
fn the_state_is_kept_on_a_broker_that_is_killed_and_restarted() {
    if !has_mosquitto() {
        return skip(NO_MOSQUITTO);
    }
    let (folder, port) = (Folder::new(), free_port());
    let server = broker(&folder, port);
    let (subscriber, messages) = subscribe(port);
    let run = start(&["--mqtt", &format!("mqtt://127.0.0.1:{port}/home/door")]);
    for entity in ["binary_sensor/faceptor_home_door/presence", "sensor/faceptor_home_door/age"] {
        message(&run, &messages, &format!("homeassistant/{entity}/config {{"));
    }
    message(&run, &messages, "home/door/availability online");
    drop(subscriber);
    // A later subscriber gets what was kept.
    let (subscriber, messages) = subscribe(port);
    let state = message(&run, &messages, "home/door/state {");
    let state: Value = serde_json::from_str(state.split_once(' ').expect("a payload").1).expect("JSON");
    assert_eq!((&state["presence"], &state["count"]), (&Value::from("ON"), &Value::from(1)));
    drop((subscriber, server));
    let server = broker(&folder, port);
    let (_subscriber, messages) = subscribe(port);
    message(&run, &messages, "home/door/state {");
    // The program is killed: the broker publishes the will.
    run.signal(libc::SIGKILL);
    drop(run.end());
    let mut seen = false;
    wait_until("the will", || {
        seen |= messages.try_iter().any(|line| line == "home/door/availability offline");
        seen
    });
    drop(server);
}

#[test]
fn a_run_without_expressions_removes_their_entity() {
    if !has_mosquitto() {
        return skip(NO_MOSQUITTO);
    }
    let (folder, port) = (Folder::new(), free_port());
    let _server = broker(&folder, port);
    let (_subscriber, messages) = subscribe(port);
    let broker = format!("mqtt://127.0.0.1:{port}/door");
    let arguments = ["--fps", "15", "--frames", "1000000", "--json", "--tasks", "age", "--no-expression"];
    let run = Run::with(Folder::new(), &[&arguments[..], &["--mqtt", &broker]].concat(), true);
    let mut entities = Vec::new();
    run_until(&run, "the state", || {
        entities.extend(messages.try_iter());
        entities.iter().any(|line| line.starts_with("door/state"))
    });
    let description = |field: &str| {
        let topic = format!("homeassistant/sensor/faceptor_door/{field}/config ");
        entities.iter().find_map(|line| line.strip_prefix(&topic))
    };
    // mosquitto_sub's word for an empty message, which removes what was kept.
    assert_eq!(description("expression"), Some("(null)"), "{entities:?}");
    assert!(entities.iter().all(|line| !line.contains("\"expression\"")), "{entities:?}");
    assert!(description("age").is_some_and(|text| text.starts_with('{')), "{entities:?}");
}

#[test]
fn a_broker_that_hangs_or_is_absent_delays_nothing() {
    if !has_mosquitto() {
        return skip(NO_MOSQUITTO);
    }
    let (folder, port) = (Folder::new(), free_port());
    let server = broker(&folder, port);
    let (_subscriber, messages) = subscribe(port);
    let hung = start(&["--mqtt", &format!("mqtt://u:geh-eim@127.0.0.1:{port}/x")]);
    message(&hung, &messages, "x/state {");
    server.signal(libc::SIGSTOP);
    let absent = start(&["--mqtt", &format!("mqtt://u:geh-eim@127.0.0.1:{}/x", free_port())]);
    for run in [hung, absent] {
        for _ in 0..30 {
            run.frame();
        }
        let status = run.ctl(&["status", "--json"]).expect(0).json().remove(0);
        assert_eq!(status["dropped_results"], 0, "{status}");
        run.signal(libc::SIGTERM);
        let (ended, _) = run.end();
        assert_eq!(ended.status, Some(0), "{}", ended.err);
        assert!(!ended.err.contains("geh-eim"), "{}", ended.err);
    }
    server.signal(libc::SIGCONT);
}

#[test]
fn wrong_brokers_are_refused_without_their_password() {
    for (address, expected) in [
        // With TLS, the system may have no authorities, or the host no address: no broker, but no refusal either.
        ("mqtts://u:geh-eim@host/#", if cfg!(feature = "tls") { "topic contains" } else { "no encryption" }),
        ("http://u:geh-eim@host/x", "mqtt://host"),
        ("mqtt://u:geh-eim@", "no host"),
        ("mqtt://u:geh-eim@host/a/#", "topic contains"),
    ] {
        let mut command = command(&["run", "--source", "demo", "--frames", "1", "--mqtt", address]);
        let output = command.output().expect("it can be started");
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && err.contains(expected) && !err.contains("geh-eim"), "{err}");
    }
}
