//! Keeps a connection to a broker, reconnects when it breaks or hangs, and publishes the newest state.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::outputs::buses::home_assistant;
use crate::outputs::buses::mqtt_packets::{self as packets, Answer, Connect, Message};
use crate::outputs::http::address::Address;
use crate::outputs::http::connection::Connection;
use crate::platform::scheduling;

/// Time between two pings, and longest wait for the broker's answer.
const PING_EVERY: Duration = Duration::from_secs(10);
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// The broker publishes the will after one and a half times this silence, s.
const KEEP_ALIVE_S: u16 = 30;
/// First and longest wait before the next attempt to connect; each is twice the one before.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Time between two checks for answers.
const LOOK_EVERY: Duration = Duration::from_millis(100);

const ONLINE: &[u8] = b"online";
const OFFLINE: &[u8] = b"offline";

/// The state to publish. The newest state replaces one that has not been sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Published {
    pub state: String,
    /// False when no frames come.
    pub is_available: bool,
}

#[derive(Debug, Default)]
struct Content {
    published: Published,
    number: u64,
    is_ending: bool,
}

/// The place of the newest state, between the sink and the connection's thread.
#[derive(Debug, Default)]
pub(super) struct Board {
    content: Mutex<Content>,
    changed: Condvar,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, published: Published) {
        let mut content = self.lock();
        if content.published != published {
            content.published = published;
            content.number += 1;
            drop(content);
            self.changed.notify_all();
        }
    }

    pub(super) fn end(&self) {
        self.lock().is_ending = true;
        self.changed.notify_all();
    }

    /// Waits for a state newer than `seen`, or the end. Returns whether the end was asked for.
    fn wait(&self, seen: u64, patience: Duration) -> bool {
        let waiting = |content: &mut Content| content.number == seen && !content.is_ending;
        match self.changed.wait_timeout_while(self.lock(), patience, waiting) {
            Ok((content, _)) => content.is_ending,
            Err(poisoned) => poisoned.into_inner().0.is_ending,
        }
    }

    /// Waits for this long. Returns true at once when the end is asked for.
    fn pause(&self, patience: Duration) -> bool {
        match self.changed.wait_timeout_while(self.lock(), patience, |content| !content.is_ending) {
            Ok((content, _)) => content.is_ending,
            Err(poisoned) => poisoned.into_inner().0.is_ending,
        }
    }
}

/// The connection's thread.
pub(super) struct Link {
    pub address: Address,
    pub topics: Topics,
    pub client_id: String,
    /// The network infers expressions.
    pub has_expression: bool,
    pub board: Arc<Board>,
}

/// The topics of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Topics {
    pub base: String,
    pub state: String,
    pub availability: String,
}

impl Topics {
    pub(super) fn below(base: &str) -> Topics {
        let base = base.to_owned();
        Topics { state: format!("{base}/state"), availability: format!("{base}/availability"), base }
    }
}

