//! Measures each step of the network on this machine, beside the peak of its instructions.
//!
//! Frames go the loop's way up to the answers of one face; every step has a clock around it. The times are medians, so
//! that what else the machine did in some frames does not count.

mod picture;
mod table;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde::Serialize;

use crate::capture::source::{Poll, Source, SourceError};
use crate::lab::bench::{self, BenchSettings};
use crate::lab::report::{Build, Network};
use crate::platform::clock::now_us;
use crate::platform::machine::{Machine, MachineMonitor};
use faceptor::stages::{Face, FaceImage, Pipeline, Purpose};
use faceptor_nn::bundle::Bundle;
use faceptor_nn::engine::StepCost;

/// The most frames of a profile: every time is kept, for its median.
pub const MAX_FRAMES: u64 = 20_000;
/// A source that gives nothing for this long is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// The report of `faceptor bench --profile`.
#[derive(Clone, Debug, Serialize)]
pub struct Profile {
    pub machine: Machine,
    pub build: Build,
    pub model: Network,
    pub kernel: &'static str,
    pub threads: usize,
    pub source: String,
    pub tasks: Vec<String>,
    /// Frames with a face.
    pub frames: u64,
    /// Multiply-accumulates of 8 bit integers, billions a second, that one core does with nothing else to do; measured
    /// before and after the frames, the larger one.
    pub int8_peak_gmacs: f64,
    /// One face with the chosen tasks, including the detector.
    pub whole: Share,
    /// The part that reads the image.
    pub encoder: Share,
    /// The parts that ran, in the order of the bundle.
    pub parts: Vec<PartProfile>,
    pub valid: bool,
    pub invalid_because: Option<String>,
}

/// Work and its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Share {
    pub macs: u64,
    /// Median of one run.
    pub time_us: f64,
    /// Share of the whole, percent.
    pub percent: f64,
    /// Multiply-accumulates of any kind, against the peak; `None` without any.
    pub percent_of_peak: Option<f64>,
}

/// One part of the network.
#[derive(Clone, Debug, Serialize)]
pub struct PartProfile {
    pub name: String,
    #[serde(flatten)]
    pub share: Share,
    pub steps: Vec<StepProfile>,
}

/// One fused step.
#[derive(Clone, Debug, Serialize)]
pub struct StepProfile {
    /// The node of the ONNX graph that it comes from.
    pub name: String,
    pub op: &'static str,
    pub input: Vec<usize>,
    pub output: Vec<usize>,
    #[serde(flatten)]
    pub share: Share,
}

/// Loads the network with `open` and profiles it on the frames of `source`, one face in each.
///
/// # Errors
/// When the network cannot be run, the source gives no frame for ten seconds, or no frame shows a face.
pub fn measure(
    open: impl FnOnce() -> Result<Arc<Bundle>>,
    choose: impl FnOnce(&Bundle) -> Result<BenchSettings>,
    source: &mut dyn Source,
) -> Result<Profile> {
    let bundle = open()?;
    let settings = choose(&bundle)?;
    let mut pipeline = bench::undrawn(bundle.clone(), &settings.tasks, &settings.threads)?;
    pipeline.engine_mut().profile(true);
    let kernel = pipeline.engine().kernel();
    let mut face = Face::blank(pipeline.decoders());
    for _ in 0..settings.warm_up {
        perceive(&mut pipeline, source, &mut face)?;
    }
    let before = kernel.int8_peak();
    let mut watch = MachineMonitor::start();
    let mut times: Vec<Vec<u32>> = vec![Vec::new(); pipeline.engine().step_times_ns().count()];
    let mut frames = 0;
    for _ in 0..settings.frames {
        pipeline.engine_mut().reset_counters();
        if perceive(&mut pipeline, source, &mut face)? {
            frames += 1;
            for (times, now) in times.iter_mut().zip(pipeline.engine().step_times_ns()) {
                times.push(now.min(u64::from(u32::MAX)) as u32);
            }
        }
        watch.sample();
    }
    let (machine, troubles) = watch.finish();
    ensure!(frames > 0, "{}: no frame shows a face to profile the tasks with", source.describe());
    let peak = before.max(kernel.int8_peak());
    let ran = pipeline.engine().counters().map(|counter| counter.runs > 0).collect::<Vec<_>>();
    let names = bundle.parts().map(|part| part.name.clone()).zip(ran);
    let costs = pipeline.engine().step_costs();
    let mut parts: Vec<PartProfile> = names
        .filter(|(_, ran)| *ran)
        .map(|(name, _)| {
            let steps = costs.iter().zip(&mut times).filter(|(cost, _)| cost.part == name && cost.runs > 0);
            PartProfile::new(name.clone(), steps, peak)
        })
        .collect();
    let mut whole = Share::default();
    parts.iter().for_each(|part| whole.add(&part.share));
    whole.percent = 100.0;
    whole.percent_of_peak = percent_of_peak(whole.macs, whole.time_us, peak);
    for part in &mut parts {
        part.share.percent = 100.0 * part.share.time_us / whole.time_us;
        part.steps.iter_mut().for_each(|step| step.share.percent = 100.0 * step.share.time_us / whole.time_us);
    }
    let manifest = bundle.manifest();
    let reads =
        |name: &str, image: &str| manifest.parts.iter().any(|p| p.name == name && p.inputs.iter().any(|i| i == image));
    let encoder = parts.iter().find(|part| manifest.image_tensors().any(|image| reads(&part.name, image)));
    Ok(Profile {
        machine,
        build: bench::build(settings.git),
        model: Network {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            sha256: bundle.sha256().to_owned(),
        },
        kernel: kernel.name(),
        threads: settings.threads.count,
        source: source.describe(),
        tasks: settings.tasks.iter().map(|&task| manifest.tasks[usize::from(task)].name.clone()).collect(),
        frames,
        int8_peak_gmacs: peak / 1e9,
        whole,
        encoder: encoder.map_or(Share::default(), |part| part.share),
        parts,
        valid: troubles.is_empty(),
        invalid_because: (!troubles.is_empty()).then(|| troubles.join("; ")),
    })
}

