//! Publishes the state of the faces by MQTT, as it changes.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use serde_json::json;

use crate::outputs::buses::frame_faces::FrameFaces;
use crate::outputs::buses::home_assistant;
use crate::outputs::buses::mqtt_link::{Board, Link, Published, Topics};
use crate::outputs::http::address::{Address, AddressError};
use crate::outputs::sinks::sink::Sink;
use crate::platform::{clock, redaction};

/// Time between two states that differ in age or expression only, which change from frame to frame.
const STEADY_US: u64 = 1_000_000;
/// A face that is missed for less than this has not left.
const GRACE_US: u64 = 1_000_000;
/// After this time without a frame the state is not available.
const SILENCE_US: u64 = 10_000_000;
/// Topic if the address has none.
const USUAL_TOPIC: &str = "faceptor";
/// Longest topic, bytes: MQTT permits 65,535, including what is appended.
const MAX_TOPIC: usize = 1024;
const STACK_BYTES: usize = 256 << 10;

/// A broker and the topic of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broker {
    address: Address,
    topics: Topics,
    /// The network infers expressions.
    has_expression: bool,
}

/// Reason why an address names no broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BrokerError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("the topic contains + or #, which stand for other topics, or is longer than {MAX_TOPIC} bytes")]
    Topic,
}

impl Broker {
    /// Parses `mqtt://user:password@host:port/topic`.
    ///
    /// # Errors
    /// When the address or its topic is wrong.
    pub(crate) fn parse(text: &str) -> Result<Broker, BrokerError> {
        let address = Address::parse(text, "mqtt", [1883, 8883])?;
        let topic = redaction::percent_decoded(address.path.trim_matches('/'));
        let topic = if topic.is_empty() { USUAL_TOPIC.to_owned() } else { topic };
        if topic.contains(['+', '#', '\0']) || topic.len() > MAX_TOPIC {
            return Err(BrokerError::Topic);
        }
        Ok(Broker { address, topics: Topics::below(&topic), has_expression: true })
    }

    /// Reports whether the connection has to be encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.address.is_encrypted
    }

    /// Trusts the authorities of a file, or those of the system, where the connection has to be encrypted.
    ///
    /// # Errors
    /// A text for the user, when there are none.
    pub(crate) fn trusting(self, authorities: Option<&Path>) -> Result<Broker, String> {
        Ok(Broker { address: self.address.trusting(authorities)?, ..self })
    }

    /// Leaves the entity of expressions out, because the network does not infer them.
    pub(crate) fn leave_expression_out(&mut self) {
        self.has_expression = false;
    }

    /// Returns the broker with the topics of one of several sources, a level below the run's.
    pub(crate) fn of_source(&self, name: Option<&str>) -> Broker {
        match name {
            Some(name) => Broker { topics: Topics::below(&format!("{}/{name}", self.topics.base)), ..self.clone() },
            None => self.clone(),
        }
    }
}

/// The faces as a state.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    count: usize,
    name: Option<String>,
    /// Whole years.
    age: Option<u64>,
    expression: Option<String>,
}

impl State {
    /// Returns the state of a frame; name, age and expression are those of the face that has been in view for longest.
    fn of(frame: &FrameFaces) -> State {
        let Some(face) = frame.faces.iter().min_by_key(|face| face.id) else { return State::default() };
        let named = frame.faces.iter().filter(|face| face.name.is_some()).min_by_key(|face| face.id);
        State {
            count: frame.faces.len(),
            name: named.unwrap_or(face).name.clone(),
            age: face.age.map(|years| years.round().max(0.0) as u64),
            expression: face.expression.clone(),
        }
    }

    /// Returns the state's message, with the expression only if the network infers expressions.
    fn json(&self, has_expression: bool) -> String {
        let State { count, name, age, expression } = self;
        let presence = if *count > 0 { "ON" } else { "OFF" };
        let mut state = json!({ "presence": presence, "count": count, "name": name, "age": age });
        if has_expression {
            state["expression"] = json!(expression);
        }
        state.to_string()
    }
}

/// Takes result lines and publishes the newest state.
pub(crate) struct MqttSink {
    board: Arc<Board>,
    has_expression: bool,
    link: Option<JoinHandle<()>>,
    shown: Option<State>,
    shown_us: u64,
    /// Time of the last frame, and of the last one with at least as many faces as are shown.
    frame_us: u64,
    full_us: u64,
}