impl Link {
    /// Connects and publishes until the end is asked for.
    pub(super) fn work(self) {
        scheduling::yield_to_others();
        let (mut wait, mut is_failing) = (FIRST_WAIT, false);
        loop {
            let mut has_connected = false;
            match self.one_connection(&mut has_connected, &mut is_failing) {
                Ok(()) => return,
                Err(error) => {
                    if has_connected {
                        wait = FIRST_WAIT;
                    }
                    if !std::mem::replace(&mut is_failing, true) {
                        log::warn!("mqtt {}: {error}; connecting again", self.address);
                    }
                }
            }
            if self.board.pause(wait) {
                return;
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Publishes through one connection. Returns `Ok` at the end of the run.
    fn one_connection(&self, has_connected: &mut bool, is_failing: &mut bool) -> io::Result<()> {
        let mut stream = self.address.connect()?;
        let will = Message { topic: &self.topics.availability, payload: OFFLINE };
        let credentials = self.address.credentials.as_ref();
        let connect = Connect { client_id: &self.client_id, will, credentials, keep_alive_s: KEEP_ALIVE_S };
        stream.write_all(&packets::connect(&connect))?;
        let mut arrived = Vec::new();
        self.wait_for_welcome(&mut stream, &mut arrived)?;
        *has_connected = true;
        if std::mem::take(is_failing) {
            log::info!("mqtt {}: connected again", self.address);
        }
        let Topics { base, state, availability } = &self.topics;
        for (topic, payload) in home_assistant::discovery(base, state, availability, self.has_expression) {
            publish(&mut stream, &topic, payload.as_bytes())?;
        }
        self.publish_states(&mut stream, &mut arrived)
    }

    fn wait_for_welcome(&self, stream: &mut Connection, arrived: &mut Vec<u8>) -> io::Result<()> {
        let until = Instant::now() + ANSWER_PATIENCE;
        while Instant::now() < until {
            match packets::take_answer(arrived).map_err(io::Error::other)? {
                Some(Answer::Connected(0)) => return Ok(()),
                Some(Answer::Connected(code)) => return Err(io::Error::other(packets::refusal(code))),
                Some(_) => return Err(io::Error::other(packets::NotMqtt)),
                None => receive(stream, arrived)?,
            }
            if self.board.wait(u64::MAX, Duration::ZERO) {
                return Err(io::Error::other("the run ends"));
            }
        }
        Err(ErrorKind::TimedOut.into())
    }

    fn publish_states(&self, stream: &mut Connection, arrived: &mut Vec<u8>) -> io::Result<()> {
        let (mut sent, mut was_available, mut last_state) = (None, None, String::new());
        let mut answered = Instant::now();
        let mut pinged: Option<Instant> = None;
        loop {
            let is_ending = self.board.wait(sent.unwrap_or(u64::MAX), LOOK_EVERY);
            let (number, published) = {
                let content = self.board.lock();
                (content.number, content.published.clone())
            };
            if sent != Some(number) {
                if !published.state.is_empty() && published.state != last_state {
                    publish(stream, &self.topics.state, published.state.as_bytes())?;
                    last_state.clone_from(&published.state);
                }
                if was_available.replace(published.is_available) != Some(published.is_available) {
                    let payload = if published.is_available { ONLINE } else { OFFLINE };
                    publish(stream, &self.topics.availability, payload)?;
                }
                sent = Some(number);
            }
            if is_ending {
                publish(stream, &self.topics.availability, OFFLINE)?;
                return stream.write_all(&packets::DISCONNECT);
            }
            receive(stream, arrived)?;
            while let Some(answer) = packets::take_answer(arrived).map_err(io::Error::other)? {
                if answer == Answer::Pong {
                    (pinged, answered) = (None, Instant::now());
                }
            }
            if pinged.is_some_and(|at| at.elapsed() > ANSWER_PATIENCE) {
                return Err(io::Error::new(ErrorKind::TimedOut, "the broker does not answer"));
            }
            // Also while states go out: only an answer shows that the broker takes them.
            if pinged.is_none() && answered.elapsed() > PING_EVERY {
                stream.write_all(&packets::PING)?;
                pinged = Some(Instant::now());
            }
        }
    }
}

fn publish(stream: &mut Connection, topic: &str, payload: &[u8]) -> io::Result<()> {
    stream.write_all(&packets::publish(Message { topic, payload }))
}

/// Appends what has arrived, without waiting long.
fn receive(stream: &mut Connection, arrived: &mut Vec<u8>) -> io::Result<()> {
    stream.set_read_timeout(Duration::from_millis(20))?;
    let mut piece = [0; 512];
    match stream.read(&mut piece) {
        Ok(0) => Err(io::Error::new(ErrorKind::UnexpectedEof, "the broker has closed the connection")),
        Ok(count) => {
            arrived.extend_from_slice(&piece[..count]);
            Ok(())
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {
            Ok(())
        }
        Err(error) => Err(error),
    }
}
