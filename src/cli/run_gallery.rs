//! The gallery of `faceptor run`: its options, the people that the loop names, and changes of both while it runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};

use crate::cli::UsageError;
use crate::cli::gallery_arguments::{GalleryArguments, ThresholdArguments};
use crate::cli::network_arguments::TaskArguments;
use crate::control::{Enrolment, PendingResult, Refusal};
use crate::live::live_loop::Command;
use crate::platform::scheduling;
use crate::recognition::dates;
use crate::recognition::enrolment::{self, Candidate, Limits};
use crate::recognition::enrolment_photos;
use crate::recognition::face_in_view::{self, FaceInView, View};
use crate::recognition::recognizer::Recognizer;
use crate::recognition::roster_keeper::RosterKeeper;
use crate::recognition::track_names::TrackNames;
use faceptor::stages::{Analysis, TaskList, select_tasks};
use faceptor_gallery::{Decision, Details, Gallery, KeySource, Roster, StoredTemplate, Template, check_name};
use faceptor_nn::bundle::Bundle;

/// Time for good views of the face that is enrolled.
const VIEW_PATIENCE: Duration = Duration::from_secs(4);
/// After this long a request is answered, although its change is not done. `ctl` waits longer.
const CHANGE_PATIENCE: Duration = Duration::from_secs(35);

/// Names the faces by a gallery.
#[derive(Args)]
pub struct RunGalleryArguments {
    #[command(flatten)]
    pub gallery: GalleryArguments,
    #[command(flatten)]
    pub threshold: ThresholdArguments,
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

    /// Opens the gallery and prepares the names of the tracks of so many sources; `None` without a gallery.
    ///
    /// # Errors
    /// When the gallery cannot be opened, is of another network, or there is no threshold.
    pub fn open(
        &self,
        bundle: &Bundle,
        sources: usize,
        commands: SyncSender<Command>,
    ) -> Result<Option<(TrackNames, RunGallery)>> {
        if !self.gallery.is_named() {
            return Ok(None);
        }
        let recognizer = Recognizer::of(bundle)?;
        let (gallery, key) = self.gallery.open_with_key()?;
        let task = recognizer.task;
        let (place, threshold) = (self.gallery.clone(), self.threshold);
        let (keeper, busy) = (RosterKeeper::default(), AtomicBool::new(false));
        let views = (0..sources).map(|_| FaceInView::default()).collect();
        let inner = Inner { place, threshold, recognizer, key, commands, keeper, views, busy };
        let roster = Arc::new(inner.roster(&gallery)?);
        inner.keeper.keep(&roster);
        Ok(Some((TrackNames::new(task, roster), RunGallery(Arc::new(inner)))))
    }
}

/// The gallery of a run, for commands that change what the loop knows. Clones are the same gallery.
#[derive(Clone)]
pub struct RunGallery(Arc<Inner>);

struct Inner {
    place: GalleryArguments,
    threshold: ThresholdArguments,
    recognizer: Recognizer,
    key: KeySource,
    commands: SyncSender<Command>,
    keeper: RosterKeeper,
    /// One for each source.
    views: Vec<FaceInView>,
    /// A change is being made.
    busy: AtomicBool,
}

impl RunGallery {
    /// Takes notice of the faces of a frame, of the source in this place.
    pub fn observe(&self, source: usize, analysis: &Analysis) {
        if let Some(view) = self.0.views.get(source) {
            view.observe(analysis, self.0.recognizer.task);
        }
    }

    /// Reads the gallery anew on a thread of its own, and hands its state to the loop.
    ///
    /// # Errors
    /// While another change is being made.
    pub fn reload(&self) -> Result<PendingResult, Refusal> {
        self.change(|inner| {
            let gallery = inner.place.reopen(&inner.key, false)?;
            inner.hand_over(&gallery)
        })
    }

    /// Enrols the face in view of a source on a thread of its own, and hands the new state to the loop.
    ///
    /// # Errors
    /// While another change is being made, and for a name or a time that cannot be stored.
    pub fn enrol(&self, source: usize, enrolment: Enrolment) -> Result<PendingResult, Refusal> {
        let refused = |reason: String| Refusal::BadArgument(format!("enroll: {reason}"));
        let now = dates::now();
        let name = check_name(&enrolment.name).map_err(|reason| refused(reason.to_string()))?;
        let expires_at = dates::end_of_enrolment(&enrolment.expires, now).map_err(refused)?;
        let details =
            Details { name, enrolled_at: now, enrolled_by: enrolment.by, purpose: enrolment.purpose, expires_at };
        self.change(move |inner| inner.enrol(source, details))
    }

