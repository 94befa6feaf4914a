//! Whether the network loads and reads the face of the demo as it should.

use anyhow::{Result, bail, ensure};

use crate::capture::demo_clip::DemoClip;
use crate::cli::network::NetworkArguments;
use crate::doctor::Check;
use crate::platform::clock::Stopwatch;
use faceptor::stages::{Face, Locate, Picture, Pipeline, Prediction, Purpose, TaskDecoder, select_tasks};

/// The middle of the face's box lies within so much of where the clip puts it, in pixels of the portrait.
const OFF_AT_MOST: f64 = 35.0;
/// The woman on the portrait is in her forties; a network may be mistaken, but not beyond these.
const YEARS: std::ops::RangeInclusive<f32> = 15.0..=70.0;

pub fn checks(arguments: &NetworkArguments) -> Vec<Check> {
    match load_and_look(arguments) {
        Ok(checks) => checks,
        Err(reason) => vec![Check::fail(
            "network",
            format!("{reason:#}"),
            "fetch or compile the bundle again (`faceptor compile`), or build the program again",
        )],
    }
}

fn load_and_look(arguments: &NetworkArguments) -> Result<Vec<Check>> {
    let mut watch = Stopwatch::start();
    let bundle = arguments.open()?;
    let manifest = bundle.manifest();
    let chosen = select_tasks(manifest, Some("all"))?;
    let mut pipeline = Pipeline::new(bundle.clone(), &chosen)?;
    let load_us = watch.lap_us();
    let (name, sha256) = (format!("{} {}", manifest.name, manifest.version), bundle.sha256());
    let found = format!("{name}, sha256 {sha256:.16}, {} tasks, ready in {} ms", chosen.len(), load_us / 1000);
    let mut checks = vec![Check::ok("network", found)];
    if manifest.finder.is_none() {
        checks.push(Check::ok("answers", "not tried: this network has no finder"));
        return Ok(checks);
    }
    checks.push(match look(&mut pipeline) {
        Ok(found) => Check::ok("answers", found),
        // Of a network of the user's nobody here knows what it has learned.
        Err(reason) if arguments.model.is_some() => Check::warn(
            "answers",
            format!("this network reads the demo picture oddly: {reason:#}"),
            "a network with little training does; `faceptor verify` tells whether this machine computes what another does",
        ),
        Err(reason) => Check::fail(
            "answers",
            format!("the demo picture is read wrongly: {reason:#}"),
            "try FACEPTOR_KERNEL=scalar; if that reads it rightly, report the CPU and this line",
        ),
    });
    Ok(checks)
}

fn look(pipeline: &mut Pipeline) -> Result<String> {
    let mut picture = Picture::default();
    DemoClip::new()?.render(0, &mut picture);
    let locate = Locate::Find { purpose: Purpose::Live, limit: 4 };
    // The first run touches memory for the first time.
    pipeline.analyze(&picture, locate)?;
    let mut watch = Stopwatch::start();
    let analysis = pipeline.analyze(&picture, locate)?;
    let us = watch.lap_us();
    let [face] = &analysis.faces[..] else { bail!("{} faces found instead of one", analysis.faces.len()) };
    let ([x, y], scale) = DemoClip::face(0);
    let [left, top, width, height] = face.detection.xywh().map(f64::from);
    let off = (left + width / 2.0 - x).hypot(top + height / 2.0 - y) / scale;
    ensure!(off < OFF_AT_MOST, "the face is found {off:.0} pixels off");
    for (_, decoder, result) in face.known(pipeline.decoders()) {
        let name = &decoder.task().name;
        if let Err(reason) = judge(decoder, &result.prediction, face) {
            bail!("{name}: {reason:#}");
        }
    }
    Ok(format!("the demo picture is read rightly; all tasks {:.1} ms", us as f64 / 1000.0))
}

/// Whether an answer about the portrait, a smiling woman without glasses, can be true.
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
            ensure!(happy.is_none_or(|score| score == most), "a smile is not seen");
        }
        Prediction::Attributes(values) => {
            ensure!(values.iter().all(|value| (0.0..=1.0).contains(value)), "a probability outside 0..1");
            ensure!(of("Smiling", values).is_none_or(|value| value > 0.5), "a smile is not seen");
            ensure!(of("Eyeglasses", values).is_none_or(|value| value < 0.5), "glasses are seen");
        }
        Prediction::Recognition(embedding) => {
            let length = embedding.iter().map(|value| value * value).sum::<f32>().sqrt();
            ensure!((length - 1.0).abs() < 0.01, "an embedding of length {length}");
        }
    }
    Ok(())
}
