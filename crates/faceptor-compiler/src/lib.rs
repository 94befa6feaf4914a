#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod graph;
mod import;
mod lower;
mod passes;
mod recognizer;
mod tract_bridge;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use tract_onnx::tract_hir::internal::*;

use faceptor_nn::Packing;
use faceptor_nn::bundle::Bundle;
use faceptor_nn::bundle::Writer;
use faceptor_nn::manifest::{Manifest, Part, TaskKind};
use faceptor_nn::plan::{Element, Op as PlanOp, ValueId};
pub use recognizer::{Channels, Recognizer};

use graph::Graph;
use passes::part_handoff::PartGraph;
use passes::{parsing_views, part_handoff};

/// The largest ONNX file that is read, in bytes.
const MAX_ONNX_BYTES: u64 = 256 << 20;

/// Compiles an export folder to the bytes of a bundle. Equal folders give equal bytes.
///
/// # Errors
/// When manifest.toml or an ONNX file cannot be read, does not fit the manifest or its SHA-256, or holds an operator that is
/// not supported. The error names the file, the node and the reason.
pub fn compile_folder(folder: &Path) -> Result<Vec<u8>> {
    let (text, manifest) = read_manifest(folder)?;
    compile_parts(folder, &manifest, &text, None)
}

/// Compiles an export folder with another network for its recognition: the folder's own recognition is left out.
///
/// # Errors
/// As [`compile_folder`], and when the network does not fit [`Recognizer`].
pub fn compile_with_recognizer(folder: &Path, recognizer: &Recognizer) -> Result<Vec<u8>> {
    let (_, manifest) = read_manifest(folder)?;
    let within = || recognizer.file.display().to_string();
    let network = recognizer.read().with_context(within)?;
    let text = toml::to_string(&network.within(manifest)).context("the manifest cannot be written")?;
    let manifest = Manifest::parse(&text).with_context(within)?;
    compile_parts(folder, &manifest, &text, Some(network))
}

fn read_manifest(folder: &Path) -> Result<(String, Manifest)> {
    let path = folder.join("manifest.toml");
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!("cannot read {}: an export folder holds manifest.toml and the ONNX files it names", path.display())
    })?;
    let manifest = Manifest::parse(&text).with_context(|| format!("in {}", path.display()))?;
    Ok((text, manifest))
}

/// Compiles the parts of a manifest, of which one may be a network from outside of the folder.
fn compile_parts(
    folder: &Path,
    manifest: &Manifest,
    text: &str,
    mut outside: Option<recognizer::Network>,
) -> Result<Vec<u8>> {
    let mut writer = Writer::new(text);
    let mut parts = Vec::new();
    for part in &manifest.parts {
        let graph = match outside.take_if(|network| part.name == network.part.name) {
            Some(network) => {
                let within = || format!("recognizer {}", network.file.display());
                compile_model(network.model, part).with_context(within)?
            }
            None => {
                let within = || format!("part {} ({})", part.name, folder.join(&part.file).display());
                compile_part(folder, part).with_context(within)?
            }
        };
        parts.push(PartGraph { name: part.name.clone(), graph });
    }
    let mut views = part_handoff::hand_over(&mut parts)?;
    for task in manifest.tasks.iter().filter(|task| task.kind == TaskKind::Parsing) {
        views.extend(parsing_views::split(&mut parts, &task.output)?);
    }
    for PartGraph { name, graph } in parts.into_iter().chain(views) {
        let plan = graph.into_plan(&name, |slot, constant| writer.tensor(slot.element, &slot.shape, &constant.bytes));
        writer.plan(plan);
    }
    writer.finish().context("writing the bundle")
}

/// Returns the files that the bundle of an export folder is made of: manifest.toml and the ONNX files it names.
///
/// Only manifest.toml is returned when it cannot be read: [`compile_folder`] reports why.
pub fn source_files(folder: &Path) -> Vec<PathBuf> {
    let manifest = folder.join("manifest.toml");
    let parts = std::fs::read_to_string(&manifest)
        .ok()
        .and_then(|text| Manifest::parse(&text).ok())
        .map(|manifest| manifest.parts)
        .unwrap_or_default();
    std::iter::once(manifest).chain(parts.iter().map(|part| folder.join(&part.file))).collect()
}

