//! Signatures of bundles in minisign's format: `FILE.minisig` beside the file.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use minisign_verify::{Error, PublicKey, Signature};

use faceptor_nn::bundle::Bundle;

/// Longest file of a key or of a signature, bytes. Their comments have at most 8 KiB.
const MAX_TEXT_BYTES: u64 = 64 << 10;
/// Longest bundle that is read, bytes.
const MAX_BUNDLE_BYTES: u64 = 1 << 30;

/// A public key that bundles must be signed with.
#[derive(Clone, Debug)]
pub struct VerifyKey(PublicKey);

impl VerifyKey {
    /// Reads a key: minisign's one line of 56 characters, or the path of a file that minisign wrote (`minisign.pub`).
    ///
    /// # Errors
    /// When the text is neither.
    pub(crate) fn parse(text: &str) -> Result<VerifyKey, String> {
        if let Ok(key) = PublicKey::from_base64(text) {
            return Ok(VerifyKey(key));
        }
        let advice = "a public key of minisign is needed: its line of 56 characters (RW...), or the path of its file";
        let content = text_of(Path::new(text)).map_err(|error| format!("{advice}; {error:#}"))?;
        // The file may hold the line alone.
        PublicKey::decode(&content)
            .or_else(|_| PublicKey::from_base64(content.trim()))
            .map(VerifyKey)
            .map_err(|_| format!("{advice}; the file {text} is none"))
    }
}

/// A bundle whose signature is good.
pub(crate) struct SignedBundle {
    pub(crate) bundle: Arc<Bundle>,
    /// The signer's text, which is signed too.
    pub(crate) comment: String,
}

/// Returns the path of a file's signature.
pub(crate) fn path_of(file: &Path) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(".minisig");
    path.into()
}

/// A file whose signature is good, read whole: what was checked is what is used, whatever happens to the file afterwards.
#[derive(Debug)]
pub(crate) struct SignedFile {
    pub(crate) bytes: Vec<u8>,
    /// The text of its signature.
    pub(crate) signature: String,
    /// The signer's text, which is signed too.
    pub(crate) comment: String,
}

/// Reads a bundle and checks its signature, before anything in it is interpreted.
///
/// # Errors
/// When the bundle or its signature cannot be read, the signature is another key's or another file's, or the bundle is damaged; the
/// message names the file.
pub(crate) fn open(path: &Path, key: &VerifyKey) -> Result<SignedBundle> {
    let SignedFile { bytes, comment, .. } = read(path, key)?;
    let bundle = Bundle::from_memory(Arc::new(bytes)).map_err(|reason| anyhow!("{}: {reason}", path.display()))?;
    Ok(SignedBundle { bundle, comment })
}

/// Reads a file and checks its signature.
///
/// # Errors
/// When the file or its signature cannot be read, or the signature is another key's or another file's; the message names the file.
pub(crate) fn read(path: &Path, key: &VerifyKey) -> Result<SignedFile> {
    let beside = path_of(path);
    let bytes = bytes_of(path, MAX_BUNDLE_BYTES)?;
    let signature = match text_of(&beside) {
        Err(error)
            if error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::NotFound) =>
        {
            bail!("{}: not signed: {} is missing, and a key to verify with was given", path.display(), beside.display())
        }
        read => read?,
    };
    let comment = check(&bytes, &signature, key, [path, &beside])?;
    Ok(SignedFile { bytes, signature, comment })
}

/// Checks bytes and the text of their signature, and returns the signer's comment. The names of both are for messages.
///
/// # Errors
/// When the signature is none, or another key's, or of other bytes.
pub(crate) fn check(bytes: &[u8], signature: &str, key: &VerifyKey, [path, beside]: [&Path; 2]) -> Result<String> {
    let signature =
        Signature::decode(signature).map_err(|_| anyhow!("{}: this is no signature of minisign", beside.display()))?;
    key.0.verify(bytes, &signature, true).map_err(|error| match error {
        Error::UnexpectedKeyId => anyhow!("{}: signed with another key than the one to verify with", path.display()),
        _ => anyhow!(
            "{}: the signature in {} does not belong to it: the bundle or the signature was changed, or cut short",
            path.display(),
            beside.display()
        ),
    })?;
    Ok(signature.trusted_comment().to_owned())
}

/// Reads a bundle, whatever signature it has.
///
/// # Errors
/// When it cannot be read or is damaged; the message names the file.
pub(crate) fn open_unsigned(path: &Path) -> Result<Arc<Bundle>> {
    // The error already contains its cause, so it is not chained.
    Bundle::open(path).map_err(|reason| anyhow!("{}: {reason}", path.display()))
}

/// Reads a file that may be a bundle or an update, whatever signature it has.
///
/// # Errors
/// When it is no regular file, or too long.
pub(crate) fn read_unsigned(path: &Path) -> Result<Vec<u8>> {
    bytes_of(path, MAX_BUNDLE_BYTES)
}

/// Reads a text of minisign.
pub(crate) fn text_of(path: &Path) -> Result<String> {
    String::from_utf8(bytes_of(path, MAX_TEXT_BYTES)?).map_err(|_| anyhow!("{}: this is no text", path.display()))
}

/// Reads a regular file of limited length. The error's cause is the file system's.
fn bytes_of(path: &Path, most: u64) -> Result<Vec<u8>> {
    let named = || format!("cannot read {}", path.display());
    // A pipe without a writer would never open.
    let data = path.metadata().with_context(named)?;
    ensure!(data.is_file(), "{} is no regular file", path.display());
    ensure!(data.len() <= most, "{} has {} bytes, at most {most}", path.display(), data.len());
    let mut bytes = Vec::with_capacity(data.len() as usize);
    File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)).with_context(named)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_line_of_minisign_and_nothing_else() {
        // The key of minisign's own manual.
        let key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
        assert!(VerifyKey::parse(key).is_ok());
        for wrong in [
            "",
            &key[1..],
            &key[..55],
            "RWQ",
            "/",
            "/dev/zero",
            "/etc/hostname-that-is-not",
            &key.replace("RWQ", "QWQ"),
        ] {
            let refused = VerifyKey::parse(wrong).expect_err(wrong);
            assert!(refused.contains("a public key of minisign is needed"), "{wrong}: {refused}");
        }
    }

    #[test]
    fn the_signature_lies_beside_the_file() {
        assert_eq!(path_of(Path::new("a/b.bundle")), Path::new("a/b.bundle.minisig"));
    }
}
