//! `faceptor update system`: hands an update of the whole system to RAUC, on boards that run the image (`docs/image.md`).

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::json;

use crate::cli::{Outcome, output};
use crate::platform::child_process::{ChildProcess, Piped, Program};
use crate::update::download::{self, Origin};

/// Longest wait for the end of an installation whose last line has come.
const LAST_STEP: Duration = Duration::from_secs(60);
/// Longest file of the image that is read.
const LONGEST: usize = 4096;

#[derive(Args)]
pub(super) struct SystemArguments {
    /// An update that `make image-bundle` made; http, https and file URLs too, the former by curl.
    #[arg(value_name = "FILE|URL", required_unless_present = "result")]
    from: Option<String>,
    /// Print what became of the last update.
    #[arg(long, conflicts_with_all = ["from", "no_reboot", "allow_downgrade"])]
    result: bool,
    /// Do not restart the board: the new system is tried at its next start.
    #[arg(long)]
    no_reboot: bool,
    /// Also take an older system.
    #[arg(long)]
    allow_downgrade: bool,
    /// The data partition.
    #[arg(long, value_name = "DIR", default_value = "/data")]
    data_dir: PathBuf,
    /// The folder of the image's own state.
    #[arg(long, value_name = "DIR", default_value = "/run/faceptor-image")]
    run_dir: PathBuf,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &SystemArguments) -> Result<Outcome> {
    match &arguments.from {
        None => result(arguments),
        Some(from) => install(arguments, from),
    }
}

fn result(arguments: &SystemArguments) -> Result<Outcome> {
    let folder = arguments.data_dir.join("update");
    let (what, text) = match (folder.join("pending").exists(), content(&folder.join("result"))?) {
        (true, _) => ("pending", "an update was begun: it is decided after the next start".to_owned()),
        (false, Some(result)) => ("decided", result),
        (false, None) => ("none", "no update was made".to_owned()),
    };
    match arguments.json {
        true => output::print_json(&json!({ "result": what, "text": text }))?,
        false => output::print(&format!("{text}\n"))?,
    }
    Ok(Outcome::Done)
}

fn install(arguments: &SystemArguments, from: &str) -> Result<Outcome> {
    // Others have no second system to go back to.
    ensure!(
        arguments.run_dir.is_dir(),
        "this system cannot be updated as a whole: {} is missing, so it does not run the image of `make image`",
        arguments.run_dir.display()
    );
    let origin = Origin::parse(from)?;
    let path = match &origin {
        Origin::File(path) => path.clone(),
        Origin::Web(url) => download::fetch_system(url, &arguments.data_dir)?,
    };
    let data = path.metadata().with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(data.is_file(), "{} is no regular file", path.display());
    let permission = arguments.run_dir.join("allow-downgrade");
    if arguments.allow_downgrade {
        fs::write(&permission, b"").with_context(|| format!("cannot write {}", permission.display()))?;
    }
    let installed = rauc(&std::path::absolute(&path)?);
    if arguments.allow_downgrade {
        // Otherwise it holds until the next start.
        let _ = fs::remove_file(&permission);
    }
    if installed.is_ok() {
        download::remove_all(&arguments.data_dir);
    }
    installed
        .map_err(|error| match content(&arguments.run_dir.join("refused")) {
            Ok(Some(reason)) => error.context(reason),
            _ => error,
        })
        .with_context(|| format!("{} is not installed, and the system that runs stays", origin.shown()))?;
    let reboots = !arguments.no_reboot;
    let then = if reboots { "the board restarts now, and tries it once" } else { "the next start tries it once" };
    match arguments.json {
        true => output::print_json(&json!({ "result": "installed", "reboots": reboots }))?,
        false => output::print(&format!(
            "the new system is installed: {then}; then see `faceptor update system --result`\n"
        ))?,
    }
    if reboots {
        let mut process = start(&["systemctl"], "systemd", &["reboot"])?;
        ensure!(process.wait_until(Instant::now() + LAST_STEP) && process.succeeded(), "{}", process.last_words());
    }
    Ok(Outcome::Done)
}

fn start(names: &'static [&'static str], packages: &'static str, arguments: &[&str]) -> Result<ChildProcess> {
    let arguments = arguments.iter().map(|text| (*text).to_owned()).collect();
    Ok(ChildProcess::start(&Program { names, packages, arguments, secrets: Vec::new() }, Piped::Output)?)
}

/// Lets RAUC install a file, and logs its progress. It works in a service of its own: a kill of this program does not end it.
fn rauc(path: &Path) -> Result<()> {
    let mut process = start(&["rauc"], "rauc rauc-service", &["install", &path.to_string_lossy()])?;
    let mut reason = None;
    for line in process.output().into_iter().flat_map(|pipe| BufReader::new(pipe).lines()) {
        let line = line.context("rauc cannot be read")?;
        match line.strip_prefix("LastError: ") {
            Some(text) => reason = Some(text.to_owned()),
            None if !line.trim().is_empty() => log::info!("{}", line.trim()),
            None => {}
        }
    }
    let has_ended = process.wait_until(Instant::now() + LAST_STEP);
    match has_ended && process.succeeded() {
        true => Ok(()),
        false => bail!("rauc: {}", reason.unwrap_or_else(|| process.last_words())),
    }
}

/// Reads a short file of the image; `None` if there is none.
fn content(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().chars().take(LONGEST).collect())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
