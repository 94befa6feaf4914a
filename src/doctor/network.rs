//! Checks whether the network loads, and reads the face of the demo clip correctly.

use std::ops::RangeInclusive;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};

use crate::capture::demo_clip::DemoClip;
use crate::doctor::check::Check;
use crate::platform::clock::Stopwatch;
use faceptor::stages::{Face, Locate, Picture, Pipeline, Prediction, Purpose, TaskDecoder, select_tasks};
use faceptor_nn::bundle::Bundle;

/// Largest distance between the middle of the face's box and its true place, pixels of the portrait.
const MAX_OFFSET_PX: f64 = 35.0;
/// Plausible ages of the woman on the portrait, who is in her forties.
const YEARS: RangeInclusive<f32> = 15.0..=70.0;

/// The network to check.
pub(crate) struct Network {
    /// The bundle, or why it cannot be opened.
    pub bundle: Result<Arc<Bundle>>,
    /// Time that opening it took.
    pub open_us: u64,
    /// True for a bundle of the user, whose training is unknown: wrong predictions are a warning then, not a failure.
    pub is_custom: bool,
}

pub(crate) fn checks(network: Network) -> Vec<Check> {
    match load_and_predict(network) {
        Ok(checks) => checks,
        Err(reason) => vec![Check::fail(
            "network",
            format!("{reason:#}"),
            "fetch or compile the bundle again (`faceptor compile`), or build the program again",
        )],
    }
}

fn load_and_predict(network: Network) -> Result<Vec<Check>> {
    let mut watch = Stopwatch::start();
    let bundle = network.bundle?;
    let manifest = bundle.manifest();
    let chosen = select_tasks(manifest, Some("all"))?;
    let mut pipeline = Pipeline::new(bundle.clone(), &chosen)?;
    let load_us = network.open_us + watch.lap_us();
    let (name, sha256) = (format!("{} {}", manifest.name, manifest.version), bundle.sha256());
    let found = format!("{name}, sha256 {sha256:.16}, {} tasks, ready in {} ms", chosen.len(), load_us / 1000);
    let mut checks = vec![Check::ok("network", found)];
    if manifest.finder.is_none() {
        checks.push(Check::ok("answers", "not checked: this network has no face detector"));
        return Ok(checks);
    }
    checks.push(match predict(&mut pipeline) {
        Ok(found) => Check::ok("answers", found),
        Err(reason) if network.is_custom => Check::warn(
            "answers",
            format!("unexpected predictions for the demo picture: {reason:#}"),
            "usual for a network with little training; `faceptor verify` compares this machine with another one",
        ),
        Err(reason) => Check::fail(
            "answers",
            format!("wrong predictions for the demo picture: {reason:#}"),
            "try FACEPTOR_KERNEL=scalar; if the check passes then, report the CPU and this line",
        ),
    });
    Ok(checks)
}

fn predict(pipeline: &mut Pipeline) -> Result<String> {
    let mut picture = Picture::default();
    DemoClip::new()?.render(0, &mut picture);
    let locate = Locate::Find { purpose: Purpose::Live, limit: 4 };
    // The first run is slower: it touches memory for the first time.
    pipeline.analyze(&picture, locate)?;
    let mut watch = Stopwatch::start();
    let analysis = pipeline.analyze(&picture, locate)?;
    let us = watch.lap_us();
    let [face] = &analysis.faces[..] else { bail!("{} faces found instead of one", analysis.faces.len()) };
    let ([x, y], scale) = DemoClip::face(0);
    let [left, top, width, height] = face.detection.xywh().map(f64::from);
    let off = (left + width / 2.0 - x).hypot(top + height / 2.0 - y) / scale;
    ensure!(off < MAX_OFFSET_PX, "the face is {off:.0} pixels off");
    for (_, decoder, result) in face.known(pipeline.decoders()) {
        let name = &decoder.task().name;
        if let Err(reason) = judge(decoder, &result.prediction, face) {
            bail!("{name}: {reason:#}");
        }
    }
    Ok(format!("the demo picture is read correctly; all tasks {:.1} ms", us as f64 / 1000.0))
}

/// Fails when a prediction for the portrait, a smiling woman without glasses, is implausible.
fn judge(decoder: &TaskDecoder, answer: &Prediction, face: &Face) -> Result<()> {
    let labels = &decoder.task().labels;
    let of =
        |label: &str, values: &[f32]| labels.iter().position(|l| l == label).and_then(|at| values.get(at).copied());
    match answer {
        Prediction::Landmarks(landmarks) => {
            let [left, top, width, height] = face.detection.xywh();
            let near = |&[x, y]: &[f32; 2]| {
                (left - width / 2.0..left + width * 1.5).contains(&x)
                    && (top - height / 2.0..top + height * 1.5).contains(&y)
            };
            let off = landmarks.points.iter().filter(|point| !near(point)).count();
            ensure!(off == 0, "{off} of {} points are not on the face", landmarks.points.len());
        }
        Prediction::Parsing(parsing) => {
            let share = &parsing.share;
            let sum: f32 = share.iter().sum();
            ensure!((sum - 1.0).abs() < 0.01, "the shares add up to {sum}");
            let skin = of("skin", share).unwrap_or(1.0);
            ensure!(skin > 0.05, "{:.1} % skin", skin * 100.0);
        }
        Prediction::Age(age) => ensure!(YEARS.contains(&age.years), "{} years", age.years),
        Prediction::Expression(scores) => {
            let sum: f32 = scores.iter().sum();
            ensure!((sum - 1.0).abs() < 0.01, "the scores add up to {sum}");
            let happy = of("happiness", scores);
            let most = scores.iter().copied().fold(0.0, f32::max);
            ensure!(happy.is_none_or(|score| score == most), "the smile is not recognized");
        }
        Prediction::Attributes(values) => {
            ensure!(values.iter().all(|value| (0.0..=1.0).contains(value)), "a probability outside 0..1");
            ensure!(of("Smiling", values).is_none_or(|value| value > 0.5), "the smile is not recognized");
            ensure!(of("Eyeglasses", values).is_none_or(|value| value < 0.5), "glasses are recognized");
        }
        Prediction::Recognition(embedding) => {
            let length = embedding.iter().map(|value| value * value).sum::<f32>().sqrt();
            ensure!((length - 1.0).abs() < 0.01, "an embedding of length {length}");
        }
    }
    Ok(())
}
