//! `faceptor tasks`: lists the tasks of a bundle with their size and their cost on this machine.

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::cli::network_arguments::NetworkArguments;
use crate::cli::{Outcome, output};
use crate::lab::task_cost::{self, Cost};
use faceptor::stages::parts_of;
use faceptor_nn::bundle::{Bundle, PartInfo};
use faceptor_nn::manifest::{self, Manifest};

#[derive(Args)]
pub struct TasksArguments {
    #[command(flatten)]
    network: NetworkArguments,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Number of runs of each combination of tasks; the shortest time counts.
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
}

#[derive(Serialize)]
struct Report {
    network: String,
    sha256: String,
    tasks: Vec<TaskReport>,
    parts: Vec<PartReport>,
    /// Cost a face of the parts that all tasks share.
    shared_macs: u64,
    all_tasks_us: u64,
    rounds: u32,
}

#[derive(Serialize)]
struct TaskReport {
    name: String,
    kind: manifest::TaskKind,
    default: bool,
    queries: [usize; 2],
    interpreter: manifest::Interpreter,
    labels: Vec<String>,
    part: String,
    /// Weights and tables of the task's own part; data shared with other parts is counted in each.
    parameter_bytes: usize,
    macs: u64,
    operators: usize,
    #[serde(flatten)]
    cost: Cost,
}

#[derive(Serialize)]
struct PartReport {
    name: String,
    parameter_bytes: usize,
    macs: u64,
    operators: usize,
    /// Tasks that need the part.
    needed_by: Vec<String>,
}

pub fn run(arguments: TasksArguments) -> Result<Outcome> {
    let bundle = arguments.network.open()?;
    let measured = task_cost::measure(&bundle, arguments.rounds)?;
    let report = report(&bundle, measured, arguments.rounds);
    match arguments.json {
        true => output::print_json(&report)?,
        false => output::print(&table(&report))?,
    }
    Ok(Outcome::Done)
}

fn report(bundle: &Bundle, measured: task_cost::Measured, rounds: u32) -> Report {
    let manifest = bundle.manifest();
    let parts: Vec<PartReport> = bundle.parts().map(|part| part_report(part, manifest)).collect();
    let own = |name: &str| parts.iter().find(|part| part.name == name);
    let tasks = manifest.tasks.iter().zip(measured.tasks).map(|(task, cost)| TaskReport {
        name: task.name.clone(),
        kind: task.kind,
        default: task.default,
        queries: task.queries,
        interpreter: task.interpreter,
        labels: task.labels.clone(),
        part: task.part.clone(),
        parameter_bytes: own(&task.part).map_or(0, |part| part.parameter_bytes),
        macs: own(&task.part).map_or(0, |part| part.macs),
        operators: own(&task.part).map_or(0, |part| part.operators),
        cost,
    });
    let tasks: Vec<TaskReport> = tasks.collect();
    let is_own = |part: &PartReport| manifest.tasks.iter().any(|task| task.part == part.name);
    let shared = parts.iter().filter(|part| !part.needed_by.is_empty() && !is_own(part));
    Report {
        network: format!("{} {}", manifest.name, manifest.version),
        sha256: bundle.sha256().to_owned(),
        shared_macs: shared.map(|part| part.macs).sum(),
        tasks,
        parts,
        all_tasks_us: measured.all_us,
        rounds,
    }
}

fn table(report: &Report) -> String {
    let mut text = format!("{}, sha256 {:.16}\n\n", report.network, report.sha256);
    let wide = report.tasks.iter().map(|task| task.name.chars().count() + 2).fold(14, usize::max);
    text += &format!(
        "{:<wide$}{:<13}{:>8} {:<12}{:>11}{:>8}{:>6}{:>10}{:>13}{:>10}\n",
        "task", "kind", "queries", "interpreter", "weights KB", "MMAC", "ops", "alone ms", "marginal ms", "default"
    );
    for task in &report.tasks {
        let cost = &task.cost;
        text += &format!(
            "{:<wide$}{:<13}{:>8} {:<12}{:>11.1}{:>8.1}{:>6}{:>10.2}{:>13.2}{:>10}\n",
            task.name,
            format!("{:?}", task.kind).to_lowercase(),
            task.queries[1] - task.queries[0],
            format!("{:?}", task.interpreter).to_lowercase(),
            task.parameter_bytes as f64 / 1e3,
            task.macs as f64 / 1e6,
            task.operators,
            cost.alone_us as f64 / 1e3,
            cost.marginal_us as f64 / 1e3,
            if task.default { "yes" } else { "no" },
        );
    }
    text += &format!(
        "\nall tasks {:.2} ms a face; shared by them {:.1} MMAC. Shortest of {} interleaved rounds; alone: this task with \
         what it needs;\nmarginal: all tasks less all but this one.\n\nparts that run when a task is the only one chosen\n",
        report.all_tasks_us as f64 / 1e3,
        report.shared_macs as f64 / 1e6,
        report.rounds
    );
    for task in &report.tasks {
        let ran: Vec<&str> =
            task.cost.runs_alone.iter().filter(|(_, runs)| **runs > 0).map(|(n, _)| n.as_str()).collect();
        text += &format!(
            "{:<wide$}{} ({} of {} operators)\n",
            task.name,
            ran.join(", "),
            task.cost.operators_alone,
            report.parts.iter().map(|part| part.operators).sum::<usize>()
        );
    }
    text
}

fn part_report(part: &PartInfo, manifest: &Manifest) -> PartReport {
    let needs = manifest.tasks.iter().filter(|task| parts_of(manifest, task).contains(&part.name.as_str()));
    PartReport {
        name: part.name.clone(),
        parameter_bytes: part.parameter_bytes,
        macs: part.macs,
        operators: part.ops,
        needed_by: needs.map(|task| task.name.clone()).collect(),
    }
}
