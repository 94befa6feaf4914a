//! `faceptor gallery migrate`: makes the templates of another network from the stored crops.

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use crate::cli::gallery_arguments::GalleryArguments;
use crate::cli::network_arguments::NetworkArguments;
use crate::cli::progress::Progress;
use crate::cli::{Outcome, output};
use crate::platform::network_threads::ThreadArguments;
use crate::recognition::embedder::Embedder;
use faceptor_gallery::{Person, StoredTemplate};

/// Names the network that a gallery moves to.
#[derive(Args)]
pub struct MigrateArguments {
    #[command(flatten)]
    network: NetworkArguments,
    #[command(flatten)]
    threads: ThreadArguments,
    /// Remove the people without crops. Without this option the gallery is not changed if there are any.
    #[arg(long)]
    remove_others: bool,
}

#[derive(Default, Serialize)]
struct Report<'a> {
    /// The gallery was changed.
    migrated: bool,
    network: &'a str,
    people: usize,
    templates: usize,
    /// Templates that were left out: they have no crop, or the network cannot embed it.
    templates_left_out: usize,
    /// People without a crop that the network can embed.
    without_crops: Vec<&'a str>,
}

/// Embeds the crops of all people whose enrolment is not over, and binds the gallery to the network.
///
/// # Errors
/// When the gallery or the network cannot be opened, or the gallery cannot be written.
pub(super) fn migrate(arguments: &GalleryArguments, to: &MigrateArguments, now: u64, json: bool) -> Result<Outcome> {
    let mut gallery = arguments.open_for_writing()?;
    let within = || arguments.path().map_or_else(|_| String::new(), |path| path.display().to_string());
    // The crops are aligned already.
    let mut embedder = Embedder::new(&to.network.open()?, &to.threads.threads()?, true)?;
    let network = embedder.network().clone();
    if gallery.check_network(&network).is_ok() {
        output::print(&format!("{}: the gallery belongs to this network already ({})\n", within(), network.name))?;
        return Ok(Outcome::Done);
    }
    let valid: Vec<Person> = gallery.people().filter(|person| !person.is_expired(now)).cloned().collect();
    let mut progress = Progress::of(valid.iter().map(|person| person.templates().len()).sum());
    let (mut report, mut people) = (Report { network: &network.name, ..Report::default() }, Vec::new());
    for person in &valid {
        let mut templates = Vec::new();
        for stored in person.templates() {
            progress.step();
            let Some(crop) = &stored.crop else { continue };
            match embedder.embed_crop(crop) {
                Ok(template) => templates.push(StoredTemplate { template, ..stored.clone() }),
                Err(reason) => {
                    progress.clear();
                    log::warn!("a crop cannot be embedded: {reason:#}");
                }
            }
        }
        report.templates += templates.len();
        report.templates_left_out += person.templates().len() - templates.len();
        if templates.is_empty() {
            report.without_crops.push(person.name());
        } else {
            people.push((person.id(), templates));
        }
    }
    drop(progress);
    report.people = people.len();
    report.migrated = report.without_crops.is_empty() || (to.remove_others && !people.is_empty());
    if report.migrated {
        gallery.migrate(&network, people, now).with_context(within)?;
        arguments.count(&gallery)?;
    }
    match json {
        true => output::print_json(&report)?,
        false => output::print(&report.text())?,
    }
    Ok(if report.migrated { Outcome::Done } else { Outcome::SomeFailed })
}

impl Report<'_> {
    fn text(&self) -> String {
        let Report { network, people, templates, templates_left_out, .. } = self;
        let without: String = self.without_crops.iter().map(|name| format!("without crops: {name}\n")).collect();
        let outcome = match (self.migrated, people) {
            (true, _) => format!("{people} people with {templates} templates now belong to {network}"),
            (false, 0) => {
                "nothing was changed: no crops are stored (enroll --keep-crops stores them); enrol the people again"
                    .to_owned()
            }
            (false, _) => format!(
                "nothing was changed: {} people have no crops; enrol them again, or give --remove-others",
                self.without_crops.len()
            ),
        };
        format!("{without}{outcome}; {templates_left_out} templates without a crop left out\n")
    }
}
