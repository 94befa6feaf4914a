//! The preview's HTTP interface, spoken to byte by byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use faceptor::stages::{Analysis, Locate, Pipeline, Purpose, TaskList, read_photo, select_tasks};
use faceptor_edge::live::frame_pool::FramePool;
use faceptor_edge::live::still::Still;
use faceptor_edge::outputs::draw::overlay::Legend;
use faceptor_edge::outputs::fan_out::{OutputOptions, Outputs, PublishedFrame, RunFacts};
use serde_json::Value;

use crate::program::{PATIENCE, PORTRAIT, wait_until};

/// A preview of one photo, published again and again.
struct Stage {
    outputs: Outputs,
    stills: FramePool,
    picture: faceptor::stages::Picture,
    analysis: Analysis,
    asked: Arc<Mutex<Vec<String>>>,
    frame: u64,
}

impl Stage {
    fn new() -> Stage {
        let bundle = faceptor::stages::embedded_bundle().expect("the network is inside");
        let chosen = select_tasks(bundle.manifest(), Some("age,parsing")).expect("two tasks");
        let mut pipeline = Pipeline::new(bundle, &chosen).expect("it runs");
        let picture = read_photo(PORTRAIT.as_ref()).expect("the portrait").into_picture();
        let locate = Locate::Find { purpose: Purpose::Photo, limit: 4 };
        let analysis = pipeline.analyze(&picture, locate).expect("it runs");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        let facts = RunFacts {
            legend: Arc::new(Legend::of(&pipeline)),
            source: "one photo".to_owned(),
            names: Vec::new(),
            fps: None,
            run_stats: vec![Arc::default()],
            heat: None,
            set_tasks: Arc::new(move |names: &str| {
                seen.lock().expect("whole").push(names.to_owned());
                Ok(())
            }),
            shutdown: Default::default(),
        };
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let options = OutputOptions { preview: Some(address), ..OutputOptions::default() };
        let outputs = Outputs::start(options, facts).expect("a free port");
        Stage { outputs, stills: FramePool::new(3, 0), picture, analysis, asked, frame: 0 }
    }

    fn address(&self) -> SocketAddr {
        self.outputs.preview_address().expect("a preview was asked for")
    }

    /// Publishes the photo, as the loop's publisher does.
    fn publish(&mut self) {
        let wanted = self.outputs.pixel_demands().first().is_some_and(|watch| watch.wants_pixels());
        let pixels = if wanted { self.stills.keep(&self.picture.view()) } else { None };
        let still = pixels.map(|pixels| Still::new(pixels, None));
        let json = format!("{{\"frame\":{},\"faces\":[]}}\n", self.frame);
        self.outputs.publish(&PublishedFrame {
            source: 0,
            printed: b"",
            json: json.as_bytes(),
            analysis: &self.analysis,
            identities: &Default::default(),
            still: still.as_ref(),
            captured_us: 1000 * self.frame,
            published_us: 1000 * self.frame + 500,
        });
        self.frame += 1;
    }

