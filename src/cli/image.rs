//! `faceptor image`: runs the network on photos and folders of photos.

use std::borrow::Cow;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;

use crate::capture::photo_files::{self, STANDARD_INPUT};
use crate::cli::blur_arguments::BlurArguments;
use crate::cli::network_arguments::{NetworkArguments, TaskArguments};
use crate::cli::output;
use crate::cli::output_rules::{self, ForceArgument};
use crate::cli::photo_jobs::{self, Held, Room, Turn};
use crate::cli::photo_names::PhotoNames;
use crate::cli::photo_results::{PhotoResults, Shown};
use crate::cli::progress::Progress;
use crate::cli::run_gallery::RunGalleryArguments;
use crate::cli::{Outcome, UsageError};
use crate::files::png_mark::SourceId;
use crate::files::result_log::ResultLog;
use crate::live::shield::{Blur, Whom};
use crate::outputs::format::identity::Identity;
use crate::outputs::format::json::{self, JsonLine, OuterTiming};
use crate::outputs::format::{ResultFiles, terminal, text};
use crate::outputs::output_paths::Origin;
use crate::platform::clock::Stopwatch;
use crate::platform::network_threads::{self, ThreadArguments};
use faceptor::stages::{
    Analysis, Augmentation, Locate, MAX_FACES, PhotoSearch, Picture, Pipeline, Pixels, Purpose, Sightings,
    read_photo_within,
};
use faceptor::{Photo, PhotoOptions};
use faceptor_nn::manifest::TaskKind;
use faceptor_results::cover::{Area, Covers};

/// Photos of more pixels are in memory alone.
const LARGE_PIXELS: u64 = 1 << 24;
/// Longest photo on standard input.
const MAX_INPUT_BYTES: u64 = 256 << 20;

#[derive(Args)]
pub struct ImageArguments {
    /// Photos (JPEG, PNG, WebP, TIFF, BMP, first frame of a GIF), `-` for one on standard input, or folders, which are walked in sorted
    /// order without the pictures that faceptor wrote.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    tasks: TaskArguments,
    #[command(flatten)]
    network: NetworkArguments,
    #[command(flatten)]
    threads: ThreadArguments,
    /// Photos that are processed at once, each by a network with memory of its own; results come in the order of the photos
    /// [default: the CPUs that this process may use, or 1 with --threads].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Append one JSON object a photo to this file, in place of standard output. A photo that cannot be read has an `error`.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    results: Option<PathBuf>,
    /// Go on with the file of --results: photos that it has results of are passed over, also those with an `error`.
    #[arg(long, requires = "results")]
    resume: bool,
    /// Print one JSON object a photo, each on a line.
    #[arg(long)]
    json: bool,
    /// Write annotated PNGs into this folder, each of its photo's size. The result of an earlier command on the same photo is
    /// replaced; other files are not, and the new one gets a number.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write parsing masks into this folder: grey PNGs of the photo's size; pixel value = class, 255 = outside the crop.
    #[arg(long, value_name = "DIR")]
    masks: Option<PathBuf>,
    #[command(flatten)]
    naming: RunGalleryArguments,
    #[command(flatten)]
    blur: BlurArguments,
    #[command(flatten)]
    force: ForceArgument,
    /// Each photo already is an aligned square crop; the face detector is not used.
    #[arg(long)]
    aligned: bool,
    /// Most faces of a photo; those with the highest score are kept.
    #[arg(long, value_name = "N", default_value_t = MAX_FACES as u16, value_parser = clap::value_parser!(u16).range(1..=MAX_FACES as i64))]
    max_faces: u16,
    /// Smallest faces to look for: longer side of the face in pixels of the photo. Large photos are searched in parts for them;
    /// the time grows with the photo's area and falls with the square of this size.
    #[arg(long, value_name = "PX", default_value_t = 24.0, value_parser = face_size)]
    min_face: f32,
    /// Look for upright faces only, turned by up to about 35 degrees: the search takes less than half the time.
    #[arg(long)]
    upright: bool,
    /// Most pixels of a photo; larger ones are refused. Decoding takes at most 12 bytes a pixel.
    #[arg(long, value_name = "N", default_value_t = PhotoOptions::default().max_pixels, value_parser = clap::value_parser!(u64).range(1..))]
    max_pixels: u64,
    /// Test-time augmentation: number of crops of each face that are averaged. 1: the face alone, as in `run`; 2: also
    /// mirrored; 6: both also from nearer and farther; 10: both also from nearer still, for parsing only.
    #[arg(long, value_name = "N", default_value = "10", value_parser = looks)]
    looks: Augmentation,
}

