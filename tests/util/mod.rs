//! Drives the real binary: a folder for one test, commands, and the files that users have.

#![allow(dead_code, reason = "each test file uses its own part of it")]

pub mod files;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, process};

use serde_json::Value;

/// The public-domain portrait, 512 x 512.
pub const PORTRAIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo/astronaut.jpg");
/// The box of its face: left, top, right, bottom, looked up by eye.
pub const FACE: [f64; 4] = [176.0, 60.0, 274.0, 190.0];

/// The export that is embedded.
pub const EXPORT: &str = if cfg!(feature = "nano") {
    concat!(env!("CARGO_MANIFEST_DIR"), "/models/nano")
} else {
    concat!(env!("CARGO_MANIFEST_DIR"), "/models/edge")
};

/// A folder of its own, removed at the end.
pub struct Folder {
    path: PathBuf,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Folder {
    pub fn new() -> Folder {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("run-{}-{number}", process::id()));
        fs::create_dir_all(&path).expect("the target folder can be written");
        Folder { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path of a file in it, as text.
    pub fn file(&self, name: &str) -> String {
        self.path.join(name).to_str().expect("test paths are plain text").to_owned()
    }

    /// Writes a file, making its folders, and returns its path.
    pub fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path.join(name);
        fs::create_dir_all(path.parent().expect("a file has a folder")).expect("folders can be made");
        fs::write(&path, bytes).expect("files can be written");
        self.file(name)
    }

    /// Names in it, sorted.
    pub fn names(&self, below: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path.join(below)).expect("the folder is there");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// What a command left behind.
#[derive(Debug)]
pub struct Output {
    pub status: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Output {
    /// The lines of standard output as JSON.
    pub fn json(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect("each line is one JSON object")).collect()
    }

    /// Fails the test unless the exit status is this.
    pub fn expect(self, status: i32) -> Output {
        assert_eq!(self.status, Some(status), "{self:#?}");
        self
    }

    /// The one line of standard error that names `file`.
    pub fn line_about(&self, file: &str) -> &str {
        let lines: Vec<&str> = self.err.lines().filter(|line| line.contains(file)).collect();
        assert_eq!(lines.len(), 1, "one line about {file}: {self:#?}");
        lines[0]
    }
}

/// The binary with some arguments.
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

/// Intersection over union of a JSON box [x, y, w, h] and edges [left, top, right, bottom].
pub fn overlap(xywh: &Value, edges: [f64; 4]) -> f64 {
    let value = |index: usize| xywh[index].as_f64().expect("a box has four numbers");
    let found = [value(0), value(1), value(0) + value(2), value(1) + value(3)];
    let side = |low: usize, high: usize| (found[high].min(edges[high]) - found[low].max(edges[low])).max(0.0);
    let both = side(0, 2) * side(1, 3);
    let area = |b: [f64; 4]| (b[2] - b[0]) * (b[3] - b[1]);
    both / (area(found) + area(edges) - both)
}

/// Whether two JSON points or lists of numbers differ by at most `limit` anywhere.
pub fn near(one: &Value, other: &Value, limit: f64) -> bool {
    match (one, other) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| near(a, b, limit)),
        _ => one.as_f64().zip(other.as_f64()).is_some_and(|(a, b)| (a - b).abs() <= limit),
    }
}
