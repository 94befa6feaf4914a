//! HTTP on both sides: a small server for the outputs that are read by browsers and other programs (the preview and the metrics),
//! and a client for those that write to a server (webhooks, `gallery push`).
//!
//! `server` accepts connections, each on a thread of its own, `request` reads what a client sends within limits on size and time,
//! and `response` writes the answer. `address` has the parts of an address, MQTT's too, and connects; `client` makes calls;
//! `tls` encrypts connections in builds that have it.

pub(crate) mod address;
pub(crate) mod client;
pub(crate) mod connection;
pub mod request;
pub mod response;
pub(crate) mod server;
#[cfg(feature = "tls")]
pub(crate) mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
pub(crate) mod tls;
