//! The HTTP server of the preview page: a limited number of connections, each on its own thread.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::outputs::sinks::preview::access::KnownHosts;
use crate::outputs::sinks::preview::broadcast::{Broadcast, Closed, Kind};
use crate::outputs::sinks::preview::request::{self, HttpRefusal, HttpRequest};
use crate::outputs::sinks::preview::response;
use crate::outputs::sinks::preview::routes::Routes;
use crate::platform::poll::{Events, PollEntry, poll};
use crate::platform::scheduling;

/// Most connections at a time. A browser tab keeps two open.
const MAX_CONNECTIONS: usize = 32;
/// A connection that takes nothing for this long is closed.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);
/// How often the accepting thread checks whether to end, and its pause after a failure.
const TICK: Duration = Duration::from_millis(200);
/// After this long without a frame, the page gets a sign that the connection is alive.
const SILENCE: Duration = Duration::from_secs(2);
/// Stack of a connection's thread.
const STACK_BYTES: usize = 256 << 10;
/// Separates the pictures of a stream.
const BOUNDARY: &str = "faceptor-frame";

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// State that all connections share.
struct Shared {
    broadcast: Arc<Broadcast>,
    routes: Routes,
    hosts: KnownHosts,
    connections: AtomicUsize,
    stop: AtomicBool,
}

/// The server. Dropping it ends the server.
pub struct PreviewServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl PreviewServer {
    /// Listens at `address` and starts the thread.
    ///
    /// # Errors
    /// When the address cannot be used.
    pub fn start(address: SocketAddr, broadcast: Arc<Broadcast>, routes: Routes) -> Result<PreviewServer> {
        let listener = TcpListener::bind(address).with_context(|| format!("cannot show a preview at {address}"))?;
        listener.set_nonblocking(true).context("cannot use the preview's socket")?;
        let address = listener.local_addr().context("cannot use the preview's socket")?;
        let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        let hosts = KnownHosts { loopback: address.ip().is_loopback(), machine };
        let (connections, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let shared = Arc::new(Shared { broadcast, routes, hosts, connections, stop });
        let thread = thread::Builder::new().name("preview".to_owned()).stack_size(STACK_BYTES).spawn({
            let shared = shared.clone();
            move || accept(&listener, &shared)
        });
        let thread = thread.context("cannot start the thread for the preview")?;
        Ok(PreviewServer { shared, address, thread: Some(thread) })
    }

    /// Returns where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for PreviewServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.broadcast.close();
        if let Some(thread) = self.thread.take() {
            // The thread checks the flag a few times a second. The connections end by themselves.
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut failing = false;
    while !shared.stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                failing = false;
                connect(stream, shared);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait(listener),
            Err(error) => {
                // Out of descriptors, for example: open connections go on, and new ones are accepted again later.
                if !std::mem::replace(&mut failing, true) {
                    log::warn!("the preview cannot take connections now: {error}");
                }
                thread::sleep(TICK);
            }
        }
    }
}

/// Waits for a connection, for at most a tick.
fn wait(listener: &TcpListener) {
    // Accept is tried next in any case.
    let _ = poll(&mut [PollEntry::new(listener.as_raw_fd(), Events::READABLE)], Some(TICK));
}

/// Counts a connection until dropped.
struct Seat {
    shared: Arc<Shared>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

fn connect(mut stream: TcpStream, shared: &Arc<Shared>) {
    let ready = stream.set_nonblocking(false).and_then(|()| stream.set_write_timeout(Some(WRITE_PATIENCE)));
    if ready.is_err() {
        return;
    }
    let taken = shared.connections.fetch_add(1, Ordering::AcqRel);
    let seat = Seat { shared: shared.clone() };
    if taken >= MAX_CONNECTIONS {
        // The answer fits into the socket's buffer, so this does not wait.
        refuse(&mut stream, HttpRefusal::new(503, "too many connections"));
        return;
    }
    let builder = thread::Builder::new().name("preview-page".to_owned()).stack_size(STACK_BYTES);
    // When no thread can be started, the stream that was moved into the closure closes.
    let _ = builder.spawn(move || {
        scheduling::yield_to_others();
        // A client that has closed its end is no event.
        let _ = serve(&mut stream, &seat.shared);
        let _ = stream.shutdown(Shutdown::Write);
    });
}

fn refuse(stream: &mut TcpStream, refusal: HttpRefusal) {
    let body = json!({ "error": refusal.text }).to_string();
    let _ = response::respond(stream, refusal.status, "application/json", body.as_bytes(), true);
    let _ = stream.shutdown(Shutdown::Write);
}

fn serve(stream: &mut TcpStream, shared: &Shared) -> io::Result<()> {
    let request = match request::read(stream) {
        Ok(Some(request)) => request,
        Ok(None) => return Ok(()),
        Err(refusal) => {
            refuse(stream, refusal);
            return drain(stream);
        }
    };
    match shared.hosts.check(&request).and_then(|()| answer(stream, &request, shared)) {
        Ok(written) => written,
        Err(refusal) => {
            refuse(stream, refusal);
            Ok(())
        }
    }
}

/// Reads some of what is still coming: closing with unread bytes would discard the answer at the client.
fn drain(stream: &mut TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(TICK))?;
    let deadline = Instant::now() + TICK;
    let mut piece = [0; 4096];
    while Instant::now() < deadline && stream.read(&mut piece)? > 0 {}
    Ok(())
}

