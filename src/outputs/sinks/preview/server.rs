//! The answers of the preview's HTTP server: the page, the stream of pictures, the results, the choice of tasks.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::outputs::http::request::{HttpRefusal, HttpRequest};
use crate::outputs::http::response;
use crate::outputs::http::server::HttpServer;
use crate::outputs::sinks::preview::access::KnownHosts;
use crate::outputs::sinks::preview::broadcast::{Broadcast, Closed, Kind};
use crate::outputs::sinks::preview::routes::Routes;

/// After this long without a frame, the page gets a sign that the connection is alive.
const SILENCE: Duration = Duration::from_secs(2);
/// Separates the pictures of a stream.
const BOUNDARY: &str = "faceptor-frame";

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// State that all connections share.
struct Shared {
    /// One for each source.
    broadcasts: Vec<Arc<Broadcast>>,
    routes: Routes,
    hosts: KnownHosts,
}

/// The server. Dropping it ends the server.
pub struct PreviewServer {
    broadcasts: Vec<Arc<Broadcast>>,
    server: HttpServer,
}

impl PreviewServer {
    /// Listens at `address` and starts the thread. Each source has a broadcast.
    ///
    /// # Errors
    /// When the address cannot be used.
    pub fn start(address: SocketAddr, broadcasts: Vec<Arc<Broadcast>>, routes: Routes) -> Result<PreviewServer> {
        let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        let hosts = KnownHosts { loopback: address.ip().is_loopback(), machine };
        let shared = Shared { broadcasts: broadcasts.clone(), routes, hosts };
        let server = HttpServer::start("preview", address, move |stream, request| {
            shared.hosts.check(request).and_then(|()| answer(stream, request, &shared))
        });
        let server = server.with_context(|| format!("cannot show a preview at {address}"))?;
        Ok(PreviewServer { broadcasts, server })
    }

    /// Returns where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }
}

impl Drop for PreviewServer {
    fn drop(&mut self) {
        // Connections that wait for a picture end.
        self.broadcasts.iter().for_each(|broadcast| broadcast.close());
    }
}

fn answer(stream: &mut TcpStream, request: &HttpRequest, shared: &Shared) -> Result<io::Result<()>, HttpRefusal> {
    let source = shared.routes.source_of(&request.path);
    let source = source.and_then(|(place, path)| Some((place, path, shared.broadcasts.get(place)?)));
    let Some((place, path, broadcast)) = source else { return answer_for_all(stream, request, shared) };
    let with_body = match request.method.as_str() {
        "GET" => true,
        "HEAD" => false,
        "POST" => return choose(path, request, shared).map(|body| send(stream, &body)),
        _ => return Err(HttpRefusal::new(405, "only GET, HEAD and POST")),
    };
    let mut file = |kind: &str, text: &str| response::respond(stream, 200, kind, text.as_bytes(), with_body);
    Ok(match path {
        "/" => file("text/html; charset=utf-8", PAGE),
        "/page.css" => file("text/css; charset=utf-8", STYLE),
        "/page.js" => file("text/javascript; charset=utf-8", SCRIPT),
        "/state" => file("application/json", &shared.routes.state(place, broadcast).to_string()),
        "/favicon.ico" => response::respond(stream, 204, "image/x-icon", b"", false),
        "/events" if with_body => events(stream, broadcast),
        "/stream.mjpg" if with_body => pictures(stream, broadcast),
        "/tasks" | "/events" | "/stream.mjpg" => return Err(HttpRefusal::new(405, "not with this method")),
        _ => return Err(HttpRefusal::new(404, "there is no such page")),
    })
}

/// Answers what several sources have in common.
fn answer_for_all(
    stream: &mut TcpStream,
    request: &HttpRequest,
    shared: &Shared,
) -> Result<io::Result<()>, HttpRefusal> {
    let with_body = match request.method.as_str() {
        "GET" => true,
        "HEAD" => false,
        "POST" => return choose(&request.path, request, shared).map(|body| send(stream, &body)),
        _ => return Err(HttpRefusal::new(405, "only GET, HEAD and POST")),
    };
    let mut file = |kind: &str, text: &str| response::respond(stream, 200, kind, text.as_bytes(), with_body);
    Ok(match request.path.as_str() {
        "/" => file("text/html; charset=utf-8", &shared.routes.overview()),
        "/page.css" => file("text/css; charset=utf-8", STYLE),
        "/state" => file("application/json", &shared.routes.overall_state().to_string()),
        "/favicon.ico" => response::respond(stream, 204, "image/x-icon", b"", false),
        "/events" | "/stream.mjpg" => {
            return Err(HttpRefusal::new(
                404,
                "the run has several sources: the names in /state begin the path of each",
            ));
        }
        _ => return Err(HttpRefusal::new(404, "there is no such page")),
    })
}

fn send(stream: &mut TcpStream, body: &Value) -> io::Result<()> {
    response::respond(stream, 200, "application/json", body.to_string().as_bytes(), true)
}

/// Answers `POST /tasks` with `{"tasks": ["age", ...]}`.
fn choose(path: &str, request: &HttpRequest, shared: &Shared) -> Result<Value, HttpRefusal> {
    if path != "/tasks" {
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
