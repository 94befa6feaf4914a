//! A small HTTP server for the outputs that are read by browsers and other programs: the preview and the metrics.
//!
//! `server` accepts connections, each on a thread of its own, `request` reads what a client sends within limits on size and time,
//! and `response` writes the answer.

pub mod request;
pub mod response;
pub(crate) mod server;
