//! The file of an update: signed, an archive or a bundle alone.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};

use faceptor_nn::bundle::Bundle;

use crate::files::signature::{self, SignedFile, VerifyKey};
use crate::update::versions::VersionFile;
use crate::update::{NETWORK, REFERENCE, SIGNATURE, archive};

/// What an update holds.
pub(crate) struct Contents<'a> {
    pub bundle: Arc<Bundle>,
    pub files: Vec<VersionFile<'a>>,
}

impl Contents<'_> {
    /// Returns whether a reference travels with the network.
    pub(crate) fn has_reference(&self) -> bool {
        self.files.iter().any(|(name, _)| name.starts_with(REFERENCE))
    }
}

/// Returns what a signed file holds. In an archive, the network is signed by the same key too: the service checks it at each start.
///
/// # Errors
/// When it is neither an archive nor a bundle, is damaged, or has a network that this program does not read; the message names
/// the file.
pub(crate) fn contents<'a>(path: &Path, file: &'a SignedFile, key: &VerifyKey) -> Result<Contents<'a>> {
    let files = files_of(path, &file.bytes)?;
    let network = bytes_of(&files, NETWORK);
    let files = match bytes_of(&files, SIGNATURE) {
        [] => vec![(NETWORK.to_owned(), network), (SIGNATURE.to_owned(), file.signature.as_bytes())],
        inner => {
            let inside = path.join(NETWORK);
            let text =
                std::str::from_utf8(inner).map_err(|_| anyhow!("{}: its {SIGNATURE} is no text", path.display()))?;
            signature::check(network, text, key, [&inside, &path.join(SIGNATURE)])?;
            files
        }
    };
    let bundle = bundle_of(path, bytes_of(&files, NETWORK))?;
    Ok(Contents { bundle, files })
}

/// Reads the network of a bundle or an update, whatever signatures they have.
///
/// # Errors
/// When the file is neither, or damaged; the message names it.
pub(crate) fn network_in(path: &Path) -> Result<Arc<Bundle>> {
    let bytes = signature::read_unsigned(path)?;
    bundle_of(path, bytes_of(&files_of(path, &bytes)?, NETWORK))
}

/// Returns the files of an archive, or a bundle as the only one.
fn files_of<'a>(path: &Path, bytes: &'a [u8]) -> Result<Vec<VersionFile<'a>>> {
    match archive::is_archive(bytes) {
        true => archive::read(bytes).with_context(|| path.display().to_string()),
        false if bytes.starts_with(b"FACEPTOR") => Ok(vec![(NETWORK.to_owned(), bytes)]),
        false => bail!("{}: this is neither a bundle nor an update (`faceptor bundle pack` makes one)", path.display()),
    }
}

fn bytes_of<'a>(files: &[VersionFile<'a>], name: &str) -> &'a [u8] {
    files.iter().find(|(other, _)| other == name).map_or(&[], |(_, bytes)| *bytes)
}

fn bundle_of(path: &Path, bytes: &[u8]) -> Result<Arc<Bundle>> {
    Bundle::from_bytes(bytes).map_err(|reason| anyhow!("{}: {reason}", path.display()))
}