    /// Starts a change on a thread of its own, one at a time.
    fn change(&self, work: impl FnOnce(&Inner) -> Result<Value> + Send + 'static) -> Result<PendingResult, Refusal> {
        if self.0.busy.swap(true, Ordering::AcqRel) {
            return Err(Refusal::Busy);
        }
        let (inner, outcome) = (self.0.clone(), Arc::new(OnceLock::new()));
        let settled = outcome.clone();
        let thread = thread::Builder::new().name("gallery".to_owned()).spawn(move || {
            scheduling::yield_to_others();
            let result = work(&inner).map_err(|reason| Refusal::Failed(format!("{reason:#}")));
            inner.busy.store(false, Ordering::Release);
            // Set once.
            let _ = settled.set(result);
        });
        if let Err(error) = thread {
            self.0.busy.store(false, Ordering::Release);
            return Err(Refusal::Failed(format!("cannot start a thread for the gallery: {error}")));
        }
        let until = Instant::now() + CHANGE_PATIENCE;
        Ok(Box::new(move || match outcome.get() {
            Some(result) => Some(result.clone()),
            // A panic of the thread has been printed; its end of the outcome is gone.
            None if Arc::strong_count(&outcome) == 1 => Some(Err(Refusal::Failed("the change failed".to_owned()))),
            None if Instant::now() < until => None,
            None => Some(Err(Refusal::Failed("the gallery is still being read; ask again".to_owned()))),
        }))
    }
}

impl Inner {
    /// Copies the people of a gallery for the loop.
    fn roster(&self, gallery: &Gallery) -> Result<Roster> {
        gallery.check_network(&self.recognizer.network).context(self.place.path()?.display().to_string())?;
        let now = dates::now();
        let threshold = self.threshold.needed(self.recognizer.impostors.as_ref(), gallery.comparisons(now))?;
        let roster = gallery.roster(Decision::at(threshold), now);
        let (people, templates) = (roster.size(), roster.templates());
        log::info!("gallery: {people} enrolled, {templates} templates, a name from a similarity of {threshold:.2} on");
        Ok(roster)
    }

    /// Hands the state of a gallery to the loop. Returns its size.
    fn hand_over(&self, gallery: &Gallery) -> Result<Value> {
        let roster = Arc::new(self.roster(gallery)?);
        self.keeper.keep(&roster);
        let (people, templates) = (roster.size(), roster.templates());
        self.commands.try_send(Command::SetRoster(roster)).map_err(|error| match error {
            TrySendError::Full(_) => anyhow::anyhow!("{}", Refusal::Busy),
            TrySendError::Disconnected(_) => anyhow::anyhow!("the loop has ended"),
        })?;
        Ok(json!({ "people": people, "templates": templates }))
    }

    fn enrol(&self, source: usize, details: Details) -> Result<Value> {
        let view = self.views.get(source).context("there is no such source")?;
        let views = view.collect(VIEW_PATIENCE).map_err(|reasons| refusal(&reasons))?;
        let View { embedding, eyes_px } = face_in_view::mean(&views);
        let now = dates::now();
        let template = Template::of(&embedding, self.recognizer.network.dimension)?;
        let stored = StoredTemplate { template, added_at: now, eyes_px, forced: Vec::new(), crop: None };
        let mut gallery = self.place.reopen(&self.key, true)?;
        gallery.check_network(&self.recognizer.network)?;
        let mut candidates = [Candidate { stored, reasons: Vec::new(), is_known: false }];
        let ThresholdArguments { fpir, threshold, .. } = self.threshold;
        let limits = Limits::of(self.recognizer.impostors.as_ref(), fpir, threshold, gallery.comparisons(now));
        enrolment::compare(&mut candidates, Some(&gallery), &details.name, limits, now);
        let [Candidate { stored, reasons, is_known }] = candidates;
        if !reasons.is_empty() {
            return Err(refusal(&reasons));
        }
        let name = details.name.clone();
        let mut new = false;
        if !is_known {
            new = enrolment_photos::write(&mut gallery, details, vec![stored], now)?;
            self.place.count(&gallery)?;
        }
        self.hand_over(&gallery)?;
        let templates = gallery.person(&name).map_or(0, |person| person.templates().len());
        Ok(
            json!({ "name": name, "new": new, "views": views.len(), "templates": templates, "people": gallery.size(now) }),
        )
    }
}

/// Returns why a face is not enrolled.
fn refusal(reasons: &[&str]) -> anyhow::Error {
    let reasons: Vec<String> = reasons.iter().map(|reason| reason.replace('_', " ")).collect();
    anyhow::anyhow!("nothing was enrolled: {}", reasons.join(", "))
}
