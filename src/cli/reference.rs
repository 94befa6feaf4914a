//! `faceptor reference`: writes reference inputs with this machine's outputs, for `faceptor verify` on another machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, ensure};
use clap::Args;

use crate::capture::demo_clip::{self, DemoClip};
use crate::capture::demo_source::DemoSource;
use crate::capture::photo_files;
use crate::cli::measure_arguments::MeasureArguments;
use crate::cli::network_arguments::{NetworkArguments, TaskArguments};
use crate::cli::output_rules::{self, ForceArgument};
use crate::cli::{Outcome, output};
use crate::lab::bench;
use crate::lab::compare::Limit;
use crate::lab::probe::Probe;
use crate::lab::reference::{
    BENCH, FORMAT, ReferenceIndex, ReferenceLimits, ReferencePicture, ReferenceWriter, StoredTensor,
};
use crate::lab::report::BenchReport;
use crate::outputs::draw::png;
use faceptor::stages::{Picture, read_photo, select_tasks};
use faceptor_nn::bundle::Bundle;

/// Golden inputs, every task's outputs and this machine's bench report, for `verify` on a device.
#[derive(Args)]
pub struct ReferenceArguments {
    /// The folder to write; it is created, or an older reference in it is replaced.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    force: ForceArgument,
    /// Photos or folders besides the demo clip. They are copied into the folder, with their results.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Number of frames of the demo clip, evenly spread over it.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=demo_clip::PERIOD))]
    pictures: u64,
    #[command(flatten)]
    tasks: TaskArguments,
    #[command(flatten)]
    network: NetworkArguments,
    #[command(flatten)]
    measure: MeasureArguments,
}

pub fn run(arguments: ReferenceArguments, git: Option<&'static str>) -> Result<Outcome> {
    let bundle = arguments.network.open()?;
    let chosen = select_tasks(bundle.manifest(), arguments.tasks.tasks.as_deref())?;
    let settings = arguments.measure.settings(chosen, git)?;
    let photos = photo_files::list(&arguments.paths, std::slice::from_ref(&arguments.out)).photos;
    let rules = arguments.force.rules(photos.into_iter().chain(output_rules::network_files(&arguments.network)));
    let mut writer = ReferenceWriter::create(&arguments.out, rules)?;
    let mut source = DemoSource::new()?;
    let report = bench::measure(|| arguments.network.open(), |_| Ok(settings), &mut source)?;
    writer.bytes(BENCH, (serde_json::to_string_pretty(&report)? + "\n").as_bytes())?;
    let (pictures, outcome) = collect(&arguments)?;
    let index = answer(&bundle, &pictures, &mut writer, &report)?;
    let faces: usize = index.pictures.iter().map(|picture| picture.faces.len()).sum();
    writer.finish(index)?;
    output::print(&format!(
        "{}: {} pictures, {faces} faces, {} tasks\n\n{}",
        arguments.out.display(),
        pictures.len(),
        bundle.manifest().tasks.len(),
        report.table(None)
    ))?;
    Ok(outcome)
}

/// Collects the pictures with their origins: frames of the clip, then the photos that can be read.
fn collect(arguments: &ReferenceArguments) -> Result<(Vec<(String, Picture)>, Outcome)> {
    let clip = DemoClip::new()?;
    let mut pictures = Vec::new();
    for index in 0..arguments.pictures {
        let frame = index * demo_clip::PERIOD / arguments.pictures;
        let mut picture = Picture::default();
        clip.render(frame, &mut picture);
        pictures.push((format!("demo frame {frame}"), picture));
    }
    let listing = photo_files::list(&arguments.paths, std::slice::from_ref(&arguments.out));
    let mut outcome = Outcome::Done;
    let mut failed = |path: &Path, reason: &anyhow::Error| {
        log::error!("{}: {reason:#}", path.display());
        outcome = Outcome::SomeFailed;
    };
    listing.failures.iter().for_each(|(path, reason)| failed(path, reason));
    for path in &listing.photos {
        match read_photo(path) {
            // Only its name: the path on this machine is private.
            Ok(photo) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                pictures.push((name, photo.into_picture()));
            }
            Err(reason) => failed(path, &reason.into()),
        }
    }
    Ok((pictures, outcome))
}

/// Runs the network over the pictures and writes all tensors.
fn answer(
    bundle: &Arc<Bundle>,
    pictures: &[(String, Picture)],
    writer: &mut ReferenceWriter,
    report: &BenchReport,
) -> Result<ReferenceIndex> {
    let mut probe = Probe::new(bundle.clone())?;
    let (tasks, limits): (Vec<StoredTensor>, BTreeMap<String, Limit>) =
        probe.tasks().map(|(task, output)| (output, (task.name.clone(), Limit::of(task.kind)))).unzip();
    let parts: Vec<StoredTensor> = probe.parts().collect();
    let inputs = probe.inputs().to_vec();
    let outputs = || inputs.iter().chain(&parts).chain(&tasks);
    let mut tensors: Vec<Vec<f32>> = vec![Vec::new(); outputs().count()];
    let mut golden = Vec::new();
    for (number, (origin, picture)) in pictures.iter().enumerate() {
        let file = format!("{number:03}.png");
        let mut bytes = Vec::new();
        png::encode_picture(&mut bytes, picture, None)?;
        writer.bytes(&file, &bytes)?;
        let faces = probe.find(picture)?;
        for face in &faces {
            probe.look(picture, face)?;
            for (output, numbers) in outputs().zip(&mut tensors) {
                numbers.extend_from_slice(probe.output(&output.tensor)?);
            }
        }
        golden.push(ReferencePicture { file, origin: origin.clone(), faces });
    }
    ensure!(
        golden.iter().any(|picture| !picture.faces.is_empty()),
        "no face was found in any of the {} pictures",
        pictures.len()
    );
    for (output, numbers) in outputs().zip(&tensors) {
        writer.floats(&output.file, numbers)?;
    }
    let end_to_end = limits.iter().map(|(name, limit)| (name.clone(), limit.end_to_end())).collect();
    let build = &report.build;
    Ok(ReferenceIndex {
        format: FORMAT,
        machine: report.machine.describe(),
        program: format!("faceptor {}{}", build.version, build.git.map(|g| format!(" {g}")).unwrap_or_default()),
        kernel: probe.kernel().to_owned(),
        network: format!("{} {}", bundle.manifest().name, bundle.manifest().version),
        network_sha256: bundle.sha256().to_owned(),
        purpose: "golden inputs and outputs; faceptor verify --reference compares another machine with them".to_owned(),
        inputs,
        tasks,
        parts,
        pictures: golden,
        limits: ReferenceLimits {
            tasks: limits,
            end_to_end,
            keypoints: Limit { mean: 0.05, max: 1.0, flips: 0.0 },
            input: Limit { mean: 0.2, max: 40.0, flips: 0.0 },
            parts: Limit { mean: 1e-3, max: 0.1, flips: 0.0 },
        },
        files: BTreeMap::new(),
    })
}