impl MqttSink {
    /// Starts the thread that connects. The broker need not be reachable yet.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn start(broker: Broker) -> Result<MqttSink> {
        let board = Arc::new(Board::default());
        let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let client_id =
            format!("{}_{}", home_assistant::node_id(&broker.topics.base), home_assistant::node_id(machine.trim()));
        let Broker { address, topics, has_expression } = broker;
        let link = Link { address, topics, client_id, has_expression, board: board.clone() };
        let builder = thread::Builder::new().name("mqtt link".to_owned()).stack_size(STACK_BYTES);
        let link = builder.spawn(move || link.work()).context("cannot start the thread for MQTT")?;
        Ok(MqttSink { board, has_expression, link: Some(link), shown: None, shown_us: 0, frame_us: 0, full_us: 0 })
    }

    /// Publishes a state, if it has changed and the last one is old enough.
    fn show(&mut self, state: State, now_us: u64) {
        let shown = self.shown.clone().unwrap_or_default();
        if state.count >= shown.count {
            self.full_us = now_us;
        }
        let is_first = self.shown.is_none();
        let has_fewer = state.count < shown.count;
        let is_other = (state.count, &state.name) != (shown.count, &shown.name);
        let is_due = match (is_first, has_fewer, is_other) {
            (true, ..) => true,
            // A face that is missed for a frame or two has not left.
            (_, true, _) => now_us.saturating_sub(self.full_us) >= GRACE_US,
            (_, false, true) => true,
            (_, false, false) => state != shown && now_us.saturating_sub(self.shown_us) >= STEADY_US,
        };
        if is_due {
            self.board.put(Published { state: state.json(self.has_expression), is_available: true });
            (self.shown, self.shown_us, self.full_us) = (Some(state), now_us, now_us);
        }
    }
}

impl Sink<Vec<u8>> for MqttSink {
    fn take(&mut self, line: &mut Vec<u8>) -> ControlFlow<()> {
        if let Some(frame) = FrameFaces::read(line) {
            let now_us = clock::now_us();
            if self.frame_us == 0 || now_us.saturating_sub(self.frame_us) >= SILENCE_US {
                self.shown = None;
            }
            self.frame_us = now_us;
            self.show(State::of(&frame), now_us);
        }
        ControlFlow::Continue(())
    }

    fn tick(&mut self) {
        let is_silent = self.frame_us > 0 && clock::now_us().saturating_sub(self.frame_us) >= SILENCE_US;
        if let (true, Some(state)) = (is_silent, &self.shown) {
            self.board.put(Published { state: state.json(self.has_expression), is_available: false });
        }
    }

    fn finish(&mut self) {
        self.board.end();
        // A broker that hangs keeps its thread; the run's time limit for outputs abandons both.
        if let Some(link) = self.link.take() {
            let _ = link.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_come_from_the_address() {
        let base = |text: &str| Broker::parse(text).map(|broker| broker.topics.base);
        assert_eq!(base("mqtt://h").as_deref(), Ok("faceptor"));
        assert_eq!(base("mqtt://h/").as_deref(), Ok("faceptor"));
        assert_eq!(base("mqtt://h:1/home/front%20door").as_deref(), Ok("home/front door"));
        for wrong in ["mqtt://h/a+", "mqtt://h/%23", "mqtt://h/a%00b", &format!("mqtt://h/{}", "x".repeat(2000))] {
            assert_eq!(base(wrong), Err(BrokerError::Topic), "{wrong}");
        }
        let door = Broker::parse("mqtt://h/home").map(|broker| broker.of_source(Some("door")).topics);
        let door = door.map(|topics| (topics.state, topics.availability));
        assert_eq!(door, Ok(("home/door/state".to_owned(), "home/door/availability".to_owned())));
        assert!(matches!(base("mqtts://h"), Err(BrokerError::Address(AddressError::Encrypted("mqtt")))));
    }

    #[test]
    fn states_change_at_once_but_do_not_flicker() {
        let board = Arc::new(Board::default());
        let mut sink =
            MqttSink { board, has_expression: true, link: None, shown: None, shown_us: 0, frame_us: 0, full_us: 0 };
        let state = |count, age| State { count, age: Some(age), ..State::default() };
        let mut shown = |new: State, at_ms: u64| {
            sink.show(new, 1_000_000 + at_ms * 1000);
            sink.shown.as_ref().map(|state| (state.count, state.age))
        };
        assert_eq!(shown(state(0, 0), 0), Some((0, Some(0))));
        assert_eq!(shown(state(1, 30), 10), Some((1, Some(30))), "at once");
        assert_eq!(shown(state(1, 31), 500), Some((1, Some(30))), "ages once a second");
        assert_eq!(shown(state(1, 31), 1100), Some((1, Some(31))));
        assert_eq!(shown(state(0, 0), 1200), Some((1, Some(31))), "missed for a moment");
        assert_eq!(shown(state(1, 31), 1300), Some((1, Some(31))));
        assert_eq!(shown(state(0, 0), 2200), Some((1, Some(31))));
        assert_eq!(shown(state(0, 0), 2400), Some((0, Some(0))), "it has left");
        let json = State { name: Some("\"Ada\"\n".to_owned()), ..state(2, 40) }.json(true);
        assert_eq!(json, r#"{"age":40,"count":2,"expression":null,"name":"\"Ada\"\n","presence":"ON"}"#);
        assert_eq!(state(2, 40).json(false), r#"{"age":40,"count":2,"name":null,"presence":"ON"}"#);
    }
}
