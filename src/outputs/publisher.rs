//! The publisher: writes a result's line, waits until the result is due, and passes it to all outputs.
//!
//! It runs on its own thread, so that a result is published at its time while the loop is at the next frame. Each output
//! has a thread too, so that a slow one delays neither.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use anyhow::Result;

use crate::live::frame_result::FrameResult;
use crate::live::ring::RingReader;
use crate::live::run_stats::{RunReport, RunStats};
use crate::live::statistics::{Deadlines, StageRow, StageTable};
use crate::outputs::draw::overlay::Legend;
use crate::outputs::fan_out::{Outputs, OutputsEnd, PublishedFrame};
use crate::outputs::format::json::{JsonLine, Origin, OuterTiming};
use crate::outputs::format::{ResultFiles, text};
use crate::platform::clock::{self, Stopwatch};
use crate::platform::shutdown::Shutdown;
use faceptor::stages::Analysis;

/// Time between two updates of the run statistics.
const REPORT_US: u64 = 1_000_000;
/// The publisher looks for results at this interval even if it is not woken.
const IDLE_WAIT: Duration = Duration::from_millis(200);

/// The format of standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Printing {
    Json,
    /// A line for people.
    Text,
    Nothing,
}

/// Takes notice of the faces of each frame and of the place of its source, on the publisher's thread.
pub type FrameObserver = Box<dyn Fn(usize, &Analysis) + Send>;

/// The connections of the publisher to the rest of the program.
pub struct PublisherLinks<'a> {
    pub results: RingReader<'a, FrameResult>,
    /// The loop's thread, which may wait for memory.
    pub waiting: Thread,
    /// True when the loop has ended.
    pub ended: Arc<AtomicBool>,
    /// Drained when standard output takes no more lines.
    pub shutdown: Shutdown,
    /// One for each source.
    pub run_stats: Vec<Arc<RunStats>>,
    /// Takes notice of the faces of each frame.
    pub observer: Option<FrameObserver>,
}

/// The publisher with its state.
pub struct Publisher<'a> {
    links: PublisherLinks<'a>,
    legend: Arc<Legend>,
    printing: Printing,
    outputs: Outputs,
    sources: Vec<SourceRecord>,
    keep_last: bool,
    /// Results that wait for their time.
    waiting: Vec<Waiting>,
    /// Memory of lines that no result has.
    spare: Vec<Lines>,
}

/// The lines of a result. Their memory is used again.
#[derive(Default)]
struct Lines {
    json: Vec<u8>,
    text: String,
    /// Time that it took to write them.
    us: u64,
}

/// A result with its lines.
struct Waiting {
    result: Box<FrameResult>,
    lines: Lines,
}

/// What the publisher keeps of a source.
struct SourceRecord {
    /// The name, where a run has several sources.
    name: Option<String>,
    table: StageTable,
    rows: RunRows,
    deadlines: Option<Deadlines>,
    report: RunReport,
    /// The last result, if it is to be kept.
    last: Option<Box<FrameResult>>,
}

/// How the results of a source ended.
pub struct SourceEnding {
    /// The name, where a run has several sources.
    pub name: Option<String>,
    pub report: RunReport,
    /// The last result, if it was to be kept.
    pub last: Option<Box<FrameResult>>,
}

/// How a run ended.
pub struct Ending {
    /// One for each source.
    pub sources: Vec<SourceEnding>,
    /// How the outputs ended.
    pub outputs: OutputsEnd,
}

