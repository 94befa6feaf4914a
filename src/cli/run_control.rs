//! Controls a running loop for the control socket and the preview page.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::cli::run_gallery::RunGallery;
use crate::control::protocol::Refusal;
use crate::control::{Enrolment, LoopControl, PendingResult};
use crate::live::live_loop::Command;
use crate::live::run_stats::{RunReport, RunStats};
use crate::outputs::sinks::pixel_demand::PixelDemand;
use crate::platform::scheduling::RealtimeGrants;
use crate::platform::shutdown::Shutdown;
use crate::platform::thermal;
use faceptor::stages::{TaskList, select_tasks};
use faceptor_nn::bundle::Bundle;

/// After this long without a frame, a request for a snapshot is answered before it is written. `ctl` waits a second longer.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(4);

/// Sends commands to the loop and reads its reports. Clones control the same loop.
#[derive(Clone)]
pub struct RunControl {
    pub bundle: Arc<Bundle>,
    pub commands: SyncSender<Command>,
    /// The names of the sources.
    pub sources: Vec<String>,
    /// What each of several sources is, without credentials.
    pub places: Vec<String>,
    /// One for each source.
    pub run_stats: Vec<Arc<RunStats>>,
    pub chosen: Arc<Mutex<TaskList>>,
    /// 0 without a budget, and for that of the rates of several sources.
    pub budget_us: Arc<AtomicU64>,
    pub shutdown: Shutdown,
    /// Take snapshots, one for each source.
    pub pixel_demands: Vec<Arc<PixelDemand>>,
    /// The gallery, if faces are named.
    pub gallery: Option<RunGallery>,
    pub heat: Option<Arc<thermal::HeatMonitor>>,
    /// The scheduling and memory locking that the machine granted to a live run, once known.
    pub granted: Arc<OnceLock<RealtimeGrants>>,
    /// Constant facts: the network, and the source if there is one.
    pub facts: Value,
}

/// What a command is for.
enum Scope {
    All,
    /// The source in this place.
    One(usize),
}

impl RunControl {
    fn send(&self, command: Command) -> Result<(), Refusal> {
        self.commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => Refusal::Busy,
            TrySendError::Disconnected(_) => Refusal::Failed("the loop has ended".to_owned()),
        })
    }

    fn gallery(&self) -> Result<&RunGallery, Refusal> {
        let missing = || Refusal::Failed("this run has no gallery: start it with --gallery FILE".to_owned());
        self.gallery.as_ref().ok_or_else(missing)
    }

    /// Returns what a command with this source, or without one, is for.
    fn scope(&self, source: Option<&str>) -> Result<Scope, Refusal> {
        let Some(name) = source else {
            return Ok(if self.sources.len() == 1 { Scope::One(0) } else { Scope::All });
        };
        let missing = || Refusal::BadArgument(format!("there is no source {name:?}: {}", self.sources.join(", ")));
        self.sources.iter().position(|other| other == name).map(Scope::One).ok_or_else(missing)
    }

    /// Returns the place of the one source that a command is for.
    fn one_source(&self, verb: &str, source: Option<&str>) -> Result<usize, Refusal> {
        match self.scope(source)? {
            Scope::One(place) => Ok(place),
            Scope::All => {
                let names = self.sources.join(", ");
                Err(Refusal::BadArgument(format!("{verb}: which source? Name one of {names}")))
            }
        }
    }

    /// Returns the report of a source.
    fn report(&self, place: usize) -> RunReport {
        self.run_stats.get(place).map(|run_stats| run_stats.read()).unwrap_or_default()
    }

    /// Returns the state of a source.
    fn status_of(&self, place: usize) -> Map<String, Value> {
        let mut status = self.report(place).status();
        if let Some(what) = self.places.get(place) {
            status.insert("source".to_owned(), json!(what));
        }
        status
    }

    /// Returns what `value` makes of the place of each source, by name.
    fn by_name(&self, value: impl Fn(usize) -> Value) -> Value {
        let entries = self.sources.iter().enumerate().map(|(place, name)| (name.clone(), value(place)));
        Value::Object(entries.collect())
    }

    fn names(&self, list: &TaskList) -> Vec<&str> {
        let all = &self.bundle.manifest().tasks;
        list.iter().filter_map(|&task| Some(all.get(usize::from(task))?.name.as_str())).collect()
    }

    /// Chooses tasks by name. Returns their names.
    ///
    /// # Errors
    /// When there is no task of a name, or the command queue is full.
    pub fn choose(&self, names: &str) -> Result<Vec<String>, Refusal> {
        let list = select_tasks(self.bundle.manifest(), Some(names))
            .map_err(|error| Refusal::BadArgument(error.to_string()))?;
        // Locked until the command is sent: of two concurrent choices, the last one here must be the last in the queue.
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        self.send(Command::SetTasks(list.clone()))?;
        *chosen = list;
        Ok(self.names(&chosen).into_iter().map(str::to_owned).collect())
    }
}