/// Finds the best face of the next frame and answers the chosen tasks for it; whether there was one.
fn perceive(pipeline: &mut Pipeline, source: &mut dyn Source, face: &mut Face) -> Result<bool> {
    let give_up_us = now_us() + PATIENCE.as_micros() as u64;
    loop {
        match source.poll(give_up_us) {
            Ok(Poll::Frame(_)) => break,
            Ok(Poll::Ended) if source.rewind() => {}
            Ok(Poll::Ended) => bail!(bench::no_more_frames(source)),
            Ok(Poll::Nothing) => {}
            Err(error @ SourceError::Frame { .. }) => log::warn!("{error}"),
            Err(error) => return Err(error.into()),
        }
        ensure!(now_us() < give_up_us, "{}: no frame within {} s", source.describe(), PATIENCE.as_secs());
    }
    let view = source.view();
    let found = pipeline.find(&view, Purpose::Live, 1)?;
    let at = found.first().and_then(|detection| pipeline.aligned_frame(&detection.keypoints));
    let Some(at) = at else { return Ok(false) };
    let windows = pipeline.windows(&at, found.first());
    let tasks = pipeline.tasks().clone();
    pipeline.run_face(FaceImage::Frame(&view), &windows, tasks, &mut (), |pipeline, task| {
        pipeline.decode(task, &windows, &mut face.results[task].prediction)
    })?;
    Ok(true)
}

impl PartProfile {
    fn new<'a>(name: String, steps: impl Iterator<Item = (&'a StepCost, &'a mut Vec<u32>)>, peak: f64) -> PartProfile {
        let mut share = Share::default();
        let steps = steps
            .map(|(cost, times)| {
                let time_us = median(times) / 1000.0;
                let of_peak = percent_of_peak(cost.macs, time_us, peak);
                let step = Share { macs: cost.macs, time_us, percent: 0.0, percent_of_peak: of_peak };
                share.add(&step);
                let (input, output) = (cost.input.clone(), cost.output.clone());
                StepProfile { name: cost.step.clone(), op: cost.op, input, output, share: step }
            })
            .collect();
        share.percent_of_peak = percent_of_peak(share.macs, share.time_us, peak);
        PartProfile { name, share, steps }
    }
}

impl Share {
    fn add(&mut self, other: &Share) {
        self.macs += other.macs;
        self.time_us += other.time_us;
    }
}

/// Returns the percent of the peak; `None` without work, or on a CPU whose peak is unknown.
fn percent_of_peak(macs: u64, time_us: f64, peak: f64) -> Option<f64> {
    (macs > 0 && time_us > 0.0 && peak > 0.0).then(|| 100.0 * macs as f64 / (time_us * 1e-6) / peak)
}

fn median(times: &mut [u32]) -> f64 {
    times.sort_unstable();
    let middle = |place: usize| times.get(place).copied().map_or(0.0, f64::from);
    (middle(times.len() / 2) + middle(times.len().saturating_sub(1) / 2)) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_even_and_no_times() {
        assert_eq!(median(&mut [5, 1, 9]), 5.0);
        assert_eq!(median(&mut [5, 1, 9, 7]), 6.0);
        assert_eq!(median(&mut []), 0.0);
    }

    #[test]
    fn steps_without_products_have_no_percentage_of_the_peak() {
        assert_eq!(percent_of_peak(0, 3.0, 1e9), None);
        assert_eq!(percent_of_peak(500, 1.0, 1e9), Some(50.0));
        assert_eq!(percent_of_peak(500, 1.0, 0.0), None);
    }
}
