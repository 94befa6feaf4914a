//! LoopControl a running loop: a Unix socket for `faceptor ctl` and other programs, and signals.
//!
//! The socket has a thread of its own at low priority. It never waits for the loop, and the loop never waits for it:
//! commands go through [`LoopControl`], whose methods return at once, and what is reported was published by the loop
//! before. The protocol is described in `docs/control.md`.

mod connection;
pub mod protocol;
pub mod server;
pub mod signals;
pub mod socket;

use std::path::Path;

use serde_json::Value;

pub use crate::control::protocol::Refusal;
pub use crate::control::server::ControlServer;

/// A result that is not there yet: asked again and again until it gives one. Returns at once.
pub type PendingResult = Box<dyn FnMut() -> Option<Result<Value, Refusal>> + Send>;

/// What a running loop lets others do. Called from the thread of the socket; every method returns at once.
///
/// The values are JSON objects that become the `result` of a response.
pub trait LoopControl: Send {
    /// Which tasks are chosen, in order of priority, and which there are.
    fn tasks(&self) -> Value;

    /// Chooses tasks by name (commas, `all`, `none`), from the next frame on.
    fn set_tasks(&self, names: &str) -> Result<Value, Refusal>;

    /// The budget of a frame.
    fn budget(&self) -> Value;

    /// Sets the budget of a frame in milliseconds, from the next frame on.
    fn set_budget_ms(&self, ms: f64) -> Result<Value, Refusal>;

    /// Where the loop stands: source, frames, faces, level of degradation.
    fn status(&self) -> Value;

    /// Latency statistics.
    fn stats(&self) -> Value;

    /// Asks for the next frame, annotated, as a PNG file; the answer comes when it has been written.
    fn snapshot(&self, file: &Path) -> Result<PendingResult, Refusal>;

    /// Ends the loop after the frame that it is at.
    fn quit(&self) -> Result<Value, Refusal>;
}
