//! `faceptor compile`: compiles an export folder to a bundle, and prints what a bundle holds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use clap::Args;

use crate::cli::output_rules::{self, ForceArgument};
use crate::cli::{Outcome, network_arguments, output};
use crate::files::output_file::{self, OutputRules};
use crate::files::result_kind::ResultKind;
use faceptor_nn::bundle::{Bundle, TensorInfo};
use faceptor_nn::{PACKINGS, Packing};

#[derive(Args)]
pub struct CompileArguments {
    /// Export folder: ONNX files and manifest.toml.
    #[arg(value_name = "DIR", required_unless_present = "info", requires = "out")]
    folder: Option<PathBuf>,
    /// The bundle to write.
    #[arg(long, value_name = "BUNDLE", requires = "folder")]
    out: Option<PathBuf>,
    #[command(flatten)]
    force: ForceArgument,
    /// Pack the weights for a family of CPUs (`avx512vnni`, `sdot`, ...; the names of FACEPTOR_KERNEL), which then uses them
    /// in place. Other CPUs also run the bundle, and start a little slower.
    #[arg(long, value_name = "FAMILY", requires = "folder", value_parser = packing)]
    kernel: Option<Packing>,
    #[command(flatten)]
    recognizer: RecognizerArguments,
    /// Print what a bundle holds.
    #[arg(long, value_name = "BUNDLE", conflicts_with_all = ["folder", "out"])]
    info: Option<PathBuf>,
}

/// Names another network for the recognition task.
#[derive(Args)]
struct RecognizerArguments {
    /// Take this ONNX file for the recognition task, in place of the folder's: a network that reads a face of 112 x 112 pixels
    /// aligned by five keypoints (as ArcFace does) and returns 128 to 512 numbers, float32 or quantized. Respect its licence.
    #[arg(long, value_name = "FILE", requires = "folder")]
    recognizer: Option<PathBuf>,
    /// Order of the recognizer's channels.
    #[arg(long, value_name = "ORDER", requires = "recognizer", value_parser = ["rgb", "bgr"], default_value = "rgb")]
    recognizer_colour: String,
    /// Mean that is subtracted from the recognizer's pixels (0 to 255): a number, or three with commas.
    #[arg(long, value_name = "MEAN", requires = "recognizer", value_parser = three, default_value = "127.5")]
    recognizer_mean: [f32; 3],
    /// Standard deviation that the recognizer's pixels are divided by: a number, or three with commas.
    #[arg(long, value_name = "STD", requires = "recognizer", value_parser = three, default_value = "127.5")]
    recognizer_std: [f32; 3],
    /// The table of the recognizer's impostor scores (TOML with [impostors]), from which thresholds follow; docs/identity.md
    /// describes the command that measures it.
    #[arg(long, value_name = "FILE", requires = "recognizer")]
    recognizer_impostors: Option<PathBuf>,
}

impl RecognizerArguments {
    fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.recognizer.iter().chain(&self.recognizer_impostors).cloned()
    }
}

/// Reads one number for all channels, or three.
fn three(text: &str) -> Result<[f32; 3], &'static str> {
    let numbers: Result<Vec<f32>, _> = text.split(',').map(|number| number.trim().parse()).collect();
    match numbers.as_deref() {
        Ok(&[one]) if one.is_finite() => Ok([one; 3]),
        Ok(&[a, b, c]) if [a, b, c].iter().all(|number| number.is_finite()) => Ok([a, b, c]),
        _ => Err("a number or three numbers with commas are needed"),
    }
}

pub fn run(arguments: CompileArguments) -> Result<Outcome> {
    if let (Some(folder), Some(out)) = (&arguments.folder, &arguments.out) {
        let rules =
            arguments.force.rules(output_rules::export_files(folder).into_iter().chain(arguments.recognizer.files()));
        // Reported before the network is compiled, which takes a while.
        output_file::check(out, ResultKind::Bundle, &rules)?;
        let bundle = compile(folder, out, &arguments, &rules)?;
        output::print(&info(&bundle))?;
    }
    if let Some(path) = &arguments.info {
        let bundle = network_arguments::open(path)?;
        output::print(&info(&bundle))?;
    }
    Ok(Outcome::Done)
}