    /// Sends some bytes and reads everything that comes back.
    fn talk(&self, bytes: &[u8]) -> (u16, String) {
        let mut stream = connect(self.address());
        // It may be refused before all of it has been sent.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer).into_owned();
        let status = text.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        (status, text)
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.talk(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address()).as_bytes())
    }

    fn post(&self, headers: &str, body: &str) -> u16 {
        let length = body.len();
        let host = self.address();
        let request =
            format!("POST /tasks HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
        self.talk(request.as_bytes()).0
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

/// Reads an answer to its end, on a thread of its own.
struct Reader {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Reader {
    fn start(stage: &Stage, path: &str) -> Reader {
        let mut stream = connect(stage.address());
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).expect("sent");
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let arrived = bytes.clone();
        let thread = thread::spawn(move || {
            let mut piece = vec![0; 1 << 16];
            while let Ok(count @ 1..) = stream.read(&mut piece) {
                arrived.lock().expect("whole").extend_from_slice(&piece[..count]);
            }
        });
        Reader { bytes, thread }
    }

    /// Returns how often something has arrived.
    fn count(&self, wanted: &[u8]) -> usize {
        self.bytes.lock().expect("whole").windows(wanted.len()).filter(|window| *window == wanted).count()
    }

    /// Returns all that arrived until the end.
    fn finish(self) -> Vec<u8> {
        self.thread.join().expect("it reads");
        std::mem::take(&mut self.bytes.lock().expect("whole"))
    }
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

const JSON: &str = "Content-Type: application/json\r\n";
const JPEG_START: [u8; 3] = [0xff, 0xd8, 0xff];

#[test]
fn the_page_and_the_state_are_there_and_loaded_from_nowhere_else() {
    let mut stage = Stage::new();
    let (status, page) = stage.get("/");
    assert_eq!(status, 200);
    assert!(page.contains("Content-Security-Policy: default-src 'none'"), "{page}");
    for (path, kind) in [("/page.css", "text/css"), ("/page.js", "text/javascript"), ("/?x=1", "text/html")] {
        let (status, text) = stage.get(path);
        assert!(status == 200 && text.contains(&format!("Content-Type: {kind}")), "{path}: {text}");
        assert!(!body(&text).contains("http"), "{path} loads nothing from elsewhere");
    }
    let (_, state) = stage.get("/state");
    let state: Value = serde_json::from_str(body(&state)).expect("JSON");
    assert_eq!((&state["source"], &state["newest"]), (&"one photo".into(), &Value::Null));
    assert_eq!(state["tasks"].as_array().map(Vec::len), Some(6));
    stage.publish();
    let mut newest = Value::Null;
    wait_until("the frame arrives", || {
        let (_, state) = stage.get("/state");
        let state: Value = serde_json::from_str(body(&state)).expect("JSON");
        newest = state["newest"].clone();
        newest.is_object()
    });
    assert_eq!(newest["chosen"], serde_json::json!(["age", "parsing"]));
    assert_eq!((&newest["frame"]["frame"], &newest["delay_us"]), (&0.into(), &500.into()));
    let head = format!("HEAD / HTTP/1.1\r\nHost: {}\r\n\r\n", stage.address());
    let (status, text) = stage.talk(head.as_bytes());
    assert!(status == 200 && body(&text).is_empty() && text.contains("Content-Length: "), "{text}");
}

#[test]
fn tasks_are_chosen_by_the_page_only() {
    let stage = Stage::new();
    let host = stage.address();
    assert_eq!(stage.post(JSON, r#"{"tasks":["age","landmarks"]}"#), 200);
    let own = format!("{JSON}Origin: http://{host}\r\nSec-Fetch-Site: same-origin\r\n");
    assert_eq!(stage.post(&own, r#"{"tasks":[]}"#), 200);
    assert_eq!(*stage.asked.lock().expect("whole"), ["age,landmarks", "none"]);
    for (headers, body, status) in [
        ("", r#"{"tasks":["age"]}"#, 415),
        ("Content-Type: text/plain\r\n", r#"{"tasks":["age"]}"#, 415),
        (JSON, "", 400),
        (JSON, "{", 400),
        (JSON, "[]", 400),
        (JSON, r#"{"tasks":"age"}"#, 400),
        (JSON, r#"{"tasks":[1]}"#, 400),
        (JSON, r#"{"tasks":["agee"]}"#, 422),
        (JSON, r#"{"tasks":["age,parsing"]}"#, 422),
        ("Content-Type: application/json\r\nOrigin: http://evil.example\r\n", r#"{"tasks":["age"]}"#, 403),
        ("Content-Type: application/json\r\nOrigin: null\r\n", r#"{"tasks":["age"]}"#, 403),
        ("Content-Type: application/json\r\nSec-Fetch-Site: cross-site\r\n", r#"{"tasks":["age"]}"#, 403),
    ] {
        assert_eq!(stage.post(headers, body), status, "{headers}{body}");
    }
    // A name that was made to point here.
    for path in ["/", "/state", "/stream.mjpg", "/events"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: evil.example:{}\r\n\r\n", host.port());
        assert_eq!(stage.talk(request.as_bytes()).0, 403, "{path}");
    }
    assert_eq!(stage.asked.lock().expect("whole").len(), 2, "nothing else came through");
}

#[test]
fn malformed_and_oversized_requests_are_refused() {
    let stage = Stage::new();
    let host = format!("Host: {}\r\n", stage.address());
    let many = format!("GET / HTTP/1.1\r\n{host}{}\r\n", "X-A: b\r\n".repeat(2000));
    let long = format!("GET /{} HTTP/1.1\r\n{host}\r\n", "a".repeat(100_000));
    let endless = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'x'; 1 << 20]].concat();
    let body = format!("POST /tasks HTTP/1.1\r\n{host}{JSON}Content-Length: 1000000\r\n\r\n");
    let chunked = format!("POST /tasks HTTP/1.1\r\n{host}{JSON}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    let cases: [(&[u8], u16); 12] = [
        (b"\r\n\r\n", 400),
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/3.0\r\nHost: localhost\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"OPTIONS /tasks HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"GET /../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (many.as_bytes(), 431),
        (long.as_bytes(), 431),
        (&endless, 431),
        (body.as_bytes(), 413),
        (chunked.as_bytes(), 411),
    ];
    for (bytes, status) in cases {
        let (found, _) = stage.talk(bytes);
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
        // A refusal may be overtaken by the reset that unread bytes cause.
        assert!(found == status || (found == 0 && bytes.len() > 64 << 10), "{start:?}: {found}");
    }
    assert_eq!(stage.get("/").0, 200, "and it still answers");
}

#[test]
fn pictures_and_events_follow_each_other_without_waiting_for_a_slow_reader() {
    let mut stage = Stage::new();
    // One who reads nothing, one who reads pictures, one who reads events.
    let idle: Vec<TcpStream> = (0..5)
        .map(|_| {
            let mut stream = connect(stage.address());
            stream.write_all(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
            stream
        })
        .collect();
    let [pictures, events] = ["/stream.mjpg", "/events"].map(|path| Reader::start(&stage, path));
    let watch = stage.outputs.pixel_demands().remove(0);
    wait_until("a viewer wants pictures", || watch.wants_pixels());
    // Were one of these to wait for the readers that take nothing, it would not return: they take nothing until the end. The
    // preview draws at a low priority, so on a loaded machine most frames are left out.
    wait_until("pictures and events arrive", || {
        stage.publish();
        thread::sleep(Duration::from_millis(15));
        stage.frame >= 60 && pictures.count(&JPEG_START) >= 5 && events.count(b"data: {") >= 5
    });
    let Stage { outputs, .. } = stage;
    outputs.finish().expect("nothing failed");
    drop(idle);
    let pictures = pictures.finish();
    let from = pictures.windows(3).position(|three| three == JPEG_START).expect("one");
    let picture = image::load_from_memory(&pictures[from..]).expect("a whole JPEG").into_rgb8();
    assert_eq!(picture.dimensions(), (512, 512));
    let green = picture.pixels().filter(|p| p.0[1] > 170 && p.0[0] < 130 && p.0[2] < 150).count();
    assert!(green > 200, "the box is drawn: {green} pixels");
    let events = String::from_utf8(events.finish()).expect("text");
    let frames: Vec<Value> = (events.lines().filter_map(|line| line.strip_prefix("data: ")))
        .map(|json| serde_json::from_str(json).expect("each event is JSON"))
        .collect();
    let numbers: Vec<u64> = frames.iter().filter_map(|event| event["frame"]["frame"].as_u64()).collect();
    assert!(numbers.len() >= 5 && numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    assert!(events.contains("event: end"));
}

#[test]
fn connections_are_limited_and_those_that_say_nothing_are_closed() {
    // The server counts a connection when it accepts it, so all of these have their place before the next one asks. They
    // lose it after some silent seconds: on a machine that stalls for this long, the places are taken in a new server.
    let full = (0..20).find_map(|_| {
        let stage = Stage::new();
        let silent: Vec<TcpStream> = (0..32).map(|_| connect(stage.address())).collect();
        (stage.get("/").0 == 503).then_some((stage, silent))
    });
    let (stage, mut silent) = full.expect("the limit holds");
    // Half a request does not keep a place either.
    for stream in &mut silent[..16] {
        let _ = stream.write_all(b"GET / HT");
    }
    wait_until("places become free", || stage.get("/").0 == 200);
    let mut answer = String::new();
    match silent[0].read_to_string(&mut answer) {
        Ok(_) => assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let stage = Stage::new();
    let facts = RunFacts {
        legend: Arc::new(Legend::of(&{
            let bundle = faceptor::stages::embedded_bundle().expect("the network is inside");
            Pipeline::new(bundle, &TaskList::new()).expect("it runs")
        })),
        source: String::new(),
        names: Vec::new(),
        fps: None,
        run_stats: vec![Arc::default()],
        heat: None,
        set_tasks: Arc::new(|_| Ok(())),
        shutdown: Default::default(),
    };
    let options = OutputOptions { preview: Some(stage.address()), ..OutputOptions::default() };
    let error = Outputs::start(options, facts).err().expect("it is taken");
    let text = format!("{error:#}");
    assert!(text.starts_with(&format!("cannot show a preview at {}: ", stage.address())), "{text}");
}