fn face_size(text: &str) -> Result<f32, String> {
    let range = 16.0..=10_000.0;
    let size = text.parse().ok().filter(|size| range.contains(size));
    size.ok_or_else(|| format!("{} to {} pixels are needed", range.start(), range.end()))
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

pub fn run(arguments: ImageArguments) -> Result<Outcome> {
    let blur = arguments.blur.blur(arguments.naming.gallery.is_named())?;
    let bundle = arguments.network.open()?;
    let tasks = arguments.naming.tasks(&arguments.tasks, &bundle)?;
    let mut pipeline = Pipeline::with_threads(bundle.clone(), &tasks, &arguments.threads.threads()?)?;
    arguments.check(&pipeline)?;
    arguments.prepare(&mut pipeline);
    let folders: Vec<PathBuf> = [&arguments.out, &arguments.masks].into_iter().flatten().cloned().collect();
    let mut listing = photo_files::list(&arguments.paths, &folders);
    let mut outcome = Outcome::Done;
    for (path, reason) in &listing.failures {
        log::error!("{}: {reason:#}", path.display());
        outcome = Outcome::SomeFailed;
    }
    let network = output_rules::network_files(&arguments.network);
    let inputs = listing.photos.iter().chain(&network).chain(arguments.naming.gallery.files());
    let rules = arguments.force.rules(inputs);
    let names = PhotoNames::open(&arguments.naming, &bundle)?;
    let log = arguments.results.as_deref().map(|path| ResultLog::open(path, arguments.resume, &rules));
    let mut log = log.transpose()?;
    if let Some(log) = &mut log {
        listing.photos.retain(|path| !log.take_done(path));
    }
    let photos = listing.photos;
    let jobs = arguments.jobs()?.min(photos.len());
    let mut pipelines = vec![pipeline];
    while pipelines.len() < jobs {
        let mut pipeline = Pipeline::with_threads(bundle.clone(), &tasks, &arguments.threads.threads()?)?;
        arguments.prepare(&mut pipeline);
        pipelines.push(pipeline);
    }
    let results = PhotoResults::new(arguments.out.as_deref(), arguments.masks.as_deref(), &rules)?;
    let limit = usize::from(arguments.max_faces);
    // Faces that are not reported are covered too.
    let searched = if blur.is_some() { MAX_FACES } else { limit };
    let locate = match arguments.aligned {
        true => Locate::Aligned,
        false => Locate::Find { purpose: Purpose::Photo, limit: searched },
    };
    let limits = PhotoOptions::default().with_max_pixels(arguments.max_pixels);
    let (results, room) = (Mutex::new(results), Room::default());
    let task = PhotoTask { limits, locate, limit, blur, names, json: arguments.json || log.is_some() };
    let work = |pipeline: &mut Pipeline, number: usize, turn: &Turn<'_>| {
        let path = photos[number].as_path();
        (path, task.process(path, pipeline, &Writer { results: &results, turn, room: &room }))
    };
    let mut progress = Progress::of(photos.len());
    let mut take = |(path, described): (&Path, Result<Described>)| {
        progress.step();
        match (described, &mut log) {
            (Ok(Described { text, is_complete }), log) => {
                outcome = if is_complete { outcome } else { Outcome::SomeFailed };
                match log {
                    Some(log) => log.append(&text),
                    None => output::write(&text),
                }
            }
            (Err(reason), log) => {
                log::error!("{}: {reason:#}", path.display());
                outcome = Outcome::SomeFailed;
                let line =
                    || output::json_line(&FailedLine { path: path.to_string_lossy(), error: format!("{reason:#}") });
                log.as_mut().map_or(Ok(()), |log| log.append(&line()?))
            }
        }
    };
    photo_jobs::in_order(photos.len(), pipelines, work, &mut take)?;
    Ok(outcome)
}

/// The line of a photo that could not be read, in a file of results.
#[derive(Serialize)]
struct FailedLine<'a> {
    path: Cow<'a, str>,
    error: String,
}