/// Packs the weights of a bundle for the kernels of a family of CPUs (`avx512vnni`, `sdot`, ...), or for none with `none`.
///
/// # Errors
/// When the family is unknown, or the bundle is damaged.
pub fn pack(bundle: &[u8], family: &str) -> Result<Vec<u8>> {
    let packing = Packing::named(family);
    ensure!(packing.is_some() || family == "none", "unknown family of CPUs");
    let bundle = Bundle::from_bytes(bundle).context("the bundle")?;
    let packed = bundle.repacked(packing).context("packing the bundle")?;
    Bundle::from_bytes(&packed).context("the packed bundle")?;
    Ok(packed)
}

/// The form in which [`tract_model`] returns a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartForm {
    /// tract's own operators, except for integer convolutions and linear layers.
    Tract,
    /// The steps before fusion, each as a tract operator.
    Steps,
    /// The fused steps that the engine runs, each as a tract operator.
    Fused,
}

/// Returns one part of an export folder as a model that runs in tract, for comparisons.
///
/// The form may differ from part to part, because all forms have the same inputs and outputs.
///
/// # Errors
/// As [`compile_folder`], and when the folder has no such part.
pub fn tract_model(folder: &Path, part: &str, form: PartForm) -> Result<TypedModel> {
    let path = folder.join("manifest.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let manifest = Manifest::parse(&text).with_context(|| format!("in {}", path.display()))?;
    let part = manifest.parts.iter().find(|p| p.name == part).with_context(|| format!("no part {part}"))?;
    let model = parse(&read_onnx(folder, part)?, part)?;
    if form == PartForm::Tract {
        return Ok(model);
    }
    let mut graph = lower::lower(&model, part)?;
    match form {
        PartForm::Fused => optimize(&mut graph)?,
        _ => separate_outputs(&mut graph),
    }
    graph.sort();
    tract_bridge::model(&graph).with_context(|| format!("part {} as a tract model", part.name))
}

fn compile_part(folder: &Path, part: &Part) -> Result<Graph> {
    compile_model(parse(&read_onnx(folder, part)?, part)?, part)
}

fn compile_model(model: TypedModel, part: &Part) -> Result<Graph> {
    let mut graph = lower::lower(&model, part)?;
    optimize(&mut graph)?;
    Ok(graph)
}

fn read_onnx(folder: &Path, part: &Part) -> Result<Vec<u8>> {
    let relative = Path::new(&part.file);
    let plain = relative.components().all(|c| matches!(c, std::path::Component::Normal(_)));
    ensure!(plain, "file {:?} must lie inside the export folder", part.file);
    let path = folder.join(relative);
    let size = std::fs::metadata(&path).context("cannot read the file")?.len();
    ensure!(size <= MAX_ONNX_BYTES, "the file has {size} bytes, more than {MAX_ONNX_BYTES}");
    let bytes = std::fs::read(&path).context("cannot read the file")?;
    let digest = faceptor_nn::bundle::hexadecimal(&Sha256::digest(&bytes));
    if !part.sha256.eq_ignore_ascii_case(&digest) {
        bail!("the file's SHA-256 is {digest}, the manifest says {:?}: export it again", part.sha256);
    }
    Ok(bytes)
}

/// Runs tract's passes: parses, types, makes products integer, declutters and folds.
fn parse(bytes: &[u8], part: &Part) -> Result<TypedModel> {
    typed(inference(bytes)?, part)
}

fn inference(bytes: &[u8]) -> Result<InferenceModel> {
    let mut onnx = tract_onnx::onnx();
    import::quantization::register(&mut onnx);
    onnx.model_for_read(&mut std::io::Cursor::new(bytes)).context("tract cannot parse it")
}

fn typed(mut inference: InferenceModel, part: &Part) -> Result<TypedModel> {
    inference.select_outputs_by_name(part.file_outputs()).context("the manifest's outputs are not in the graph")?;
    let mut model = inference.into_typed().context("tract cannot type it")?;
    import::integer::rewrite(&mut model)?;
    model.declutter().context("tract cannot declutter it")?;
    Ok(model)
}

/// Runs the passes of this crate: first those that bring products into their final form, then those that find attention.
fn optimize(graph: &mut Graph) -> Result<()> {
    simplify(graph)?;
    if passes::attention::find_attention(graph) {
        // Once more: a mean of coordinates has become a product.
        passes::attention::find_attention(graph);
        graph.drop_dead_steps();
        simplify(graph)?;
        passes::attention::absorb(graph);
        simplify(graph)?;
    }
    separate_outputs(graph);
    Ok(())
}

/// Runs the passes that work on every step, until none changes anything.
fn simplify(graph: &mut Graph) -> Result<()> {
    // Each pass only ever removes or moves work; the bound guards against two that undo each other.
    for _ in 0..100 {
        let mut changed = passes::constant_folding::fold_constants(graph)?;
        changed |= passes::layout::simplify_movement(graph);
        changed |= passes::column_order::order_columns(graph, passes::column_order::ChannelAxis::Innermost);
        changed |= passes::layer_norm::find_layer_norms(graph);
        changed |= passes::fusion::fuse(graph);
        changed |= passes::merge_projections::merge_projections(graph);
        changed |= graph.merge_equal_steps();
        changed |= graph.drop_dead_steps();
        graph.sort();
        if !changed {
            break;
        }
    }
    Ok(())
}

/// Copies outputs that are inputs, constants or other outputs too, so that each has a value of its own.
fn separate_outputs(graph: &mut Graph) {
    let mut taken: Vec<ValueId> = graph.inputs.iter().map(|p| p.value).collect();
    for i in 0..graph.outputs.len() {
        let value = graph.outputs[i].value;
        if taken.contains(&value) || graph.slot(value).constant.is_some() {
            let shape = graph.shape(value).to_vec();
            let name = graph.outputs[i].name.clone();
            graph.outputs[i].value = graph.push(&name, PlanOp::Reshape, &[value], &shape, Element::F32);
        }
        taken.push(graph.outputs[i].value);
    }
}

#[cfg(test)]
mod onnx_tests;

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(path: &Path) -> Vec<f32> {
        let bytes = std::fs::read(path).expect("a fixture");
        bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    #[test]
    fn outputs_that_are_inputs_constants_or_equal_are_copied() {
        use faceptor_nn::plan::{Port, Unary};
        let mut graph = Graph::default();
        let x = graph.add_value(&[2], Element::F32);
        let y = graph.push("y", PlanOp::Unary(Unary::Relu), &[x], &[2], Element::F32);
        let constant = graph.add_floats(&[1], &[3.0]);
        graph.inputs.push(Port { name: "x".into(), value: x });
        for (name, value) in [("same", x), ("a", y), ("b", y), ("three", constant)] {
            graph.outputs.push(Port { name: name.into(), value });
        }
        optimize(&mut graph).unwrap();
        assert_eq!(graph.steps.len(), 4, "one activation and three copies");
        let mut table = Vec::new();
        let plan = graph.into_plan("part", |slot, _| {
            table.push((slot.element, slot.shape.clone()));
            (table.len() - 1) as u32
        });
        let lookup = |i: u32| table.get(i as usize).map(|t| (t.0, &t.1[..]));
        assert_eq!(faceptor_nn::plan::check_plan(&plan, lookup), Ok(()));
    }

    /// The rewritten graph still runs in tract, on the integer operators' scalar references.
    #[test]
    fn tract_runs_the_integer_operators() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/odd_int8");
        let manifest = Manifest::parse(&std::fs::read_to_string(folder.join("manifest.toml")).unwrap()).unwrap();
        let part = &manifest.parts[0];
        let model = parse(&read_onnx(&folder, part).unwrap(), part).unwrap();
        let integer = |n: &&TypedNode| {
            n.op_is::<import::integer::QuantizedConv>() || n.op_is::<import::integer::QuantizedLinear>()
        };
        assert_eq!(model.nodes().iter().filter(integer).count(), 5, "four convolutions and a linear layer");
        let shape = model.input_fact(0).unwrap().shape.as_concrete().unwrap().to_vec();
        let x = floats(&folder.join("in.x.f32"));
        let len = shape.iter().product();
        let x = Tensor::from_shape(&shape, &x[..len]).unwrap();
        let found = model.into_runnable().unwrap().run(tvec!(x.into_tvalue())).unwrap();
        for (found, name) in found.iter().zip(&part.outputs) {
            let expected = floats(&folder.join(format!("ort.{name}.f32")));
            let found = found.try_as_plain_ram().unwrap();
            for (a, b) in found.as_slice::<f32>().unwrap().iter().zip(expected) {
                assert!((a - b).abs() < 2e-3, "{name}: {a} {b}");
            }
        }
    }
}
