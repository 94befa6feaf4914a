//! The protocol of the control socket: requests and responses, one JSON object a line.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::control::{Enrolment, LoopControl, PendingResult};

/// Longest request in bytes, without its newline.
pub const MAX_REQUEST: usize = 4096;
/// Longest response in bytes, with its newline.
pub const MAX_RESPONSE: usize = 256 * 1024;
/// Longest frame budget, ms.
pub const MAX_BUDGET_MS: f64 = 60_000.0;

/// The reason for refusing a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    Malformed(String),
    #[error("there is no verb {0}: tasks, set-tasks, budget, status, stats, snapshot, reload-gallery, enroll, quit")]
    UnknownVerb(String),
    #[error("{0}")]
    BadArgument(String),
    /// The loop's command queue is full.
    #[error("the loop is busy with earlier commands; ask again")]
    Busy,
    #[error("a request is at most {MAX_REQUEST} bytes long; the connection is closed")]
    TooLong,
    #[error("too many clients are connected; the connection is closed")]
    TooManyClients,
    #[error("{0}")]
    Failed(String),
}

impl Refusal {
    /// Returns the code by which programs distinguish refusals.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Malformed(_) => "malformed",
            Refusal::UnknownVerb(_) => "unknown-verb",
            Refusal::BadArgument(_) => "bad-argument",
            Refusal::Busy => "busy",
            Refusal::TooLong => "too-long",
            Refusal::TooManyClients => "too-many-clients",
            Refusal::Failed(_) => "failed",
        }
    }
}

/// The `id` of a request, which is returned unchanged: its text as the client wrote it, because a number may have more
/// digits than any number of this program.
#[derive(Clone, Debug, Default)]
pub struct RequestId(Option<Box<RawValue>>);

