//! What `faceptor update` takes from the service's configuration: the key, the folder of versions, the control socket.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use crate::cli::config_file::ConfigFile;
use crate::files::signature::VerifyKey;
use crate::update::FOLDER;

/// The configuration of the packaged service.
const CONFIGURATION: &str = "/etc/faceptor/faceptor.toml";
/// The control socket of the packaged service.
const SOCKET: &str = "/run/faceptor/faceptor.sock";

/// Places and the key of a service.
#[derive(Debug)]
pub(super) struct UpdateSettings {
    pub folder: PathBuf,
    pub key: Option<VerifyKey>,
    pub sockets: Vec<PathBuf>,
}

impl UpdateSettings {
    /// Completes the options of the command line by the configuration, if there is one.
    ///
    /// # Errors
    /// When the configuration cannot be read, or keeps its service from using what updates put in.
    pub(super) fn read(
        configuration: Option<&Path>,
        folder: Option<PathBuf>,
        key: Option<VerifyKey>,
        sockets: Vec<PathBuf>,
    ) -> Result<UpdateSettings> {
        let path = configuration.unwrap_or(Path::new(CONFIGURATION));
        // Other systems start their service in other ways.
        let file = match configuration.is_some() || path.exists() {
            true => Some(ConfigFile::open(path)?),
            false => None,
        };
        let value = |option: &str| file.as_ref().and_then(|file| file.value(option));
        let shown = path.display();
        if value("model").is_some() {
            bail!("{shown}: `model` names a network, which comes before those of updates: remove that line");
        }
        let configured = value("bundles");
        if file.is_some() && configured.is_none() && folder.is_none() {
            bail!("{shown}: the service does not use what updates put in: add the line `bundles = \"{FOLDER}\"`");
        }
        let folder = folder.unwrap_or_else(|| configured.unwrap_or(FOLDER).into());
        let key = match (key, value("verify-key")) {
            (None, Some(text)) => {
                let parsed = VerifyKey::parse(text).map_err(|reason| anyhow!(reason));
                Some(parsed.with_context(|| format!("{shown}: verify-key"))?)
            }
            (given, _) => given,
        };
        let sockets = match sockets.is_empty() {
            true => vec![value("control").filter(|path| !path.is_empty()).unwrap_or(SOCKET).into()],
            false => sockets,
        };
        Ok(UpdateSettings { folder: std::path::absolute(&folder)?, key, sockets })
    }

    /// Returns the key.
    ///
    /// # Errors
    /// When there is none: a board takes no network of unknown origin.
    pub(super) fn key(&self) -> Result<&VerifyKey> {
        self.key.as_ref().ok_or_else(|| {
            anyhow!("there is no key to verify updates with: add `verify-key` to {CONFIGURATION}, or give --verify-key")
        })
    }
}
