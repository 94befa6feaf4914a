//! The network of a command: the embedded bundle, or one from a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, anyhow};
use clap::Args;

use crate::files::signature::{self, VerifyKey};
use crate::update::installed;
use faceptor::stages::{embedded_bundle, embedded_network};
use faceptor_nn::bundle::Bundle;
use faceptor_nn::manifest::TaskKind;

/// Selects the network.
#[derive(Args)]
pub struct NetworkArguments {
    /// A bundle made by `faceptor compile`, an export folder such as models/nano, or the name of a network inside this program
    /// (`edge`, or `nano` where it was built with that feature), instead of the default one inside.
    #[arg(long, value_name = "BUNDLE")]
    pub model: Option<PathBuf>,
    /// Use the network that `faceptor update` has put into this folder, if there is one. `--model` comes before it, and the network
    /// inside this program after it.
    #[arg(long, value_name = "DIR")]
    pub bundles: Option<PathBuf>,
    /// Take the tasks that infer expressions out of the network: they cannot be chosen any more, by no option and by no command.
    /// Inferring emotions is forbidden at work and in schools (AI Act, Article 5).
    // A program without such tasks takes the switch, for the sake of scripts, and does not mention it.
    #[arg(long, hide = cfg!(feature = "no-expression"))]
    no_expression: bool,
    /// Refuse a bundle of `--model` or `--bundles` that is not signed with this key of minisign: the line of 56 characters of its public key
    /// (RW...), or the path of its file. The signature is BUNDLE.minisig (`faceptor bundle sign`).
    #[arg(long, value_name = "KEY", value_parser = VerifyKey::parse)]
    verify_key: Option<VerifyKey>,
}

/// Selects its tasks.
#[derive(Args)]
pub struct TaskArguments {
    /// Names separated by commas, `all`, or `none` for the face detector alone [default: all but recognition].
    #[arg(long, value_name = "NAMES")]
    pub tasks: Option<String>,
}

impl NetworkArguments {
    /// Opens the bundle.
    pub fn open(&self) -> Result<Arc<Bundle>> {
        let bundle = self.open_whole()?;
        match self.no_expression {
            true => bundle.without(TaskKind::Expression).map_err(|reason| anyhow!("the network: {reason}")),
            false => Ok(bundle),
        }
    }

    fn open_whole(&self) -> Result<Arc<Bundle>> {
        match &self.model {
            // A file or folder of that name comes first.
            Some(path) => match path.to_str().filter(|_| !path.exists()).and_then(embedded_network) {
                Some(bundle) => bundle.map_err(|reason| anyhow!("the network inside this program: {reason}")),
                None => match &self.verify_key {
                    Some(_) if path.is_dir() => Err(anyhow!(
                        "{}: a folder has no signature, and a key to verify with was given: compile and sign it",
                        path.display()
                    )),
                    Some(key) => signature::open(path, key).map(|signed| signed.bundle),
                    None => open(path),
                },
            },
            None => match self.bundles.as_ref().and_then(|folder| installed::open(folder, self.verify_key.as_ref())) {
                Some(bundle) => Ok(bundle),
                None => embedded(),
            },
        }
    }
}

/// Opens the network inside this program.
///
/// # Errors
/// When it was built without one.
pub(crate) fn embedded() -> Result<Arc<Bundle>> {
    embedded_bundle().map_err(|reason| anyhow!("the network inside this program: {reason} (give one with --model)"))
}

/// Reads a bundle file, or compiles an export folder; the error names it.
///
/// The file is read and not mapped: a mapped file that another program cuts short would end this one (SIGBUS). The check
/// of its hashes touches every page in any case, so a mapping would be as resident.
pub fn open(path: &Path) -> Result<Arc<Bundle>> {
    if path.is_dir() {
        return compiled(path);
    }
    signature::open_unsigned(path)
}

/// Compiles an export folder to a bundle in memory.
#[cfg(feature = "compiler")]
fn compiled(folder: &Path) -> Result<Arc<Bundle>> {
    use anyhow::Context;

    let bytes = faceptor_compiler::compile_folder(folder).with_context(|| format!("{}", folder.display()))?;
    Bundle::from_bytes(&bytes).map_err(|reason| anyhow!("{}: {reason}", folder.display()))
}

#[cfg(not(feature = "compiler"))]
fn compiled(folder: &Path) -> Result<Arc<Bundle>> {
    anyhow::bail!(
        "{} is a folder: this program was built without the compiler, so compile it elsewhere (`faceptor compile DIR --out BUNDLE`)",
        folder.display()
    )
}