impl RequestId {
    /// Reads the id of a request, if it has one.
    fn of(line: &[u8]) -> RequestId {
        #[derive(Deserialize)]
        struct Head<'a> {
            #[serde(borrow)]
            id: Option<&'a RawValue>,
        }
        RequestId(serde_json::from_slice::<Head>(line).ok().and_then(|head| head.id).map(ToOwned::to_owned))
    }

    /// Returns true for none, null, a number and a text.
    fn is_allowed(&self) -> bool {
        let first = self.0.as_ref().and_then(|id| id.get().bytes().next());
        first.is_none_or(|first| matches!(first, b'n' | b'"' | b'-' | b'0'..=b'9'))
    }

    /// Returns the id, if it is not null.
    fn given(&self) -> Option<&RawValue> {
        self.0.as_deref().filter(|id| id.get() != "null")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ControlRequest {
    /// Read by [`RequestId::of`].
    #[serde(default, rename = "id")]
    _id: serde::de::IgnoredAny,
    verb: String,
    tasks: Option<TaskNames>,
    ms: Option<f64>,
    source: Option<String>,
    file: Option<PathBuf>,
    force: Option<bool>,
    name: Option<String>,
    by: Option<String>,
    purpose: Option<String>,
    expires: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TaskNames {
    Text(String),
    List(Vec<String>),
}

impl TaskNames {
    fn joined(self) -> String {
        match self {
            TaskNames::Text(names) => names,
            // An empty list means the same as `--tasks none`.
            TaskNames::List(names) if names.is_empty() => "none".to_owned(),
            TaskNames::List(names) => names.join(","),
        }
    }
}

/// The answer to a request line.
pub enum Reply {
    /// The response, with its newline.
    Now(Vec<u8>),
    /// The result is pending. The response is [`response`] of this `id` and the result.
    Pending(RequestId, PendingResult),
}

/// Carries out one request line.
pub fn answer(line: &[u8], target: &dyn LoopControl) -> Reply {
    let id = RequestId::of(line);
    let result = request(line, &id, target);
    let result = match result {
        Ok(Done::Pending(later)) => return Reply::Pending(id, later),
        Ok(Done::Now(value)) => Ok(value),
        Err(refusal) => Err(refusal),
    };
    let response = response(&id, &result);
    Reply::Now(match response.len() <= MAX_RESPONSE {
        true => response,
        false => self::response(&id, &Err(Refusal::Failed("the answer is too long for a response".to_owned()))),
    })
}

/// Returns a response line.
pub fn response(id: &RequestId, result: &Result<Value, Refusal>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Response<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a RawValue>,
        ok: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        result: Option<&'a Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<ErrorEntry>,
    }
    #[derive(Serialize)]
    struct ErrorEntry {
        code: &'static str,
        message: String,
    }
    let error = result.as_ref().err().map(|refusal| ErrorEntry { code: refusal.code(), message: refusal.to_string() });
    let response = Response { id: id.given(), ok: error.is_none(), result: result.as_ref().ok(), error };
    // Texts and values that came from JSON can be written as JSON.
    let mut line = serde_json::to_vec(&response).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The result of a request, or a pending one.
enum Done {
    Now(Value),
    Pending(PendingResult),
}

fn request(line: &[u8], id: &RequestId, target: &dyn LoopControl) -> Result<Done, Refusal> {
    let request: ControlRequest = serde_json::from_slice(line).map_err(|reason| {
        let what = if reason.is_data() { "not a request" } else { "this line is not JSON" };
        Refusal::Malformed(format!("{what}: {reason}"))
    })?;
    if !id.is_allowed() {
        return Err(Refusal::Malformed("an id is a number or a text".to_owned()));
    }
    let wrong = |what: &str| Refusal::BadArgument(format!("{}: {what}", request.verb));
    let given = [
        ("tasks", request.tasks.is_some()),
        ("ms", request.ms.is_some()),
        ("source", request.source.is_some()),
        ("file", request.file.is_some()),
        ("force", request.force.is_some()),
        ("name", request.name.is_some()),
        ("by", request.by.is_some()),
        ("purpose", request.purpose.is_some()),
        ("expires", request.expires.is_some()),
    ];
    let taken: &[&str] = match request.verb.as_str() {
        "set-tasks" => &["tasks"],
        "budget" => &["ms"],
        "status" | "stats" => &["source"],
        "snapshot" => &["source", "file", "force"],
        "enroll" => &["source", "name", "by", "purpose", "expires"],
        _ => &[],
    };
    if let Some((name, _)) = given.iter().find(|(name, is_given)| *is_given && !taken.contains(name)) {
        return Err(wrong(&format!("takes no {name}")));
    }
    let source = request.source.as_deref();
    let result = match request.verb.as_str() {
        "tasks" => Ok(target.tasks()),
        "set-tasks" => match request.tasks {
            Some(names) => target.set_tasks(&names.joined()),
            None => Err(wrong("tasks are missing, a list of names or one text with commas")),
        },
        "budget" => match request.ms {
            None => Ok(target.budget()),
            Some(ms) if ms > 0.0 && ms <= MAX_BUDGET_MS => target.set_budget_ms(ms),
            Some(ms) => Err(wrong(&format!("{ms} ms is not above 0 and at most {MAX_BUDGET_MS}"))),
        },
        "status" => target.status(source),
        "stats" => target.stats(source),
        "snapshot" => match &request.file {
            Some(file) if file.is_absolute() => {
                return target.snapshot(source, file, request.force.unwrap_or(false)).map(Done::Pending);
            }
            Some(file) => Err(wrong(&format!("{} is not an absolute path", file.display()))),
            None => Err(wrong("file is missing, the absolute path of a PNG")),
        },
        "reload-gallery" => return target.reload_gallery().map(Done::Pending),
        "enroll" => match request.name {
            Some(name) => {
                let enrolment = Enrolment {
                    name,
                    by: request.by.unwrap_or_else(|| "the control socket".to_owned()),
                    purpose: request.purpose.unwrap_or_default(),
                    expires: request.expires.unwrap_or_else(|| "never".to_owned()),
                };
                return target.enrol(source, enrolment).map(Done::Pending);
            }
            None => Err(wrong("name is missing, that of the person in view")),
        },
        "quit" => target.quit(),
        other => Err(Refusal::UnknownVerb(other.chars().take(40).collect())),
    };
    result.map(Done::Now)
}

#[cfg(test)]
pub mod tests {
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    use serde_json::json;

    use super::*;

    /// A loop that records its commands, and is busy when a test says so.
    #[derive(Clone, Default)]
    pub struct FakeLoop {
        pub commands: Arc<Mutex<Vec<String>>>,
        pub busy: Arc<Mutex<bool>>,
        pub padding: usize,
    }

    impl FakeLoop {
        fn record(&self, what: String) -> Result<Value, Refusal> {
            if *self.busy.lock().expect("no test panics with it") {
                return Err(Refusal::Busy);
            }
            self.commands.lock().expect("no test panics with it").push(what);
            Ok(json!({}))
        }
    }

    impl LoopControl for FakeLoop {
        fn tasks(&self) -> Value {
            json!({"tasks": ["age"]})
        }
        fn set_tasks(&self, names: &str) -> Result<Value, Refusal> {
            match names {
                "nose" => Err(Refusal::BadArgument("there is no task nose".to_owned())),
                _ => self.record(format!("tasks {names}")),
            }
        }
        fn budget(&self) -> Value {
            json!({"budget_ms": 33.0})
        }
        fn set_budget_ms(&self, ms: f64) -> Result<Value, Refusal> {
            self.record(format!("budget {ms}"))
        }
        fn status(&self, source: Option<&str>) -> Result<Value, Refusal> {
            Ok(json!({"frames": 7, "of": source, "padding": "x".repeat(self.padding)}))
        }
        fn stats(&self, _source: Option<&str>) -> Result<Value, Refusal> {
            Ok(json!({"stages": {}}))
        }
        fn snapshot(&self, source: Option<&str>, file: &Path, force: bool) -> Result<PendingResult, Refusal> {
            let of = source.map(|source| format!(" of {source}")).unwrap_or_default();
            let forced = if force { " by force" } else { "" };
            let result = self.record(format!("snapshot {}{of}{forced}", file.display()))?;
            let mut asked = 0;
            Ok(Box::new(move || {
                asked += 1;
                (asked > 2).then(|| Ok(result.clone()))
            }))
        }
        fn reload_gallery(&self) -> Result<PendingResult, Refusal> {
            let result = self.record("reload".to_owned())?;
            Ok(Box::new(move || Some(Ok(result.clone()))))
        }
        fn enrol(&self, _source: Option<&str>, enrolment: Enrolment) -> Result<PendingResult, Refusal> {
            let Enrolment { name, by, purpose, expires } = enrolment;
            let result = self.record(format!("enroll {name} by {by} for {purpose:?} until {expires}"))?;
            Ok(Box::new(move || Some(Ok(result.clone()))))
        }
        fn quit(&self) -> Result<Value, Refusal> {
            self.record("quit".to_owned())
        }
    }

    fn ask(target: &FakeLoop, line: &str) -> Value {
        let response = match answer(line.as_bytes(), target) {
            Reply::Now(response) => response,
            Reply::Pending(id, mut later) => loop {
                if let Some(result) = later() {
                    break response(&id, &result);
                }
            },
        };
        assert!(response.ends_with(b"\n") && response.iter().filter(|byte| **byte == b'\n').count() == 1);
        serde_json::from_slice(&response).expect("a response is JSON")
    }

    #[test]
    fn commands_reach_the_loop_and_ids_are_returned() {
        let target = FakeLoop::default();
        let lines = [
            (r#"{"id": 1, "verb": "set-tasks", "tasks": ["age", "parsing"]}"#, json!(1)),
            (r#"{"id": "b", "verb": "set-tasks", "tasks": "all"}"#, json!("b")),
            (r#"{"verb": "set-tasks", "tasks": []}"#, Value::Null),
            (r#"{"id": 1.5, "verb": "budget", "ms": 12.5}"#, json!(1.5)),
            (r#"{"verb": "snapshot", "file": "/tmp/a b.png"}"#, Value::Null),
            (r#"{"verb": "snapshot", "file": "/b.png", "force": true}"#, Value::Null),
            (r#"{"verb": "snapshot", "file": "/c.png", "source": "door"}"#, Value::Null),
            (r#"{"verb": "reload-gallery"}"#, Value::Null),
            (r#"{"verb": "enroll", "name": "Ada", "by": "root", "purpose": "door", "expires": "1y"}"#, Value::Null),
            (r#"{"verb": "enroll", "name": "Ada"}"#, Value::Null),
            (r#"{"verb": "quit", "id": null}"#, Value::Null),
        ];
        for (line, id) in lines {
            let response = ask(&target, line);
            assert_eq!((&response["ok"], &response["id"]), (&json!(true), &id), "{line}");
        }
        let commands = target.commands.lock().expect("no test panics with it").clone();
        assert_eq!(
            commands,
            [
                "tasks age,parsing",
                "tasks all",
                "tasks none",
                "budget 12.5",
                "snapshot /tmp/a b.png",
                "snapshot /b.png by force",
                "snapshot /c.png of door",
                "reload",
                "enroll Ada by root for \"door\" until 1y",
                "enroll Ada by the control socket for \"\" until never",
                "quit"
            ]
        );
    }

    #[test]
    fn ids_are_returned_digit_by_digit() {
        let target = FakeLoop::default();
        let ids = [
            "12345678901234567890123",
            "-9007199254740993",
            "18446744073709551616",
            "1e400",
            "1.10",
            "0.1000000000000000055511151231257827",
            r#""\u00e9 12345678901234567890123""#,
        ];
        for id in ids {
            for verb in ["tasks", "reboot"] {
                let line = format!(r#"{{"verb": "{verb}", "id": {id}}}"#);
                let Reply::Now(response) = answer(line.as_bytes(), &target) else { panic!("nothing is pending") };
                let response = String::from_utf8(response).expect("UTF-8");
                assert!(response.starts_with(&format!("{{\"id\":{id},\"ok\":")), "{response}");
            }
        }
        let line = r#"{"verb": "snapshot", "file": "/a.png", "id": 12345678901234567890123}"#;
        let Reply::Pending(id, _) = answer(line.as_bytes(), &target) else { panic!("it is pending") };
        assert!(response(&id, &Ok(json!({}))).starts_with(b"{\"id\":12345678901234567890123,"));
        for id in ["[1]", "{}", "true"] {
            let response = ask(&target, &format!(r#"{{"verb": "tasks", "id": {id}}}"#));
            assert_eq!(response["error"]["message"], json!("an id is a number or a text"), "{id}");
        }
    }

    #[test]
    fn reports_are_returned_as_results() {
        let target = FakeLoop::default();
        assert_eq!(ask(&target, r#"{"verb": "tasks"}"#)["result"]["tasks"], json!(["age"]));
        assert_eq!(ask(&target, r#"{"verb": "status"}"#)["result"]["frames"], json!(7));
        assert_eq!(ask(&target, r#"{"verb": "status", "source": "door"}"#)["result"]["of"], json!("door"));
        assert_eq!(ask(&target, r#"{"verb": "stats"}"#)["result"], json!({"stages": {}}));
        assert_eq!(ask(&target, r#"{"verb": "budget"}"#)["result"]["budget_ms"], json!(33.0));
    }

    #[test]
    fn refusals_have_a_code_and_a_reason() {
        let target = FakeLoop::default();
        let cases = [
            ("nonsense", "malformed", "not JSON"),
            ("", "malformed", "not JSON"),
            ("[1, 2]", "malformed", "not a request"),
            ("{}", "malformed", "verb"),
            (r#"{"id": [1], "verb": "quit"}"#, "malformed", "an id is"),
            (r#"{"verb": 3}"#, "malformed", "not a request"),
            (r#"{"verb": "tasks", "extra": 1}"#, "malformed", "extra"),
            (r#"{"verb": "reboot"}"#, "unknown-verb", "set-tasks"),
            (r#"{"verb": "quit", "ms": 3}"#, "bad-argument", "takes no ms"),
            (r#"{"verb": "set-tasks", "tasks": "age", "source": "door"}"#, "bad-argument", "takes no source"),
            (r#"{"verb": "budget", "source": "door"}"#, "bad-argument", "takes no source"),
            (r#"{"verb": "set-tasks"}"#, "bad-argument", "tasks are missing"),
            (r#"{"verb": "set-tasks", "tasks": "nose"}"#, "bad-argument", "no task nose"),
            (r#"{"verb": "budget", "ms": 0}"#, "bad-argument", "above 0"),
            (r#"{"verb": "budget", "ms": 1e9}"#, "bad-argument", "at most 60000"),
            (r#"{"verb": "snapshot", "file": "a.png"}"#, "bad-argument", "absolute"),
            (r#"{"verb": "snapshot"}"#, "bad-argument", "file is missing"),
        ];
        for (line, code, reason) in cases {
            let response = ask(&target, line);
            assert_eq!((&response["ok"], &response["error"]["code"]), (&json!(false), &json!(code)), "{line}");
            assert!(response["error"]["message"].as_str().is_some_and(|text| text.contains(reason)), "{response}");
        }
        assert!(target.commands.lock().expect("no test panics with it").is_empty());
        *target.busy.lock().expect("no test panics with it") = true;
        let response = ask(&target, r#"{"id": 9, "verb": "quit"}"#);
        assert_eq!((&response["error"]["code"], &response["id"]), (&json!("busy"), &json!(9)));
    }

    #[test]
    fn line_of_brackets_does_not_exhaust_the_stack() {
        let response = ask(&FakeLoop::default(), &"[".repeat(MAX_REQUEST));
        assert_eq!(response["error"]["code"], "malformed");
    }

    #[test]
    fn response_that_is_too_long_is_refused() {
        let response =
            ask(&FakeLoop { padding: MAX_RESPONSE, ..FakeLoop::default() }, r#"{"id": 4, "verb": "status"}"#);
        assert_eq!((&response["error"]["code"], &response["id"]), (&json!("failed"), &json!(4)));
    }
}
