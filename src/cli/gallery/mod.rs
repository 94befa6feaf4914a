//! `faceptor gallery`: what a gallery holds, and changes to it.

mod changes;
mod listing;
mod migration;
mod push;
mod transfer;
mod vector_store;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::cli::gallery_arguments::{GalleryArguments, JsonArguments};
use crate::cli::{Outcome, output};
use crate::platform::key_file;
use crate::recognition::dates;
use faceptor_gallery::Gallery;

#[derive(Args)]
pub struct GalleryVerbArguments {
    #[command(flatten)]
    gallery: GalleryArguments,
    #[command(flatten)]
    json: JsonArguments,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List the people.
    List,
    /// Show what is held on a person, without the numbers of the templates.
    Show { name: String },
    /// Remove a person: the file is written anew without the person's key and records.
    Remove { name: String },
    /// Give a person another name.
    Rename { name: String, to: String },
    /// Join two entries that are one person: OTHER's templates go to NAME, and OTHER is removed.
    Merge { name: String, other: String },
    /// Write all that is held on a person, as JSON.
    Export {
        name: String,
        /// Write into this file, which only its owner may read, instead of to standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Add a person from an export.
    Import {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Check every byte of the file.
    Verify,
    /// Write the gallery anew under another key. Copies made before can still be read with the former key: destroy it.
    RotateKey(changes::RotateArguments),
    /// Make the templates again with another network (--model), from the crops that `enroll --keep-crops` has kept.
    Migrate(migration::MigrateArguments),
    /// Copy the templates to a collection of a Qdrant vector store, and delete there what the gallery holds no longer.
    Push(push::PushArguments),
    /// List enrolments, removals, exports and pushes. Removed people have no name here.
    Audit,
    /// Make a key file: 64 hexadecimal digits, mode 0400.
    MakeKey {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Serialize)]
struct Verified {
    intact: bool,
    generation: u64,
    people: usize,
    templates: usize,
    network: String,
    recognition: String,
    notices: Vec<String>,
}

pub fn run(arguments: GalleryVerbArguments) -> Result<Outcome> {
    let GalleryVerbArguments { gallery, json: JsonArguments { json }, verb } = arguments;
    let now = dates::now();
    match verb {
        Verb::List => listing::list(&gallery.open()?, now, json)?,
        Verb::Show { name } => listing::show(&gallery.open()?, &name, now, json)?,
        Verb::Audit => listing::audit(&gallery.open()?, json)?,
        Verb::Verify => return verify(&gallery, json),
        Verb::Remove { name } => changes::remove(&gallery, &name, now, json)?,
        Verb::Rename { name, to } => changes::rename(&gallery, &name, &to, now, json)?,
        Verb::Merge { name, other } => changes::merge(&gallery, &name, &other, now, json)?,
        Verb::RotateKey(to) => changes::rotate_key(&gallery, &to, now, json)?,
        Verb::Migrate(to) => return migration::migrate(&gallery, &to, now, json),
        Verb::Push(to) => push::push(&gallery, &to, now, json)?,
        Verb::Export { name, out } => transfer::export(&gallery, &name, out.as_deref(), now)?,
        Verb::Import { file } => transfer::import(&gallery, &file, now, json)?,
        Verb::MakeKey { file } => {
            key_file::make(&file)?;
            output::print(&format!(
                "{}: a new key; the gallery can be read with it, and not without it\n",
                file.display()
            ))?;
        }
    }
    Ok(Outcome::Done)
}

/// Changes a gallery, after those whose time is over were removed from it.
fn change(arguments: &GalleryArguments, now: u64, change: impl FnOnce(&mut Gallery) -> Result<()>) -> Result<()> {
    let mut gallery = arguments.open_for_writing()?;
    let within = || arguments.path().map_or_else(|_| String::new(), |path| path.display().to_string());
    gallery.remove_expired(now).with_context(within)?;
    change(&mut gallery).with_context(within)?;
    arguments.count(&gallery)
}

fn verify(arguments: &GalleryArguments, json: bool) -> Result<Outcome> {
    // Opening checks every byte.
    let gallery = arguments.open()?;
    let report = Verified {
        intact: gallery.notices().is_empty(),
        generation: gallery.generation(),
        people: gallery.people().count(),
        templates: gallery.people().map(|person| person.templates().len()).sum(),
        network: gallery.network().name.clone(),
        recognition: gallery.network().recognition.iter().map(|byte| format!("{byte:02x}")).collect(),
        notices: gallery.notices().iter().map(ToString::to_string).collect(),
    };
    if json {
        output::print_json(&report)?;
    } else {
        output::print(&format!(
            "{}: {} people, {} templates, generation {}\nnetwork: {}, recognition {:.16}\n",
            if report.intact { "intact" } else { "readable, but see the warning" },
            report.people,
            report.templates,
            report.generation,
            report.network,
            report.recognition
        ))?;
    }
    Ok(if report.intact { Outcome::Done } else { Outcome::SomeFailed })
}
