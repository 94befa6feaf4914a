//! Posts events to an address: JSON by HTTP, in order, with retries from a bounded queue.

use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::json;

use crate::outputs::buses::events::{EventTracker, FaceEvent};
use crate::outputs::buses::frame_faces::FrameFaces;
use crate::outputs::http::address::Address;
use crate::outputs::http::client::{self, Call};
use crate::outputs::sinks::sink::Sink;
use crate::platform::{clock, scheduling};

/// Events that wait for the server. When one more comes, the oldest is dropped.
const QUEUE: usize = 256;
/// Attempts for one event, and the waits between them: each is twice the one before.
const ATTEMPTS: u32 = 8;
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Time at the end of the run for waiting events.
const LAST_CHANCE: Duration = Duration::from_secs(2);
/// Longest wait for the status, from the connection on.
const PATIENCE: Duration = Duration::from_secs(10);
const STACK_BYTES: usize = 256 << 10;

/// A server's answer to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Taken,
    /// The server will never accept the event.
    Refused(u16),
    Later,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<String>,
    dropped: u64,
    taken: u64,
    /// Set at the end of the run.
    until: Option<Instant>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: String) {
        let mut waiting = self.lock();
        if waiting.events.len() == QUEUE {
            waiting.events.pop_front();
            waiting.dropped += 1;
        }
        waiting.events.push_back(event);
        drop(waiting);
        self.changed.notify_all();
    }

    /// Waits for the next event; `None` at the end.
    fn next(&self) -> Option<String> {
        let idle = |waiting: &mut Waiting| waiting.events.is_empty() && waiting.until.is_none();
        let mut waiting = match self.changed.wait_while(self.lock(), idle) {
            Ok(waiting) => waiting,
            Err(poisoned) => poisoned.into_inner(),
        };
        match waiting.until {
            Some(until) if Instant::now() >= until => None,
            _ => waiting.events.pop_front(),
        }
    }

    /// Waits, but not past the end. Returns false when the end has come.
    fn pause(&self, pause: Duration) -> bool {
        let begun = Instant::now();
        let mut waiting = self.lock();
        loop {
            let end = waiting.until.map_or(begun + pause, |until| until.min(begun + pause));
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return waiting.until.is_none_or(|until| Instant::now() < until);
            }
            waiting = match self.changed.wait_timeout(waiting, left) {
                Ok((waiting, _)) => waiting,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

/// Takes result lines and posts their events.
pub(crate) struct WebhookSink {
    tracker: EventTracker,
    /// Name of the source, without credentials.
    source: String,
    queue: Arc<Queue>,
    sender: Option<JoinHandle<()>>,
    events: Vec<FaceEvent>,
}

impl WebhookSink {
    /// Starts the thread that posts. The server need not be reachable yet.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn start(address: Address, source: String) -> Result<WebhookSink> {
        let queue = Arc::new(Queue::default());
        let sender = Sender { address, queue: queue.clone(), failing: false };
        let builder = thread::Builder::new().name("webhook sender".to_owned()).stack_size(STACK_BYTES);
        let sender = builder.spawn(move || sender.work()).context("cannot start the thread for the webhook")?;
        Ok(WebhookSink { tracker: EventTracker::default(), source, queue, sender: Some(sender), events: Vec::new() })
    }

    fn post(&mut self) {
        let time_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
        for event in self.events.drain(..) {
            let Ok(serde_json::Value::Object(mut fields)) = serde_json::to_value(&event) else { continue };
            fields.insert("source".to_owned(), json!(self.source));
            fields.insert("time_ms".to_owned(), json!(time_ms));
            self.queue.push(serde_json::Value::Object(fields).to_string());
        }
    }
}

impl Sink<Vec<u8>> for WebhookSink {
    fn take(&mut self, line: &mut Vec<u8>) -> ControlFlow<()> {
        if let Some(frame) = FrameFaces::read(line) {
            self.tracker.observe(frame, clock::now_us(), &mut self.events);
            self.post();
        }
        ControlFlow::Continue(())
    }

    fn tick(&mut self) {
        self.tracker.pass(clock::now_us(), &mut self.events);
        self.post();
    }

    fn finish(&mut self) {
        self.tracker.end(&mut self.events);
        self.post();
        self.queue.lock().until = Some(Instant::now() + LAST_CHANCE);
        self.queue.changed.notify_all();
        // A server that hangs keeps its thread; the run's time limit for outputs abandons both.
        if let Some(sender) = self.sender.take() {
            let _ = sender.join();
        }
        let waiting = self.queue.lock();
        let lost = waiting.dropped + waiting.events.len() as u64;
        if lost > 0 {
            log::warn!("webhook: {lost} events were not delivered");
        }
    }
}

/// The state of the posting thread.
struct Sender {
    address: Address,
    queue: Arc<Queue>,
    failing: bool,
}

impl Sender {
    fn work(mut self) {
        scheduling::yield_to_others();
        while let Some(event) = self.queue.next() {
            let is_taken = self.deliver(&event);
            let mut waiting = self.queue.lock();
            match is_taken {
                true => waiting.taken += 1,
                false => waiting.dropped += 1,
            }
        }
    }

    /// Posts one event until it is accepted, rejected, or all attempts have failed. Returns whether it was accepted.
    fn deliver(&mut self, event: &str) -> bool {
        let mut wait = FIRST_WAIT;
        for attempt in 1..=ATTEMPTS {
            let reason = match post(&self.address, event) {
                Ok(Answer::Taken) => {
                    if std::mem::take(&mut self.failing) {
                        log::info!("webhook {}: events are taken again", self.address);
                    }
                    return true;
                }
                Ok(Answer::Refused(status)) => {
                    log::warn!("webhook {}: an event is refused with status {status}", self.address);
                    return false;
                }
                Ok(Answer::Later) => "the server is busy".to_owned(),
                Err(error) => error.to_string(),
            };
            if !std::mem::replace(&mut self.failing, true) {
                log::warn!("webhook {}: {reason}; trying again", self.address);
            }
            if attempt == ATTEMPTS || !self.queue.pause(wait) {
                return false;
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        false
    }
}

/// Posts an event over a new connection.
fn post(address: &Address, event: &str) -> io::Result<Answer> {
    let path = match address.path.as_str() {
        path if path.starts_with('/') => path.to_owned(),
        path => format!("/{path}"),
    };
    let authorization = address
        .credentials
        .as_ref()
        .map(|(user, password)| format!("Basic {}", client::base64(format!("{user}:{password}").as_bytes())));
    let header = authorization.as_deref().map(|value| ("Authorization", value));
    let call = Call { method: "POST", path: &path, header, body: event.as_bytes(), patience: PATIENCE };
    Ok(match call.status(address, address.connect()?)? {
        200..=299 => Answer::Taken,
        408 | 425 | 429 | 500..=599 => Answer::Later,
        status => Answer::Refused(status),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// Answers one connection after the other, and returns what each sent.
    fn server(answers: &'static [&'static str]) -> (u16, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let work = move || {
            let mut requests = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut request = Vec::new();
                let mut piece = [0; 4096];
                while !request.ends_with(b"}") {
                    let count = stream.read(&mut piece).expect("bytes");
                    request.extend_from_slice(&piece[..count]);
                }
                stream.write_all(answer.as_bytes()).expect("taken");
                requests.push(String::from_utf8(request).expect("text"));
            }
            requests
        };
        (port, thread::spawn(work))
    }

    #[test]
    fn events_are_posted_again_until_they_are_taken() -> Result<()> {
        let (port, served) = server(&[
            "HTTP/1.1 503 Busy\r\n\r\n",
            "nonsense",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\n\r\n",
        ]);
        let address = Address::parse(&format!("http://me:pw@127.0.0.1:{port}/hook?x=1"), "http", [80, 443])?;
        let mut sink = WebhookSink::start(address, "demo".to_owned())?;
        let mut line = br#"{"faces":[{"id":7,"age":{"years":30.5}}]}"#.to_vec();
        assert_eq!(sink.take(&mut line), ControlFlow::Continue(()));
        while sink.queue.lock().taken == 0 {
            thread::sleep(Duration::from_millis(5));
        }
        let mut line = br#"{"faces":[{"id":7},{"id":8}]}"#.to_vec();
        assert_eq!(sink.take(&mut line), ControlFlow::Continue(()));
        let requests = served.join().expect("no panic");
        while sink.queue.lock().dropped == 0 {
            thread::sleep(Duration::from_millis(5));
        }
        // The server is gone: the end of the run does not wait for it long.
        sink.finish();
        assert!(requests[0].starts_with("POST /hook?x=1 HTTP/1.1\r\n") && requests[0].contains("Basic bWU6cHc=\r\n"));
        let body = |request: &str| -> serde_json::Value {
            let (_, body) = request.split_once("\r\n\r\n").expect("a head");
            serde_json::from_str(body).expect("JSON")
        };
        let ids: Vec<_> = requests.iter().map(|request| body(request)["id"].clone()).collect();
        assert_eq!(ids, [7, 7, 7, 8]);
        let first = body(&requests[0]);
        assert_eq!(
            (&first["event"], &first["age"], &first["source"]),
            (&json!("appeared"), &json!(30.5), &json!("demo"))
        );
        Ok(())
    }

    #[test]
    fn a_full_queue_drops_the_oldest() {
        let queue = Queue::default();
        (0..QUEUE + 3).for_each(|number| queue.push(number.to_string()));
        assert_eq!((queue.next().as_deref(), queue.lock().dropped), (Some("3"), 3));
        queue.lock().until = Some(Instant::now());
        assert!(queue.next().is_none() && !queue.pause(Duration::from_secs(3600)));
    }
}
