//! The bench report: the measured figures, the machine and program, and whether the figures are valid.

use std::fmt::{self, Write};

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::lab::cold::Cold;
use crate::live::statistics::{Deadlines, Summary, write_table};
use crate::platform::allocations::Count;
use crate::platform::machine::Machine;

/// Frames after which caches, clocks and branch predictors are warm.
pub const WARM_UP_FRAMES: u64 = 100;
/// Microseconds of warm-up that suffice with fewer frames.
const WARM_UP_US: u64 = 10_000_000;
/// The fewest frames that give a 99th percentile, as in MLPerf.
pub const MIN_FRAMES: u64 = 662;

/// JSON pointers of objects in which a path of `--assert` is looked up too: `encode.p50_us` for `stages.encode.p50_us`.
pub const SHORTCUTS: [&str; 1] = ["/stages"];

/// A list of named values, written as a JSON object in the list's order.
#[derive(Clone, Debug)]
pub struct Named<T>(pub Vec<(String, T)>);

impl<T> Default for Named<T> {
    fn default() -> Named<T> {
        Named(Vec::new())
    }
}

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// The program that measured.
#[derive(Clone, Debug, Serialize)]
pub struct Build {
    pub version: &'static str,
    /// Commit of the source, if the build knew it (`make` passes it).
    pub git: Option<&'static str>,
    pub features: Vec<&'static str>,
    /// Checksum of the program file, which distinguishes builds without a commit.
    pub program_sha256: Option<String>,
}

/// The network that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Network {
    pub name: String,
    pub version: String,
    pub sha256: String,
}

/// The marginal cost of a task: differences of pairs of runs on one face, with and without the task. Noise makes small
/// ones negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Marginal {
    pub n: u64,
    pub min_us: i64,
    pub p50_us: i64,
    pub p90_us: i64,
    pub p99_us: i64,
    pub p999_us: i64,
    pub max_us: i64,
}

impl Marginal {
    /// Summarizes differences, which it sorts.
    pub fn of(differences_us: &mut [i64]) -> Marginal {
        differences_us.sort_unstable();
        let n = differences_us.len();
        let at = |share: f64| {
            let place = (share * n as f64).ceil() as usize;
            differences_us.get(place.clamp(1, n.max(1)) - 1).copied().unwrap_or(0)
        };
        let [min_us, p50_us, p90_us, p99_us, p999_us, max_us] = [0.0, 0.5, 0.9, 0.99, 0.999, 1.0].map(at);
        Marginal { n: n as u64, min_us, p50_us, p90_us, p99_us, p999_us, max_us }
    }
}

/// The gain by threads: medians of one face with one thread and with all threads, measured in turns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Gain {
    pub n: u64,
    pub one_p50_us: i64,
    pub all_p50_us: i64,
    /// How many times as fast all threads are.
    pub times: f64,
}

impl Gain {
    /// Summarizes times, which it sorts.
    pub fn of(one_us: &mut [i64], all_us: &mut [i64]) -> Gain {
        let (one, all) = (Marginal::of(one_us), Marginal::of(all_us));
        let times = (one.p50_us as f64 / all.p50_us.max(1) as f64 * 100.0).round() / 100.0;
        Gain { n: one.n, one_p50_us: one.p50_us, all_p50_us: all.p50_us, times }
    }
}

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Before the network was loaded.
    pub init: u64,
    /// After the last frame.
    pub steady: u64,
    /// The peak until then.
    pub peak: u64,
}

/// Heap allocations per frame on the measuring thread; `None` if the program does not count them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Allocations {
    /// Allocations from the frame to its results, without those of the engine.
    pub ours: Option<f64>,
    /// Allocations of the engine.
    pub engine: Option<f64>,
    /// Allocations of the source: none for a camera, some for files, which are opened and decoded.
    pub capture: Option<f64>,
    pub bytes: Option<f64>,
}

/// Page faults per frame on the measuring thread: each costs the kernel's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PageFaults {
    /// From a frame's arrival to its results.
    pub ours: f64,
    /// In the source.
    pub capture: f64,
}

