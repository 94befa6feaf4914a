//! Changes of a gallery: remove, rename, merge, and another key.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::change;
use crate::cli::gallery_arguments::GalleryArguments;
use crate::cli::{UsageError, output};
use crate::platform::{key_file, passphrase};
use faceptor_gallery::{KeySource, PassphraseCost, check_name};

/// The key that a gallery gets.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct RotateArguments {
    /// The file that holds the new key.
    #[arg(long, value_name = "FILE")]
    new_key: Option<PathBuf>,
    /// Ask for a new passphrase on the terminal, or take that of $FACEPTOR_NEW_PASSPHRASE.
    #[arg(long)]
    new_passphrase: bool,
}

/// The variable that holds the passphrase of a gallery that gets another one.
const NEW_PASSPHRASE: &str = "FACEPTOR_NEW_PASSPHRASE";

fn done(json: bool, key: &str, text: &str) -> Result<()> {
    match json {
        true => output::print_json(&serde_json::json!({ key: true })),
        false => output::print(&format!("{text}\n")),
    }
}

pub(super) fn remove(gallery: &GalleryArguments, name: &str, now: u64, json: bool) -> Result<()> {
    change(gallery, now, |gallery| Ok(gallery.remove(name, now)?))?;
    done(json, "removed", "removed; the file holds neither the person's key nor any record of the person")
}

pub(super) fn rename(gallery: &GalleryArguments, name: &str, to: &str, now: u64, json: bool) -> Result<()> {
    check_name(to).map_err(|reason| UsageError(reason.to_string()))?;
    change(gallery, now, |gallery| Ok(gallery.rename(name, to, now)?))?;
    done(json, "renamed", "renamed; the former name is not in the file any more")
}

pub(super) fn merge(gallery: &GalleryArguments, name: &str, other: &str, now: u64, json: bool) -> Result<()> {
    change(gallery, now, |gallery| Ok(gallery.merge(name, other, now)?))?;
    done(json, "merged", "merged: two entries became one")
}

pub(super) fn rotate_key(gallery: &GalleryArguments, to: &RotateArguments, now: u64, json: bool) -> Result<()> {
    let source = match &to.new_key {
        Some(path) => key_file::key(path)?,
        None => match std::env::var(NEW_PASSPHRASE).ok().filter(|text| !text.is_empty()) {
            Some(text) => KeySource::from_passphrase(&text)?,
            None => KeySource::from_passphrase(&passphrase::ask(true)?)?,
        },
    };
    change(gallery, now, |gallery| Ok(gallery.rotate_key(&source, PassphraseCost::default(), now)?))?;
    done(
        json,
        "rotated",
        "the gallery has another key; destroy the former one, which still opens older copies of the file",
    )
}