/// Writes the files of a photo when its turn has come, so that their names do not depend on which photo is done first.
struct Writer<'a> {
    results: &'a Mutex<PhotoResults>,
    turn: &'a Turn<'a>,
    room: &'a Room,
}

impl Writer<'_> {
    fn write(
        &self,
        origin: &Origin,
        picture: &Picture,
        found: Shown<'_>,
        pipeline: &Pipeline,
    ) -> (ResultFiles, Vec<anyhow::Error>) {
        let lock = || self.results.lock().unwrap_or_else(PoisonError::into_inner);
        if !lock().writes_files() {
            return (ResultFiles::default(), Vec::new());
        }
        self.turn.wait();
        lock().write(origin, picture, found, pipeline)
    }
}

impl ImageArguments {
    /// Sets what the options say about the analysis of each photo.
    fn prepare(&self, pipeline: &mut Pipeline) {
        pipeline.enable_masks(self.out.is_some() || self.masks.is_some());
        pipeline.set_augmentation(self.looks);
        pipeline.set_photo_search(PhotoSearch { min_face_px: self.min_face, upright_only: self.upright });
    }

    /// Returns the number of photos that are processed at once.
    fn jobs(&self) -> Result<usize> {
        match (self.jobs, self.threads.threads) {
            (None, 1) => Ok(network_threads::allowed_cpus().len().max(1)),
            (None, _) => Ok(1),
            (Some(jobs), threads) if jobs == 1 || threads == 1 => Ok(usize::from(jobs)),
            (Some(_), _) => Err(UsageError("--jobs and --threads share the same CPUs: give one of them".into()).into()),
        }
    }

    /// Checks that the requested files can be written and named.
    fn check(&self, pipeline: &Pipeline) -> Result<()> {
        let is_parsing = |&task: &u8| pipeline.decoders()[usize::from(task)].task().kind == TaskKind::Parsing;
        if self.masks.is_some() && !pipeline.tasks().iter().any(is_parsing) {
            log::warn!("--masks: no mask is written, because no parsing task is chosen; add one to --tasks (parsing)");
        }
        let folders = [("--out", &self.out), ("--masks", &self.masks)];
        for (option, folder) in folders.into_iter().filter(|_| self.json) {
            if let Some(folder) = folder.as_ref().filter(|folder| folder.to_str().is_none()) {
                let folder = folder.display();
                let reason = format!("{option} {folder}: JSON cannot name files in this folder, its name is not UTF-8");
                return Err(UsageError(reason).into());
            }
        }
        Ok(())
    }
}

/// Reads a photo, and what its results are named after.
fn read<'a>(path: &'a Path, limits: &PhotoOptions) -> Result<(Photo, Origin<'a>)> {
    if path != Path::new(STANDARD_INPUT) {
        return Ok((read_photo_within(path, limits)?, Origin::File(path)));
    }
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(MAX_INPUT_BYTES + 1).read_to_end(&mut bytes);
    read.context("standard input cannot be read")?;
    ensure!(bytes.len() as u64 <= MAX_INPUT_BYTES, "the photo is longer than {} MiB", MAX_INPUT_BYTES >> 20);
    Ok((Photo::decode_within(&bytes, limits)?, Origin::Content(SourceId::of_bytes(&bytes))))
}

/// Reads a photo when there is room for it.
fn read_within<'p, 'r>(
    path: &'p Path,
    limits: &PhotoOptions,
    writer: &Writer<'r>,
) -> Result<(Photo, Origin<'p>, Held<'r>)> {
    let small = limits.with_max_pixels(LARGE_PIXELS.min(limits.max_pixels));
    // A pipe can be read once.
    if path.is_file() {
        let held = writer.room.share();
        let found = read(path, &small);
        if found.is_ok() || limits.max_pixels <= LARGE_PIXELS {
            return found.map(|(photo, origin)| (photo, origin, held));
        }
    }
    // It is large, or there will be the same error again.
    let held = writer.room.take(writer.turn);
    read(path, limits).map(|(photo, origin)| (photo, origin, held))
}

/// The text or JSON of a photo.
struct Described {
    text: String,
    /// False when a file could not be written.
    is_complete: bool,
}

/// Steps that each photo goes through.
struct PhotoTask {
    limits: PhotoOptions,
    locate: Locate,
    /// Most faces that are reported.
    limit: usize,
    blur: Option<Blur>,
    names: Option<PhotoNames>,
    json: bool,
}

