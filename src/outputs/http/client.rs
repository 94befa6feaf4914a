//! HTTP calls: one a connection, with limits on the time and on the size of the answer.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use crate::outputs::http::address::Address;
use crate::outputs::http::connection::Connection;

/// Most bytes of an answer's head.
const MOST_HEAD: usize = 16 << 10;
/// Most headers of an answer.
const MOST_HEADERS: usize = 64;
/// Most bytes of an answer whose status alone is read.
const MOST_STATUS: usize = 1024;
/// Most bytes of the line that begins a chunk.
const MOST_CHUNK_LINE: usize = 256;

const NOT_HTTP: &str = "the answer is not HTTP";
const CUT_OFF: &str = "the server closed the connection in the middle of its answer";

/// A call with a body of JSON.
pub(crate) struct Call<'a> {
    pub method: &'static str,
    /// Path and query.
    pub path: &'a str,
    /// A further header.
    pub header: Option<(&'static str, &'a str)>,
    pub body: &'a [u8],
    /// Time from the connection to the last byte of the answer.
    pub patience: Duration,
}

/// A server's answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Call<'_> {
    /// Makes the call over a new connection to this server, and returns the status without waiting for the rest of the answer.
    ///
    /// # Errors
    /// When the call cannot be sent, or the answer is late or is not HTTP.
    pub(crate) fn status(&self, address: &Address, stream: Connection) -> io::Result<u16> {
        let mut stream = Timed::new(stream, self.patience);
        self.send(address, &mut stream)?;
        let mut arrived = Vec::new();
        while !arrived.windows(2).any(|end| end == b"\r\n")
            && arrived.len() < MOST_STATUS
            && stream.receive(&mut arrived)?
        {}
        let text = String::from_utf8_lossy(&arrived);
        let status =
            text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|digits| digits.parse().ok());
        status.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, NOT_HTTP))
    }

    /// Makes the call over a new connection to this server, and returns the answer with at most `most` bytes.
    ///
    /// # Errors
    /// When the call cannot be sent, or the answer is late, too long, cut off, or is not HTTP.
    pub(crate) fn answer(&self, address: &Address, stream: Connection, most: usize) -> io::Result<Answer> {
        let mut stream = Timed::new(stream, self.patience);
        let sent = self.send(address, &mut stream);
        let answer = read_answer(&mut stream, most);
        // A server may answer and close before it has read a call that it refuses: its reason counts, not the broken pipe.
        match (answer, sent) {
            (Err(_), Err(sent)) => Err(sent),
            (answer, _) => answer,
        }
    }

    fn send(&self, address: &Address, stream: &mut Timed) -> io::Result<()> {
        let header = self.header.map_or_else(String::new, |(name, value)| format!("{name}: {value}\r\n"));
        let head = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: faceptor/{}\r\nContent-Type: application/json\r\n\
             {header}Content-Length: {}\r\nConnection: close\r\n\r\n",
            self.method,
            self.path,
            address.authority(),
            env!("CARGO_PKG_VERSION"),
            self.body.len()
        );
        stream.send(&[head.as_bytes(), self.body].concat())
    }
}

/// A connection with an end to everything that is sent and received.
struct Timed {
    stream: Connection,
    until: Instant,
    patience: Duration,
}

impl Timed {
    fn new(stream: Connection, patience: Duration) -> Timed {
        Timed { stream, until: Instant::now() + patience, patience }
    }

    fn late(&self) -> io::Error {
        io::Error::new(ErrorKind::TimedOut, format!("no complete answer within {} s", self.patience.as_secs()))
    }

    /// Returns the time that is left.
    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(self.late()) } else { Ok(left) }
    }

    fn named(&self, error: io::Error) -> io::Error {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => self.late(),
            // An encrypted connection has an end of its own, before that of the socket.
            ErrorKind::UnexpectedEof => io::Error::new(ErrorKind::UnexpectedEof, CUT_OFF),
            _ => error,
        }
    }

    fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.stream.set_write_timeout(self.left()?)?;
            match self.stream.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.named(error)),
            }
        }
        self.stream.flush().map_err(|error| self.named(error))
    }

    /// Appends what has arrived. Returns false at the end of the connection.
    fn receive(&mut self, arrived: &mut Vec<u8>) -> io::Result<bool> {
        let mut piece = [0; 8192];
        loop {
            self.stream.set_read_timeout(self.left()?)?;
            match self.stream.read(&mut piece) {
                Ok(count) => {
                    arrived.extend_from_slice(&piece[..count]);
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.named(error)),
            }
        }
    }

    /// Appends what has arrived, where more has to come.
    fn receive_more(&mut self, arrived: &mut Vec<u8>) -> io::Result<()> {
        match self.receive(arrived)? {
            true => Ok(()),
            false => Err(io::Error::new(ErrorKind::UnexpectedEof, CUT_OFF)),
        }
    }
}

