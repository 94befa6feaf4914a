//! `faceptor image`: runs the network on photos and folders of photos.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use crate::capture::photo_files;
use crate::cli::Outcome;
use crate::cli::network_arguments::{NetworkArguments, TaskArguments};
use crate::cli::output;
use crate::outputs::draw::{mask, overlay, png};
use crate::outputs::format::json::{JsonLine, Origin, OuterTiming};
use crate::outputs::format::text;
use crate::outputs::output_paths::OutputPaths;
use crate::platform::clock::Stopwatch;
use crate::platform::network_threads::ThreadArguments;
use faceptor::stages::{Analysis, Augmentation, Locate, MAX_FACES, Picture, Pipeline, Pixels, Purpose, read_photo};

#[derive(Args)]
pub struct ImageArguments {
    /// Photos (JPEG, PNG, WebP, first frame of a GIF) or folders, which are walked in sorted order.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    tasks: TaskArguments,
    #[command(flatten)]
    network: NetworkArguments,
    #[command(flatten)]
    threads: ThreadArguments,
    /// Print one JSON object a photo, each on a line.
    #[arg(long)]
    json: bool,
    /// Write annotated PNGs into this folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write parsing masks into this folder: grey PNGs of the photo's size; pixel value = class, 255 = outside the crop.
    #[arg(long, value_name = "DIR")]
    masks: Option<PathBuf>,
    /// Each photo already is an aligned square crop; the face detector is not used.
    #[arg(long)]
    aligned: bool,
    /// Most faces of a photo; those with the highest score are kept.
    #[arg(long, value_name = "N", default_value_t = MAX_FACES as u16, value_parser = clap::value_parser!(u16).range(1..=MAX_FACES as i64))]
    max_faces: u16,
    /// Test-time augmentation: number of crops of each face that are averaged. 1: the face alone, as in `run`; 2: also
    /// mirrored; 6: both also from nearer and farther; 10: both also from nearer still, for parsing only.
    #[arg(long, value_name = "N", default_value = "10", value_parser = looks)]
    looks: Augmentation,
}

fn looks(text: &str) -> Result<Augmentation, &'static str> {
    match text {
        "1" => Ok(Augmentation::Off),
        "2" => Ok(Augmentation::Mirror),
        "6" => Ok(Augmentation::Six),
        "10" => Ok(Augmentation::Ten),
        _ => Err("1, 2, 6 or 10 is needed"),
    }
}

/// The paths of annotated pictures and masks.
struct Destination {
    annotated: Option<OutputPaths>,
    masks: Option<OutputPaths>,
}

pub fn run(arguments: ImageArguments) -> Result<Outcome> {
    let bundle = arguments.network.open()?;
    let mut pipeline = arguments.tasks.pipeline(&bundle, &arguments.threads.threads()?)?;
    pipeline.enable_masks(arguments.out.is_some() || arguments.masks.is_some());
    pipeline.set_augmentation(arguments.looks);
    let results: Vec<PathBuf> = [&arguments.out, &arguments.masks].into_iter().flatten().cloned().collect();
    let listing = photo_files::list(&arguments.paths, &results);
    let mut outcome = Outcome::Done;
    for (path, reason) in &listing.failures {
        log::error!("{}: {reason:#}", path.display());
        outcome = Outcome::SomeFailed;
    }
    let names = |folder: &Option<PathBuf>| folder.as_ref().map(|f| OutputPaths::new(f, &listing.photos)).transpose();
    let mut destination = Destination { annotated: names(&arguments.out)?, masks: names(&arguments.masks)? };
    let locate = match arguments.aligned {
        true => Locate::Aligned,
        false => Locate::Find { purpose: Purpose::Photo, limit: usize::from(arguments.max_faces) },
    };
    for path in &listing.photos {
        let described = process(path, locate, &mut pipeline, &mut destination, arguments.json);
        match described {
            Ok(description) => output::print(&description)?,
            Err(reason) => {
                log::error!("{}: {reason:#}", path.display());
                outcome = Outcome::SomeFailed;
            }
        }
    }
    Ok(outcome)
}

/// Processes one photo: writes its files and returns its text.
fn process(
    path: &Path,
    locate: Locate,
    pipeline: &mut Pipeline,
    destination: &mut Destination,
    json: bool,
) -> Result<String> {
    let (mut whole, mut stage) = (Stopwatch::start(), Stopwatch::start());
    let photo = read_photo(path)?;
    if photo.is_animated() {
        log::warn!("{}: animated, its first frame is used", path.display());
    }
    let picture = photo.into_picture();
    let mut outer_timing = OuterTiming { capture_us: stage.lap_us(), ..OuterTiming::default() };
    let analysis = pipeline.analyze(&picture, locate)?;
    stage.lap_us();
    let masks = write_files(path, &picture, &analysis, pipeline, destination)?;
    outer_timing.present_us = stage.lap_us();
    outer_timing.total_us = whole.lap_us();
    let name = path.to_string_lossy().into_owned();
    if !json {
        return Ok(text::describe(&name, picture.width(), picture.height(), &analysis, pipeline.decoders()));
    }
    let origin = Origin { path: Some(name), width: picture.width(), height: picture.height(), frame: None };
    let line =
        JsonLine { origin: &origin, decoders: pipeline.decoders(), analysis: &analysis, masks: &masks, outer_timing };
    Ok(serde_json::to_string(&line)? + "\n")
}

/// Writes the requested annotated picture and masks. Returns the masks' paths by face and task.
fn write_files(
    path: &Path,
    picture: &Picture,
    analysis: &Analysis,
    pipeline: &Pipeline,
    destination: &mut Destination,
) -> Result<Vec<Vec<Option<String>>>> {
    let mut paths = vec![vec![None; pipeline.decoders().len()]; analysis.faces.len()];
    if let Some(names) = &mut destination.masks {
        for (face, row) in analysis.faces.iter().zip(&mut paths) {
            for (index, parsing) in mask::parsings(face) {
                let decoder = &pipeline.decoders()[index];
                let target = names.claim(path, &format!(".face{}.{}.png", face.id, decoder.task().name));
                let labels = mask::labels(parsing, decoder, face, picture);
                png::write_grey(&target, &labels, picture.width(), picture.height())?;
                row[index] = Some(target.to_string_lossy().into_owned());
            }
        }
    }
    if let Some(names) = &mut destination.annotated {
        png::write_picture(&names.claim(path, ".png"), &overlay::annotate(picture, analysis, pipeline))?;
    }
    Ok(paths)
}