impl PhotoTask {
    /// Processes one photo: writes its files and describes its results, also when a file could not be written.
    fn process(&self, path: &Path, pipeline: &mut Pipeline, results: &Writer<'_>) -> Result<Described> {
        let (mut whole, mut stage) = (Stopwatch::start(), Stopwatch::start());
        let (photo, origin, held) = read_within(path, &self.limits, results)?;
        if photo.is_animated() {
            log::warn!("{}: animated, its first frame is used", path.display());
        }
        let warnings = photo.warnings().to_vec();
        for warning in &warnings {
            log::warn!("{}: {warning}", path.display());
        }
        let picture = photo.into_picture();
        let mut outer_timing = OuterTiming { capture_us: stage.lap_us(), ..OuterTiming::default() };
        let mut analysis = pipeline.analyze(&picture, self.locate)?;
        let sightings = match (self.blur, self.locate) {
            (Some(_), Locate::Find { .. }) => pipeline.sightings(&picture)?,
            _ => Sightings::default(),
        };
        drop(held);
        let mut identities = match &self.names {
            Some(names) => names.identities(&analysis)?,
            None => Vec::new(),
        };
        let covers = self.blur.map(|blur| self.covers(blur, &analysis, &identities, &sightings));
        analysis.faces_left_out += analysis.faces.len().saturating_sub(self.limit);
        analysis.faces.truncate(self.limit);
        identities.truncate(self.limit);
        // Otherwise a smaller limit was asked for.
        if self.limit == MAX_FACES && analysis.faces_left_out > 0 {
            let more = analysis.faces_left_out;
            log::warn!("{}: at least {more} more faces are left out: at most {MAX_FACES} are reported", path.display());
        }
        outer_timing.total_us = whole.lap_us();
        stage.lap_us();
        let (files, failures) = results.write(
            &origin,
            &picture,
            Shown { analysis: &analysis, identities: &identities, covers: covers.as_ref() },
            pipeline,
        );
        failures.iter().for_each(|reason| log::error!("{}: {reason:#}", path.display()));
        // With the wait for the photo's turn, where files are written.
        outer_timing.present_us = stage.lap_us();
        outer_timing.total_us += outer_timing.present_us;
        let (name, size) = (path.to_string_lossy().into_owned(), [picture.width(), picture.height()]);
        let text = if self.json {
            let origin = json::Origin { path: Some(name), width: size[0], height: size[1], frame: None, warnings };
            let decoders = pipeline.decoders();
            output::json_line(&JsonLine {
                origin: &origin,
                decoders,
                analysis: &analysis,
                files: &files,
                identities: &identities,
                outer_timing,
            })?
        } else {
            let text = text::describe(&name, size, &analysis, pipeline.decoders(), &files, &identities);
            terminal::lines(&text).into_owned()
        };
        Ok(Described { text, is_complete: failures.is_empty() })
    }

    /// Returns what is covered on a photo: every head, and every place that may show one, but those of people with names, if these
    /// may be seen.
    fn covers(&self, blur: Blur, analysis: &Analysis, identities: &[Identity<'_>], sightings: &Sightings) -> Covers {
        let mut covers = Covers::new(blur.style);
        if self.locate == Locate::Aligned {
            // The face fills the picture.
            let is_shown = |index| blur.whom == Whom::Unknown && is_named(identities, index);
            if (0..analysis.faces.len()).any(|index| !is_shown(index)) {
                covers.cover_all();
            }
            return covers;
        }
        let mut shown = Vec::new();
        for (index, face) in analysis.faces.iter().enumerate() {
            match blur.whom == Whom::Unknown && is_named(identities, index) {
                true => shown.push(face.detection),
                false => covers.push(Area::of_face(face)),
            }
        }
        let places = sightings.places().iter();
        for place in places.filter(|place| !shown.iter().any(|face| place.shows(face))) {
            covers.push(Area::of_head(place, &[]));
        }
        // Somewhere there are more faces.
        if analysis.faces_left_out > 0 || !sightings.are_complete() {
            covers.cover_all();
        }
        covers
    }
}

/// Reports whether a face has a name.
fn is_named(identities: &[Identity<'_>], index: usize) -> bool {
    identities.get(index).is_some_and(|identity| identity.name.is_some())
}
