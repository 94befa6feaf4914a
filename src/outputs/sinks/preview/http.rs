//! Just enough of HTTP/1.1 for a page on loopback: one request a connection, with limits on its size and time.
//!
//! Written here because the preview stands on a robot for months: every byte that is read and every thread that is
//! started has a limit, which the small HTTP crates leave to a proxy in front of them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

/// The request line and all headers.
pub const MAX_HEAD: usize = 8 << 10;
/// What may follow them.
pub const MAX_BODY: usize = 4 << 10;
/// From the first byte of a request to its last.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request, as far as it is looked at.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HttpRequest {
    pub method: String,
    /// Without what follows a question mark.
    pub path: String,
    pub host: String,
    pub origin: Option<String>,
    /// Where a browser says that the request comes from.
    pub fetch_site: Option<String>,
    pub content_type: Option<String>,
    pub body: Vec<u8>,
}

/// Why a request is not answered as asked. The text is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpRefusal {
    pub status: u16,
    pub text: &'static str,
}

impl HttpRefusal {
    pub const fn new(status: u16, text: &'static str) -> HttpRefusal {
        HttpRefusal { status, text }
    }
}

const MALFORMED: HttpRefusal = HttpRefusal::new(400, "this is no HTTP request");
const TOO_LONG: HttpRefusal = HttpRefusal::new(431, "the request line and headers are too long");
const TOO_SLOW: HttpRefusal = HttpRefusal::new(408, "the request took too long");

/// Reads one request. `None` when the other end closed without one.
pub fn read(stream: &mut TcpStream) -> Result<Option<HttpRequest>, HttpRefusal> {
    let deadline = Instant::now() + PATIENCE;
    let mut bytes = Vec::with_capacity(1024);
    let head = loop {
        if let Some(end) = find(&bytes, b"\r\n\r\n") {
            break end;
        }
        if bytes.len() > MAX_HEAD {
            return Err(TOO_LONG);
        }
        if !more(stream, &mut bytes, deadline)? {
            return if bytes.is_empty() { Ok(None) } else { Err(MALFORMED) };
        }
    };
    if head > MAX_HEAD {
        return Err(TOO_LONG);
    }
    let (mut request, length) = parse(&bytes[..head])?;
    if length > MAX_BODY {
        return Err(HttpRefusal::new(413, "the body is too long"));
    }
    let from = head + 4;
    while bytes.len() < from + length {
        if !more(stream, &mut bytes, deadline)? {
            return Err(MALFORMED);
        }
    }
    request.body = bytes[from..from + length].to_vec();
    Ok(Some(request))
}

/// Reads what has come, waiting until the deadline. `false` at the end of the stream.
fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>, deadline: Instant) -> Result<bool, HttpRefusal> {
    let mut piece = [0; 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return Err(TOO_SLOW);
        }
        match stream.read(&mut piece) {
            Ok(count) => {
                bytes.extend_from_slice(&piece[..count]);
                return Ok(count > 0);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Err(TOO_SLOW),
            Err(_) => return Ok(false),
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The request without its body, and the length of that.
fn parse(head: &[u8]) -> Result<(HttpRequest, usize), HttpRefusal> {
    let text = std::str::from_utf8(head).map_err(|_| MALFORMED)?;
    if text.bytes().any(|byte| byte.is_ascii_control() && !b"\r\n\t".contains(&byte)) {
        return Err(MALFORMED);
    }
    let mut lines = text.split("\r\n");
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, version] = words[..] else { return Err(MALFORMED) };
    let method_is_word = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
    if !method_is_word || !target.starts_with('/') {
        return Err(MALFORMED);
    }
    if !matches!(version, "HTTP/1.0" | "HTTP/1.1") {
        return Err(HttpRefusal::new(505, "only HTTP/1.0 and HTTP/1.1 are spoken here"));
    }
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let mut request = HttpRequest { method: method.to_owned(), path, ..HttpRequest::default() };
    let (mut host, mut length) = (None, None);
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(MALFORMED)?;
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) || value.contains(['\r', '\n']) {
            return Err(MALFORMED);
        }
        let place = match name.to_ascii_lowercase().as_str() {
            "host" => &mut host,
            "content-length" => &mut length,
            "origin" => &mut request.origin,
            "sec-fetch-site" => &mut request.fetch_site,
            "content-type" => &mut request.content_type,
            "transfer-encoding" => return Err(HttpRefusal::new(411, "a body needs a Content-Length")),
            _ => continue,
        };
        // Said twice, it could be understood in two ways.
        if place.replace(value.trim().to_owned()).is_some() {
            return Err(MALFORMED);
        }
    }
    request.host = host.ok_or(HttpRefusal::new(400, "the header Host is missing"))?;
    let length = match length {
        None => 0,
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().unwrap_or(usize::MAX)
        }
        Some(_) => return Err(MALFORMED),
    };
    Ok((request, length))
}

