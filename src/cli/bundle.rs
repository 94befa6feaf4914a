//! `faceptor bundle`: signs bundles, and verifies signatures; both in minisign's format.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use serde_json::json;

#[cfg(feature = "signing")]
use crate::cli::bundle_signing::sign as sign_all;
use crate::cli::output_rules::{self, ForceArgument};
use crate::cli::{Outcome, output};
use crate::files::output_file;
use crate::files::result_kind::ResultKind;
use crate::files::signature::{self, SignedBundle, VerifyKey};
use crate::lab::reference::{INDEX, Reference};
use crate::update::{NETWORK, REFERENCE, SIGNATURE, archive, incoming};

#[derive(Args)]
pub struct BundleArguments {
    #[command(subcommand)]
    verb: BundleVerb,
}

#[derive(Subcommand)]
enum BundleVerb {
    /// Sign bundles or updates with a secret key of minisign: writes FILE.minisig beside each.
    Sign(SignArguments),
    /// Check a bundle or an update, and its signature, FILE.minisig.
    Verify(VerifyArguments),
    /// Make an update of a signed bundle and the reference that boards verify it with, for `faceptor update`.
    Pack(PackArguments),
}

#[derive(Args)]
struct SignArguments {
    /// A bundle made by `faceptor compile`, an update made by `faceptor bundle pack`, or several.
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
    /// A bundle made by `faceptor compile`, an update made by `faceptor bundle pack`, or several.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The signer's public key: minisign's line of 56 characters (RW...), or the path of its file (minisign.pub).
    #[arg(long, value_name = "KEY", value_parser = VerifyKey::parse)]
    key: VerifyKey,
    /// Print one JSON object per bundle.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct PackArguments {
    /// A bundle with its signature beside it.
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
    /// The folder that `faceptor reference --model BUNDLE --out DIR` wrote.
    #[arg(long, value_name = "DIR")]
    reference: PathBuf,
    /// The update to write: a tar archive. Sign it too.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    force: ForceArgument,
}

pub fn run(arguments: BundleArguments) -> Result<Outcome> {
    match arguments.verb {
        BundleVerb::Sign(arguments) => sign(&arguments),
        BundleVerb::Verify(arguments) => verify(&arguments),
        BundleVerb::Pack(arguments) => pack(&arguments),
    }
}

fn sign(arguments: &SignArguments) -> Result<Outcome> {
    let rules = arguments.force.rules(arguments.files.iter().chain([&arguments.key]));
    for path in &arguments.files {
        // Reported before a passphrase is asked for. Nothing but bundles is signed.
        incoming::network_in(path)?;
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
        let checked = signature::read(path, &arguments.key).and_then(|file| {
            let bundle = incoming::contents(path, &file, &arguments.key)?.bundle;
            Ok(SignedBundle { bundle, comment: file.comment })
        });
        let signed = match checked {
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

fn pack(arguments: &PackArguments) -> Result<Outcome> {
    let beside = signature::path_of(&arguments.bundle);
    let inputs =
        output_rules::folder_files(&arguments.reference).into_iter().chain([arguments.bundle.clone(), beside.clone()]);
    let rules = arguments.force.rules(inputs);
    output_file::check(&arguments.out, ResultKind::Update, &rules)?;
    let bundle = signature::open_unsigned(&arguments.bundle)?;
    let signature = signature::text_of(&beside).context("sign the bundle first (`faceptor bundle sign`)")?;
    let reference = Reference::open(&arguments.reference, bundle.sha256())?;
    let index = reference.path(INDEX);
    let index = std::fs::read(&index).with_context(|| format!("cannot read {}", index.display()))?;
    let mut files = vec![
        (NETWORK.to_owned(), signature::read_unsigned(&arguments.bundle)?),
        (SIGNATURE.to_owned(), signature.into_bytes()),
        (format!("{REFERENCE}/{INDEX}"), index),
    ];
    for name in reference.index.files.keys() {
        let path = format!("{REFERENCE}/{name}");
        ensure!(archive::belongs(&path), "{}: no update can hold a file of this name", reference.path(name).display());
        files.push((path, reference.bytes(name)?));
    }
    let listed: Vec<_> = files.iter().map(|(name, bytes)| (name.clone(), bytes.as_slice())).collect();
    output_file::write(&arguments.out, ResultKind::Update, &rules, |mut out| Ok(archive::write(&mut out, &listed)?))?;
    let (manifest, count) = (bundle.manifest(), reference.faces());
    output::print(&format!(
        "{}: network {} {} with a reference of {count} faces; sign it too\n",
        arguments.out.display(),
        manifest.name,
        manifest.version
    ))?;
    Ok(Outcome::Done)
}
