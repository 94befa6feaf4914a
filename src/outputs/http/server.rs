//! A small HTTP server: a limited number of connections, one request each, every connection on its own thread.

use std::io::{self, ErrorKind, Read};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use crate::outputs::http::request::{self, HttpRefusal, HttpRequest};
use crate::outputs::http::response;
use crate::platform::poll::{Events, PollEntry, poll};
use crate::platform::scheduling;

/// Most connections at a time. A browser tab keeps two open.
const MAX_CONNECTIONS: usize = 32;
/// A connection that takes nothing for this long is closed.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);
/// Period in which the accepting thread checks for the end, and its pause after a failure.
const TICK: Duration = Duration::from_millis(200);
/// Stack of a connection's thread.
const STACK_BYTES: usize = 256 << 10;

/// Answers a request on its connection, or refuses it.
type Serve = dyn Fn(&mut TcpStream, &HttpRequest) -> Result<io::Result<()>, HttpRefusal> + Send + Sync;

/// State that all connections share.
struct Shared {
    name: &'static str,
    serve: Box<Serve>,
    connections: AtomicUsize,
    stop: AtomicBool,
}

/// The server. Dropping it ends the server; connections end by themselves.
pub(crate) struct HttpServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Listens at `address` and answers by `serve`. `name` stands in messages and names the threads.
    ///
    /// # Errors
    /// When the address cannot be used; the caller names it.
    pub(crate) fn start(
        name: &'static str,
        address: SocketAddr,
        serve: impl Fn(&mut TcpStream, &HttpRequest) -> Result<io::Result<()>, HttpRefusal> + Send + Sync + 'static,
    ) -> Result<HttpServer> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (connections, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let shared = Arc::new(Shared { name, serve: Box::new(serve), connections, stop });
        let thread = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn({
            let shared = shared.clone();
            move || accept(&listener, &shared)
        });
        let thread = thread.context("cannot start its thread")?;
        Ok(HttpServer { shared, address, thread: Some(thread) })
    }

    /// Returns where the server listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
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
                    log::warn!("the {} cannot take connections now: {error}", shared.name);
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
    let builder = thread::Builder::new().name(format!("{}-page", shared.name)).stack_size(STACK_BYTES);
    // When no thread can be started, the stream that was moved into the closure closes.
    let _ = builder.spawn(move || {
        scheduling::yield_to_others();
        // A client that has closed its end is not an event.
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
    match (shared.serve)(stream, &request) {
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
