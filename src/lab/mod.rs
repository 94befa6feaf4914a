//! Measurements on a machine, and their comparison with another machine's.
//!
//! `bench` measures the loop's stages, with `cold` caches too, and `report` holds the figures; `profile` measures each step of the network;
//! `reference` writes inputs and outputs, and `verify` compares them on another machine, by the measures of `compare`;
//! `assertion` decides `--assert`.

pub mod assertion;
pub mod bench;
pub mod cold;
pub mod compare;
pub mod junit;
pub mod probe;
pub mod profile;
pub mod reference;
pub mod report;
pub mod task_cost;
pub mod timer_latency;
pub mod verify;