/// How long an answer's body is.
enum Length {
    Known(usize),
    Chunked,
    UntilTheEnd,
}

fn read_answer(stream: &mut Timed, most: usize) -> io::Result<Answer> {
    let mut arrived = Vec::new();
    loop {
        let (status, length, head) = read_head(stream, &mut arrived)?;
        arrived.drain(..head);
        // An interim answer; the real one follows.
        if (100..200).contains(&status) {
            continue;
        }
        let body = match length {
            _ if matches!(status, 204 | 304) => Vec::new(),
            Length::Known(length) if length > most => return Err(too_long(most)),
            Length::Known(length) => {
                while arrived.len() < length {
                    stream.receive_more(&mut arrived)?;
                }
                arrived.truncate(length);
                arrived
            }
            Length::Chunked => read_chunks(stream, arrived, most)?,
            Length::UntilTheEnd => {
                while arrived.len() <= most && stream.receive(&mut arrived)? {}
                if arrived.len() > most {
                    return Err(too_long(most));
                }
                arrived
            }
        };
        return Ok(Answer { status, body });
    }
}

/// Reads status and length of the body. Returns them with the number of bytes of the head.
fn read_head(stream: &mut Timed, arrived: &mut Vec<u8>) -> io::Result<(u16, Length, usize)> {
    let not_http = || io::Error::new(ErrorKind::InvalidData, NOT_HTTP);
    loop {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut head = httparse::Response::new(&mut headers);
        match head.parse(arrived) {
            Ok(httparse::Status::Complete(end)) => {
                return Ok((head.code.ok_or_else(not_http)?, body_length(head.headers).ok_or_else(not_http)?, end));
            }
            Ok(httparse::Status::Partial) if arrived.len() < MOST_HEAD => {}
            _ => return Err(not_http()),
        }
        if !stream.receive(arrived)? {
            let reason =
                if arrived.is_empty() { "the server closed the connection without an answer" } else { CUT_OFF };
            return Err(io::Error::new(ErrorKind::UnexpectedEof, reason));
        }
    }
}

/// Returns how long the body is; `None` for a length that is no number.
fn body_length(headers: &[httparse::Header]) -> Option<Length> {
    let find = |name: &str| headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    if let Some(coding) = find("Transfer-Encoding") {
        return coding.value.eq_ignore_ascii_case(b"chunked").then_some(Length::Chunked);
    }
    match find("Content-Length") {
        None => Some(Length::UntilTheEnd),
        Some(length) => std::str::from_utf8(length.value).ok()?.trim().parse().ok().map(Length::Known),
    }
}

fn read_chunks(stream: &mut Timed, mut arrived: Vec<u8>, most: usize) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let (from, length) = match httparse::parse_chunk_size(&arrived) {
            Ok(httparse::Status::Complete((from, length))) => (from, usize::try_from(length).unwrap_or(usize::MAX)),
            Ok(httparse::Status::Partial) if arrived.len() < MOST_CHUNK_LINE => {
                stream.receive_more(&mut arrived)?;
                continue;
            }
            _ => return Err(io::Error::new(ErrorKind::InvalidData, NOT_HTTP)),
        };
        // Trailers and the connection's end do not matter.
        if length == 0 {
            return Ok(body);
        }
        if length > most - body.len() {
            return Err(too_long(most));
        }
        // The line end after the chunk belongs to it.
        let end = from + length + 2;
        while arrived.len() < end {
            stream.receive_more(&mut arrived)?;
        }
        body.extend_from_slice(&arrived[from..from + length]);
        arrived.drain(..end);
    }
}

fn too_long(most: usize) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the answer has more than {most} bytes"))
}