/// Which names a browser may know this program by.
#[derive(Clone, Debug)]
pub struct KnownHosts {
    /// Only this machine can reach it.
    pub loopback: bool,
    /// The machine's own name.
    pub machine: String,
}

impl KnownHosts {
    /// Refuses what another page makes a browser send: a name that some DNS server made point here (DNS rebinding), or
    /// a request on behalf of another page.
    pub fn check(&self, request: &HttpRequest) -> Result<(), HttpRefusal> {
        if !self.knows(&request.host) {
            return Err(HttpRefusal::new(403, "this name is not known here: use an IP address or localhost"));
        }
        let own = format!("http://{}", request.host);
        if request.origin.as_ref().is_some_and(|origin| !origin.eq_ignore_ascii_case(&own)) {
            return Err(HttpRefusal::new(403, "requests of other pages are refused"));
        }
        // The page itself may be reached by a link from anywhere.
        let site = request.fetch_site.as_deref().filter(|_| request.path != "/");
        if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
            return Err(HttpRefusal::new(403, "requests of other pages are refused"));
        }
        Ok(())
    }

    /// Any port will do: it may have been forwarded.
    fn knows(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((name, _)) => name,
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        if let Ok(address) = name.parse::<IpAddr>() {
            return address.is_loopback() || !self.loopback;
        }
        let name = name.to_ascii_lowercase();
        let machine = self.machine.to_ascii_lowercase();
        let own = !self.loopback && !machine.is_empty() && (name == machine || name == format!("{machine}.local"));
        name == "localhost" || own
    }
}

/// Writes a whole response. With `body` of a HEAD request left out, its length is still told.
pub fn respond(stream: &mut impl Write, status: u16, kind: &str, body: &[u8], with_body: bool) -> io::Result<()> {
    let mut bytes = head(status, kind, Some(body.len()));
    if with_body {
        bytes.extend_from_slice(body);
    }
    stream.write_all(&bytes)
}

