//! `faceptor enroll`: adds a person to a gallery, from photos that are good enough.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::capture::photo_files;
use crate::cli::enroll_writer::{EmbeddedPhotos, Enrolled, EnrolmentWriter};
use crate::cli::gallery_arguments::{
    EmbedderArguments, EnrolmentArguments, GalleryArguments, JsonArguments, ThresholdArguments,
};
use crate::cli::progress::Progress;
use crate::cli::{Outcome, UsageError, enroll_people, enroll_source, output};
use crate::recognition::dates;
use faceptor_gallery::check_name;

#[derive(Args)]
pub struct EnrollArguments {
    /// The person's name, of any script, on one line. If the gallery holds the person already, the photos are added.
    #[arg(required_unless_present = "people", conflicts_with = "people", value_name = "NAME")]
    name: Option<String>,
    /// Photos (JPEG, PNG, WebP) of this person alone, or folders of them.
    #[arg(
        required_unless_present_any = ["source", "people"],
        conflicts_with_all = ["source", "people"],
        value_name = "PATH"
    )]
    paths: Vec<PathBuf>,
    /// Look at a camera (/dev/video0) or film until there are good views of the person, and say what is missing.
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// Enrol many people: each folder in DIR has the photos of one person, and the person's name.
    #[arg(long, value_name = "DIR", conflicts_with = "source")]
    people: Option<PathBuf>,
    #[command(flatten)]
    pub(super) gallery: GalleryArguments,
    #[command(flatten)]
    pub(super) json: JsonArguments,
    #[command(flatten)]
    pub(super) embedder: EmbedderArguments,
    #[command(flatten)]
    pub(super) threshold: ThresholdArguments,
    #[command(flatten)]
    pub(super) enrolment: EnrolmentArguments,
    /// Enrol also photos that there are reasons against; the reasons are stored with them.
    #[arg(long)]
    pub(super) force: bool,
    /// Also keep the aligned picture of each face, encrypted like the templates: `faceptor gallery migrate` can then make templates of
    /// another network. Without it no picture is kept.
    #[arg(long)]
    pub(super) keep_crops: bool,
}

/// The report on a person.
#[derive(Serialize)]
pub(super) struct PersonReport<'a> {
    pub name: &'a str,
    pub new: bool,
    pub added: usize,
    pub refused: usize,
    pub templates: usize,
    pub expires: Option<String>,
}

impl<'a> PersonReport<'a> {
    /// Describes what the gallery holds after the enrolment.
    pub fn of(writer: &EnrolmentWriter, name: &'a str, enrolled: Enrolled, refused: usize) -> PersonReport<'a> {
        let person = writer.person(name);
        let templates = person.map_or(0, |person| person.templates().len());
        let expires = person.and_then(|person| person.details().expires_at).map(dates::text);
        PersonReport { name, new: enrolled.new, added: enrolled.added, refused, templates, expires }
    }
}

pub fn run(arguments: EnrollArguments) -> Result<Outcome> {
    if let Some(folder) = &arguments.people {
        return enroll_people::run(&arguments, folder);
    }
    let now = dates::now();
    let name = arguments.name.as_deref().unwrap_or_default();
    let name = check_name(name).map_err(|reason| UsageError(reason.to_string()))?;
    let mut writer = EnrolmentWriter::open(&arguments, now)?;
    if writer.ignores_details(&name) {
        log::warn!("this person is enrolled already: --expires and --purpose change nothing (remove the person first)");
    }
    let listing = photo_files::list(&arguments.paths, &[]);
    for (path, reason) in &listing.failures {
        log::error!("{}: {reason:#}", path.display());
    }
    let mut embedded = match &arguments.source {
        Some(source) => enroll_source::collect_views(source, &mut writer.embedder, now)?,
        None => {
            let mut progress = Progress::of(listing.photos.len());
            EmbeddedPhotos::embed(listing.photos, &mut writer.embedder, now, &mut progress)
        }
    };
    let enrolled = writer.enrol(&name, &mut embedded)?;
    let refused = print_photos(&embedded, &arguments)?;
    if enrolled.added == 0 && refused > 0 {
        log::error!("nothing was enrolled");
    }
    let report = PersonReport::of(&writer, &name, enrolled, refused);
    match arguments.json.json {
        true => output::print_json(&report)?,
        false => output::print(&summary(&report, writer.people()))?,
    }
    let is_whole = refused == 0 && listing.failures.is_empty();
    Ok(if is_whole { Outcome::Done } else { Outcome::SomeFailed })
}

/// Prints the outcome for each photo. Returns how many were refused or could not be read.
fn print_photos(embedded: &EmbeddedPhotos, arguments: &EnrollArguments) -> Result<usize> {
    let mut refused = 0;
    embedded.each(arguments.force, |report| {
        refused += usize::from(report.is_refused());
        match arguments.json.json {
            true => output::print_json(report),
            false if !report.is_unreadable() => output::print(&report.text()),
            // The log has the error.
            false => Ok(()),
        }
    })?;
    Ok(refused)
}

fn summary(report: &PersonReport, people: usize) -> String {
    let PersonReport { name, added, refused, templates, .. } = report;
    let (photos, people) = (counted(*added, "photo", "photos"), counted(people, "person", "people"));
    format!("{name}: {photos} added, {refused} refused, {templates} in all; {people} in the gallery\n")
}

/// Returns a number with its noun.
pub(super) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
