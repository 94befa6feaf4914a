//! Lists what a gallery holds.

use anyhow::{Context, Result};
use serde::Serialize;

use crate::cli::output;
use crate::recognition::dates;
use faceptor_gallery::{Gallery, GalleryError, Person};
use faceptor_identity::listing::{Entry, List};

#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    entry: Entry<'a>,
    photos: Vec<PhotoEntry<'a>>,
}

#[derive(Serialize)]
struct PhotoEntry<'a> {
    added: String,
    eyes_px: f32,
    forced: &'a [String],
}

#[derive(Serialize)]
struct AuditLine<'a> {
    at: String,
    event: &'static str,
    /// The person's number in this gallery.
    person: Option<String>,
    /// The name of a person who is still enrolled.
    name: Option<&'a str>,
    templates: u32,
    /// Who moved templates to another place, and to which.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<&'a str>,
}

pub(super) fn list(gallery: &Gallery, now: u64, json: bool) -> Result<()> {
    if json {
        return output::print_json(&List::of(gallery, now));
    }
    let people: Vec<Entry> = gallery.people().map(|person| Entry::of(person, now)).collect();
    let mut text = String::new();
    for entry in &people {
        text += &line(entry);
    }
    if people.is_empty() {
        text += "the gallery is empty\n";
    }
    output::print(&text)
}

fn photos(count: usize) -> String {
    if count == 1 { "1 photo".to_owned() } else { format!("{count} photos") }
}

/// Writes a person's entry as one line.
fn line(entry: &Entry) -> String {
    let count = photos(entry.templates);
    let mut text = format!("{}: {count}, enrolled {:.10} by {}", entry.name, entry.enrolled, entry.enrolled_by);
    if !entry.purpose.is_empty() {
        text += &format!(", for: {}", entry.purpose);
    }
    match (&entry.expires, entry.expired) {
        (Some(end), true) => text += &format!(", expired {end:.10}"),
        (Some(end), false) => text += &format!(", until {end:.10}"),
        (None, _) => {}
    }
    if entry.forced {
        text += ", forced";
    }
    text + "\n"
}

pub(super) fn show(gallery: &Gallery, name: &str, now: u64, json: bool) -> Result<()> {
    let person = gallery.person(name).ok_or(GalleryError::NoSuchPerson).context("nothing to show")?;
    let photos = person.templates().iter();
    let photos = photos.map(|stored| PhotoEntry {
        added: dates::text(stored.added_at),
        eyes_px: (stored.eyes_px * 10.0).round() / 10.0,
        forced: &stored.forced,
    });
    let whole = Whole { entry: Entry::of(person, now), photos: photos.collect() };
    if json {
        return output::print_json(&whole);
    }
    let mut text = line(&whole.entry);
    for photo in &whole.photos {
        text += &format!("  photo added {}, {:.0} pixels between the eyes", photo.added, photo.eyes_px);
        if !photo.forced.is_empty() {
            text += &format!(", enrolled despite: {}", photo.forced.join(", ").replace('_', " "));
        }
        text += "\n";
    }
    output::print(&text)
}

pub(super) fn audit(gallery: &Gallery, json: bool) -> Result<()> {
    let name = |id| gallery.people().find(|person| person.id() == id).map(Person::name);
    for entry in gallery.audit() {
        let line = AuditLine {
            at: dates::text(entry.at),
            event: entry.event.name(),
            person: entry.person.map(|id| id.to_string()),
            name: entry.person.and_then(name),
            templates: entry.templates,
            by: entry.transfer.as_ref().map(|transfer| transfer.by.as_str()),
            place: entry.transfer.as_ref().map(|transfer| transfer.place.as_str()),
        };
        if json {
            output::print_json(&line)?;
            continue;
        }
        let who = match (&line.person, line.name) {
            (Some(_), Some(name)) => format!(" {name}"),
            (Some(id), None) => format!(" person {id} (no longer enrolled)"),
            (None, _) => String::new(),
        };
        let photos = match line.templates {
            0 => String::new(),
            count => format!(", {}", photos(count as usize)),
        };
        let transfer = match (line.by, line.place) {
            (Some(by), Some(place)) => format!(", by {by}, {place}"),
            _ => String::new(),
        };
        output::print(&format!("{} {}{who}{photos}{transfer}\n", line.at, line.event.replace('_', " ")))?;
    }
    Ok(())
}