/// Encodes bytes as base64, for basic authentication.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let value = group.iter().fold(0u32, |value, byte| value << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            match place <= group.len() {
                true => text.push(char::from(LETTERS[(value >> (18 - 6 * place) & 63) as usize])),
                false => text.push('='),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (text, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }

    /// Calls a server that sends these bytes, each byte by itself if `slowly`, and then closes.
    fn called(bytes: &'static [u8], slowly: bool, most: usize) -> io::Result<Answer> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = Address::parse(&format!("http://{}", listener.local_addr().expect("bound")), "http", [80, 443]);
        let address = address.expect("an address");
        let serve = move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = Vec::new();
            while !request.ends_with(b"{}") {
                let mut piece = [0; 512];
                let count = stream.read(&mut piece).expect("a call");
                request.extend_from_slice(&piece[..count]);
            }
            stream.set_nodelay(true).expect("set");
            // A client that has enough may close before.
            let _ =
                bytes.chunks(if slowly { 1 } else { bytes.len().max(1) }).try_for_each(|piece| stream.write_all(piece));
            String::from_utf8(request).expect("text")
        };
        let served = thread::spawn(serve);
        let call = Call {
            method: "PUT",
            path: "/a?b=c",
            header: Some(("api-key", "secret")),
            body: b"{}",
            patience: Duration::from_secs(60),
        };
        let answer = call.answer(&address, address.connect()?, most);
        let request = served.join().expect("no panic");
        assert!(request.starts_with("PUT /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        assert!(
            request.contains("\r\napi-key: secret\r\n") && request.contains("\r\nContent-Length: 2\r\n"),
            "{request}"
        );
        answer
    }

    #[test]
    fn bodies_of_every_kind_are_read() {
        for (bytes, status, body) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more"[..], 200, "hello"),
            (b"HTTP/1.0 500 x\r\n\r\nuntil the end", 500, "until the end"),
            (b"HTTP/1.1 204 None\r\n\r\n", 204, ""),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", 200, "{}"),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n2\r\n, \r\n0\r\n\r\n",
                200,
                "hello, ",
            ),
        ] {
            for slowly in [false, true] {
                let answer = called(bytes, slowly, 20).expect("an answer");
                assert_eq!((answer.status, &*answer.body), (status, body.as_bytes()));
            }
        }
    }

    #[test]
    fn answers_that_are_no_answers_are_named() {
        for (bytes, expected) in [
            (&b""[..], "without an answer"),
            (b"SSH-2.0-OpenSSH_9\r\n", NOT_HTTP),
            (b"\x15\x03\x01\x00\x02\x02\x16", NOT_HTTP),
            (b"HTTP/1.1 200", CUT_OFF),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", CUT_OFF),
            (b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\nhello", NOT_HTTP),
            (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhello", NOT_HTTP),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\nhello", "more than 20 bytes"),
            (b"HTTP/1.1 200 OK\r\n\r\n0123456789012345678901234", "more than 20 bytes"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello", NOT_HTTP),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", NOT_HTTP),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", CUT_OFF),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", CUT_OFF),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", "more than 20 bytes"),
        ] {
            let error = called(bytes, false, 20).expect_err("no answer").to_string();
            assert!(error.contains(expected), "{}: {error}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn servers_that_hang_or_drip_are_left() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = Address::parse(&format!("http://{}", listener.local_addr().expect("bound")), "http", [80, 443]);
        let address = address.expect("an address");
        let call = |body: &[u8]| {
            let patience = Duration::from_millis(200);
            let call = Call { method: "GET", path: "/", header: None, body, patience };
            call.answer(&address, address.connect().expect("connected"), 100).expect_err("no answer")
        };
        // The first answers never; the second does not read; the third sends a byte now and then.
        assert_eq!(call(b"").kind(), ErrorKind::TimedOut);
        assert_eq!(call(&vec![0; 64 << 20]).kind(), ErrorKind::TimedOut);
        let drip = thread::spawn(move || {
            let streams: Vec<TcpStream> = (0..3).map(|_| listener.accept().expect("a connection").0).collect();
            let mut stream = &streams[2];
            stream.write_all(b"HTTP/1.1 200 OK\r\nX: ").expect("taken");
            while stream.write_all(b"a").is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        });
        assert_eq!(call(b"").kind(), ErrorKind::TimedOut);
        drip.join().expect("no panic");
    }
}
