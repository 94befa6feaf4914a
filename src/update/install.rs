//! An update, step by step: staged, verified, tried, and kept or taken back.

use std::path::Path;

use anyhow::{Context, Result};

use crate::update::disk::Disk;
use crate::update::versions::{VersionFile, Versions};

/// The service that runs the network.
pub(crate) trait Service {
    /// Starts it anew; it takes the network that is current then.
    ///
    /// # Errors
    /// When it does not start.
    fn restart(&mut self) -> Result<()>;
    /// Waits until it runs the network with this checksum and has published so many frames. Returns how many it has.
    ///
    /// # Errors
    /// When it does not in the time that it has.
    fn wait_for(&mut self, sha256: &str, frames: u64) -> Result<u64>;
}

/// A network that is to be put in.
#[derive(Debug)]
pub(crate) struct NewVersion<'a> {
    pub version: &'a str,
    pub sha256: &'a str,
    pub files: Vec<VersionFile<'a>>,
}

/// What a trial needs: frames of the new network, and the network to go back to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trial<'a> {
    pub frames: u64,
    pub old_sha256: &'a str,
}

/// The result of an update that did not fail before it changed anything.
#[derive(Debug)]
pub(crate) enum Installed {
    /// The new network runs, and has published so many frames.
    Kept { name: String, frames: u64 },
    /// The old network is current again, for this reason. `old` is an error if it does not run either.
    WentBack { reason: anyhow::Error, old: Result<u64> },
}

/// Puts a network in: it stays only if it is verified, and its service starts and publishes frames.
///
/// # Errors
/// When it cannot be written or is not verified; then nothing has changed.
pub(crate) fn install<D: Disk>(
    versions: &mut Versions<D>,
    new: &NewVersion,
    trial: &Trial,
    service: &mut dyn Service,
    verify: impl FnOnce(&Path) -> Result<()>,
) -> Result<Installed> {
    let staged = versions.stage(new.version, new.sha256, &new.files);
    let name = staged.context("the new network cannot be stored; the old one goes on")?;
    if let Err(refused) = verify(&versions.path(&name)) {
        // The next update removes it if this fails.
        let _ = versions.prune();
        return Err(refused.context("the new network is not right on this machine; the old one goes on"));
    }
    let tried = try_out(versions, &name, new, trial, service);
    let installed = match tried {
        Ok(frames) => Installed::Kept { name, frames },
        Err(reason) => {
            log::error!("{reason:#}");
            log::warn!("going back to the network before");
            let back = versions.go_back().context("the link to the network before cannot be set");
            let restarted = service.restart().and_then(|()| service.wait_for(trial.old_sha256, 1));
            Installed::WentBack { reason, old: back.and(restarted) }
        }
    };
    if let Err(error) = versions.prune() {
        log::warn!("versions that are not needed any more stay: {error}");
    }
    Ok(installed)
}

fn try_out<D: Disk>(
    versions: &mut Versions<D>,
    name: &str,
    new: &NewVersion,
    trial: &Trial,
    service: &mut dyn Service,
) -> Result<u64> {
    versions.try_out(name).context("the link to the new network cannot be set")?;
    service.restart()?;
    let frames = service.wait_for(new.sha256, trial.frames)?;
    versions.keep(name).context("the link to the new network cannot be set")?;
    Ok(frames)
}
