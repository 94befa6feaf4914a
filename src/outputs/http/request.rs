//! HTTP requests: one a connection, with limits on size and time.
//!
//! `httparse` parses the head. Reading is done here because the preview runs on a robot for months: every byte that is
//! read has a limit and a deadline, which small HTTP server crates leave to a proxy.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Most bytes of the request line and all headers.
pub const MAX_HEAD: usize = 8 << 10;
/// Most bytes of the body.
pub const MAX_BODY: usize = 4 << 10;
/// Most headers.
const MAX_HEADERS: usize = 64;
/// Time limit from the first byte of a request to its last.
const PATIENCE: Duration = Duration::from_secs(5);

/// The parts of a request that the server uses.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HttpRequest {
    pub method: String,
    /// The target without its query.
    pub path: String,
    pub host: String,
    pub origin: Option<String>,
    /// `Sec-Fetch-Site`: how the page that made the request relates to this server.
    pub fetch_site: Option<String>,
    pub content_type: Option<String>,
    pub accept: Option<String>,
    pub body: Vec<u8>,
}

/// The reason for refusing a request: the status and a text for the user.
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

/// The end of the head.
const END: &[u8] = b"\r\n\r\n";

const MALFORMED: HttpRefusal = HttpRefusal::new(400, "this is not an HTTP request");
const TOO_LONG: HttpRefusal = HttpRefusal::new(431, "the request line and headers are too long");
const TOO_SLOW: HttpRefusal = HttpRefusal::new(408, "the request took too long");

/// Reads one request. `None` when the client closed without sending one.
///
/// # Errors
/// The refusal, when the request is malformed, too long or too slow.
pub fn read(stream: &mut TcpStream) -> Result<Option<HttpRequest>, HttpRefusal> {
    let deadline = Instant::now() + PATIENCE;
    let mut bytes = Vec::with_capacity(1024);
    let head = loop {
        if let Some(end) = find(&bytes, END) {
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
    let (mut request, length) = parse(&bytes[..head + END.len()])?;
    if length > MAX_BODY {
        return Err(HttpRefusal::new(413, "the body is too long"));
    }
    let from = head + END.len();
    while bytes.len() < from + length {
        if !more(stream, &mut bytes, deadline)? {
            return Err(MALFORMED);
        }
    }
    request.body = bytes[from..from + length].to_vec();
    Ok(Some(request))
}

/// Appends what has arrived, and waits for it until the deadline. Returns `false` at the end of the stream.
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

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}

/// Parses a head with its empty line. Returns the request without its body, and the length of the body in bytes.
pub(crate) fn parse(head: &[u8]) -> Result<(HttpRequest, usize), HttpRefusal> {
    // httparse also takes a lone line feed as the end of a line; a proxy could understand that head in another way.
    if head.iter().enumerate().any(|(at, &byte)| byte == b'\n' && (at == 0 || head[at - 1] != b'\r')) {
        return Err(MALFORMED);
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(TOO_LONG),
        Err(httparse::Error::Version) => return Err(HttpRefusal::new(505, "only HTTP/1.0 and HTTP/1.1 are supported")),
        _ => return Err(MALFORMED),
    }
    let (Some(method), Some(target)) = (parsed.method, parsed.path) else { return Err(MALFORMED) };
    if !method.bytes().all(|byte| byte.is_ascii_uppercase()) || !target.starts_with('/') || !target.is_ascii() {
        return Err(MALFORMED);
    }
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let mut request = HttpRequest { method: method.to_owned(), path, ..HttpRequest::default() };
    let (mut host, mut length) = (None, None);
    for header in parsed.headers.iter() {
        let value = std::str::from_utf8(header.value).map_err(|_| MALFORMED)?;
        let field = match header.name.to_ascii_lowercase().as_str() {
            "host" => &mut host,
            "content-length" => &mut length,
            "origin" => &mut request.origin,
            "sec-fetch-site" => &mut request.fetch_site,
            "content-type" => &mut request.content_type,
            "accept" => &mut request.accept,
            "transfer-encoding" => return Err(HttpRefusal::new(411, "a body needs a Content-Length")),
            _ => continue,
        };
        // A header that comes twice could be understood in two ways.
        if field.replace(value.trim().to_owned()).is_some() {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(head: &str) -> Vec<u8> {
        [head.as_bytes(), END].concat()
    }

    fn status(head: &str) -> u16 {
        parse(&whole(head)).map_or_else(|refusal| refusal.status, |_| 200)
    }

    #[test]
    fn request_is_parsed() {
        let head = "POST /tasks?x=1 HTTP/1.1\r\nHost: 127.0.0.1:80\r\ncontent-LENGTH:  12 \r\nX-Other: a: b\r\n\
                    Origin: http://127.0.0.1:80\r\nContent-Type: application/json";
        let (request, length) = parse(&whole(head)).expect("well-formed");
        assert_eq!((request.method.as_str(), request.path.as_str(), length), ("POST", "/tasks", 12));
        assert_eq!(request.host, "127.0.0.1:80");
        assert_eq!(request.origin.as_deref(), Some("http://127.0.0.1:80"));
        assert_eq!(request.content_type.as_deref(), Some("application/json"));
    }

    #[test]
    fn malformed_requests_are_refused() {
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
        assert!(parse(b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n").is_err());
        let (_, length) = parse(&whole(&format!("{good}\r\nContent-Length: {}", "9".repeat(60)))).expect("digits");
        assert_eq!(length, usize::MAX);
        assert_eq!(status(&format!("{good}{}", "\r\nA: b".repeat(MAX_HEADERS - 1))), 200);
        assert_eq!(status(&format!("{good}{}", "\r\nA: b".repeat(MAX_HEADERS))), 431, "too many headers");
    }
}
