//! `faceptor update`: puts a signed network in, and goes back to the last good one unless it is proven.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use faceptor_nn::bundle::Bundle;

use crate::cli::update_settings::UpdateSettings;
use crate::cli::update_system::SystemArguments;
use crate::cli::{Outcome, network_arguments, output, update_system};
use crate::files::signature::{self, SignedFile, VerifyKey};
use crate::lab::probe::Probe;
use crate::lab::reference::Reference;
use crate::lab::verify::compare;
use crate::platform::redaction;
use crate::update::download::{self, Origin};
use crate::update::incoming::{self, Contents};
use crate::update::install::{Installed, NewVersion, Trial, install};
use crate::update::lock::UpdateLock;
use crate::update::service::SystemService;
use crate::update::versions::Versions;
use crate::update::{FileDisk, REFERENCE, installed, version_order};

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct UpdateArguments {
    #[command(subcommand)]
    verb: Option<UpdateVerb>,
    /// An update that `faceptor bundle pack` made, or a bundle; http, https and file URLs too, the former by curl. The signature is
    /// FILE.minisig.
    #[arg(value_name = "FILE|URL", required_unless_present = "recover")]
    from: Option<String>,
    /// Only take back an update that was killed. The service does not need it: it starts with the last good network anyway.
    #[arg(long, conflicts_with = "from")]
    recover: bool,
    /// The service's configuration, which has the key, the folder and the control socket [default: /etc/faceptor/faceptor.toml, if
    /// there is one].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The public key of minisign that updates must be signed with [default: `verify-key` of the configuration].
    #[arg(long, value_name = "KEY", value_parser = VerifyKey::parse)]
    verify_key: Option<VerifyKey>,
    /// The folder for the networks, the one of `run --bundles` [default: `bundles` of the configuration, or
    /// /var/lib/faceptor-bundles].
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The control socket of the service. May be given several times: every loop must run the new network then [default: the
    /// configuration's `control`, or /run/faceptor/faceptor.sock].
    #[arg(long, value_name = "SOCKET")]
    control: Vec<PathBuf>,
    /// The command of the shell that restarts the service.
    #[arg(long, value_name = "COMMAND", default_value = "systemctl restart faceptor.service")]
    restart_command: String,
    /// Longest wait for the restart, and then for the frames.
    #[arg(long, value_name = "S", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Frames that the service must publish with the new network.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    frames: u64,
    /// Also take an older version, or a network of another name, whose versions cannot be compared.
    #[arg(long)]
    allow_downgrade: bool,
    /// Also take a network without a reference. Its answers are not checked then, only that the service runs it.
    #[arg(long)]
    without_reference: bool,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum UpdateVerb {
    /// Install an update of the whole system, on boards that run the image of `make image`.
    System(SystemArguments),
}

pub fn run(arguments: UpdateArguments) -> Result<Outcome> {
    if let Some(UpdateVerb::System(arguments)) = &arguments.verb {
        return update_system::run(arguments);
    }
    let given = (arguments.state_dir.clone(), arguments.verify_key.clone(), arguments.control.clone());
    let settings = UpdateSettings::read(arguments.config.as_deref(), given.0, given.1, given.2)?;
    match &arguments.from {
        None => recover(&settings, arguments.json),
        Some(from) => update(&arguments, &settings, from),
    }
}

fn recover(settings: &UpdateSettings, json: bool) -> Result<Outcome> {
    let folder = &settings.folder;
    let mut taken_back = None;
    if folder.exists() {
        let _lock = UpdateLock::take(folder)?;
        let mut versions = Versions::new(folder, FileDisk);
        let recovered = versions.recover().and_then(|name| versions.prune().map(|()| name));
        taken_back = recovered.with_context(|| format!("cannot recover {}", folder.display()))?;
    }
    match (json, &taken_back) {
        (true, name) => output::print_json(&json!({
            "result": if name.is_some() { "recovered" } else { "unchanged" }, "taken_back": name,
        }))?,
        (false, Some(name)) => output::print(&format!("the update to {name} was not completed: taken back\n"))?,
        (false, None) => output::print("there is nothing to recover\n")?,
    }
    Ok(Outcome::Done)
}

fn update(arguments: &UpdateArguments, settings: &UpdateSettings, from: &str) -> Result<Outcome> {
    let key = settings.key()?;
    let folder = &settings.folder;
    let origin = Origin::parse(from)?;
    // A file that is refused leaves no trace. A download needs the folder.
    let signed = match &origin {
        Origin::File(path) => Some(signature::read(path, key)?),
        Origin::Web(_) => None,
    };
    make_folder(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let _lock = UpdateLock::take(folder)?;
    let mut versions = Versions::new(folder, FileDisk);
    let taken_back = versions.recover().with_context(|| format!("cannot recover {}", folder.display()))?;
    if let Some(name) = taken_back {
        log::warn!("the update to {name} was not completed: taken back");
    }
    let file = match (signed, &origin) {
        (Some(file), _) => file,
        (None, Origin::File(path)) => signature::read(path, key)?,
        (None, Origin::Web(url)) => fetch(url, folder, key)?,
    };
    let contents = incoming::contents(Path::new(&origin.shown()), &file, key)?;
    let old = match installed::open_proven(folder, Some(key)) {
        Some(bundle) => bundle,
        None => network_arguments::embedded()?,
    };
    let new = &contents.bundle;
    if new.sha256() == old.sha256() {
        let mut result = result("unchanged", &old, new);
        return report(arguments, &mut result, format!("{} runs already", named(new)), Outcome::Done);
    }
    arguments.permit(&contents, &old)?;
    log::info!("{} replaces {}; signed: {}", named(new), named(&old), file.comment);
    let interrupted = signals().context("signal handlers")?;
    let mut service = SystemService {
        restart: arguments.restart_command.clone(),
        sockets: settings.sockets.clone(),
        patience: Duration::from_secs(arguments.timeout),
        interrupted: interrupted.clone(),
    };
    let version = NewVersion { version: &new.manifest().version, sha256: new.sha256(), files: contents.files.clone() };
    let trial = Trial { frames: arguments.frames, old_sha256: old.sha256() };
    let installed = install(&mut versions, &version, &trial, &mut service, |path| {
        verify(&contents, path)?;
        ensure!(!interrupted.load(Ordering::Relaxed), "interrupted");
        Ok(())
    })?;
    download::remove_all(folder);
    let verified = contents.has_reference();
    match installed {
        Installed::Kept { name, frames } => {
            let mut result = result("updated", &old, new);
            (result["installed"], result["frames"], result["verified"]) = (json!(name), json!(frames), json!(verified));
            let checked = if verified { "verified" } else { "not verified: it has no reference" };
            let text = format!("{} runs: {checked}; {frames} frames", named(new));
            report(arguments, &mut result, text, Outcome::Done)
        }
        Installed::WentBack { reason, old: back } => {
            let mut result = result("went-back", &old, new);
            (result["reason"], result["old_runs"]) = (json!(format!("{reason:#}")), json!(back.is_ok()));
            let then = match &back {
                Ok(_) => format!("{} runs again", named(&old)),
                Err(error) => format!("{} is the network again, but it does not run either: {error:#}", named(&old)),
            };
            report(
                arguments,
                &mut result,
                format!("{} was taken back: {reason:#}; {then}", named(new)),
                Outcome::SomeFailed,
            )
        }
    }
}

impl UpdateArguments {
    /// Refuses older networks, others, and those that come without a reference.
    fn permit(&self, contents: &Contents, old: &Bundle) -> Result<()> {
        let [new, old] = [contents.bundle.manifest(), old.manifest()];
        if !self.allow_downgrade {
            ensure!(
                new.name == old.name,
                "the update is network {}, and {} runs: --allow-downgrade takes it nevertheless",
                new.name,
                old.name
            );
            ensure!(
                version_order::compare(&new.version, &old.version).is_ge(),
                "the update is version {} of {}, older than {}, which runs: --allow-downgrade takes it nevertheless",
                new.version,
                new.name,
                old.version
            );
        }
        ensure!(
            self.without_reference || contents.has_reference(),
            "no reference comes with the network, so its answers cannot be verified on this machine: pack one with it (`faceptor \
             bundle pack`), or add --without-reference"
        );
        Ok(())
    }
}

/// Fetches an update. What is refused is not kept.
fn fetch(url: &str, folder: &Path, key: &VerifyKey) -> Result<SignedFile> {
    let path = download::fetch(url, folder)?;
    let file = signature::read(&path, key);
    download::remove_all(folder);
    file.with_context(|| redaction::without_credentials(url))
}

/// Makes the folder of versions, which every user may enter.
fn make_folder(folder: &Path) -> Result<()> {
    if !folder.exists() {
        DirBuilder::new().recursive(true).create(folder)?;
        fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Compares the network's answers with its reference, or at least prepares it to run.
fn verify(contents: &Contents, version: &Path) -> Result<()> {
    let bundle = &contents.bundle;
    if !contents.has_reference() {
        return Probe::new(bundle.clone()).map(drop);
    }
    let reference = Reference::open(&version.join(REFERENCE), bundle.sha256())?;
    let checks = compare(bundle, &reference)?.checks(&reference.index.limits);
    let failed = checks.iter().filter(|check| !check.passed);
    let failed: Vec<String> =
        failed.map(|check| format!("{}, {}: {}", check.group, check.name, check.message)).collect();
    if !failed.is_empty() {
        bail!("{} of {} checks failed: {}", failed.len(), checks.len(), failed.join("; "));
    }
    log::info!("all {} checks against the reference passed", checks.len());
    Ok(())
}

/// Lets a signal give the update up, so that it goes back before it ends. The end of a terminal does not count.
fn signals() -> std::io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, interrupted.clone())?;
    }
    flag::register(SIGHUP, Arc::default())?;
    Ok(interrupted)
}

fn named(bundle: &Bundle) -> String {
    let manifest = bundle.manifest();
    format!("{} {} ({:.12})", manifest.name, manifest.version, bundle.sha256())
}

fn described(bundle: &Bundle) -> Value {
    let manifest = bundle.manifest();
    json!({ "network": manifest.name, "version": manifest.version, "sha256": bundle.sha256() })
}

fn result(what: &str, old: &Bundle, new: &Bundle) -> Value {
    json!({ "result": what, "old": described(old), "new": described(new) })
}

fn report(arguments: &UpdateArguments, result: &mut Value, text: String, outcome: Outcome) -> Result<Outcome> {
    match arguments.json {
        true => output::print_json(&result)?,
        false => output::print(&format!("{text}\n"))?,
    }
    Ok(outcome)
}
