//! `faceptor bundle`: signs bundles, and verifies signatures; both in minisign's format.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::json;

#[cfg(feature = "signing")]
use crate::cli::bundle_signing::sign as sign_all;
use crate::cli::output_rules::ForceArgument;
use crate::cli::{Outcome, output};
use crate::files::output_file;
use crate::files::result_kind::ResultKind;
use crate::files::signature::{self, VerifyKey};

#[derive(Args)]
pub struct BundleArguments {
    #[command(subcommand)]
    verb: BundleVerb,
}

#[derive(Subcommand)]
enum BundleVerb {
    /// Sign bundles with a secret key of minisign: writes FILE.minisig beside each.
    Sign(SignArguments),
    /// Check a bundle and its signature, FILE.minisig.
    Verify(VerifyArguments),
}

#[derive(Args)]
struct SignArguments {
    /// A bundle made by `faceptor compile`, or several.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The secret key that `minisign -G` made. Its passphrase is that of FACEPTOR_PASSPHRASE, or asked for; a key made with
    /// `minisign -G -W` has none.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// A line that is signed too and shown by `bundle verify` [default: time, file name, and the network's name and version].
    #[arg(long, value_name = "TEXT", value_parser = one_line)]
    comment: Option<String>,
    #[command(flatten)]
    force: ForceArgument,
}

/// Refuses what would make two lines of a comment.
fn one_line(text: &str) -> Result<String, &'static str> {
    match text.len() <= 1024 && !text.contains(char::is_control) {
        true => Ok(text.to_owned()),
        false => Err("a comment is one line of at most 1024 bytes"),
    }
}

#[derive(Args)]
struct VerifyArguments {
    /// A bundle made by `faceptor compile`, or several.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The signer's public key: minisign's line of 56 characters (RW...), or the path of its file (minisign.pub).
    #[arg(long, value_name = "KEY", value_parser = VerifyKey::parse)]
    key: VerifyKey,
    /// Print one JSON object per bundle.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: BundleArguments) -> Result<Outcome> {
    match arguments.verb {
        BundleVerb::Sign(arguments) => sign(&arguments),
        BundleVerb::Verify(arguments) => verify(&arguments),
    }
}

fn sign(arguments: &SignArguments) -> Result<Outcome> {
    let rules = arguments.force.rules(arguments.files.iter().chain([&arguments.key]));
    for path in &arguments.files {
        // Reported before a passphrase is asked for. Nothing but bundles is signed.
        signature::open_unsigned(path)?;
        output_file::check(&signature::path_of(path), ResultKind::Signature, &rules)?;
    }
    sign_all(&arguments.files, &arguments.key, arguments.comment.as_deref(), &rules)
}

#[cfg(not(feature = "signing"))]
fn sign_all(_: &[PathBuf], _: &std::path::Path, _: Option<&str>, _: &output_file::OutputRules) -> Result<Outcome> {
    anyhow::bail!("this program was built without signing, as those of boards are: sign where the bundle was compiled")
}

fn verify(arguments: &VerifyArguments) -> Result<Outcome> {
    let mut outcome = Outcome::Done;
    for path in &arguments.files {
        let signed = match signature::open(path, &arguments.key) {
            Ok(signed) => signed,
            Err(error) => {
                log::error!("{error:#}");
                outcome = Outcome::SomeFailed;
                continue;
            }
        };
        let manifest = signed.bundle.manifest();
        let line = match arguments.json {
            true => json!({
                "path": path.display().to_string(), "name": manifest.name, "version": manifest.version,
                "sha256": signed.bundle.sha256(), "comment": signed.comment,
            })
            .to_string(),
            false => format!(
                "{}: good: network {} {}, signed; {}",
                path.display(),
                manifest.name,
                manifest.version,
                signed.comment
            ),
        };
        output::print(&format!("{line}\n"))?;
    }
    Ok(outcome)
}
