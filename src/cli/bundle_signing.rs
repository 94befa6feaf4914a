//! Signatures with a secret key of minisign, for `faceptor bundle sign`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, ensure};
use ct_codecs::{Base64, Decoder};
use minisign::{PublicKey, SecretKey, SecretKeyBox};
use zeroize::Zeroizing;

use crate::cli::{Outcome, output};
use crate::files::output_file::{self, OutputRules};
use crate::files::result_kind::ResultKind;
use crate::files::signature;
use crate::platform::passphrase;
use crate::update::incoming;

/// Longest file of a secret key, bytes.
const MAX_KEY_BYTES: u64 = 64 << 10;
/// Length of a secret key, bytes.
const KEY_BYTES: usize = 158;

/// Signs bundles; `comment` is signed too.
pub(super) fn sign(bundles: &[PathBuf], key: &Path, comment: Option<&str>, rules: &OutputRules) -> Result<Outcome> {
    let secret = secret_key(key)?;
    // Each signature is checked with it: a damaged key signs nothing.
    let public = PublicKey::from_secret_key(&secret).map_err(|error| anyhow!("{}: {error}", key.display()))?;
    for path in bundles {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let comment = comment.map_or_else(|| default_comment(path), |text| Ok(text.to_owned()))?;
        let signed =
            minisign::sign(Some(&public), &secret, file, Some(&comment), Some("signature of a Faceptor Edge bundle"))
                .map_err(|error| anyhow!("cannot sign {}: {error}", path.display()))?;
        let beside = signature::path_of(path);
        output_file::write(&beside, ResultKind::Signature, rules, |out| {
            Ok(out.write_all(signed.into_string().as_bytes())?)
        })?;
        output::print(&format!("{}: signed: {comment}\n", beside.display()))?;
    }
    Ok(Outcome::Done)
}

/// Returns time, file name and network: one line.
fn default_comment(path: &Path) -> Result<String> {
    let bundle = incoming::network_in(path)?;
    let manifest = bundle.manifest();
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let text = format!("timestamp:{seconds} file:{name} network:{} {}", manifest.name, manifest.version);
    Ok(text.replace(char::is_control, " "))
}

/// Reads a secret key; asks for its passphrase if it has one.
fn secret_key(path: &Path) -> Result<SecretKey> {
    let named = || format!("cannot read the secret key {}", path.display());
    let data = path.metadata().with_context(named)?;
    ensure!(data.is_file() && data.len() <= MAX_KEY_BYTES, "{}: this is no secret key of minisign", path.display());
    let text = Zeroizing::new(fs::read_to_string(path).with_context(named)?);
    let none = || anyhow!("{}: this is no secret key of minisign (`minisign -G` makes one)", path.display());
    let line = text.lines().nth(1).ok_or_else(none)?;
    let bytes = Zeroizing::new(Base64::decode_to_vec(line.trim(), None).map_err(|_| none())?);
    ensure!(bytes.len() == KEY_BYTES && bytes.starts_with(b"Ed"), none());
    match &bytes[2..4] {
        // minisign leaves the checksum of such a key empty, which the crate's reader of files refuses.
        [0, 0] => SecretKey::from_bytes(&bytes).map_err(|_| none()),
        b"Sc" => {
            let phrase = match passphrase::from_environment() {
                Some(phrase) => phrase,
                None => passphrase::ask(false)?,
            };
            let opened = SecretKeyBox::from_string(&text).and_then(|key| key.into_secret_key(Some(phrase.to_string())));
            opened.map_err(|error| anyhow!("{}: {error}", path.display()))
        }
        _ => Err(none()),
    }
}
