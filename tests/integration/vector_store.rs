//! A stand-in for a Qdrant server, with its REST interface and with faults. `make test-qdrant` uses Qdrant's own engine.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use serde_json::{Value, json};

/// What the server does in place of an answer.
#[derive(Clone, Debug, Default)]
pub enum Fault {
    #[default]
    None,
    /// Sends these bytes and closes.
    Sends(Vec<u8>),
    /// Keeps the connection and sends nothing.
    Hangs,
    /// Lists the points of the first page again and again.
    GoesInCircles,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method and path.
    pub line: String,
    pub head: String,
    pub body: Value,
}

/// The state of the server.
#[derive(Default)]
pub struct State {
    /// Configuration of each collection.
    pub collections: BTreeMap<String, Value>,
    /// Points of all collections, by collection and id.
    pub points: BTreeMap<(String, String), Value>,
    pub requests: Vec<Request>,
    pub fault: Fault,
    /// Requests that are answered before the fault begins.
    pub good: usize,
}

/// A server on the loopback interface, for as long as the test runs.
pub struct Server {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub fn start() -> Server {
        Server::with(|socket| Some(Box::new(socket)))
    }

    /// Starts a server with a certificate.
    #[cfg(feature = "tls")]
    pub fn encrypted(tls: crate::tls_server::TlsServer) -> Server {
        Server::with(move |socket| tls.accept(socket).map(|stream| Box::new(stream) as Box<dyn Stream>))
    }

    /// Starts a server that makes of each connection what carries the request; `None` leaves the connection.
    fn with(accept: impl Fn(TcpStream) -> Option<Box<dyn Stream>> + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let state = Arc::new(Mutex::new(State::default()));
        let served = state.clone();
        thread::spawn(move || {
            let mut hanging = Vec::new();
            for stream in listener.incoming() {
                let Some(mut stream) = accept(stream.expect("a connection")) else { continue };
                let Some(request) = read(&mut *stream) else { continue };
                let mut state = served.lock().expect("no panic");
                state.requests.push(request.clone());
                let fault = if state.good > 0 { Fault::None } else { state.fault.clone() };
                state.good = state.good.saturating_sub(1);
                let answer = match fault {
                    Fault::Sends(bytes) => bytes,
                    Fault::Hangs => {
                        hanging.push(stream);
                        continue;
                    }
                    fault => state.answer(&request, matches!(fault, Fault::GoesInCircles)),
                };
                drop(state);
                // A client that has heard enough may have closed.
                let _ = stream.write_all(&answer).and_then(|()| stream.flush());
            }
        });
        Server { port, state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    /// Returns the address of a collection.
    pub fn url(&self, collection: &str) -> String {
        format!("qdrant://127.0.0.1:{}/{collection}", self.port)
    }

    /// Forgets the requests so far, and returns their lines.
    pub fn lines(&self) -> Vec<String> {
        std::mem::take(&mut self.state().requests).into_iter().map(|request| request.line).collect()
    }
}

/// What carries a request.
pub trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// Reads a request; `None` for what is none.
fn read(stream: &mut dyn Stream) -> Option<Request> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 65_536]);
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
            if body.len() == length.parse::<usize>().expect("a number") {
                let line = head.lines().next().and_then(|line| line.strip_suffix(" HTTP/1.1")).expect("a line");
                let body = serde_json::from_str(body).unwrap_or_default();
                return Some(Request { line: line.to_owned(), head: head.to_owned(), body });
            }
        }
        let count = stream.read(&mut piece).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&piece[..count]);
    }
}

/// Returns the bytes of an answer.
pub fn http(status: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn fits(point: &Value, filter: &Value) -> bool {
    let holds = |condition: &Value| {
        let key = condition["key"].as_str().expect("a key");
        point["payload"][key] == condition["match"]["value"]
    };
    let all = |name: &str| filter[name].as_array().cloned().unwrap_or_default();
    all("must").iter().all(holds) && !all("must_not").iter().any(holds)
}

impl State {
    /// Returns the points of a collection.
    pub fn points_of(&self, collection: &str) -> Vec<&Value> {
        self.points.iter().filter(|((name, _), _)| name == collection).map(|(_, point)| point).collect()
    }

    fn answer(&mut self, request: &Request, in_circles: bool) -> Vec<u8> {
        let (method, path) = request.line.split_once(' ').expect("a path");
        let path = path.strip_prefix("/collections/").expect("a collection");
        let (name, below) = path.split_once('/').unwrap_or((path, ""));
        let name = name.to_owned();
        if !self.collections.contains_key(&name) && (method, below) != ("PUT", "") {
            return http("404 Not Found", &json!({"status": {"error": "Not found: Collection"}, "time": 0.0}));
        }
        let body = &request.body;
        let found = |state: &State| -> Vec<Value> {
            let points = state.points_of(&name).into_iter();
            points.filter(|point| fits(point, &body["filter"])).cloned().collect()
        };
        let result = match (method, below) {
            ("GET", "") => self.collections[&name].clone(),
            ("PUT", "") => {
                let kind = json!({"status": "green", "config": {"params": body}, "payload_schema": {}});
                self.collections.insert(name, kind);
                json!(true)
            }
            ("PUT", "index?wait=true") => {
                let key = body["field_name"].as_str().expect("a key").to_owned();
                self.collections.get_mut(&name).expect("there")["payload_schema"][key] =
                    json!({"data_type": "keyword"});
                json!({"operation_id": 1, "status": "completed"})
            }
            ("PUT", "points?wait=true") => {
                for point in body["points"].as_array().expect("points") {
                    let id = point["id"].as_str().expect("an id").to_owned();
                    self.points.insert((name.clone(), id), point.clone());
                }
                json!({"operation_id": 1, "status": "completed"})
            }
            ("POST", "points/delete?wait=true") => {
                for id in body["points"].as_array().expect("ids") {
                    let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
                    self.points.remove(&(name.clone(), id));
                }
                json!({"operation_id": 1, "status": "completed"})
            }
            ("POST", "points/count") => json!({"count": found(self).len()}),
            ("POST", "points/scroll") => {
                let limit = body["limit"].as_u64().expect("a limit") as usize;
                let from = body["offset"].as_str().filter(|_| !in_circles).unwrap_or_default().to_owned();
                let id = |point: &Value| point["id"].as_str().map_or_else(|| point["id"].to_string(), str::to_owned);
                let mut points = found(self);
                points.retain(|point| id(point) >= from);
                let next = match in_circles {
                    true => points.first().map(id),
                    false => points.get(limit).map(id),
                };
                points.truncate(limit);
                let points: Vec<Value> =
                    points.iter().map(|point| json!({"id": point["id"], "payload": point["payload"]})).collect();
                json!({"points": points, "next_page_offset": next})
            }
            _ => return http("404 Not Found", &json!({"status": {"error": "no such call"}})),
        };
        http("200 OK", &json!({"result": result, "status": "ok", "time": 0.001}))
    }
}
