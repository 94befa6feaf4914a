//! Control of a running loop: a Unix socket for `faceptor ctl` and other programs, and signals.
//!
//! The server has a thread of its own at low priority. It never waits for the loop, and the loop never waits for it:
//! commands go through [`LoopControl`], whose methods return at once, and reports are what the loop published last. The
//! protocol is described in `docs/control.md`.

pub(crate) mod client;
mod connection;
pub mod protocol;
pub mod server;
pub mod signals;
pub mod socket;
pub mod socket_paths;

use std::path::Path;

use serde_json::Value;

pub use crate::control::protocol::Refusal;
pub use crate::control::server::ControlServer;

/// A pending result: called repeatedly until it returns one. Each call returns at once.
pub type PendingResult = Box<dyn FnMut() -> Option<Result<Value, Refusal>> + Send>;

/// An enrolment of the face in view.
#[derive(Clone, PartialEq, Eq)]
pub struct Enrolment {
    pub name: String,
    /// Who enrols the person.
    pub by: String,
    pub purpose: String,
    /// End of the enrolment, as for `faceptor enroll --expires`.
    pub expires: String,
}

impl std::fmt::Debug for Enrolment {
    /// Shows no name, so that it reaches no log.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Enrolment(..)")
    }
}

/// Controls a running loop. Called from the server's thread; every method returns at once.
///
/// The values are JSON objects, which become the `result` of a response. A `source` names one of several sources.
pub trait LoopControl: Send {
    /// Returns the chosen tasks, in order of priority, and the available ones.
    fn tasks(&self) -> Value;

    /// Chooses tasks by name (commas, `all`, `none`) from the next frame on.
    fn set_tasks(&self, names: &str) -> Result<Value, Refusal>;

    /// Returns the budget of a frame.
    fn budget(&self) -> Value;

    /// Sets the budget of a frame in milliseconds from the next frame on.
    fn set_budget_ms(&self, ms: f64) -> Result<Value, Refusal>;

    /// Returns the state of the loop: source, frames, faces, level of degradation. Without a name, that of all sources.
    fn status(&self, source: Option<&str>) -> Result<Value, Refusal>;

    /// Returns latency statistics. Without a name, those of all sources.
    fn stats(&self, source: Option<&str>) -> Result<Value, Refusal>;

    /// Writes the next frame, annotated, as a PNG file; with `force` also over a file that this program did not write. The
    /// result comes when the file has been written.
    fn snapshot(&self, source: Option<&str>, file: &Path, force: bool) -> Result<PendingResult, Refusal>;

    /// Reads the gallery anew. The result comes when the loop has the new state.
    fn reload_gallery(&self) -> Result<PendingResult, Refusal>;

    /// Enrols the one face in view. The result comes when the gallery is written and the loop has its new state.
    fn enrol(&self, source: Option<&str>, enrolment: Enrolment) -> Result<PendingResult, Refusal>;

    /// Ends the loop after the current frame.
    fn quit(&self) -> Result<Value, Refusal>;
}
