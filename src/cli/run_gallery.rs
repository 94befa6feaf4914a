//! The gallery of `faceptor run`: its options, and the people that the loop names.

use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;

use crate::cli::UsageError;
use crate::cli::gallery_arguments::{GalleryArguments, ThresholdArguments};
use crate::cli::network_arguments::TaskArguments;
use crate::recognition::dates;
use crate::recognition::recognizer::Recognizer;
use crate::recognition::track_names::TrackNames;
use faceptor::stages::{TaskList, select_tasks};
use faceptor_gallery::{Decision, Gallery, Roster};
use faceptor_nn::bundle::Bundle;

/// Names the faces by a gallery.
#[derive(Args)]
pub struct RunGalleryArguments {
    #[command(flatten)]
    pub gallery: GalleryArguments,
    #[command(flatten)]
    threshold: ThresholdArguments,
}

impl RunGalleryArguments {
    /// Checks the options, and returns the tasks of the run: with a gallery the recognition is one of them.
    ///
    /// # Errors
    /// When `--tasks` leaves the recognition out, or an option needs `--gallery`.
    pub fn tasks(&self, chosen: &TaskArguments, bundle: &Bundle) -> Result<TaskList> {
        let mut tasks = select_tasks(bundle.manifest(), chosen.tasks.as_deref())?;
        let threshold = self.threshold.threshold.filter(|_| !self.gallery.is_named()).map(|_| "--threshold");
        if let Some(option) = self.gallery.option_without_gallery().or(threshold) {
            return Err(UsageError(format!("{option} needs --gallery FILE")).into());
        }
        if !self.gallery.is_named() {
            return Ok(tasks);
        }
        let recognizer = Recognizer::of(bundle)?;
        let task = recognizer.task as u8;
        if !tasks.contains(&task) {
            if let Some(names) = &chosen.tasks {
                let name = &bundle.manifest().tasks[recognizer.task].name;
                return Err(UsageError(format!(
                    "--gallery needs the task {name}, which is not among --tasks {names}: add it, or leave --tasks out"
                ))
                .into());
            }
            // It has room for every task.
            let _ = tasks.push(task);
        }
        Ok(tasks)
    }

    /// Opens the gallery and prepares the names of the tracks; `None` without a gallery.
    ///
    /// # Errors
    /// When the gallery cannot be opened, is of another network, or there is no threshold.
    pub fn names(&self, bundle: &Bundle) -> Result<Option<TrackNames>> {
        if !self.gallery.is_named() {
            return Ok(None);
        }
        let recognizer = Recognizer::of(bundle)?;
        let roster = self.roster(&self.gallery.open()?, &recognizer)?;
        Ok(Some(TrackNames::new(recognizer.task, Arc::new(roster))))
    }

    /// Copies the people of a gallery for the loop.
    fn roster(&self, gallery: &Gallery, recognizer: &Recognizer) -> Result<Roster> {
        gallery.check_network(&recognizer.network).context(self.gallery.path()?.display().to_string())?;
        let now = dates::now();
        let threshold = self.threshold.needed(recognizer.impostors.as_ref(), gallery.comparisons(now))?;
        let roster = gallery.roster(Decision::at(threshold), now);
        let (people, templates) = (roster.size(), roster.templates());
        log::info!("gallery: {people} people with {templates} templates, similarity of a name at least {threshold:.2}");
        Ok(roster)
    }
}
