//! The network that updates have put in, for the programs that run it.

use std::path::Path;
use std::sync::Arc;

use faceptor_nn::bundle::Bundle;

use crate::files::signature::{self, VerifyKey};
use crate::update::versions::Versions;
use crate::update::{FileDisk, lock};

/// Opens the network of a folder of versions: the current one, or the last good one where that cannot be read. Returns `None`
/// if there is none that can be read; the reasons are logged. What is on trial counts while its update runs.
pub(crate) fn open(folder: &Path, key: Option<&VerifyKey>) -> Option<Arc<Bundle>> {
    open_as(folder, key, lock::is_held(folder))
}

/// Opens the network that a start takes once the update that runs now has ended.
pub(crate) fn open_proven(folder: &Path, key: Option<&VerifyKey>) -> Option<Arc<Bundle>> {
    open_as(folder, key, false)
}

fn open_as(folder: &Path, key: Option<&VerifyKey>, is_updating: bool) -> Option<Arc<Bundle>> {
    let versions = Versions::new(folder, FileDisk);
    let links = match versions.links() {
        Ok(links) => links,
        Err(error) => {
            log::error!("the networks in {} are not used: {error}", folder.display());
            return None;
        }
    };
    if let Some(name) = links.current.as_ref().filter(|_| !is_updating && !links.are_settled()) {
        log::warn!("the update to {name} was not completed: the network before it is used (faceptor update --recover)");
    }
    let candidates = links.candidates(is_updating);
    candidates.iter().find_map(|name| {
        let path = versions.network(name);
        let opened = match key {
            Some(key) => signature::open(&path, key).map(|signed| signed.bundle),
            None => signature::open_unsigned(&path),
        };
        opened.map_err(|error| log::error!("{error:#}: the network before it is used")).ok()
    })
}
