//! Measures the cost of each task on this machine: the network runs with and without it.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use serde::Serialize;

use crate::lab::bench;
use crate::platform::clock::Stopwatch;
use faceptor::stages::{FaceImage, MAX_TASKS, Observer, Pipeline, Similarity, Step, TaskList, WindowTransforms};
use faceptor_nn::bundle::Bundle;
use faceptor_nn::thread_pool::Threads;

/// The cost of one task.
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

/// Measures from the moment that a face has been sampled.
#[derive(Default)]
pub(crate) struct SinceSampled(Option<Stopwatch>);

impl SinceSampled {
    /// Returns microseconds since then; 0 when no face was sampled.
    pub(crate) fn lap_us(&mut self) -> u64 {
        self.0.as_mut().map_or(0, Stopwatch::lap_us)
    }
}

impl Observer for SinceSampled {
    fn ended(&mut self, step: Step) {
        if step == Step::Sample {
            self.0 = Some(Stopwatch::start());
        }
    }
}

/// Runs every choice of tasks `rounds` times, interleaved, and takes the shortest time of each: whatever else the
/// machine does can only add to it. The time of a face does not depend on its pixels, so the input is plain grey.
///
/// # Errors
/// When the bundle has no tasks, or cannot be run.
pub fn measure(bundle: &Arc<Bundle>, rounds: u32) -> Result<Measured> {
    let every: TaskList = (0..bundle.manifest().tasks.len().min(MAX_TASKS) as u8).collect();
    let mut pipeline = bench::undrawn(bundle.clone(), &every, &Threads::default())?;
    let except = |left_out: &u8| -> TaskList { every.iter().copied().filter(|task| task != left_out).collect() };
    let except: Vec<TaskList> = every.iter().map(except).collect();
    let alone: Vec<TaskList> = every.iter().map(|&task| TaskList::from_iter([task])).collect();
    // The first face pays for cold caches.
    run_tasks(&mut pipeline, &every)?;
    let mut all_us = u64::MAX;
    let mut without_us = vec![u64::MAX; every.len()];
    let mut alone_us = without_us.clone();
    for _ in 0..rounds.max(1) {
        all_us = all_us.min(run_tasks(&mut pipeline, &every)?);
        for index in 0..every.len() {
            without_us[index] = without_us[index].min(run_tasks(&mut pipeline, &except[index])?);
            alone_us[index] = alone_us[index].min(run_tasks(&mut pipeline, &alone[index])?);
        }
    }
    let mut tasks = Vec::with_capacity(every.len());
    for index in 0..every.len() {
        let (runs_alone, operators_alone) = count_runs(&mut pipeline, bundle, &alone[index])?;
        let marginal_us = all_us as i64 - without_us[index] as i64;
        tasks.push(Cost { alone_us: alone_us[index], marginal_us, runs_alone, operators_alone });
    }
    Ok(Measured { tasks, all_us })
}

/// Runs the network's part of some tasks for one face; returns microseconds.
fn run_tasks(pipeline: &mut Pipeline, tasks: &TaskList) -> Result<u64> {
    let mut timer = SinceSampled::default();
    let windows = WindowTransforms::same(Similarity::scaling(1.0));
    pipeline.run_face(FaceImage::Grey, &windows, tasks.clone(), &mut timer, Pipeline::compute)?;
    Ok(timer.lap_us())
}

/// Counts the runs of each part, and the operators of those that ran, for some tasks of one face.
fn count_runs(
    pipeline: &mut Pipeline,
    bundle: &Arc<Bundle>,
    tasks: &TaskList,
) -> Result<(BTreeMap<String, u64>, usize)> {
    pipeline.engine_mut().reset_counters();
    run_tasks(pipeline, tasks)?;
    let counters = pipeline.engine().counters();
    let runs: BTreeMap<String, u64> = counters.map(|counter| (counter.part.clone(), counter.runs)).collect();
    let ran = bundle.parts().filter(|part| runs.get(&part.name).is_some_and(|&runs| runs > 0));
    let operators = ran.map(|part| part.ops).sum();
    Ok((runs, operators))
}
