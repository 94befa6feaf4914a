//! `faceptor bench`: measures the latency of the loop's stages on this machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;

use crate::capture;
use crate::capture::source::SourceRequest;
use crate::cli::measure_arguments::MeasureArguments;
use crate::cli::network_arguments::{NetworkArguments, TaskArguments};
use crate::cli::output_rules::{self, ForceArgument};
use crate::cli::{Outcome, UsageError, output};
use crate::files::output_file::{self, OutputRules};
use crate::files::result_kind::ResultKind;
use crate::lab::assertion::{Assertion, Scope};
use crate::lab::bench::{self, BenchSettings};
use crate::lab::profile;
use crate::lab::report::SHORTCUTS;
use faceptor::stages::select_tasks;

/// Latency of the loop's stages on this machine: quantiles, misses, memory, allocations.
#[derive(Args)]
pub struct BenchArguments {
    /// `demo` (the embedded clip), a camera, a film, a photo or a folder of photos. What ends before --warm-up and --frames
    /// are reached starts over.
    #[arg(long, value_name = "SOURCE", default_value = "demo")]
    source: String,
    /// Play the source at this rate, as a camera would [default: as fast as frames are processed].
    #[arg(long, value_name = "F")]
    fps: Option<f64>,
    #[command(flatten)]
    tasks: TaskArguments,
    #[command(flatten)]
    network: NetworkArguments,
    #[command(flatten)]
    measure: MeasureArguments,
    /// Profile the network's steps instead of the loop's stages: multiply-accumulates, time, share, percent of the CPU's
    /// peak. With a file, also as an SVG picture.
    #[arg(long, value_name = "SVG", num_args = 0..=1)]
    profile: Option<Option<PathBuf>>,
    /// Measure as many frames again with cold caches: before each, MIB of another program's memory pass through them [default:
    /// twice the last-level cache].
    #[arg(long, value_name = "MIB", num_args = 0..=1, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    cold: Option<Option<u64>>,
    /// Write the report as JSON; `-` writes it to standard output instead of the table.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    force: ForceArgument,
    /// Compare with another report written by `--json`.
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,
    /// Fail unless this holds: `frame.p99_us < 8000 && allocations_per_frame.ours == 0`, `valid`,
    /// `ratio(encode.p50_us) < 1.2` (needs --reference). May be given several times.
    #[arg(long = "assert", value_name = "EXPR")]
    assertions: Vec<Assertion>,
}

pub fn run(arguments: BenchArguments, git: Option<&'static str>) -> Result<Outcome> {
    // Read first: a wrong name is reported before minutes are spent.
    let reference = arguments.reference.as_deref().map(read_report).transpose()?;
    let rules = arguments.checked_rules()?;
    let mut source =
        capture::open::open(&arguments.source, &SourceRequest { fps: arguments.fps, ..SourceRequest::default() })?;
    if let Some(picture) = &arguments.profile {
        return profile(&arguments, &rules, picture.as_deref(), &mut *source, reference.as_ref(), git);
    }
    let report = bench::measure(
        || arguments.network.open(),
        |bundle| {
            let chosen = select_tasks(bundle.manifest(), arguments.tasks.tasks.as_deref())?;
            let cold = arguments.cold.map(|mib| mib.map(|mib| mib << 20));
            Ok(BenchSettings { cold, ..arguments.measure.settings(chosen, git)? })
        },
        &mut *source,
    )?;
    let value = report.to_value().context("the report cannot be written as JSON")?;
    match &arguments.json {
        Some(path) if path == Path::new("-") => output::print_json(&report)?,
        Some(path) => {
            // What took minutes is shown also when the file cannot be written.
            output::print(&report.table(reference.as_ref()))?;
            write_json(path, &report, &rules)?;
        }
        None => output::print(&report.table(reference.as_ref()))?,
    }
    if let Some(other) = reference.as_ref().and_then(|report| report.pointer("/model/sha256"))
        && *other != value["model"]["sha256"]
    {
        log::warn!("the reference measured another network");
    }
    let shortcuts = &SHORTCUTS;
    let scope = Scope { report: &value, shortcuts, reference: reference.as_ref().map(|value| (value, &shortcuts[..])) };
    decide(&arguments.assertions, &scope, report.valid)
}