impl LoopControl for RunControl {
    fn tasks(&self) -> Value {
        let chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let available: Vec<&str> = self.bundle.manifest().tasks.iter().map(|task| task.name.as_str()).collect();
        json!({ "tasks": self.names(&chosen), "available": available })
    }

    fn set_tasks(&self, names: &str) -> Result<Value, Refusal> {
        Ok(json!({ "tasks": self.choose(names)? }))
    }

    fn budget(&self) -> Value {
        let set_us = self.budget_us.load(Ordering::Relaxed);
        // With several sources the budget follows from those that give frames now.
        let latest = (0..self.sources.len()).map(|place| self.report(place));
        let latest = latest.filter(|report| report.deadlines.is_some()).max_by_key(|report| report.reported_us);
        let us = match latest.and_then(|report| report.deadlines) {
            Some(deadlines) if set_us == 0 && self.sources.len() > 1 => deadlines.budget_us,
            _ => set_us,
        };
        json!({ "budget_ms": (us > 0).then_some(us as f64 / 1e3) })
    }

    fn set_budget_ms(&self, ms: f64) -> Result<Value, Refusal> {
        // The protocol has checked the range.
        let us = (ms * 1e3).round().max(1.0) as u64;
        self.send(Command::SetBudgetUs(us))?;
        self.budget_us.store(us, Ordering::Relaxed);
        Ok(self.budget())
    }

    fn status(&self, source: Option<&str>) -> Result<Value, Refusal> {
        let mut status = match self.scope(source)? {
            Scope::One(place) => self.status_of(place),
            Scope::All => {
                Map::from_iter([("sources".to_owned(), self.by_name(|place| Value::Object(self.status_of(place))))])
            }
        };
        if let Some(granted) = self.granted.get() {
            status.insert("realtime".to_owned(), json!(granted));
        }
        if let Some(heat) = &self.heat {
            status.insert("heat".to_owned(), json!(heat.report()));
        }
        for part in [&self.facts, &self.tasks(), &self.budget()] {
            status.extend(part.as_object().cloned().unwrap_or_default());
        }
        Ok(Value::Object(status))
    }

    fn stats(&self, source: Option<&str>) -> Result<Value, Refusal> {
        Ok(match self.scope(source)? {
            Scope::One(place) => self.report(place).stats(),
            Scope::All => json!({ "sources": self.by_name(|place| self.report(place).stats()) }),
        })
    }

    fn snapshot(&self, source: Option<&str>, file: &Path, force: bool) -> Result<PendingResult, Refusal> {
        let place = self.one_source("snapshot", source)?;
        let missing = || Refusal::Failed("this run takes no snapshots".to_owned());
        let demand = self.pixel_demands.get(place).ok_or_else(missing)?;
        let ticket = demand.snapshot(file.to_owned(), force).map_err(|_| Refusal::Busy)?;
        let (file, until) = (file.to_owned(), Instant::now() + SNAPSHOT_PATIENCE);
        Ok(Box::new(move || match ticket.outcome() {
            Some(Ok(())) => Some(Ok(json!({ "file": file, "written": true }))),
            Some(Err(reason)) => Some(Err(Refusal::Failed(format!("snapshot {}: {reason}", file.display())))),
            None if Instant::now() < until => None,
            None => Some(Ok(json!({ "file": file, "written": false }))),
        }))
    }

    fn reload_gallery(&self) -> Result<PendingResult, Refusal> {
        self.gallery()?.reload()
    }

    fn enrol(&self, source: Option<&str>, enrolment: Enrolment) -> Result<PendingResult, Refusal> {
        let gallery = self.gallery()?;
        gallery.enrol(self.one_source("enroll", source)?, enrolment)
    }

    fn quit(&self) -> Result<Value, Refusal> {
        self.shutdown.drain_now();
        Ok(json!({}))
    }
}
