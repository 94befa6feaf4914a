#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod audit;
mod cipher;
#[cfg(test)]
mod damage_tests;
mod decision;
mod disk;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod gallery;
mod header;
mod impostors;
mod key;
#[cfg(test)]
mod kill_tests;
mod log;
mod name;
mod normal_form;
mod normal_form_tables;
mod person;
mod platform;
mod ranking;
mod record;
mod roster;
mod search;
#[cfg(test)]
mod spelling_tests;
mod store;
mod template;
#[cfg(test)]
mod testing;

pub use audit::{AuditEntry, AuditEvent, Transfer};
pub use decision::{Decision, Match, Unknown};
pub use error::GalleryError;
pub use gallery::Gallery;
pub use header::Network;
pub use impostors::ImpostorScores;
pub use key::{KeySource, PassphraseCost};
pub use log::Notice;
pub use name::check_name;
pub use person::{Crop, Details, Person, PersonId, StoredTemplate};
pub use platform::Platform;
pub use ranking::Ranking;
pub use roster::Roster;
pub use search::Aggregation;
pub use template::{Template, round_into};
