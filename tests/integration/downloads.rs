//! Updates from a web server, through curl.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use faceptor_test_support::skip;

use crate::program::{Output, finish};
use crate::signatures::NO_MINISIGN;
use crate::updates::Board;

/// What a server gives for a path.
#[derive(Clone)]
enum Page {
    /// A file, or the part of it that was asked for.
    Whole(Vec<u8>),
    /// At first half of it, then the connection ends.
    Cut(Vec<u8>),
    /// Never an end, and no length before.
    Endless,
}

/// A web server on this machine, and the lines of the requests that it got.
struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(pages: BTreeMap<String, Page>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that has left is no failure.
                let _ = answer(stream, &pages, &seen);
            }
        });
        Server { port, requests }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("not poisoned").clone()
    }
}

fn answer(mut stream: TcpStream, pages: &BTreeMap<String, Page>, seen: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let mut request = lines.next().unwrap_or(Ok(String::new()))?;
    let mut from = 0;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().unwrap_or(0);
            request += &format!(" from {from}");
        }
        if line.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    seen.lock().expect("not poisoned").push(request);
    let (bytes, is_cut) = match pages.get(&path) {
        Some(Page::Whole(bytes)) => (bytes, false),
        Some(Page::Cut(bytes)) => (bytes, from == 0),
        Some(Page::Endless) => {
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n")?;
            loop {
                stream.write_all(&[b'x'; 10_000])?;
            }
        }
        None => return stream.write_all(b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    };
    let rest = &bytes[from.min(bytes.len())..];
    let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
    let range = format!("Content-Range: bytes {from}-{}/{}\r\n", bytes.len() - 1, bytes.len());
    let range = if from > 0 { range } else { String::new() };
    write!(stream, "HTTP/1.0 {status}\r\nContent-Length: {}\r\n{range}\r\n", rest.len())?;
    stream.write_all(&rest[..if is_cut { rest.len() / 2 } else { rest.len() }])
}

/// Returns an update up to the point where the service would be restarted.
fn fetch(board: &Board, url: &str) -> Output {
    finish(board.command("exit 7", &["--without-reference", url]))
}

#[test]
fn an_update_comes_from_a_web_server() {
    let Some(board) = Board::new() else { return skip(NO_MINISIGN) };
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        return skip("curl is not installed (apt-get install curl)");
    }
    let bundle = board.signer.bundle("a.bundle", "90.1");
    let bytes = fs::read(&bundle).expect("it was written");
    board.signer.sign("own", &[], &bundle);
    let beside = fs::read(format!("{bundle}.minisig")).expect("it is signed");
    board.signer.sign("foreign", &[], &bundle);
    let foreign = fs::read(format!("{bundle}.minisig")).expect("it is signed");
    let pages = [
        ("/a", Page::Whole(bytes.clone())),
        ("/a.minisig", Page::Whole(beside.clone())),
        ("/cut", Page::Cut(bytes.clone())),
        ("/cut.minisig", Page::Whole(beside.clone())),
        ("/foreign", Page::Whole(bytes.clone())),
        ("/foreign.minisig", Page::Whole(foreign)),
        ("/unsigned", Page::Whole(bytes)),
        ("/endless", Page::Endless),
        ("/endless.minisig", Page::Endless),
    ];
    let server = Server::start(pages.map(|(path, page)| (path.to_owned(), page)).into());
    let left = || board.signer.folder.names("state").into_iter().filter(|name| name != "lock").collect::<Vec<_>>();

    // The restart fails, so the network is taken back: all before it has worked.
    let tried = fetch(&board, &server.url("/a"));
    assert!(tried.err.contains("exit status: 7"), "{tried:?}");
    assert_eq!(left(), [""; 0]);
    // The first attempt is cut; the next one goes on where it ended.
    let cut = fetch(&board, &server.url("/cut")).expect(1);
    let resumed =
        server.requests().iter().any(|request| request.starts_with("GET /cut ") && request.contains(" from "));
    if !resumed {
        assert!(cut.err.contains("cannot be fetched"), "{cut:?}");
        assert_eq!(left().len(), 2, "the part of it and its signature stay");
        let again = fetch(&board, &server.url("/cut")).expect(1);
        assert!(again.err.contains("exit status: 7"), "{again:?}");
    }
    let resumed = server.requests().iter().filter(|request| request.contains(" from ")).count();
    assert!(resumed > 0, "{:?}", server.requests());
    for (path, wanted) in [
        ("/foreign", "signed with another key"),
        ("/unsigned", "the signature of the update cannot be fetched"),
        ("/endless", "more than 65536 bytes"),
        ("/absent", "404"),
    ] {
        let url = server.url(path).replace("//", "//me:geh-eim@");
        let refused = fetch(&board, &url).expect(1);
        assert!(refused.err.contains(wanted) && !refused.err.contains("geh-eim"), "{path}: {refused:?}");
        assert!(left().iter().all(|name| name.ends_with(".minisig")), "{path}: {:?}", left());
    }
    assert!(
        !server.requests().iter().any(|request| request.starts_with("GET /unsigned ")),
        "no signature, no download"
    );
    // Nothing listens.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let refused = fetch(&board, &format!("http://me:geh-eim@127.0.0.1:{port}/a?token=geh-eim")).expect(1);
    assert!(refused.err.contains("curl:") && !refused.err.contains("geh-eim"), "{refused:?}");
    // No curl.
    let mut without = board.command("exit 7", &["--without-reference", &server.url("/a")]);
    without.env("PATH", board.file("state"));
    let refused = finish(without).expect(1);
    assert!(refused.err.contains("curl is not installed: sudo apt install curl"), "{refused:?}");
}
