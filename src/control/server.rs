//! The thread of the control socket.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::control::LoopControl;
use crate::control::connection::{Connection, Limits};
use crate::control::protocol::Refusal;
use crate::control::socket::{self, BoundSocket, SocketError};
use crate::platform::poll::{Events, PollEntry, poll};
use crate::platform::scheduling;

/// Most connections at a time; a further one is refused and closed.
pub const MAX_CLIENTS: usize = 8;
/// Least time between two rounds, in each of which every client is served once. A client that never stops sending
/// requests gets a thousand answers a second, and takes no CPU from the loop.
const ROUND: Duration = Duration::from_millis(1);
/// Time between two calls of a pending result.
const PENDING_EVERY: Duration = Duration::from_millis(20);
/// Stack of the thread: requests are small and answers are made on the heap.
const STACK_BYTES: usize = 512 << 10;
/// Pause after a failed accept, for want of descriptors for instance.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A control socket with its thread. Dropping it ends the thread and removes the socket's file.
#[derive(Debug)]
pub struct ControlServer {
    path: PathBuf,
    wake: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl ControlServer {
    /// Listens at `path` until the server is dropped.
    ///
    /// # Errors
    /// When the socket cannot be made, or the system gives no thread.
    pub fn start(path: &Path, target: impl LoopControl + 'static) -> Result<ControlServer, SocketError> {
        ControlServer::with_limits(path, target, Limits::default())
    }

    fn with_limits(
        path: &Path,
        target: impl LoopControl + 'static,
        limits: Limits,
    ) -> Result<ControlServer, SocketError> {
        let failed = |error| SocketError::Io(path.to_owned(), error);
        // The absolute path, so that the file is found again after a change of the working directory.
        let path = std::path::absolute(path).map_err(failed)?;
        let bound = socket::bind(&path)?;
        let (wake, woken) = UnixStream::pair().map_err(failed)?;
        let work = move || Rounds::new(bound, woken, limits).run(&target);
        let thread =
            thread::Builder::new().name("control".to_owned()).stack_size(STACK_BYTES).spawn(work).map_err(failed)?;
        Ok(ControlServer { path, wake, thread: Some(thread) })
    }

    /// Returns where the server listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        // The thread ends on this byte, or because this end is closed.
        let _ = self.wake.write_all(b"e");
        if let Some(thread) = self.thread.take() {
            // The panic hook has already printed a panic of this thread; the loop does not depend on it.
            let _ = thread.join();
        }
    }
}

/// The state of the server's thread, which serves all clients in rounds.
struct Rounds {
    bound: BoundSocket,
    woken: UnixStream,
    clients: Vec<Connection>,
    limits: Limits,
    accept_from: Instant,
}

/// Poll entries before those of the clients: the end of the server, and the listener.
const FIXED: usize = 2;

impl Rounds {
    fn new(bound: BoundSocket, woken: UnixStream, limits: Limits) -> Rounds {
        let clients = Vec::with_capacity(MAX_CLIENTS);
        Rounds { bound, woken, clients, limits, accept_from: Instant::now() }
    }

    fn run(mut self, target: &dyn LoopControl) {
        scheduling::yield_to_others();
        loop {
            let ready = match self.wait() {
                Ok(ready) => ready,
                Err(error) => {
                    log::warn!("control socket: {error}; it is closed, the loop goes on");
                    return;
                }
            };
            if !ready[0].is_empty() {
                return;
            }
            let now = Instant::now();
            for (client, events) in self.clients.iter_mut().zip(&ready[FIXED..]) {
                if client.step(*events, target, now).is_err() {
                    client.abandon();
                }
            }
            let limits = self.limits;
            self.clients.retain(|client| !client.is_done() && now < client.deadline(&limits));
            if !ready[1].is_empty() {
                self.accept(now);
            }
            if self.clients.iter().any(Connection::has_line) || ready[FIXED..].iter().any(|events| !events.is_empty()) {
                thread::sleep(ROUND);
            }
        }
    }

    /// Waits until there is work. Returns the events of the end, the listener, and each client.
    fn wait(&self) -> io::Result<[Events; FIXED + MAX_CLIENTS]> {
        let now = Instant::now();
        let mut list = [PollEntry::UNUSED; FIXED + MAX_CLIENTS];
        list[0] = PollEntry::new(self.woken.as_raw_fd(), Events::READABLE);
        let mut until = now + self.limits.idle;
        if self.accept_from <= now {
            list[1] = PollEntry::new(self.bound.listener.as_raw_fd(), Events::READABLE);
        } else {
            until = until.min(self.accept_from);
        }
        for (entry, client) in list[FIXED..].iter_mut().zip(&self.clients) {
            *entry = PollEntry::new(client.stream().as_raw_fd(), client.interest());
            until = until.min(match client {
                _ if client.has_line() => now,
                _ if client.is_waiting() => now + PENDING_EVERY,
                _ => client.deadline(&self.limits),
            });
        }
        poll(&mut list, Some(until.saturating_duration_since(now)))?;
        Ok(list.map(|entry| entry.happened()))
    }

