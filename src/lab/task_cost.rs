//! What each task costs on this machine: the network is run with and without it.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::platform::clock::Stopwatch;
use faceptor_nn::bundle::Bundle;
use faceptor_nn::engine::{Engine, TensorId};

/// What one task costs.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// This task with everything that it needs.
    pub alone_us: u64,
    /// All tasks less all but this one. Noise may make a small one negative.
    pub marginal_us: i64,
    /// Runs of every part of the bundle, per face, while this task was the only one asked for: a part that only other
    /// tasks need has 0.
    pub runs_alone: BTreeMap<String, u64>,
    /// Operators of the parts that ran.
    pub operators_alone: usize,
}

/// The costs of all tasks, in the manifest's order.
#[derive(Clone, Debug)]
pub struct Measured {
    pub tasks: Vec<Cost>,
    /// All tasks of one face.
    pub all_us: u64,
}

/// Runs every choice of tasks `rounds` times, interleaved, and takes the shortest time of each: whatever else the
/// machine does can only add to it. The time of a face does not depend on what it shows, so the input is plain grey.
pub fn measure(bundle: &Arc<Bundle>, rounds: u32) -> Result<Measured> {
    let manifest = bundle.manifest();
    let inputs: Vec<&str> = manifest.image_tensors().collect();
    ensure!(!inputs.is_empty(), "this bundle answers no tasks: its manifest has neither [input] nor [[group]]");
    let mut engine = Engine::new(bundle.clone())?;
    // What a run without drawings asks for.
    let answer = |output: &String| engine.labels_id(output).map_or_else(|| engine.output_id(output), Ok);
    let outputs = manifest.tasks.iter().map(|task| answer(&task.output)).collect::<Result<Vec<TensorId>, _>>()?;
    let mut face = |asked: &mut dyn Iterator<Item = TensorId>| -> Result<u64> {
        for input in &inputs {
            engine.input(input)?.fill(0.0);
        }
        let mut watch = Stopwatch::start();
        for output in asked {
            engine.compute(output)?;
        }
        Ok(watch.lap_us())
    };
    let every = || outputs.iter().copied();
    let except = |left_out: usize| outputs.iter().enumerate().filter(move |(i, _)| *i != left_out).map(|(_, o)| *o);
    // The first face pays for cold caches.
    face(&mut every())?;
    let mut all_us = u64::MAX;
    let mut without_us = vec![u64::MAX; outputs.len()];
    let mut alone_us = without_us.clone();
    for _ in 0..rounds.max(1) {
        all_us = all_us.min(face(&mut every())?);
        for index in 0..outputs.len() {
            without_us[index] = without_us[index].min(face(&mut except(index))?);
            alone_us[index] = alone_us[index].min(face(&mut std::iter::once(outputs[index]))?);
        }
    }
    let mut tasks = Vec::with_capacity(outputs.len());
    for (index, output) in outputs.iter().enumerate() {
        let (runs_alone, operators_alone) = count_runs(bundle, &inputs, *output)?;
        let marginal_us = all_us as i64 - without_us[index] as i64;
        tasks.push(Cost { alone_us: alone_us[index], marginal_us, runs_alone, operators_alone });
    }
    Ok(Measured { tasks, all_us })
}

/// Counts, with a fresh engine, what runs for one output of one face.
fn count_runs(bundle: &Arc<Bundle>, inputs: &[&str], output: TensorId) -> Result<(BTreeMap<String, u64>, usize)> {
    let mut engine = Engine::new(bundle.clone())?;
    for input in inputs {
        engine.input(input)?.fill(0.0);
    }
    engine.compute(output)?;
    let counters = engine.counters();
    let runs: BTreeMap<String, u64> = counters.map(|counter| (counter.part.clone(), counter.runs)).collect();
    let ran = bundle.parts().filter(|part| runs.get(&part.name).is_some_and(|&runs| runs > 0));
    let operators = ran.map(|part| part.ops).sum();
    Ok((runs, operators))
}
