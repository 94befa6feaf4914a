//! `faceptor identify`: says who is on photos, or that a face is of no one in the gallery.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use clap::Args;

use crate::capture::photo_files;
use crate::cli::gallery_arguments::{EmbedderArguments, GalleryArguments, JsonArguments, ThresholdArguments};
use crate::cli::{Outcome, UsageError, output};
use crate::outputs::format::ResultFiles;
use crate::outputs::format::json::{JsonLine, Origin, OuterTiming};
use crate::outputs::format::terminal;
use crate::platform::clock::Stopwatch;
use crate::recognition::dates;
use crate::recognition::embedder::{Embedder, PhotoFaces};
use faceptor_gallery::{Decision, Gallery};
use faceptor_identity::naming;

#[derive(Args)]
pub struct IdentifyArguments {
    /// Photos (JPEG, PNG, WebP, first frame of a GIF) or folders of them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    gallery: GalleryArguments,
    #[command(flatten)]
    json: JsonArguments,
    #[command(flatten)]
    embedder: EmbedderArguments,
    #[command(flatten)]
    threshold: ThresholdArguments,
    /// The least distance between the best and the second-best person; below it the answer is `unknown`.
    #[arg(long, value_name = "COSINE", default_value_t = Decision::MARGIN)]
    margin: f32,
}

pub fn run(arguments: IdentifyArguments) -> Result<Outcome> {
    let now = dates::now();
    if !(0.0..=2.0).contains(&arguments.margin) {
        return Err(UsageError("--margin: a number from 0 to 2 is needed".into()).into());
    }
    let gallery = arguments.gallery.open()?;
    let mut embedder = arguments.embedder.open()?;
    gallery.check_network(embedder.network()).context(arguments.gallery.path()?.display().to_string())?;
    let threshold = arguments.threshold.needed(embedder.impostors(), gallery.comparisons(now))?;
    let rule = Decision { margin: arguments.margin, ..Decision::at(threshold) };

    let listing = photo_files::list(&arguments.paths, &[]);
    let mut outcome = Outcome::Done;
    for (path, reason) in &listing.failures {
        log::error!("{}: {reason:#}", path.display());
        outcome = Outcome::SomeFailed;
    }
    for path in &listing.photos {
        let described = identify(path, &mut embedder, &gallery, &rule, now, arguments.json.json);
        match described {
            Ok(description) => output::write(&description)?,
            Err(reason) => {
                log::error!("{}: {reason:#}", path.display());
                outcome = Outcome::SomeFailed;
            }
        }
    }
    Ok(outcome)
}

/// Identifies the faces of one photo and returns its text.
fn identify(
    path: &Path,
    embedder: &mut Embedder,
    gallery: &Gallery,
    rule: &Decision,
    now: u64,
    json: bool,
) -> Result<String> {
    let mut watch = Stopwatch::start();
    let PhotoFaces { width, height, analysis, warnings, .. } = embedder.faces(path)?;
    let identities = naming::identities(gallery, embedder, &analysis, rule, now).map_err(|reason| anyhow!(reason))?;
    let name = path.to_string_lossy().into_owned();
    if json {
        let outer_timing = OuterTiming { total_us: watch.lap_us(), ..OuterTiming::default() };
        let origin = Origin { path: Some(name), width, height, frame: None, warnings };
        let (decoders, analysis) = (embedder.decoders(), &analysis);
        let line = JsonLine {
            origin: &origin,
            decoders,
            analysis,
            files: &ResultFiles::default(),
            identities: &identities,
            outer_timing,
        };
        return output::json_line(&line);
    }
    let count = match identities.len() {
        0 => "no face".to_owned(),
        1 => "1 face".to_owned(),
        many => format!("{many} faces"),
    };
    let mut text = format!("{name}: {width} x {height}, {count}\n");
    for (face, identity) in analysis.faces.iter().zip(&identities) {
        let [x, y, width, height] = face.detection.xywh();
        text += &format!("  face {} at {x:.0},{y:.0} {width:.0} x {height:.0}: {}\n", face.id, identity.describe());
    }
    Ok(terminal::lines(&text).into_owned())
}