impl<'a> Publisher<'a> {
    /// Makes the publisher. `names` are those of several sources. `period_us` is that of one live source; with `keep_last` the
    /// last result of each source is returned at the end.
    pub fn new(
        links: PublisherLinks<'a>,
        legend: Arc<Legend>,
        outputs: Outputs,
        printing: Printing,
        names: &[String],
        period_us: Option<u64>,
        keep_last: bool,
    ) -> Publisher<'a> {
        let sources = links.run_stats.iter().enumerate().map(|(place, run_stats)| {
            let mut table = StageTable::default();
            let rows = RunRows::register(&mut table, &legend, period_us);
            let stages = table.rows().map(|(name, statistics)| (name.to_owned(), statistics.summary())).collect();
            let report = RunReport { started_us: clock::now_us(), stages, ..RunReport::default() };
            run_stats.update(|shown| shown.clone_from(&report));
            SourceRecord { name: names.get(place).cloned(), table, rows, deadlines: None, report, last: None }
        });
        let sources = sources.collect();
        let spare = vec![Lines { json: Vec::with_capacity(64 << 10), ..Lines::default() }];
        Publisher { links, legend, printing, outputs, sources, keep_last, waiting: Vec::new(), spare }
    }

    /// Publishes until the loop has ended and all results are published.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn run(mut self) -> Result<Ending> {
        loop {
            let has_ended = self.links.ended.load(Ordering::Acquire);
            // A result that was sent before the loop ended is visible now.
            while let Some(result) = self.links.results.take() {
                self.take(result);
            }
            match self.publish_due() {
                Some(due_us) => thread::park_timeout(Duration::from_micros(due_us.saturating_sub(clock::now_us()))),
                None if has_ended => break,
                None => thread::park_timeout(IDLE_WAIT),
            }
        }
        (0..self.sources.len()).for_each(|place| self.update_run_stats(place));
        let outputs = self.outputs.finish()?;
        let ending =
            |source: SourceRecord| SourceEnding { name: source.name, report: source.report, last: source.last };
        Ok(Ending { sources: self.sources.into_iter().map(ending).collect(), outputs })
    }

    /// Writes the lines of a result. With one source it is then published at its time; those of several wait for their turns.
    fn take(&mut self, mut result: Box<FrameResult>) {
        let place = result.source;
        let is_alone = self.sources.len() == 1;
        let Some(source) = self.sources.get_mut(place) else { return self.links.results.put(result) };
        source.report.counters = result.counters;
        if result.number.is_none() {
            return self.finish(result);
        }
        if let Some(observer) = &self.links.observer {
            observer(place, &result.analysis);
        }
        let mut lines = self.spare.pop().unwrap_or_default();
        let mut watch = Stopwatch::start();
        self.make_lines(&mut result, &mut lines);
        lines.us = watch.lap_us();
        match result.publish_at_us {
            Some(due_us) if is_alone => {
                clock::sleep_until_us(due_us);
                self.publish(Waiting { result, lines });
            }
            None => self.publish(Waiting { result, lines }),
            Some(_) => self.waiting.push(Waiting { result, lines }),
        }
    }

    /// Publishes what is due, the earliest first. Returns when the next one is due.
    fn publish_due(&mut self) -> Option<u64> {
        let due_us = |waiting: &Waiting| waiting.result.publish_at_us.unwrap_or(0);
        loop {
            let (place, due_us) = self.waiting.iter().map(due_us).enumerate().min_by_key(|(_, due_us)| *due_us)?;
            if due_us > clock::now_us() {
                return Some(due_us);
            }
            let waiting = self.waiting.remove(place);
            self.publish(waiting);
        }
    }

    fn publish(&mut self, waiting: Waiting) {
        let Waiting { result, lines } = waiting;
        let mut watch = Stopwatch::start();
        let published_us = clock::now_us();
        self.outputs.publish(&PublishedFrame {
            source: result.source,
            printed: match self.printing {
                Printing::Json => &lines.json,
                Printing::Text => lines.text.as_bytes(),
                Printing::Nothing => &[],
            },
            json: &lines.json,
            analysis: &result.analysis,
            identities: &result.identities,
            still: result.still.as_ref(),
            captured_us: result.stamp.captured_us,
            published_us,
        });
        if self.outputs.stdout_end().is_some() {
            self.links.shutdown.drain();
        }
        let present_us = lines.us + watch.lap_us();
        self.spare.push(lines);
        if let Some(source) = self.sources.get_mut(result.source) {
            source.record(&result, published_us, present_us);
        }
        self.finish(result);
    }

    /// Returns the memory of a result to the loop, or keeps it as the last one of its source.
    fn finish(&mut self, result: Box<FrameResult>) {
        let place = result.source;
        let Some(source) = self.sources.get_mut(place) else { return self.links.results.put(result) };
        let is_due = clock::now_us() >= source.report.reported_us + REPORT_US;
        let returned = match self.keep_last && result.number.is_some() {
            true => source.last.replace(result),
            false => Some(result),
        };
        if is_due {
            self.update_run_stats(place);
        }
        if let Some(mut returned) = returned {
            returned.still = None;
            self.links.results.put(returned);
            self.links.waiting.unpark();
        }
    }

    fn make_lines(&self, result: &mut FrameResult, lines: &mut Lines) {
        let Lines { json, text, .. } = lines;
        let decoders = &self.legend.decoders;
        let name = self.sources.get(result.source).and_then(|source| source.name.as_deref());
        let number = result.number.unwrap_or_default();
        let identities = result.identities.list();
        if self.printing == Printing::Text {
            *text = text::describe_frame(number, result.path.as_deref(), &result.analysis, decoders, &identities);
            if let Some(name) = name {
                text.insert_str(0, &format!("{name}: "));
            }
        }
        json.clear();
        if self.printing != Printing::Json && !self.outputs.needs_json() {
            return;
        }
        let origin = Origin {
            path: result.path.take(),
            width: result.width,
            height: result.height,
            frame: Some([number, result.stamp.sequence, result.stamp.captured_us]),
            warnings: Vec::new(),
        };
        let (capture_us, total_us) = (result.capture_us, result.capture_us + result.used_us());
        let outer_timing = OuterTiming { capture_us, total_us, ..OuterTiming::default() };
        let files = ResultFiles::default();
        let line = JsonLine {
            origin: &origin,
            decoders,
            analysis: &result.analysis,
            files: &files,
            identities: &identities,
            outer_timing,
        };
        if let Some(name) = name {
            // Nothing of a name has to be escaped.
            json.extend_from_slice(b"{\"source\":\"");
            json.extend_from_slice(name.as_bytes());
            json.push(b'"');
        }
        let begin = json.len();
        match serde_json::to_writer(&mut *json, &line) {
            Ok(()) => {
                // The fields of the line go on after the source.
                if begin > 0
                    && let Some(brace) = json.get_mut(begin)
                {
                    *brace = b',';
                }
                json.push(b'\n');
            }
            Err(error) => {
                log::error!("frame {number} cannot be written as JSON: {error}");
                json.clear();
            }
        }
        result.path = origin.path;
    }

    fn update_run_stats(&mut self, place: usize) {
        let (Some(source), Some(run_stats)) = (self.sources.get_mut(place), self.links.run_stats.get(place)) else {
            return;
        };
        let report = &mut source.report;
        report.reported_us = clock::now_us();
        report.deadlines = source.deadlines;
        for ((_, summary), (_, statistics)) in report.stages.iter_mut().zip(source.table.rows()) {
            *summary = statistics.summary();
        }
        run_stats.update(|shown| shown.clone_from(report));
    }
}

