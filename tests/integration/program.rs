//! Runs the program with the arguments of a test, and reads what it printed.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

pub use faceptor_test_support::Folder;
use serde_json::Value;

/// The public-domain portrait, 512 x 512.
pub const PORTRAIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo/astronaut.jpg");
/// The box of its face: left, top, right, bottom, looked up by eye.
pub const FACE: [f64; 4] = [176.0, 60.0, 274.0, 190.0];

/// The export folder of the default embedded network.
#[cfg(feature = "compiler")]
pub const EXPORT: &str = if cfg!(all(feature = "nano", not(feature = "embedded"))) {
    concat!(env!("CARGO_MANIFEST_DIR"), "/models/nano")
} else {
    concat!(env!("CARGO_MANIFEST_DIR"), "/models/edge")
};

/// The exit status of a command and what it printed.
#[derive(Debug)]
pub struct Output {
    pub status: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Output {
    /// Returns the lines of standard output as JSON.
    pub fn json(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect("each line is one JSON object")).collect()
    }

    /// Fails the test unless the exit status is this.
    pub fn expect(self, status: i32) -> Output {
        assert_eq!(self.status, Some(status), "{self:#?}");
        self
    }

    /// Returns the one line of standard error that names `file`.
    pub fn line_about(&self, file: &str) -> &str {
        let lines: Vec<&str> = self.err.lines().filter(|line| line.contains(file)).collect();
        assert_eq!(lines.len(), 1, "one line about {file}: {self:#?}");
        lines[0]
    }
}

/// How long a test waits before it reports that something does not happen: long enough for any loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a condition holds.
///
/// # Panics
/// With `what` when it does not hold within [`PATIENCE`].
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Returns the binary with some arguments.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_faceptor"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn faceptor(arguments: &[&str]) -> Output {
    finish(command(arguments))
}

/// Runs a prepared command to its end.
pub fn finish(mut command: Command) -> Output {
    let output = command.output().expect("the binary can be started");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    Output { status: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Returns the intersection over union of a JSON box [x, y, w, h] and edges [left, top, right, bottom].
pub fn overlap(xywh: &Value, edges: [f64; 4]) -> f64 {
    let value = |index: usize| xywh[index].as_f64().expect("a box has four numbers");
    let found = [value(0), value(1), value(0) + value(2), value(1) + value(3)];
    let side = |low: usize, high: usize| (found[high].min(edges[high]) - found[low].max(edges[low])).max(0.0);
    let both = side(0, 2) * side(1, 3);
    let area = |b: [f64; 4]| (b[2] - b[0]) * (b[3] - b[1]);
    both / (area(found) + area(edges) - both)
}

/// Compares two JSON points or lists of numbers: true if no number differs by more than `limit`.
pub fn near(one: &Value, other: &Value, limit: f64) -> bool {
    match (one, other) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| near(a, b, limit)),
        _ => one.as_f64().zip(other.as_f64()).is_some_and(|(a, b)| (a - b).abs() <= limit),
    }
}