/// The result of `faceptor bench`.
#[derive(Clone, Debug, Serialize)]
pub struct BenchReport {
    pub machine: Machine,
    pub build: Build,
    pub model: Network,
    pub kernel: &'static str,
    pub source: String,
    pub tasks: Vec<String>,
    pub threads: usize,
    /// The gain by threads; `None` with one thread or without a face.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads_gain: Option<Gain>,
    pub max_faces: usize,
    pub warm_up: u64,
    pub frames: u64,
    /// Mean number of faces in a frame.
    pub faces: f64,
    /// Stage times, with `decode_NAME` for each task. All but `capture` are of frames with a face only; `find` is of frames
    /// in which the detector ran, because faces are tracked in between.
    pub stages: Named<Summary>,
    /// Time from a frame's arrival to its results.
    pub frame: Summary,
    /// Pairs of a duration in microseconds and the number of frames that took as long, within 3 %: of each stage, and of `frame`.
    pub histograms: Named<Vec<(u64, u64)>>,
    pub task_marginal_us: Named<Marginal>,
    /// The same frames with cold caches; `None` without `--cold`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cold: Option<Cold>,
    pub deadline: Deadlines,
    /// Time for opening and checking the network and preparing it for this CPU.
    pub load_us: u64,
    /// Time of the first frame, with cold caches.
    pub first_us: u64,
    pub rss_bytes: Memory,
    pub allocations_per_frame: Allocations,
    pub page_faults_per_frame: PageFaults,
    pub valid: bool,
    pub invalid_because: Option<String>,
}

/// Returns a count per frame, rounded to three decimals.
pub fn per_frame(count: u64, frames: u64) -> f64 {
    (count as f64 / frames.max(1) as f64 * 1000.0).round() / 1000.0
}

impl Allocations {
    /// Splits counts over `frames` frames (`whole`, `capture`) by those of the engine in one frame.
    pub fn per_frame(whole: Count, capture: Count, engine: f64, frames: u64) -> Allocations {
        let all = per_frame(whole.calls, frames);
        Allocations {
            ours: Some((all - engine).max(0.0)),
            engine: Some(engine),
            capture: Some(per_frame(capture.calls, frames)),
            bytes: Some(per_frame(whole.bytes, frames)),
        }
    }
}

/// Returns the reasons why a run is too short for valid figures.
pub fn too_short(warm_up: u64, warm_up_us: u64, frames: u64) -> Vec<String> {
    let mut reasons = Vec::new();
    if warm_up < WARM_UP_FRAMES && warm_up_us < WARM_UP_US {
        reasons.push(format!("a warm-up of {warm_up} frames is too short: {WARM_UP_FRAMES} or 10 s are needed"));
    }
    if frames < MIN_FRAMES {
        reasons.push(format!("{frames} frames are too few for a p99: {MIN_FRAMES} are needed"));
    }
    reasons
}

impl BenchReport {
    /// Returns the report as JSON, for assertions and ratios.
    ///
    /// # Errors
    /// When a value cannot be written as JSON.
    pub fn to_value(&self) -> Result<Value, serde_json::Error> {
        serde_json::to_value(self)
    }

    /// Returns all stages, and the whole frame last.
    pub fn rows(&self) -> impl Iterator<Item = (&str, Summary)> {
        let stages = self.stages.0.iter().map(|(name, summary)| (name.as_str(), *summary));
        stages.chain([("frame", self.frame)])
    }

