//! Arguments of a measurement, shared by `bench`, `reference` and `verify`.

use anyhow::Result;
use clap::Args;

use crate::cli::UsageError;
use crate::lab::bench::BenchSettings;
use crate::lab::report::WARM_UP_FRAMES;
use crate::platform::network_threads::ThreadArguments;
use faceptor::stages::{MAX_TRACKS, TaskList};

/// Most frames of a measurement: a day at 30 frames/s.
const MAX_FRAMES: u64 = 30 * 86_400;

/// Arguments of a measurement.
#[derive(Args, Clone)]
pub struct MeasureArguments {
    /// Number of measured frames; at least 662 for a p99.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=MAX_FRAMES))]
    pub frames: u64,
    /// Number of frames before that, which are not counted.
    #[arg(long, value_name = "N", default_value_t = WARM_UP_FRAMES, value_parser = clap::value_parser!(u64).range(1..=MAX_FRAMES))]
    pub warm_up: u64,
    #[command(flatten)]
    pub threads: ThreadArguments,
    /// Deadline of a frame; frames that take longer are counted as misses.
    #[arg(long, value_name = "MS", default_value_t = 33.333)]
    pub budget_ms: f64,
    /// Most faces of a frame; those with the highest score are kept.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=MAX_TRACKS as i64))]
    pub max_faces: u16,
}

impl MeasureArguments {
    /// Returns the settings of a measurement.
    ///
    /// # Errors
    /// When the budget is not from 0 to an hour, or there are fewer CPUs than threads.
    pub fn settings(&self, tasks: TaskList, git: Option<&'static str>) -> Result<BenchSettings> {
        let budget_us = self.budget_ms * 1000.0;
        if !(0.0..3.6e9).contains(&budget_us) {
            return Err(
                UsageError(format!("--budget-ms {}: a time from 0 to an hour is needed", self.budget_ms)).into()
            );
        }
        Ok(BenchSettings {
            tasks,
            max_faces: usize::from(self.max_faces),
            warm_up: self.warm_up,
            frames: self.frames,
            budget_us: budget_us as u64,
            cold: None,
            threads: self.threads.threads()?,
            git,
        })
    }
}
