//! `faceptor enroll --people`: enrols many people, with one folder of photos for each.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::capture::photo_files;
use crate::cli::enroll::{EnrollArguments, PersonReport, counted};
use crate::cli::enroll_writer::{EmbeddedPhotos, EnrolmentWriter};
use crate::cli::progress::Progress;
use crate::cli::{Outcome, output};
use crate::recognition::dates;
use faceptor_gallery::check_name;

/// The people of a folder of folders.
#[derive(Default)]
struct People {
    /// Photos by name of the person.
    photos: BTreeMap<String, Vec<PathBuf>>,
    /// Paths that were skipped, with the reason: a folder that cannot be read, has no photo or is not named after a person; a
    /// file outside the folders.
    failures: Vec<(PathBuf, String)>,
}

/// The report on all people.
#[derive(Serialize)]
struct Report {
    /// People with photos.
    people: usize,
    /// People who were not in the gallery before.
    new: usize,
    /// Photos that were added.
    added: usize,
    /// Photos that were enrolled before.
    known: usize,
    /// Photos that were refused or cannot be read.
    refused: usize,
    /// Paths that were skipped.
    failed: usize,
    /// People without a photo in the gallery.
    without_photo: usize,
    /// All people of the gallery.
    in_gallery: usize,
}

/// Enrols the people whose folders lie in a folder.
///
/// # Errors
/// When the folder has no people, or the gallery cannot be written; people that were written before stay enrolled.
pub(super) fn run(arguments: &EnrollArguments, folder: &Path) -> Result<Outcome> {
    let now = dates::now();
    let people = list(folder)?;
    for (path, reason) in &people.failures {
        log::error!("{}: {reason}", path.display());
    }
    ensure!(
        !people.photos.is_empty(),
        "{}: no folder with photos is in it; --people takes a folder with one folder a person, named after the person",
        folder.display()
    );
    let mut writer = EnrolmentWriter::open(arguments, now)?;
    if people.photos.keys().any(|name| writer.ignores_details(name)) {
        log::warn!("some of these people are enrolled already: --expires and --purpose change nothing for them");
    }
    let (json, mut progress) = (arguments.json.json, Progress::of(people.photos.values().map(Vec::len).sum()));
    let (mut refusals, mut report) = (Vec::new(), Report::of(&people));
    for (name, photos) in people.photos {
        let mut embedded = EmbeddedPhotos::embed(photos, &mut writer.embedder, now, &mut progress);
        let enrolled = writer.enrol(&name, &mut embedded)?;
        let refused_before = report.refused;
        embedded.each(arguments.force, |photo| {
            report.refused += usize::from(photo.is_refused());
            report.known += usize::from(photo.known);
            match json {
                true => output::print_json(photo)?,
                false if photo.is_refused() => refusals.push(photo.text()),
                false => {}
            }
            Ok(())
        })?;
        report.new += usize::from(enrolled.new);
        report.added += enrolled.added;
        report.without_photo += usize::from(writer.person(&name).is_none());
        if json {
            output::print_json(&PersonReport::of(&writer, &name, enrolled, report.refused - refused_before))?;
        }
    }
    drop(progress);
    report.in_gallery = writer.people();
    match json {
        true => output::print_json(&report)?,
        // Printed at the end, so that the progress bar does not overwrite it.
        false => output::print(&format!("{}{}", refusals.concat(), report.text()))?,
    }
    let is_whole = report.refused == 0 && report.failed == 0;
    Ok(if is_whole { Outcome::Done } else { Outcome::SomeFailed })
}

impl Report {
    fn of(people: &People) -> Report {
        Report {
            people: people.photos.len(),
            new: 0,
            added: 0,
            known: 0,
            refused: 0,
            failed: people.failures.len(),
            without_photo: 0,
            in_gallery: 0,
        }
    }

    fn text(&self) -> String {
        let Report { new, known, refused, failed, without_photo, .. } = self;
        format!(
            "{}, {new} of them new: {} added, {known} enrolled before, {refused} refused; {without_photo} without a photo in the \
             gallery, {}; {} in the gallery\n",
            counted(self.people, "person", "people"),
            counted(self.added, "photo", "photos"),
            counted(*failed, "path was skipped", "paths were skipped"),
            counted(self.in_gallery, "person", "people"),
        )
    }
}

/// Lists the people of a folder with their photos.
///
/// # Errors
/// When the folder cannot be read.
fn list(folder: &Path) -> Result<People> {
    let within = || folder.display().to_string();
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).with_context(within)? {
        entries.push(entry.with_context(within)?.path());
    }
    entries.sort();
    let mut people = People::default();
    for path in entries {
        let file_name = path.file_name().unwrap_or_default();
        if file_name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if !path.is_dir() {
            people.failures.push((path, "this file lies outside of the people's folders".into()));
            continue;
        }
        let name = file_name.to_str().ok_or("the name of the folder is not UTF-8".to_owned());
        let name = name.and_then(|name| check_name(name).map_err(|reason| reason.to_string()));
        match name {
            Ok(name) => {
                let listing = photo_files::list(std::slice::from_ref(&path), &[]);
                people
                    .failures
                    .extend(listing.failures.into_iter().map(|(path, reason)| (path, format!("{reason:#}"))));
                if !listing.photos.is_empty() {
                    // Folders whose names differ only in their spelling are the same person's.
                    people.photos.entry(name).or_default().extend(listing.photos);
                }
            }
            Err(reason) => people.failures.push((path, reason)),
        }
    }
    Ok(people)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_listed_by_name_and_other_paths_are_skipped() -> Result<()> {
        let root = faceptor_test_support::Folder::new();
        let make = |path: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap_or(&path))?;
            fs::write(path, b"x")
        };
        for path in
            ["李小龍/1.jpg", "Ada/2024/b.png", "Ada/a.jpg", "Ada /c.jpg", "none/notes.txt", "loose.jpg", ".git/1.jpg"]
        {
            make(path)?;
        }
        // As macOS and Linux write it.
        for path in ["Jose\u{301}/1.jpg", "Jos\u{e9}/2.jpg", "José\u{a0}/3.jpg", "Jos\u{e9}\u{200b}/4.jpg"] {
            make(path)?;
        }
        fs::create_dir(root.path().join("x".repeat(201)))?;
        fs::create_dir(root.path().join("two\nlines"))?;
        let people = list(root.path())?;
        let found: Vec<(&str, usize)> =
            people.photos.iter().map(|(name, photos)| (name.as_str(), photos.len())).collect();
        assert_eq!(found, [("Ada", 3), ("Jos\u{e9}", 3), ("李小龍", 1)]);
        assert_eq!(people.failures.len(), 5, "{:?}", people.failures);
        Ok(())
    }

    #[test]
    fn loose_photos_and_missing_folders_give_no_people() -> Result<()> {
        let root = faceptor_test_support::Folder::new();
        assert!(list(&root.path().join("none")).is_err());
        fs::write(root.path().join("1.jpg"), b"x")?;
        let people = list(root.path())?;
        assert!(people.photos.is_empty() && people.failures.len() == 1);
        Ok(())
    }
}