impl BenchArguments {
    /// Returns what the outputs may replace, and checks them before minutes are spent.
    fn checked_rules(&self) -> Result<OutputRules> {
        let inputs = [output_rules::source_files(&self.source), output_rules::network_files(&self.network)];
        let rules = self.force.rules(inputs.iter().flatten().chain(&self.reference));
        if let Some(path) = self.json.as_deref().filter(|path| *path != Path::new("-")) {
            output_file::check(path, ResultKind::Report, &rules)?;
        }
        if let Some(Some(path)) = &self.profile {
            output_file::check(path, ResultKind::Profile, &rules)?;
        }
        Ok(rules)
    }
}

/// Profiles the steps of the network.
fn profile(
    arguments: &BenchArguments,
    rules: &OutputRules,
    picture: Option<&Path>,
    source: &mut dyn capture::source::Source,
    reference: Option<&Value>,
    git: Option<&'static str>,
) -> Result<Outcome> {
    if arguments.measure.frames > profile::MAX_FRAMES {
        return Err(UsageError(format!("--profile: --frames {} at most", profile::MAX_FRAMES)).into());
    }
    if arguments.cold.is_some() {
        return Err(UsageError("--profile cannot be measured with --cold caches".to_owned()).into());
    }
    if reference.is_some() {
        return Err(UsageError("--profile cannot be compared with a --reference".to_owned()).into());
    }
    let found = profile::measure(
        || arguments.network.open(),
        |bundle| {
            let chosen = select_tasks(bundle.manifest(), arguments.tasks.tasks.as_deref())?;
            arguments.measure.settings(chosen, git)
        },
        source,
    )?;
    match &arguments.json {
        Some(path) if path == Path::new("-") => output::print_json(&found)?,
        _ => output::print(&found.table())?,
    }
    if let Some(path) = picture {
        let text = found.picture();
        output_file::write(path, ResultKind::Profile, rules, |file| Ok(file.write_all(text.as_bytes())?))?;
    }
    if let Some(path) = arguments.json.as_deref().filter(|path| *path != Path::new("-")) {
        write_json(path, &found, rules)?;
    }
    let value = serde_json::to_value(&found).context("the profile cannot be written as JSON")?;
    decide(&arguments.assertions, &Scope { report: &value, shortcuts: &[], reference: None }, found.valid)
}

/// Reports assertions that do not hold.
fn decide(assertions: &[Assertion], scope: &Scope<'_>, valid: bool) -> Result<Outcome> {
    let mut outcome = Outcome::Done;
    for assertion in assertions {
        if let Some(reason) = assertion.violation(scope)? {
            log::error!("assertion failed: {reason}");
            outcome = Outcome::SomeFailed;
        }
    }
    if outcome == Outcome::Done && !assertions.is_empty() && !valid {
        log::warn!("the assertions hold, but the report is INVALID");
    }
    Ok(outcome)
}

/// Reads another report.
///
/// # Errors
/// When the file cannot be read or is not a bench report.
pub fn read_report(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read the report {}", path.display()))?;
    let report: Value = serde_json::from_str(&text)
        .with_context(|| format!("{} is not JSON: it is not a bench report", path.display()))?;
    ensure!(
        report.pointer("/frame/p50_us").is_some() && report.get("stages").is_some(),
        "{} is not a bench report: it has no stages and no frame.p50_us",
        path.display()
    );
    Ok(report)
}

/// Writes a report as indented JSON.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write_json(path: &Path, report: &impl serde::Serialize, rules: &OutputRules) -> Result<()> {
    let text = serde_json::to_string_pretty(report).context("the report cannot be written as JSON")? + "\n";
    output_file::write(path, ResultKind::Report, rules, |file| Ok(file.write_all(text.as_bytes())?))
}
