//! The latest statistics of a run, shared with the control socket and the signal thread. The publisher updates them about
//! once a second, and never waits for a reader.

use std::sync::{Mutex, PoisonError, TryLockError};

use serde_json::{Map, Value, json};

use crate::live::frame_result::Counters;
use crate::live::statistics::{Deadlines, Summary, write_table};
use crate::platform::clock;

/// The statistics that a run reports.
#[derive(Clone, Debug, Default)]
pub struct RunReport {
    /// When the run began.
    pub started_us: u64,
    /// When this report was made.
    pub reported_us: u64,
    /// Counts since the start.
    pub counters: Counters,
    /// The fixed latency of a live source, once it is chosen.
    pub latency_us: Option<u64>,
    /// Frames against their budget; `None` without one.
    pub deadlines: Option<Deadlines>,
    /// Results that were published.
    pub published: u64,
    /// Results that were published later than capture + L.
    pub late: u64,
    /// The stages with their times, in the order in which a frame passes them.
    pub stages: Vec<(String, Summary)>,
}

/// The latest report, shared between threads.
#[derive(Debug, Default)]
pub struct RunStats {
    report: Mutex<RunReport>,
}

impl RunStats {
    /// Updates the report, unless another thread is reading it now.
    pub fn update(&self, write: impl FnOnce(&mut RunReport)) {
        match self.report.try_lock() {
            Ok(mut report) => write(&mut report),
            Err(TryLockError::Poisoned(poisoned)) => write(&mut poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {}
        }
    }

    /// Returns a copy of the report.
    pub fn read(&self) -> RunReport {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl RunReport {
    /// Returns the state of the loop, for `ctl status`.
    pub fn status(&self) -> Map<String, Value> {
        let counters = &self.counters;
        let value = json!({
            "uptime_s": clock::now_us().saturating_sub(self.started_us) as f64 / 1e6,
            "frames": counters.frames,
            "faces": counters.faces,
            "level": counters.level,
            "latency_us": self.latency_us,
            "published": self.published,
            "late": self.late,
            "finder_runs": counters.finder_runs,
            "stale_answers": counters.stale_answers,
            "bad_frames": counters.bad_frames,
            "skipped_frames": counters.skipped_frames,
            "dropped_results": counters.dropped_results,
            "deadline": self.deadlines,
            "source_counters": counters.source,
        });
        match value {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }

    /// Returns the times of the stages by name, for `ctl stats`.
    pub fn stats(&self) -> Value {
        let stages: Map<String, Value> = (self.stages.iter().filter(|(_, summary)| summary.n > 0))
            .map(|(name, summary)| (name.clone(), serde_json::to_value(summary).unwrap_or_default()))
            .collect();
        json!({ "stages": stages, "deadline": self.deadlines })
    }

    /// Returns the table that is printed at the end of a run.
    pub fn table(&self) -> String {
        let counters = &self.counters;
        let mut text = match counters.frames {
            1 => "1 frame\n".to_owned(),
            frames => format!("{frames} frames\n"),
        };
        let measured = self.stages.iter().filter(|(_, summary)| summary.n > 0);
        // Writing to a String cannot fail.
        let _ = write_table(&mut text, measured.map(|(name, summary)| (name.as_str(), *summary)));
        text += &format!(
            "\nfinder: ran for {} frames; answers of earlier frames: {}\n",
            counters.finder_runs, counters.stale_answers
        );
        if let Some(deadlines) = &self.deadlines {
            text += &format!(
                "budget {:.2} ms: missed by {}, {} in a row at most\n",
                deadlines.budget_us as f64 / 1e3,
                deadlines.missed,
                deadlines.longest_miss_run
            );
        }
        if let Some(latency_us) = self.latency_us {
            text += &format!(
                "published {:.1} ms after capture: {} of {} later\n",
                latency_us as f64 / 1e3,
                self.late,
                self.published
            );
        }
        let source = &counters.source;
        let drops = [
            ("never arrived", source.sequence_gaps),
            ("passed over for a newer one", source.stale_dropped),
            ("unreadable", counters.bad_frames),
            ("skipped under overload", counters.skipped_frames),
            ("dropped before publication", counters.dropped_results),
        ];
        let drops: Vec<String> =
            drops.iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count} {what}")).collect();
        if !drops.is_empty() {
            text += &format!("frames lost: {}\n", drops.join(", "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_does_not_block_the_writer() {
        let run_stats = RunStats::default();
        run_stats.update(|report| report.published = 1);
        let held = run_stats.report.lock().expect("not poisoned");
        run_stats.update(|report| report.published = 2);
        drop(held);
        assert_eq!(run_stats.read().published, 1);
        run_stats.update(|report| report.published = 3);
        assert_eq!(run_stats.read().published, 3);
    }

    #[test]
    fn lists_only_losses_that_happened() {
        let mut report = RunReport::default();
        assert_eq!(report.table().lines().count(), 3, "{}", report.table());
        report.counters.source.sequence_gaps = 2;
        report.counters.skipped_frames = 3;
        report.deadlines = Some(Deadlines::new(33_333));
        let table = report.table();
        assert!(table.ends_with("frames lost: 2 never arrived, 3 skipped under overload\n"), "{table}");
        assert!(table.contains("budget 33.33 ms: missed by 0, 0 in a row at most\n"), "{table}");
        assert_eq!(report.status()["source_counters"]["sequence_gaps"], 2);
    }
}
