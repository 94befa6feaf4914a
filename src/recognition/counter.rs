//! Stores the newest generation of a gallery that this machine has seen, so that an older file is noticed.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};

use crate::files::output_file::{self, OutputRules};
use crate::files::result_kind::ResultKind;
use faceptor_gallery::Gallery;

/// Longest counter file, bytes.
const MOST_BYTES: u64 = 1 << 20;

/// Checks a gallery against the generations in a file, and enters its own where that is newer.
///
/// # Errors
/// When the gallery is older than it was, or the file cannot be read or written.
pub(crate) fn check(path: &Path, gallery: &Gallery) -> Result<()> {
    let id: String = gallery.id().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut lines = read(path).with_context(|| format!("cannot read the counter {}", path.display()))?;
    let own = lines.iter().position(|(known, _)| *known == id);
    let seen = own.map_or(0, |place| lines[place].1);
    gallery.check_generation(seen)?;
    if gallery.generation() > seen {
        match own {
            Some(place) => lines[place].1 = gallery.generation(),
            None => lines.push((id, gallery.generation())),
        }
        // A counter, or no file at all: that was checked when it was read.
        let rules = OutputRules { force: true, ..OutputRules::default() };
        output_file::write(path, ResultKind::Counter, &rules, |file| {
            Ok(lines.iter().try_for_each(|(id, generation)| writeln!(file, "{id} {generation}"))?)
        })?;
    }
    Ok(())
}

/// Reads lines of a gallery's identity and a generation.
fn read(path: &Path) -> Result<Vec<(String, u64)>> {
    let kind = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        kind => kind?,
    };
    anyhow::ensure!(kind.is_file() && kind.len() <= MOST_BYTES, "it is not a counter");
    let text = fs::read_to_string(path)?;
    let line = |line: &str| {
        let (id, generation) = line.split_once(' ')?;
        Some((id.to_owned(), generation.parse().ok()?))
    };
    text.lines().map(|text| line(text).context("it is not a counter")).collect()
}
