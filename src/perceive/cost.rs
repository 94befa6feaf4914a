//! What each task costs on this machine: the network is run with and without it.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::model::{Bundle, Engine};
use crate::pace::clock::Stopwatch;

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

/// Runs every choice of tasks `rounds` times, interleaved so that a busy machine disturbs all alike. The time of a
/// face does not depend on what it shows, so the network's input is plain grey.
pub fn measure(bundle: &Arc<Bundle>, rounds: u32) -> Result<Measured> {
    let manifest = bundle.manifest();
    let input = manifest.input.as_ref().context("this bundle answers no tasks: its manifest has no [input]")?;
    let outputs: Vec<&str> = manifest.tasks.iter().map(|task| task.output.as_str()).collect();
    let mut engine = Engine::new(bundle.clone())?;
    let mut face = |asked: &mut dyn Iterator<Item = &str>| -> Result<u64> {
        engine.input(&input.tensor)?.fill(0.0);
        let mut watch = Stopwatch::start();
        for output in asked {
            engine.output(output)?;
        }
        Ok(watch.lap_us())
    };
    let every = || outputs.iter().copied();
    let except = |left_out: usize| outputs.iter().enumerate().filter(move |(i, _)| *i != left_out).map(|(_, o)| *o);
    // The first face pays for cold caches.
    face(&mut every())?;
    let mut all = Vec::with_capacity(rounds as usize);
    let mut alone = vec![Vec::with_capacity(rounds as usize); outputs.len()];
    let mut marginal = alone.clone();
    for _ in 0..rounds {
        for index in 0..outputs.len() {
            let with = face(&mut every())? as i64;
            let without = face(&mut except(index))? as i64;
            marginal[index].push(with - without);
            all.push(with);
            alone[index].push(face(&mut std::iter::once(outputs[index]))? as i64);
        }
    }
    let mut tasks = Vec::with_capacity(outputs.len());
    for (index, output) in outputs.iter().enumerate() {
        let (runs_alone, operators_alone) = count_runs(bundle, &input.tensor, output)?;
        let (alone, marginal) = (median(&mut alone[index]), median(&mut marginal[index]));
        tasks.push(Cost { alone_us: alone.max(0) as u64, marginal_us: marginal, runs_alone, operators_alone });
    }
    Ok(Measured { tasks, all_us: median(&mut all).max(0) as u64 })
}

/// Counts, with a fresh engine, what runs for one output of one face.
fn count_runs(bundle: &Arc<Bundle>, input: &str, output: &str) -> Result<(BTreeMap<String, u64>, usize)> {
    let mut engine = Engine::new(bundle.clone())?;
    engine.input(input)?.fill(0.0);
    engine.output(output)?;
    let counters = engine.counters();
    let runs: BTreeMap<String, u64> = counters.map(|counter| (counter.part.clone(), counter.runs)).collect();
    let ran = bundle.parts().filter(|part| runs.get(&part.name).is_some_and(|&runs| runs > 0));
    let operators = ran.map(|part| part.ops).sum();
    Ok((runs, operators))
}

fn median(values: &mut [i64]) -> i64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!((median(&mut [5, -1, 9]), median(&mut [])), (5, 0));
    }
}