impl SourceRecord {
    fn record(&mut self, result: &FrameResult, published_us: u64, present_us: u64) {
        let SourceRecord { table, rows, report, .. } = self;
        rows.record(table, result, present_us);
        report.published += 1;
        if let Some(deadline) = &result.analysis.deadline {
            let deadlines = self.deadlines.get_or_insert_with(|| Deadlines::new(deadline.budget_us));
            deadlines.budget_us = deadline.budget_us;
            deadlines.count(deadline.missed);
        }
        if let Some(due_us) = result.publish_at_us {
            report.latency_us = Some(due_us - result.stamp.captured_us);
            table.record(rows.jitter, published_us.saturating_sub(due_us));
            report.late += u64::from(result.handed_over_us > due_us);
        }
    }
}

/// The rows of a run's stages.
struct RunRows {
    capture: StageRow,
    find: StageRow,
    align: StageRow,
    encode: StageRow,
    decode: Vec<StageRow>,
    present: StageRow,
    total: StageRow,
    jitter: StageRow,
}

impl RunRows {
    fn register(table: &mut StageTable, legend: &Legend, period_us: Option<u64>) -> RunRows {
        let mut row = |name: &str| table.register(name, None);
        let [capture, find, align, encode] = ["capture", "find", "align", "encode"].map(&mut row);
        let decode = legend.decoders.iter().map(|decoder| row(&format!("decode {}", decoder.task().name))).collect();
        let present = row("present");
        let total = table.register("total", period_us);
        RunRows {
            capture,
            find,
            align,
            encode,
            decode,
            present,
            total,
            jitter: table.register("publication jitter", None),
        }
    }

    fn record(&self, table: &mut StageTable, result: &FrameResult, present_us: u64) {
        let timing = &result.analysis.timing;
        table.record(self.capture, result.capture_us);
        // Stages that a frame does not have are not counted as free.
        let stages = [(self.find, timing.find_us), (self.align, timing.align_us), (self.encode, timing.encode_us)];
        for (row, us) in stages.into_iter().chain(self.decode.iter().copied().zip(timing.decode_us.iter().copied())) {
            if us > 0 {
                table.record(row, us);
            }
        }
        table.record(self.present, present_us);
        table.record(self.total, result.capture_us + result.used_us());
    }
}