    fn accept(&mut self, now: Instant) {
        match accept(&self.bound.listener, now) {
            Ok(Some(mut client)) if self.clients.len() == MAX_CLIENTS => {
                client.refuse(&Refusal::TooManyClients, now);
                // One try: it fits into the empty buffer of a new connection.
                let _ = client.write(now);
            }
            Ok(Some(client)) => self.clients.push(client),
            Ok(None) => {}
            Err(error) => {
                log::debug!("control socket: no connection accepted: {error}");
                self.accept_from = now + ACCEPT_PAUSE;
            }
        }
    }
}

fn accept(listener: &UnixListener, now: Instant) -> io::Result<Option<Connection>> {
    match listener.accept() {
        Ok((stream, _)) => Connection::new(stream, now).map(Some),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => Ok(None),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::net::Shutdown;
    use std::sync::atomic::{AtomicBool, Ordering};

    use serde_json::Value;

    use super::*;
    use crate::control::protocol::tests::FakeLoop;
    use crate::control::protocol::{MAX_REQUEST, MAX_RESPONSE};
    use faceptor_test_support::Folder;

    /// Long enough for a loaded machine.
    const PATIENCE: Duration = Duration::from_secs(30);

    struct Bench {
        folder: Folder,
        target: FakeLoop,
        server: Option<ControlServer>,
    }

    impl Bench {
        fn new(limits: Limits, padding: usize) -> Bench {
            let folder = Folder::new();
            let target = FakeLoop { padding, ..FakeLoop::default() };
            let server =
                ControlServer::with_limits(&folder.path().join("s"), target.clone(), limits).expect("a server");
            Bench { folder, target, server: Some(server) }
        }

        fn patient() -> Bench {
            Bench::new(Limits::default(), 0)
        }

        fn connect(&self) -> Talk {
            let stream = socket::connect(&self.folder.path().join("s"), PATIENCE).expect("connected");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            Talk { stream: BufReader::new(stream) }
        }

        fn commands(&self) -> Vec<String> {
            self.target.commands.lock().expect("no test panics with it").clone()
        }
    }

    struct Talk {
        stream: BufReader<UnixStream>,
    }

    impl Talk {
        fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.stream.get_mut().write_all(bytes)
        }

        /// Returns the next response; `None` when the connection has been closed.
        fn receive(&mut self) -> Option<Value> {
            let mut line = String::new();
            match self.stream.read_line(&mut line) {
                Ok(0) => None,
                Ok(_) => Some(serde_json::from_str(&line).expect("a response is JSON")),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => None,
                Err(error) => panic!("no response: {error}"),
            }
        }

        fn ask(&mut self, line: &str) -> Value {
            self.send(format!("{line}\n").as_bytes()).expect("sent");
            self.receive().expect("a response")
        }
    }

    #[test]
    fn requests_are_answered_in_order() {
        let bench = Bench::patient();
        let mut talk = bench.connect();
        assert_eq!(talk.ask(r#"{"id": 1, "verb": "tasks"}"#)["id"], 1);
        // Many at once, with blank lines, another line end, and one in pieces.
        let many: String =
            (0..50).map(|id| format!("{{\"id\":{id},\"verb\":\"set-tasks\",\"tasks\":\"t{id}\"}}\n\r\n")).collect();
        talk.send(many.as_bytes()).expect("sent");
        (0..50).for_each(|id| assert_eq!(talk.receive().expect("a response")["id"], id));
        for piece in ["{\"id\": 99, ", "\"verb\": \"qu", "it\"}", "\n"] {
            talk.send(piece.as_bytes()).expect("sent");
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(talk.receive().expect("a response")["id"], 99);
        let expected: Vec<String> = (0..50).map(|id| format!("tasks t{id}")).chain(["quit".to_owned()]).collect();
        assert_eq!(bench.commands(), expected);
    }

    #[test]
    fn client_that_stops_sending_still_gets_its_answers() {
        let bench = Bench::patient();
        let mut talk = bench.connect();
        talk.send(b"{\"id\":1,\"verb\":\"tasks\"}\n{\"id\":2,\"verb\":\"tasks\"}\n{\"id\":3").expect("sent");
        talk.stream.get_ref().shutdown(Shutdown::Write).expect("shut down");
        assert_eq!(talk.receive().expect("a response")["id"], 1);
        assert_eq!(talk.receive().expect("a response")["id"], 2);
        assert_eq!(talk.receive(), None, "half a request gets no response");
    }

    #[test]
    fn malformed_line_is_refused_and_the_connection_goes_on() {
        let bench = Bench::patient();
        let mut talk = bench.connect();
        talk.send(b"\xff\x00\xfe{{{\n").expect("sent");
        assert_eq!(talk.receive().expect("a response")["error"]["code"], "malformed");
        assert_eq!(talk.ask(r#"{"verb": "tasks"}"#)["ok"], true);
    }

    #[test]
    fn endless_request_is_cut_off() {
        let bench = Bench::patient();
        let mut talk = bench.connect();
        let longest = format!("{}{}", r#"{"verb": "tasks"}"#, " ".repeat(MAX_REQUEST - 17));
        assert_eq!(talk.ask(&longest)["ok"], true, "{MAX_REQUEST} bytes are taken");
        // It may be cut off while it still sends.
        let _ = talk.send(&vec![b'x'; 1 << 20]);
        assert_eq!(talk.receive().expect("a reason")["error"]["code"], "too-long");
        assert_eq!(talk.receive(), None);
        assert_eq!(bench.connect().ask(r#"{"verb": "tasks"}"#)["ok"], true);
    }

    #[test]
    fn slow_and_silent_clients_are_closed_while_others_are_served() {
        let limits = Limits { idle: Duration::from_millis(800), line: Duration::from_millis(200) };
        let bench = Bench::new(limits, 0);
        let (mut slow, mut silent, mut other) = (bench.connect(), bench.connect(), bench.connect());
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                // A byte now and then: it is never idle, and never done either.
                while slow.send(b"{").is_ok() {
                    thread::sleep(Duration::from_millis(20));
                }
                assert_eq!(silent.receive(), None);
                ended.store(true, Ordering::Relaxed);
            });
            let until = Instant::now() + PATIENCE;
            while !ended.load(Ordering::Relaxed) && Instant::now() < until {
                assert_eq!(other.ask(r#"{"verb": "tasks"}"#)["ok"], true);
            }
        });
        assert!(ended.load(Ordering::Relaxed));
    }

    #[test]
    fn client_that_does_not_read_is_closed_after_one_response() {
        let limits = Limits { line: Duration::from_millis(200), ..Limits::default() };
        // Larger than what the kernel takes off our hands.
        let bench = Bench::new(limits, MAX_RESPONSE - 1000);
        let mut deaf = bench.connect();
        let until = Instant::now() + PATIENCE;
        // Until the server has had enough of it.
        while deaf.send(b"{\"verb\":\"status\"}\n").is_ok() && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        assert!(Instant::now() < until, "it was closed");
        assert_eq!(bench.connect().ask(r#"{"verb": "tasks"}"#)["ok"], true);
    }

    #[test]
    fn surplus_client_is_refused_until_a_place_is_free() {
        let bench = Bench::patient();
        let mut clients: Vec<Talk> = (0..MAX_CLIENTS).map(|_| bench.connect()).collect();
        clients.iter_mut().for_each(|talk| assert_eq!(talk.ask(r#"{"verb": "tasks"}"#)["ok"], true));
        let mut late = bench.connect();
        assert_eq!(late.receive().expect("a reason")["error"]["code"], "too-many-clients");
        assert_eq!(late.receive(), None);
        clients.pop();
        let until = Instant::now() + PATIENCE;
        loop {
            let mut next = bench.connect();
            let _ = next.send(b"{\"verb\":\"tasks\"}\n");
            if next.receive().is_some_and(|response| response["ok"] == true) {
                break;
            }
            assert!(Instant::now() < until, "the place stays taken");
        }
        assert_eq!(clients[0].ask(r#"{"verb": "tasks"}"#)["ok"], true);
    }

    #[test]
    fn greedy_client_gets_about_a_thousand_answers_a_second() {
        let bench = Bench::patient();
        let (mut greedy, start) = (bench.connect(), Instant::now());
        let lines = b"{\"verb\":\"tasks\"}\n".repeat(300);
        greedy.send(&lines).expect("sent");
        (0..300).for_each(|_| drop(greedy.receive().expect("a response")));
        assert!(start.elapsed() >= Duration::from_millis(290), "{:?}", start.elapsed());
    }

    #[test]
    fn dropped_server_ends_at_once_and_removes_its_file() {
        let mut bench = Bench::patient();
        let mut talk = bench.connect();
        assert_eq!(talk.ask(r#"{"verb": "tasks"}"#)["ok"], true);
        drop(bench.server.take());
        assert!(!bench.folder.path().join("s").exists());
        let mut rest = Vec::new();
        assert_eq!(talk.stream.read_to_end(&mut rest).expect("the end"), 0);
    }
}
