//! `faceptor enroll`: adds a person to a gallery, from photos that are good enough.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use crate::capture::photo_files;
use crate::cli::enroll_source;
use crate::cli::gallery_arguments::{
    EmbedderArguments, EnrolmentArguments, GalleryArguments, JsonArguments, ThresholdArguments,
};
use crate::cli::progress::Progress;
use crate::cli::{Outcome, UsageError, output};
use crate::recognition::dates;
use crate::recognition::embedder::Embedder;
use crate::recognition::enrolment::{self, Candidate, Limits};
use faceptor_gallery::{Details, Gallery, check_name};

#[derive(Args)]
pub struct EnrollArguments {
    /// The person's name, of any script, on one line. If the gallery holds the person already, the photos are added.
    #[arg(value_name = "NAME")]
    name: String,
    /// Photos (JPEG, PNG, WebP) of this person alone, or folders of them.
    #[arg(required_unless_present = "source", conflicts_with = "source", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Look at a camera (/dev/video0) or film until there are good views of the person, and say what is missing.
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    #[command(flatten)]
    gallery: GalleryArguments,
    #[command(flatten)]
    json: JsonArguments,
    #[command(flatten)]
    embedder: EmbedderArguments,
    #[command(flatten)]
    threshold: ThresholdArguments,
    #[command(flatten)]
    enrolment: EnrolmentArguments,
    /// Enrol also photos that there are reasons against; the reasons are stored with them.
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct PhotoReport<'a> {
    path: &'a str,
    enrolled: bool,
    /// The very same photo is enrolled already.
    known: bool,
    /// The reasons were overruled by --force.
    forced: bool,
    reasons: &'a [&'a str],
}

#[derive(Serialize)]
struct Report<'a> {
    name: &'a str,
    new: bool,
    added: usize,
    refused: usize,
    templates: usize,
    expires: Option<String>,
}

/// Photos or views, the outcome of each, and those that show a face.
pub(super) type Looked = (Vec<PathBuf>, Vec<Fate>, Vec<Candidate>);

