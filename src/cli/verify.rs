//! `faceptor verify`: compares this machine's results and times with those that `faceptor reference` stored on another.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::Value;

use crate::capture::demo_source::DemoSource;
use crate::cli::bench::write_json;
use crate::cli::measure_arguments::MeasureArguments;
use crate::cli::network_arguments::NetworkArguments;
use crate::cli::output_rules::{self, ForceArgument};
use crate::cli::{Outcome, output};
use crate::files::output_file::{self, OutputRules};
use crate::files::result_kind::ResultKind;
use crate::lab::assertion::{Assertion, Scope};
use crate::lab::bench;
use crate::lab::junit;
use crate::lab::reference::{BENCH, Reference};
use crate::lab::report::{BenchReport, SHORTCUTS, WARM_UP_FRAMES};
use crate::lab::verify::{Verification, VerifyCheck, compare};
use crate::platform::network_threads::ThreadArguments;
use faceptor::stages::select_tasks;
use faceptor_nn::bundle::Bundle;

/// Objects in which a path of `--assert` is looked up too: `landmarks.max` for `tasks.landmarks.max`, `encode.p50_us`
/// for `bench.stages.encode.p50_us`.
const PLACES: [&str; 4] = ["/tasks", "/end_to_end", "/bench", "/bench/stages"];

/// Answers and times of this machine beside a reference of another.
#[derive(Args)]
pub struct VerifyArguments {
    /// A folder that `faceptor reference` wrote.
    #[arg(long, value_name = "DIR")]
    reference: PathBuf,
    #[command(flatten)]
    network: NetworkArguments,
    /// Number of frames of the bench that is compared with the reference's; 0 omits the bench.
    #[arg(long, value_name = "N", default_value_t = 700)]
    frames: u64,
    /// Number of frames before that, which are not counted.
    #[arg(long, value_name = "N", default_value_t = WARM_UP_FRAMES, value_parser = clap::value_parser!(u64).range(1..))]
    warm_up: u64,
    /// Write everything as JSON; `-` writes it to standard output instead of the text.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
    /// Write the checks as JUnit XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    #[command(flatten)]
    force: ForceArgument,
    /// Fail unless this holds, besides the limits of the reference: `landmarks.max < 0.1`, `age.flips == 0`,
    /// `ratio(encode.p50_us) < 30` (this machine's time by the reference's). May be given several times.
    #[arg(long = "assert", value_name = "EXPR")]
    assertions: Vec<Assertion>,
}

pub fn run(arguments: VerifyArguments, git: Option<&'static str>) -> Result<Outcome> {
    let rules = arguments.checked_rules()?;
    let bundle = arguments.network.open()?;
    let reference = Reference::open(&arguments.reference, bundle.sha256())?;
    let there: Value = serde_json::from_slice(&reference.bytes(BENCH)?)
        .with_context(|| format!("{} is not a bench report", reference.path(BENCH).display()))?;
    let verification = compare(&bundle, &reference)?;
    let report = match arguments.frames {
        0 => None,
        frames => Some(measure(&arguments, &bundle, &there, frames, git)?),
    };
    let mut checks = verification.checks(&reference.index.limits);
    let value = value(&verification, &report)?;
    let shortcuts = &SHORTCUTS[..];
    let scope = Scope { report: &value, shortcuts: &PLACES, reference: Some((&there, shortcuts)) };
    for assertion in &arguments.assertions {
        let violation = assertion.violation(&scope)?;
        let (passed, message) = (violation.is_none(), violation.unwrap_or_else(|| "holds".to_owned()));
        checks.push(VerifyCheck { group: "assertions", name: assertion.to_string(), passed, message });
    }
    let passed = checks.iter().all(|check| check.passed);
    let json = with_checks(value, &checks, passed)?;
    match &arguments.json {
        Some(path) if path == Path::new("-") => output::print_json(&json)?,
        _ => output::print(&text(&reference, &verification, report.as_ref(), &there, &checks))?,
    }
    if let Some(path) = &arguments.junit {
        let xml = junit::to_xml("faceptor-verify", &checks);
        output_file::write(path, ResultKind::Checks, &rules, |file| Ok(file.write_all(xml.as_bytes())?))?;
    }
    if let Some(path) = arguments.json.as_deref().filter(|path| *path != Path::new("-")) {
        write_json(path, &json, &rules)?;
    }
    Ok(if passed { Outcome::Done } else { Outcome::SomeFailed })
}

impl VerifyArguments {
    /// Returns what the outputs may replace, and checks them before minutes are spent.
    fn checked_rules(&self) -> Result<OutputRules> {
        let inputs = [output_rules::folder_files(&self.reference), output_rules::network_files(&self.network)];
        let rules = self.force.rules(inputs.iter().flatten());
        if let Some(path) = self.json.as_deref().filter(|path| *path != Path::new("-")) {
            output_file::check(path, ResultKind::Report, &rules)?;
        }
        if let Some(path) = &self.junit {
            output_file::check(path, ResultKind::Checks, &rules)?;
        }
        Ok(rules)
    }
}

/// Runs the bench with the settings of the reference's.
fn measure(
    arguments: &VerifyArguments,
    bundle: &Arc<Bundle>,
    there: &Value,
    frames: u64,
    git: Option<&'static str>,
) -> Result<BenchReport> {
    let names = there["tasks"].as_array().context("the reference's bench report names no tasks")?;
    let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(",") };
    let measure = MeasureArguments {
        frames,
        warm_up: arguments.warm_up,
        threads: ThreadArguments { threads: 1 },
        budget_ms: there.pointer("/deadline/budget_us").and_then(Value::as_f64).unwrap_or(0.0) / 1000.0,
        max_faces: there["max_faces"].as_u64().and_then(|faces| faces.try_into().ok()).unwrap_or(4),
    };
    let settings = measure.settings(select_tasks(bundle.manifest(), Some(&names))?, git)?;
    bench::measure(|| arguments.network.open(), |_| Ok(settings), &mut DemoSource::new()?)
}

fn value(verification: &Verification, report: &Option<BenchReport>) -> Result<Value> {
    let mut value = serde_json::to_value(verification).context("the result cannot be written as JSON")?;
    value["bench"] = serde_json::to_value(report).context("the report cannot be written as JSON")?;
    Ok(value)
}

fn with_checks(mut value: Value, checks: &[VerifyCheck], passed: bool) -> Result<Value> {
    value["checks"] = serde_json::to_value(checks).context("the checks cannot be written as JSON")?;
    value["passed"] = passed.into();
    Ok(value)
}

fn text(
    reference: &Reference,
    verification: &Verification,
    report: Option<&BenchReport>,
    there: &Value,
    checks: &[VerifyCheck],
) -> String {
    let index = &reference.index;
    let mut text = format!(
        "reference: {}, {}, {} kernel\nhere: {} kernel; {} pictures, {} faces\n\n{}",
        index.machine,
        index.program,
        index.kernel,
        verification.kernel,
        index.pictures.len(),
        reference.faces(),
        verification.table()
    );
    if let Some(report) = report {
        // Writing to a String does not fail.
        let _ = write!(text, "\n{}", report.table(Some(there)));
    }
    text.push('\n');
    let failed: Vec<&VerifyCheck> = checks.iter().filter(|check| !check.passed).collect();
    for check in &failed {
        let _ = writeln!(text, "FAILED {}, {}: {}", check.group, check.name, check.message);
    }
    let _ = match failed.len() {
        0 => writeln!(text, "all {} checks passed", checks.len()),
        failed => writeln!(text, "{failed} of {} checks failed", checks.len()),
    };
    text
}
