//! `peers-runner ENGINE NETWORK IMAGES SIZE`: loads a network, then serves standard input, one request a line.
//!
//! `time N` runs N faces and replies with their times in microseconds; `answer I` runs image I and replies with every output as
//! numbers. ENGINE is `ours` (NETWORK is a bundle), `ours-labels` (the classes of parsing instead of its scores), `ours-encoder`,
//! `ours-landmarks`, `ours-landmarks-attributes`, `tract` or `rten` (NETWORK is an ONNX file). Images follow each other, so that no
//! engine sees the same one twice in a row.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use faceptor_nn::{Bundle, Engine};
#[cfg(feature = "rten")]
use rten_tensor::AsView;

/// One engine with its network.
trait Peer {
    /// Runs one normalised image `[1, 3, size, size]`; `keep` collects every output as `(name, numbers)`.
    fn run(&mut self, image: &[f32], keep: Option<&mut Vec<(String, Vec<f32>)>>) -> Result<()>;
}

struct Ours {
    engine: Engine,
    input: String,
    outputs: Vec<String>,
    /// Computes the best class of each cell, as the live loop does, in place of the scores.
    labels: bool,
}

impl Ours {
    fn open(engine: &str, path: &str) -> Result<Ours> {
        let bundle = Bundle::open(path.as_ref())?;
        let manifest = bundle.manifest();
        let input = manifest.input.as_ref().context("the bundle has no input")?.tensor.clone();
        let wanted: Option<Vec<&str>> = engine.strip_prefix("ours-").map(|names| names.split('-').collect());
        let outputs = match wanted.as_deref() {
            Some(["encoder"]) => {
                let part = manifest.parts.iter().find(|part| part.inputs.contains(&input));
                vec![part.context("no part reads the image")?.outputs.last().context("it has no output")?.clone()]
            }
            Some(["labels"]) | None => manifest.tasks.iter().map(|task| task.output.clone()).collect(),
            Some(tasks) => {
                let chosen = manifest.tasks.iter().filter(|task| tasks.contains(&task.name.as_str()));
                chosen.map(|task| task.output.clone()).collect()
            }
        };
        ensure!(!outputs.is_empty(), "{engine}: nothing to compute");
        Ok(Ours { engine: Engine::new(bundle)?, input, outputs, labels: wanted.as_deref() == Some(&["labels"]) })
    }
}

impl Peer for Ours {
    fn run(&mut self, image: &[f32], mut keep: Option<&mut Vec<(String, Vec<f32>)>>) -> Result<()> {
        self.engine.input(&self.input)?.copy_from_slice(image);
        for name in &self.outputs {
            if let Some(labels) = self.engine.labels_id(name).filter(|_| self.labels) {
                self.engine.bytes(labels)?;
                continue;
            }
            let output = self.engine.output(name)?;
            if let Some(keep) = keep.as_deref_mut() {
                keep.push((name.clone(), output.to_vec()));
            }
        }
        Ok(())
    }
}

/// Runs tract as its README does: optimizes the model, then runs its plan.
struct Tract {
    plan: Arc<tract_onnx::prelude::TypedRunnableModel>,
    names: Vec<String>,
    size: usize,
}

impl Tract {
    fn open(path: &str, size: usize) -> Result<Tract> {
        use tract_onnx::prelude::*;
        let model = tract_onnx::onnx().model_for_path(path)?;
        let names = model.output_outlets()?.iter().map(|outlet| outlet_name(&model, *outlet)).collect();
        let model = model.with_input_fact(0, f32::fact([1, 3, size, size]).into())?.into_optimized()?;
        Ok(Tract { plan: model.into_runnable()?, names, size })
    }
}

fn outlet_name(model: &tract_onnx::prelude::InferenceModel, outlet: tract_onnx::prelude::OutletId) -> String {
    model.outlet_label(outlet).map(str::to_owned).unwrap_or_else(|| model.node(outlet.node).name.clone())
}