/// The outcome for a photo.
pub(super) enum Fate {
    Unreadable,
    Refused(&'static str),
    Candidate(usize),
}

pub fn run(arguments: EnrollArguments) -> Result<Outcome> {
    let now = dates::now();
    let usage = |reason: String| UsageError(reason);
    let name = check_name(&arguments.name).map_err(|reason| usage(reason.to_string()))?;
    let expires_at = dates::end_of_enrolment(&arguments.enrolment.expires, now)
        .map_err(|reason| usage(format!("--expires: {reason}")))?;
    // What is wrong with the gallery or its key is reported before the photos are read.
    let mut gallery = arguments.gallery.open_if_present()?;
    let key = if gallery.is_none() { Some(arguments.gallery.key(true)?) } else { None };
    let mut embedder = arguments.embedder.open()?;
    embedder.measure_pose();
    if let Some(gallery) = &gallery {
        gallery.check_network(embedder.network()).context(arguments.gallery.path()?.display().to_string())?;
    }

    let is_present = gallery.as_ref().and_then(|gallery| gallery.person(name)).is_some_and(|one| !one.is_expired(now));
    if is_present && (expires_at.is_some() || !arguments.enrolment.purpose.is_empty()) {
        log::warn!("this person is enrolled already: --expires and --purpose change nothing (remove the person first)");
    }
    let listing = photo_files::list(&arguments.paths, &[]);
    for (path, reason) in &listing.failures {
        log::error!("{}: {reason:#}", path.display());
    }
    let (photos, fates, mut candidates) = match &arguments.source {
        Some(source) => enroll_source::look(source, &mut embedder, now)?,
        None => look(listing.photos, &mut embedder, now),
    };
    let limits = limits(&arguments, &embedder, gallery.as_ref(), now);
    enrolment::compare(&mut candidates, gallery.as_ref(), name, limits, now);
    let templates = enrolment::templates(&candidates, arguments.force);
    let (added, mut new) = (templates.len(), false);
    if added > 0 {
        let enrolled_by = arguments.enrolment.by();
        let (name, purpose) = (name.to_owned(), arguments.enrolment.purpose.clone());
        let details = Details { name, enrolled_at: now, enrolled_by, purpose, expires_at };
        let mut writer = match (gallery.take(), &key) {
            (Some(gallery), _) => gallery,
            (None, Some(key)) => arguments.gallery.create(key, embedder.network(), now)?,
            (None, None) => anyhow::bail!("the gallery's key was not read"),
        };
        let change = writer.remove_expired(now).and_then(|_| writer.enrol(details, templates, now));
        new = change.context(arguments.gallery.path()?.display().to_string())?;
        arguments.gallery.count(&writer)?;
        gallery = Some(writer);
    }

    let refused = report_photos(&photos, &fates, &candidates, &arguments)?;
    if added == 0 && refused > 0 {
        log::error!("nothing was enrolled");
    }
    let person = gallery.as_ref().and_then(|gallery| gallery.person(name));
    let total = person.map_or(0, |person| person.templates().len());
    let expires = person.and_then(|person| person.details().expires_at).map(dates::text);
    let report = Report { name, new, added, refused, templates: total, expires };
    match arguments.json.json {
        true => output::print_json(&report)?,
        false => output::print(&summary(&report, gallery.as_ref(), now))?,
    }
    let is_whole = refused == 0 && listing.failures.is_empty();
    Ok(if is_whole { Outcome::Done } else { Outcome::SomeFailed })
}

/// Embeds the face of each photo. Returns what became of each, and the photos that show a face.
fn look(photos: Vec<PathBuf>, embedder: &mut Embedder, now: u64) -> Looked {
    let mut candidates = Vec::new();
    let mut progress = Progress::of(photos.len());
    let fate = |path: &PathBuf| {
        progress.step();
        let faces = match embedder.faces(path) {
            Ok(faces) => faces,
            Err(reason) => {
                log::error!("{}: {reason:#}", path.display());
                return Fate::Unreadable;
            }
        };
        match enrolment::candidate(embedder, &faces, now) {
            Ok(candidate) => candidates.push(candidate),
            Err(reason) => return Fate::Refused(reason),
        }
        Fate::Candidate(candidates.len() - 1)
    };
    let fates = photos.iter().map(fate).collect();
    (photos, fates, candidates)
}

/// Returns the similarities that decide; `None` where neither the network nor the user gives any.
fn limits(arguments: &EnrollArguments, embedder: &Embedder, gallery: Option<&Gallery>, now: u64) -> Option<Limits> {
    let comparisons = gallery.map_or(0, |gallery| gallery.comparisons(now));
    let limits = Limits::of(embedder.impostors(), arguments.threshold.fpir, arguments.threshold.threshold, comparisons);
    if limits.is_none() {
        log::warn!("this network has no table of impostor scores: the photos are not compared; give --threshold");
    }
    limits
}

/// Prints what became of each photo. Returns how many were refused or could not be read.
fn report_photos(
    photos: &[PathBuf],
    fates: &[Fate],
    candidates: &[Candidate],
    arguments: &EnrollArguments,
) -> Result<usize> {
    let mut refused = 0;
    for (path, fate) in photos.iter().zip(fates) {
        let candidate = match fate {
            Fate::Candidate(place) => candidates.get(*place),
            _ => None,
        };
        let reasons: &[&str] = match (fate, candidate) {
            (Fate::Refused(reason), _) => &[*reason],
            (_, Some(candidate)) => &candidate.reasons,
            _ => &["unreadable"],
        };
        let enrolled = candidate.is_some_and(|candidate| candidate.is_enrolled(arguments.force));
        let known = candidate.is_some_and(|candidate| candidate.is_known);
        refused += usize::from(!enrolled && !known);
        let path = path.to_string_lossy();
        let report = PhotoReport { path: &path, enrolled, known, forced: enrolled && !reasons.is_empty(), reasons };
        match arguments.json.json {
            true => output::print_json(&report)?,
            false if !matches!(fate, Fate::Unreadable) => output::print(&describe(&report))?,
            // The error says it.
            false => {}
        }
    }
    Ok(refused)
}

fn describe(report: &PhotoReport) -> String {
    let reasons: Vec<String> = report.reasons.iter().map(|reason| reason.replace('_', " ")).collect();
    let fate = match (report.enrolled, report.known) {
        (true, _) if report.forced => format!("enrolled in spite of: {}", reasons.join(", ")),
        (true, _) => "enrolled".to_owned(),
        (false, true) => "enrolled before".to_owned(),
        (false, false) => format!("refused: {}", reasons.join(", ")),
    };
    format!("{}: {fate}\n", report.path)
}

fn summary(report: &Report, gallery: Option<&Gallery>, now: u64) -> String {
    let Report { name, added, refused, templates, .. } = report;
    let people = gallery.map_or(0, |gallery| gallery.size(now));
    let plural = |count: usize, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    format!(
        "{name}: {} added, {refused} refused, {templates} in all; {} in the gallery\n",
        plural(*added, "photo", "photos"),
        plural(people, "person", "people")
    )
}
