//! Export of all that is held on a person, and import.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::change;
use crate::cli::gallery_arguments::GalleryArguments;
use crate::cli::{UsageError, output};
use crate::platform::key_file;
use crate::recognition::dates;
use faceptor_gallery::{AuditEntry, Crop, Details, Network, Person, StoredTemplate, Template, check_name};
use faceptor_nn::bundle::hexadecimal;

/// The format that this program reads and writes.
const FORMAT: u32 = 1;
/// The most bytes of an export.
const MOST_BYTES: u64 = 256 << 20;

/// All that is held on a person.
#[derive(Serialize, Deserialize)]
struct Export {
    format: u32,
    network: String,
    /// Identity of the network's recognition.
    recognition: String,
    name: String,
    /// `enrolled_at` and `expires_at` as text.
    #[serde(default)]
    enrolled: String,
    #[serde(default)]
    expires: Option<String>,
    /// Unix time, seconds.
    enrolled_at: u64,
    enrolled_by: String,
    purpose: String,
    expires_at: Option<u64>,
    templates: Vec<ExportedTemplate>,
    #[serde(default)]
    audit: Vec<ExportedEvent>,
}

#[derive(Serialize, Deserialize)]
struct ExportedTemplate {
    numbers: Vec<i8>,
    added_at: u64,
    eyes_px: f32,
    forced: Vec<String>,
    /// The stored JPEG file, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crop: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct ExportedEvent {
    at: String,
    event: String,
    templates: u32,
}

fn digits(network: &Network) -> String {
    hexadecimal(&network.recognition)
}

/// Decodes hexadecimal digits, two a byte; `None` if they are not such digits.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let byte = |&[high, low]: &[u8; 2]| Some(digit(high)? << 4 | digit(low)?);
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

impl Export {
    fn new(network: &Network, person: &Person, audit: &[AuditEntry]) -> Export {
        let details = person.details();
        let templates = person.templates().iter().map(|stored| ExportedTemplate {
            numbers: stored.template.numbers().to_vec(),
            added_at: stored.added_at,
            eyes_px: stored.eyes_px,
            forced: stored.forced.clone(),
            crop: stored.crop.as_ref().map(|crop| hexadecimal(crop.bytes())),
        });
        let audit = audit.iter().map(|entry| ExportedEvent {
            at: dates::text(entry.at),
            event: entry.event.name().to_owned(),
            templates: entry.templates,
        });
        Export {
            format: FORMAT,
            network: network.name.clone(),
            recognition: digits(network),
            name: details.name.clone(),
            enrolled: dates::text(details.enrolled_at),
            expires: details.expires_at.map(dates::text),
            enrolled_at: details.enrolled_at,
            enrolled_by: details.enrolled_by.clone(),
            purpose: details.purpose.clone(),
            expires_at: details.expires_at,
            templates: templates.collect(),
            audit: audit.collect(),
        }
    }
}

pub(super) fn export(arguments: &GalleryArguments, name: &str, out: Option<&Path>, now: u64) -> Result<()> {
    // The file is made first: the audit list must not say that something was exported that could not be written.
    let file =
        out.map(|out| key_file::create_new_private(out).with_context(|| format!("cannot write {}", out.display())));
    let file = file.transpose()?;
    let mut text = String::new();
    let exported = change(arguments, now, |gallery| {
        let network = gallery.network().clone();
        let (person, audit) = gallery.export(name, now)?;
        text = serde_json::to_string(&Export::new(&network, person, &audit))? + "\n";
        Ok(())
    });
    let (Some(out), Some(mut file)) = (out, file) else {
        exported?;
        return output::print(&text);
    };
    let mut write = || file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    let written = exported.and_then(|()| write().with_context(|| format!("cannot write {}", out.display())));
    if written.is_err() {
        // A partial export is useless. If it cannot be removed either, nothing more can be done.
        let _ = fs::remove_file(out);
    }
    written?;
    output::print(&format!("{}: all that is held on the person, readable by its owner alone\n", out.display()))
}

pub(super) fn import(arguments: &GalleryArguments, file: &Path, now: u64, json: bool) -> Result<()> {
    let within = || format!("{}", file.display());
    let export = read(file).with_context(within)?;
    check_name(&export.name).map_err(|reason| UsageError(reason.to_string())).with_context(within)?;
    change(arguments, now, |gallery| {
        let network = gallery.network().clone();
        ensure!(
            export.recognition == digits(&network),
            "{}: its templates belong to another network ({}) than the gallery ({})",
            file.display(),
            export.network,
            network.name
        );
        let template = |template: ExportedTemplate| -> Result<StoredTemplate> {
            let ExportedTemplate { numbers, added_at, eyes_px, forced, crop } = template;
            let template = Template::from_numbers(numbers, network.dimension)?;
            let crop = crop.map(|digits| bytes(&digits).context("a crop is not a hexadecimal number")).transpose()?;
            Ok(StoredTemplate { template, added_at, eyes_px, forced, crop: crop.map(Crop::new) })
        };
        let templates = export.templates.into_iter().map(template).collect::<Result<Vec<_>>>().with_context(within)?;
        let details = Details {
            name: export.name,
            enrolled_at: export.enrolled_at,
            enrolled_by: export.enrolled_by,
            purpose: export.purpose,
            expires_at: export.expires_at,
        };
        Ok(gallery.import(details, templates, now)?)
    })?;
    match json {
        true => output::print_json(&serde_json::json!({ "imported": true })),
        false => output::print("imported\n"),
    }
}

fn read(file: &Path) -> Result<Export> {
    ensure!(fs::metadata(file).context("cannot be read")?.is_file(), "is not a regular file");
    let mut text = String::new();
    File::open(file).and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text)).context("cannot be read")?;
    // The reason names a place in the text, and no content.
    let export: Export = serde_json::from_str(&text).map_err(|error| {
        anyhow::anyhow!("not an export of a gallery (line {}, column {})", error.line(), error.column())
    })?;
    ensure!(export.format == FORMAT, "an export of format {}, this program reads format {FORMAT}", export.format);
    Ok(export)
}