/// A status line with headers. Without a length, the body lasts until the connection closes.
pub fn head(status: u16, kind: &str, length: Option<usize>) -> Vec<u8> {
    let reason = match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad HttpRequest",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "HttpRequest Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        431 => "HttpRequest Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    };
    let length = length.map(|bytes| format!("Content-Length: {bytes}\r\n")).unwrap_or_default();
    // Nothing from elsewhere is loaded, nobody may frame it, nothing is kept.
    let text = format!(
        "HTTP/1.1 {status} {reason}\r\n\
         Content-Type: {kind}\r\n\
         {length}\
         Connection: close\r\n\
         Cache-Control: no-store\r\n\
         Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
         Cross-Origin-Resource-Policy: same-origin\r\n\
         X-Content-Type-Options: nosniff\r\n\
         X-Frame-Options: DENY\r\n\
         Referrer-Policy: no-referrer\r\n\r\n"
    );
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(head: &str) -> u16 {
        parse(head.as_bytes()).map_or_else(|refusal| refusal.status, |_| 200)
    }

    #[test]
    fn a_request_is_taken_apart() {
        let head = "POST /tasks?x=1 HTTP/1.1\r\nHost: 127.0.0.1:80\r\ncontent-LENGTH:  12 \r\nX-Other: a: b\r\n\
                    Origin: http://127.0.0.1:80\r\nContent-Type: application/json";
        let (request, length) = parse(head.as_bytes()).expect("well-formed");
        assert_eq!((request.method.as_str(), request.path.as_str(), length), ("POST", "/tasks", 12));
        assert_eq!(request.host, "127.0.0.1:80");
        assert_eq!(request.origin.as_deref(), Some("http://127.0.0.1:80"));
        assert_eq!(request.content_type.as_deref(), Some("application/json"));
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let host = "\r\nHost: localhost";
        for first in ["", "GET", "GET /", "GET / HTTP/1.1 x", "get / HTTP/1.1", "GET  / HTTP/1.1", "GET a HTTP/1.1"] {
            assert_eq!(status(&format!("{first}{host}")), 400, "{first}");
        }
        let good = format!("GET / HTTP/1.1{host}");
        assert_eq!(status(&good), 200);
        for header in [
            "Host: other",
            "NoColon",
            " Folded: x",
            ": x",
            "A b: c",
            "Content-Length: -1",
            "Content-Length: 1 2",
            "Content-Length: ",
            "A: \0",
            "Content-Length: 1\r\nContent-Length: 1",
            "A: b\nC: d",
        ] {
            assert_eq!(status(&format!("{good}\r\n{header}")), 400, "{header}");
        }
        assert_eq!(status("GET / HTTP/1.1"), 400);
        assert_eq!(status(&format!("GET / HTTP/2.0{host}")), 505);
        assert_eq!(status(&format!("{good}\r\nTransfer-Encoding: chunked")), 411);
        assert!(parse(b"GET /\xff HTTP/1.1\r\nHost: localhost").is_err());
        let (_, length) = parse(format!("{good}\r\nContent-Length: {}", "9".repeat(60)).as_bytes()).expect("digits");
        assert_eq!(length, usize::MAX);
    }

    #[test]
    fn other_pages_and_names_are_refused() {
        let check = |loopback: bool, path: &str, host: &str, origin: Option<&str>, site: Option<&str>| {
            let names = KnownHosts { loopback, machine: "Robot".to_owned() };
            let request = HttpRequest {
                path: path.to_owned(),
                host: host.to_owned(),
                origin: origin.map(str::to_owned),
                fetch_site: site.map(str::to_owned),
                ..HttpRequest::default()
            };
            names.check(&request).is_ok()
        };
        for host in ["127.0.0.1:8080", "localhost", "LOCALHOST:1", "[::1]:8080", "127.9.9.9"] {
            assert!(check(true, "/", host, None, None), "{host}");
        }
        for host in ["evil.example:8080", "192.168.1.5", "localhost.evil.example", "", "robot", "[::1", "127.0.0.1.a"] {
            assert!(!check(true, "/", host, None, None), "{host}");
        }
        for (host, known) in [("192.168.1.5:80", true), ("robot:80", true), ("robot.local", true), ("evil.lan", false)]
        {
            assert_eq!(check(false, "/", host, None, None), known, "{host}");
        }
        let origin = |origin| check(true, "/tasks", "127.0.0.1:80", Some(origin), None);
        assert!(origin("http://127.0.0.1:80"));
        assert!(!origin("http://127.0.0.1:81") && !origin("null") && !origin("https://127.0.0.1:80"));
        let site = |path, site| check(true, path, "127.0.0.1:80", None, Some(site));
        assert!(site("/", "cross-site") && site("/stream.mjpg", "same-origin") && site("/stream.mjpg", "none"));
        assert!(!site("/stream.mjpg", "cross-site") && !site("/events", "same-site"));
    }
}
