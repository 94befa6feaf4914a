//! Controls a running loop for the control socket and the preview page.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::run_gallery::RunGallery;
use crate::control::protocol::Refusal;
use crate::control::{Enrolment, LoopControl, PendingResult};
use crate::live::live_loop::Command;
use crate::live::run_stats::RunStats;
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
    pub run_stats: Arc<RunStats>,
    pub chosen: Arc<Mutex<TaskList>>,
    /// 0 without a budget.
    pub budget_us: Arc<AtomicU64>,
    pub shutdown: Shutdown,
    /// Takes snapshots, if the run has outputs.
    pub pixel_demand: Option<Arc<PixelDemand>>,
    /// The gallery, if faces are named.
    pub gallery: Option<RunGallery>,
    pub heat: Option<Arc<thermal::HeatMonitor>>,
    /// The scheduling and memory locking that the machine granted to a live run, once known.
    pub granted: Arc<OnceLock<RealtimeGrants>>,
    /// Constant facts: the source and the network.
    pub facts: Value,
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
        let us = self.budget_us.load(Ordering::Relaxed);
        json!({ "budget_ms": (us > 0).then_some(us as f64 / 1e3) })
    }

    fn set_budget_ms(&self, ms: f64) -> Result<Value, Refusal> {
        // The protocol has checked the range.
        let us = (ms * 1e3).round().max(1.0) as u64;
        self.send(Command::SetBudgetUs(us))?;
        self.budget_us.store(us, Ordering::Relaxed);
        Ok(self.budget())
    }

    fn status(&self) -> Value {
        let mut status = self.run_stats.read().status();
        if let Some(granted) = self.granted.get() {
            status.insert("realtime".to_owned(), json!(granted));
        }
        if let Some(heat) = &self.heat {
            status.insert("heat".to_owned(), json!(heat.report()));
        }
        for part in [&self.facts, &self.tasks(), &self.budget()] {
            status.extend(part.as_object().cloned().unwrap_or_default());
        }
        Value::Object(status)
    }

    fn stats(&self) -> Value {
        self.run_stats.read().stats()
    }

    fn snapshot(&self, file: &Path, force: bool) -> Result<PendingResult, Refusal> {
        let demand =
            self.pixel_demand.as_ref().ok_or_else(|| Refusal::Failed("this run takes no snapshots".to_owned()))?;
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

    fn enrol(&self, enrolment: Enrolment) -> Result<PendingResult, Refusal> {
        self.gallery()?.enrol(enrolment)
    }

    fn quit(&self) -> Result<Value, Refusal> {
        self.shutdown.drain_now();
        Ok(json!({}))
    }
}