impl Peer for Tract {
    fn run(&mut self, image: &[f32], keep: Option<&mut Vec<(String, Vec<f32>)>>) -> Result<()> {
        use tract_onnx::prelude::*;
        let input = Tensor::from_shape(&[1, 3, self.size, self.size], image)?;
        let outputs = self.plan.run(tvec!(input.into()))?;
        if let Some(keep) = keep {
            for (name, output) in self.names.iter().zip(outputs) {
                let output = output.into_tensor();
                keep.push((name.clone(), output.to_plain_array_view::<f32>()?.iter().copied().collect()));
            }
        }
        Ok(())
    }
}

#[cfg(feature = "rten")]
struct Rten {
    model: rten::Model,
    input: rten::NodeId,
    outputs: Vec<rten::NodeId>,
    pool: Arc<rten::ThreadPool>,
    size: usize,
}

#[cfg(feature = "rten")]
impl Rten {
    fn open(path: &str, size: usize) -> Result<Rten> {
        let model = rten::ModelOptions::with_all_ops().prepack_weights(true).load_file(path)?;
        let input = *model.input_ids().first().context("the network has no input")?;
        let outputs = model.output_ids().to_vec();
        let pool = Arc::new(rten::ThreadPool::with_num_threads(1));
        Ok(Rten { model, input, outputs, pool, size })
    }
}

#[cfg(feature = "rten")]
impl Peer for Rten {
    fn run(&mut self, image: &[f32], keep: Option<&mut Vec<(String, Vec<f32>)>>) -> Result<()> {
        let value = rten::Value::from_shape(&[1, 3, self.size, self.size], image.to_vec())?;
        let options = rten::RunOptions::default().with_thread_pool(Some(self.pool.clone()));
        let outputs = self.model.run(vec![(self.input, value.into())], &self.outputs, Some(options))?;
        if let Some(keep) = keep {
            for (id, output) in self.outputs.iter().zip(outputs) {
                let name =
                    self.model.node_info(*id).and_then(|info| info.name().map(str::to_owned)).unwrap_or_default();
                let tensor = output.into_tensor::<f32>().context("an output is not float32")?;
                keep.push((name, tensor.to_vec()));
            }
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [engine, network, images, size] = arguments.as_slice() else {
        bail!("usage: peers-runner ENGINE NETWORK IMAGES SIZE");
    };
    let size: usize = size.parse().context("SIZE")?;
    let bytes = std::fs::read(images).with_context(|| images.clone())?;
    let numbers: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let images: Vec<&[f32]> = numbers.chunks_exact(3 * size * size).collect();
    ensure!(!images.is_empty(), "no image of 3 x {size} x {size}");
    let mut peer: Box<dyn Peer> = match engine.as_str() {
        "tract" => Box::new(Tract::open(network, size)?),
        #[cfg(feature = "rten")]
        "rten" => Box::new(Rten::open(network, size)?),
        ours if ours.starts_with("ours") => Box::new(Ours::open(ours, network)?),
        other => bail!("unknown engine {other}"),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready")?;
    out.flush()?;
    let mut next = 0;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split_once(' ') {
            Some(("time", count)) => {
                for _ in 0..count.parse::<usize>()? {
                    let image = images[next % images.len()];
                    next += 1;
                    let start = Instant::now();
                    peer.run(image, None)?;
                    write!(out, "{:.1} ", start.elapsed().as_secs_f64() * 1e6)?;
                }
            }
            Some(("answer", index)) => {
                let image = images.get(index.parse::<usize>()?).context("no such image")?;
                let mut answers = Vec::new();
                peer.run(image, Some(&mut answers))?;
                for (name, values) in answers {
                    write!(out, "{name}")?;
                    values.iter().try_for_each(|value| write!(out, ",{value}"))?;
                    write!(out, ";")?;
                }
            }
            _ => bail!("unknown request: {line}"),
        }
        writeln!(out)?;
        out.flush()?;
    }
    Ok(())
}