fn answer(stream: &mut TcpStream, request: &HttpRequest, shared: &Shared) -> Result<io::Result<()>, HttpRefusal> {
    let broadcast = &shared.broadcast;
    let with_body = match request.method.as_str() {
        "GET" => true,
        "HEAD" => false,
        "POST" => return choose(request, shared).map(|body| send(stream, &body)),
        _ => return Err(HttpRefusal::new(405, "only GET, HEAD and POST")),
    };
    let mut file = |kind: &str, text: &str| response::respond(stream, 200, kind, text.as_bytes(), with_body);
    Ok(match request.path.as_str() {
        "/" => file("text/html; charset=utf-8", PAGE),
        "/page.css" => file("text/css; charset=utf-8", STYLE),
        "/page.js" => file("text/javascript; charset=utf-8", SCRIPT),
        "/state" => file("application/json", &shared.routes.state(broadcast).to_string()),
        "/favicon.ico" => response::respond(stream, 204, "image/x-icon", b"", false),
        "/events" if with_body => events(stream, broadcast),
        "/stream.mjpg" if with_body => pictures(stream, broadcast),
        "/tasks" | "/events" | "/stream.mjpg" => return Err(HttpRefusal::new(405, "not with this method")),
        _ => return Err(HttpRefusal::new(404, "there is no such page")),
    })
}

fn send(stream: &mut TcpStream, body: &Value) -> io::Result<()> {
    response::respond(stream, 200, "application/json", body.to_string().as_bytes(), true)
}

/// `POST /tasks` with `{"tasks": ["age", ...]}`.
fn choose(request: &HttpRequest, shared: &Shared) -> Result<Value, HttpRefusal> {
    if request.path != "/tasks" {
        return Err(HttpRefusal::new(404, "nothing can be posted there"));
    }
    // A page of another origin cannot send this type without a preflight request, which is refused.
    let kind = request.content_type.as_deref().unwrap_or_default();
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        return Err(HttpRefusal::new(415, "tasks are chosen by application/json"));
    }
    let wrong = HttpRefusal::new(400, "expected {\"tasks\": [\"name\", ...]}");
    let body: Value = serde_json::from_slice(&request.body).map_err(|_| wrong)?;
    let tasks = body.get("tasks").and_then(Value::as_array).ok_or(wrong)?;
    let names: Vec<&str> = tasks.iter().map(|name| name.as_str().ok_or(wrong)).collect::<Result<_, _>>()?;
    shared.routes.choose(&names)?;
    Ok(json!({ "tasks": names }))
}

/// Sends results as server-sent events, always the newest.
fn events(stream: &mut TcpStream, broadcast: &Arc<Broadcast>) -> io::Result<()> {
    stream.write_all(&response::head(200, "text/event-stream", None))?;
    stream.write_all(b"retry: 1000\n\n")?;
    let mut seen = 0;
    loop {
        match broadcast.wait(Kind::Event, seen, SILENCE) {
            Ok(Some((number, event))) => {
                seen = number;
                stream.write_all(&[b"data: ", event.as_slice(), b"\n\n"].concat())?;
            }
            // Writing is also how a closed connection is noticed while no frames come.
            Ok(None) => stream.write_all(b": no frame\n\n")?,
            Err(Closed) => return stream.write_all(b"event: end\ndata: {}\n\n"),
        }
    }
}

/// Sends pictures as `multipart/x-mixed-replace`, always the newest.
fn pictures(stream: &mut TcpStream, broadcast: &Arc<Broadcast>) -> io::Result<()> {
    let _viewer = broadcast.view();
    let kind = format!("multipart/x-mixed-replace; boundary={BOUNDARY}");
    stream.write_all(&response::head(200, &kind, None))?;
    stream.write_all(format!("--{BOUNDARY}\r\n").as_bytes())?;
    // A new viewer starts with the next picture: the newest one may be old, of an earlier viewer.
    let (mut seen, _) = broadcast.newest(Kind::Picture);
    loop {
        match broadcast.wait(Kind::Picture, seen, SILENCE) {
            Ok(Some((number, picture))) => {
                seen = number;
                let length = picture.len();
                let head = format!("Content-Type: image/jpeg\r\nContent-Length: {length}\r\n\r\n");
                // The boundary ends the picture. Without it browsers show each picture a frame late.
                let end = format!("\r\n--{BOUNDARY}\r\n");
                stream.write_all(&[head.as_bytes(), picture.as_slice(), end.as_bytes()].concat())?;
            }
            Ok(None) if is_gone(stream) => return Ok(()),
            Ok(None) => {}
            Err(Closed) => return Ok(()),
        }
    }
}

/// Returns whether the client has closed its end. It sends nothing more, so peeking loses nothing.
fn is_gone(stream: &TcpStream) -> bool {
    let mut byte = [0];
    stream.set_nonblocking(true).is_err()
        || matches!(stream.peek(&mut byte), Ok(0))
        || stream.set_nonblocking(false).is_err()
}