    /// Returns the report for people; with a reference, also the ratio of each stage's times to the reference's.
    pub fn table(&self, reference: Option<&Value>) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = self.write(&mut text, reference);
        text
    }

    fn write(&self, f: &mut String, reference: Option<&Value>) -> fmt::Result {
        let model = &self.model;
        let git = self.build.git.map(|git| format!(", commit {git}")).unwrap_or_default();
        writeln!(
            f,
            "{} {}, sha256 {:.16}; faceptor {}{git}",
            model.name, model.version, model.sha256, self.build.version
        )?;
        writeln!(f, "{}", self.machine.describe())?;
        let tasks = if self.tasks.is_empty() { "none".to_owned() } else { self.tasks.join(", ") };
        writeln!(f, "{}; tasks {tasks}", self.source)?;
        let (frames, warm_up) = (self.frames, self.warm_up);
        writeln!(
            f,
            "{frames} frames after {warm_up} of warm-up, {:.2} faces in each, {} thread{}, {} kernel\n",
            self.faces,
            self.threads,
            if self.threads == 1 { "" } else { "s" },
            self.kernel
        )?;
        write_table(f, self.rows())?;
        f.push_str("\n\n");
        if let Some(reference) = reference {
            self.write_ratios(f, reference)?;
        }
        if !self.task_marginal_us.0.is_empty() {
            f.push_str("a task adds, ms (p50):");
            for (name, marginal) in &self.task_marginal_us.0 {
                write!(f, " {name} {:.2}", marginal.p50_us as f64 / 1000.0)?;
            }
            f.push('\n');
        }
        if let Some(Gain { one_p50_us, all_p50_us, times, .. }) = self.threads_gain {
            let [one, all] = [one_p50_us, all_p50_us].map(|us| us as f64 / 1000.0);
            writeln!(
                f,
                "{} threads, one face: {all:.2} ms, {times:.2} times as fast as one ({one:.2} ms)",
                self.threads
            )?;
        }
        let Deadlines { budget_us, frames, missed, longest_miss_run, .. } = self.deadline;
        writeln!(
            f,
            "deadline {:.1} ms: {missed} of {frames} missed, at most {longest_miss_run} in a row",
            budget_us as f64 / 1000.0
        )?;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let Memory { init, steady, peak } = self.rss_bytes;
        writeln!(f, "loading {:.1} ms, first frame {:.1} ms", self.load_us as f64 / 1e3, self.first_us as f64 / 1e3)?;
        writeln!(
            f,
            "memory, MiB: {:.1} before loading, {:.1} after the run, {:.1} at most",
            mib(init),
            mib(steady),
            mib(peak)
        )?;
        let count = |count: Option<f64>| count.map_or("not counted".to_owned(), |count| count.to_string());
        let Allocations { ours, engine, capture, .. } = self.allocations_per_frame;
        writeln!(
            f,
            "allocations per frame: ours {}, engine {}, source {}",
            count(ours),
            count(engine),
            count(capture)
        )?;
        let PageFaults { ours, capture } = self.page_faults_per_frame;
        writeln!(f, "page faults per frame: ours {ours}, source {capture}")?;
        if let Some(cold) = &self.cold {
            f.push('\n');
            cold.write(f, &self.frame)?;
        }
        match &self.invalid_because {
            Some(reason) => writeln!(f, "INVALID: {reason}"),
            None => writeln!(f, "valid: enough frames, and no other load, throttling or change of clocks was seen"),
        }
    }

    fn write_ratios(&self, f: &mut String, reference: &Value) -> fmt::Result {
        writeln!(f, "{:<24}{:>8}{:>9}{:>9}", "times the reference", "", "p50", "p99")?;
        for (name, summary) in self.rows() {
            let place = if name == "frame" { Some(reference) } else { reference.get("stages") };
            let other = |key: &str| place.and_then(|p| p.get(name)?.get(key)?.as_f64()).filter(|&us| us > 0.0);
            let ratio =
                |us: u64, key: &str| other(key).map_or("-".to_owned(), |other| format!("{:.2}", us as f64 / other));
            writeln!(f, "{name:<32}{:>9}{:>9}", ratio(summary.p50_us, "p50_us"), ratio(summary.p99_us, "p99_us"))?;
        }
        f.push('\n');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_values_keep_their_order() {
        let named = Named(vec![("b".to_owned(), 1), ("a".to_owned(), 2)]);
        assert_eq!(serde_json::to_string(&named).expect("numbers"), "{\"b\":1,\"a\":2}");
    }

    #[test]
    fn marginal_costs_may_be_negative() {
        let mut differences: Vec<i64> = (-10..90).rev().collect();
        let marginal = Marginal::of(&mut differences);
        assert_eq!(
            (marginal.n, marginal.min_us, marginal.p50_us, marginal.p99_us, marginal.max_us),
            (100, -10, 39, 88, 89)
        );
        assert_eq!(Marginal::of(&mut []), Marginal::default());
    }

    #[test]
    fn splits_allocations_by_source_and_engine() {
        let count = |calls| Count { calls, bytes: 10 * calls };
        let allocations = Allocations::per_frame(count(500), count(30), 2.0, 100);
        assert_eq!((allocations.ours, allocations.engine, allocations.capture), (Some(3.0), Some(2.0), Some(0.3)));
        let none = Allocations::per_frame(count(0), count(0), 0.0, 100);
        assert_eq!(none.ours, Some(0.0));
    }

    #[test]
    fn short_runs_are_not_valid() {
        assert!(too_short(100, 5, 662).is_empty() && too_short(1, 10_000_000, 662).is_empty());
        assert_eq!(too_short(99, 9_999_999, 661).len(), 2);
    }
}
