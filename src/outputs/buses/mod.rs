//! Passes results to other systems: a page of metrics, events by HTTP, the state by MQTT.
//!
//! ```text
//! metrics         counts and histograms of frames, updated by the publisher without a lock
//!   metrics_page    the same as OpenMetrics text, served at --metrics
//! frame_faces     the faces of a result line
//! events          face appeared, named, left
//!   webhook         posts them to --webhook, with retries
//! mqtt_sink       state of the faces, as it changes
//!   mqtt_link       a connection to the broker, with reconnection
//!   mqtt_packets    packets of MQTT 3.1.1
//!   home_assistant  messages by which Home Assistant finds the entities
//! ```
//!
//! Each has its own threads. The publisher copies a line into a queue, or drops it when the queue is full.

mod events;
mod frame_faces;
mod home_assistant;
pub(crate) mod metrics;
pub(crate) mod metrics_page;
mod mqtt_link;
mod mqtt_packets;
pub(crate) mod mqtt_sink;
pub(crate) mod webhook;