/// Compiles a folder, writes the bundle and returns it.
#[cfg(feature = "compiler")]
fn compile(folder: &Path, out: &Path, arguments: &CompileArguments, rules: &OutputRules) -> Result<Arc<Bundle>> {
    use anyhow::Context;

    let compiled = match recognizer(&arguments.recognizer)? {
        Some(recognizer) => faceptor_compiler::compile_with_recognizer(folder, &recognizer),
        None => faceptor_compiler::compile_folder(folder),
    };
    let mut bytes = compiled.with_context(|| format!("{}", folder.display()))?;
    if arguments.kernel.is_some() {
        bytes = faceptor_nn::bundle::Bundle::from_bytes(&bytes).and_then(|bundle| bundle.repacked(arguments.kernel))?;
    }
    output_file::write(out, ResultKind::Bundle, rules, |file| Ok(file.write_all(&bytes)?))?;
    Ok(Bundle::from_bytes(&bytes)?)
}

/// Reads what the options say about another recognition network.
#[cfg(feature = "compiler")]
fn recognizer(arguments: &RecognizerArguments) -> Result<Option<faceptor_compiler::Recognizer>> {
    use anyhow::Context;

    #[derive(serde::Deserialize)]
    struct Table {
        impostors: faceptor_nn::manifest::Impostors,
    }
    let Some(file) = &arguments.recognizer else { return Ok(None) };
    let read = |path: &PathBuf| -> Result<_> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let table: Table = toml::from_str(&text).with_context(|| {
            format!("{} has no table [impostors] as `make -C models recognizer` writes it", path.display())
        })?;
        Ok(table.impostors)
    };
    let channels = match arguments.recognizer_colour.as_str() {
        "bgr" => faceptor_compiler::Channels::Bgr,
        _ => faceptor_compiler::Channels::Rgb,
    };
    Ok(Some(faceptor_compiler::Recognizer {
        file: file.clone(),
        channels,
        mean: arguments.recognizer_mean,
        std: arguments.recognizer_std,
        impostors: arguments.recognizer_impostors.as_ref().map(read).transpose()?,
    }))
}

#[cfg(not(feature = "compiler"))]
fn compile(_: &Path, _: &Path, _: &CompileArguments, _: &OutputRules) -> Result<Arc<Bundle>> {
    anyhow::bail!("this program was built without the compiler (cargo feature `compiler`): compile on the host")
}

fn packing(name: &str) -> Result<Packing, String> {
    let known = || PACKINGS.map(|(name, _)| name).join(", ");
    Packing::named(name).ok_or_else(|| format!("unknown family; the families are {}", known()))
}

/// Describes a bundle: its name, tasks, finder and parts.
fn info(bundle: &Bundle) -> String {
    let manifest = bundle.manifest();
    let mut text = format!("{} {}, {:.2} MB\n", manifest.name, manifest.version, bundle.len_bytes() as f64 / 1e6);
    text += &format!("sha256   {}\n", bundle.sha256());
    if let Some(packing) = bundle.packing() {
        text += &format!("packed   for {}\n", packing.families().collect::<Vec<_>>().join(", "));
    }
    let tasks: Vec<&str> = manifest.tasks.iter().map(|task| task.name.as_str()).collect();
    text += &format!("tasks    {}\n", if tasks.is_empty() { "none".to_owned() } else { tasks.join(", ") });
    if let Some(finder) = &manifest.finder {
        let sizes: Vec<String> = finder.sizes.iter().map(|size| format!("{}x{}", size.width, size.height)).collect();
        text += &format!("finder   {} at {}\n", finder.name, sizes.join(", "));
    }
    if !manifest.licence.is_empty() {
        text += &format!("weights  {}\n", manifest.licence.trim());
    }
    text += &format!("\n{:<22}{:>11}{:>9}{:>6}  inputs -> outputs\n", "part", "weights KB", "MMAC", "ops");
    for part in bundle.parts() {
        text += &format!(
            "{:<22}{:>11.1}{:>9.2}{:>6}  {} -> {}\n",
            part.name,
            part.parameter_bytes as f64 / 1e3,
            part.macs as f64 / 1e6,
            part.ops,
            ports(&part.inputs),
            ports(&part.outputs)
        );
    }
    text
}

/// Lists tensor names with their shapes.
fn ports(ports: &[TensorInfo]) -> String {
    let one = |tensor: &TensorInfo| {
        let sides: Vec<String> = tensor.shape.iter().map(usize::to_string).collect();
        format!("{} {}", tensor.name, sides.join("x"))
    };
    ports.iter().map(one).collect::<Vec<_>>().join(", ")
}
