//! Updates of the network: a signed bundle in a folder of versions, proven on this machine before it stays.
//!
//! ```text
//! /var/lib/faceptor-bundles/
//!     0.7.0-1f0c.../   a version: network.bundle, network.bundle.minisig, reference/
//!     current          link to the version that runs
//!     last-good        link to the version that was proven last
//!     previous         link to the one that was proven before it
//!     lock             held by the update under way
//! ```
//! `current` differs from `last-good` only while an update is on trial. A loop that starts then takes `current` if the update
//! still runs, and `last-good` if it was killed. So a kill or a power failure at any moment leaves one of the two networks, whole,
//! and no program has to repair anything before the next start. `docs/updates.md` describes the whole.

pub(crate) mod archive;
mod disk;
pub(crate) mod download;
pub(crate) mod incoming;
pub(crate) mod install;
pub(crate) mod installed;
#[cfg(test)]
mod kill_tests;
pub(crate) mod lock;
#[cfg(test)]
mod memory_disk;
pub(crate) mod service;
pub(crate) mod version_order;
pub(crate) mod versions;

pub(crate) use crate::update::disk::FileDisk;

/// The folder of the packaged service. It belongs to root: the service's user may not change what it runs.
pub(crate) const FOLDER: &str = "/var/lib/faceptor-bundles";
/// The file of a version that holds its network.
pub(crate) const NETWORK: &str = "network.bundle";
/// The signature beside it.
pub(crate) const SIGNATURE: &str = "network.bundle.minisig";
/// The folder of a version that holds the reference of its network.
pub(crate) const REFERENCE: &str = "reference";
