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

/// Takes notice of the faces of each frame, on the publisher's thread.
pub type FrameObserver = Box<dyn Fn(&Analysis) + Send>;

/// The connections of the publisher to the rest of the program.
pub struct PublisherLinks<'a> {
    pub results: RingReader<'a, FrameResult>,
    /// The loop's thread, which may wait for memory.
    pub waiting: Thread,
    /// True when the loop has ended.
    pub ended: Arc<AtomicBool>,
    /// Drained when standard output takes no more lines.
    pub shutdown: Shutdown,
    pub run_stats: Arc<RunStats>,
    /// Takes notice of the faces of each frame.
    pub observer: Option<FrameObserver>,
}

/// The publisher with its state.
pub struct Publisher<'a> {
    links: PublisherLinks<'a>,
    legend: Arc<Legend>,
    printing: Printing,
    outputs: Outputs,
    table: StageTable,
    rows: RunRows,
    deadlines: Option<Deadlines>,
    report: RunReport,
    keep_last: bool,
    last: Option<Box<FrameResult>>,
    /// Memory of the lines.
    json: Vec<u8>,
    text: String,
}

/// How a run ended.
pub struct Ending {
    pub report: RunReport,
    /// The last result, if it was to be kept.
    pub last: Option<Box<FrameResult>>,
    /// How the outputs ended.
    pub outputs: OutputsEnd,
}

impl<'a> Publisher<'a> {
    /// Makes the publisher. `period_us` is that of a live source; with `keep_last` the last result is returned at the end.
    pub fn new(
        links: PublisherLinks<'a>,
        legend: Arc<Legend>,
        outputs: Outputs,
        printing: Printing,
        period_us: Option<u64>,
        keep_last: bool,
    ) -> Publisher<'a> {
        let mut table = StageTable::default();
        let rows = RunRows::register(&mut table, &legend, period_us);
        let stages = table.rows().map(|(name, statistics)| (name.to_owned(), statistics.summary())).collect();
        let report = RunReport { started_us: clock::now_us(), stages, ..RunReport::default() };
        links.run_stats.update(|shown| shown.clone_from(&report));
        Publisher {
            links,
            legend,
            printing,
            outputs,
            table,
            rows,
            deadlines: None,
            report,
            keep_last,
            last: None,
            json: Vec::with_capacity(64 << 10),
            text: String::new(),
        }
    }

    /// Publishes until the loop has ended and all results are published.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn run(mut self) -> Result<Ending> {
        loop {
            match self.links.results.take() {
                Some(result) => self.take(result),
                // A result that was sent before the loop ended is visible now.
                None if self.links.ended.load(Ordering::Acquire) => match self.links.results.take() {
                    Some(result) => self.take(result),
                    None => break,
                },
                None => thread::park_timeout(IDLE_WAIT),
            }
        }
        self.update_run_stats();
        let outputs = self.outputs.finish()?;
        Ok(Ending { report: self.report, last: self.last, outputs })
    }

    fn take(&mut self, mut result: Box<FrameResult>) {
        self.report.counters = result.counters;
        if result.number.is_some() {
            if let Some(observer) = &self.links.observer {
                observer(&result.analysis);
            }
            self.publish(&mut result);
        }
        if clock::now_us() >= self.report.reported_us + REPORT_US {
            self.update_run_stats();
        }
        let returned = match self.keep_last && result.number.is_some() {
            true => self.last.replace(result),
            false => Some(result),
        };
        if let Some(mut returned) = returned {
            returned.still = None;
            self.links.results.put(returned);
            self.links.waiting.unpark();
        }
    }

    fn publish(&mut self, result: &mut FrameResult) {
        let mut watch = Stopwatch::start();
        self.make_lines(result);
        let mut present_us = watch.lap_us();
        if let Some(due_us) = result.publish_at_us {
            clock::sleep_until_us(due_us);
            watch.lap_us();
        }
        let published_us = clock::now_us();
        self.outputs.publish(&PublishedFrame {
            printed: match self.printing {
                Printing::Json => &self.json,
                Printing::Text => self.text.as_bytes(),
                Printing::Nothing => &[],
            },
            json: &self.json,
            analysis: &result.analysis,
            identities: &result.identities,
            still: result.still.as_ref(),
            captured_us: result.stamp.captured_us,
            published_us,
        });
        if self.outputs.stdout_end().is_some() {
            self.links.shutdown.drain();
        }
        present_us += watch.lap_us();
        self.record(result, published_us, present_us);
    }

    fn make_lines(&mut self, result: &mut FrameResult) {
        let decoders = &self.legend.decoders;
        let number = result.number.unwrap_or_default();
        let identities = result.identities.list();
        if self.printing == Printing::Text {
            self.text = text::describe_frame(number, result.path.as_deref(), &result.analysis, decoders, &identities);
        }
        self.json.clear();
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
        match serde_json::to_writer(&mut self.json, &line) {
            Ok(()) => self.json.push(b'\n'),
            Err(error) => {
                log::error!("frame {number} cannot be written as JSON: {error}");
                self.json.clear();
            }
        }
        result.path = origin.path;
    }

    fn record(&mut self, result: &FrameResult, published_us: u64, present_us: u64) {
        let (table, rows, report) = (&mut self.table, &self.rows, &mut self.report);
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

    fn update_run_stats(&mut self) {
        let report = &mut self.report;
        report.reported_us = clock::now_us();
        report.deadlines = self.deadlines;
        for ((_, summary), (_, statistics)) in report.stages.iter_mut().zip(self.table.rows()) {
            *summary = statistics.summary();
        }
        self.links.run_stats.update(|shown| shown.clone_from(report));
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
