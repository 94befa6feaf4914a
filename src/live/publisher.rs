//! The publisher: makes a result's line at once, waits until it is due, and gives it to all outlets.
//!
//! It has a thread of its own, so that a result leaves at its time while the loop is at the next frame. Outlets have
//! theirs, so that a slow one holds up neither.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use anyhow::Result;

use crate::live::frame_result::Outcome;
use crate::live::ring::Reader;
use crate::live::run_stats::{Board, Report};
use crate::live::statistics::{Deadlines, Row, Table};
use crate::outputs::draw::overlay::Legend;
use crate::outputs::fan_out::{Outputs, PublishedFrame};
use crate::outputs::format::json::{JsonLine, Origin, OuterTiming};
use crate::outputs::format::text;
use crate::platform::clock::{self, Stopwatch};
use crate::platform::shutdown::Shutdown;

/// Between two reports to the board.
const REPORT_US: u64 = 1_000_000;
/// The publisher looks for itself this often, should nobody wake it.
const DOZE: Duration = Duration::from_millis(200);

/// What standard output shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Printing {
    Json,
    /// A line for people.
    Text,
    Nothing,
}

/// What the publisher has from others.
pub struct Links<'a> {
    pub results: Reader<'a, Outcome>,
    /// The loop, which may wait for memory.
    pub waiting: Thread,
    /// The loop has ended.
    pub ended: Arc<AtomicBool>,
    /// Drained when standard output takes no more lines.
    pub shutdown: Shutdown,
    pub board: Arc<Board>,
}

/// The publisher's state.
pub struct Publisher<'a> {
    links: Links<'a>,
    legend: Arc<Legend>,
    printing: Printing,
    outputs: Outputs,
    table: Table,
    rows: Rows,
    deadlines: Option<Deadlines>,
    report: Report,
    keep_last: bool,
    last: Option<Box<Outcome>>,
    /// Memory of the lines.
    json: Vec<u8>,
    text: String,
}

/// How a run ended.
pub struct Ending {
    pub report: Report,
    /// The last result, if it was to be kept.
    pub last: Option<Box<Outcome>>,
    /// Standard output was read to the end.
    pub heard_out: bool,
}

impl<'a> Publisher<'a> {
    /// `period_us`: of a live source. With `keep_last` the last result is returned at the end.
    pub fn new(
        links: Links<'a>,
        legend: Arc<Legend>,
        outputs: Outputs,
        printing: Printing,
        period_us: Option<u64>,
        keep_last: bool,
    ) -> Publisher<'a> {
        let mut table = Table::default();
        let rows = Rows::register(&mut table, &legend, period_us);
        let stages = table.rows().map(|(name, statistics)| (name.to_owned(), statistics.summary())).collect();
        let report = Report { started_us: clock::now_us(), stages, ..Report::default() };
        links.board.update(|shown| shown.clone_from(&report));
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

    /// Publishes until the loop has ended and everything is out.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn run(mut self) -> Result<Ending> {
        loop {
            match self.links.results.take() {
                Some(outcome) => self.take(outcome),
                // What was sent off before the end was told is there now.
                None if self.links.ended.load(Ordering::Acquire) => match self.links.results.take() {
                    Some(outcome) => self.take(outcome),
                    None => break,
                },
                None => thread::park_timeout(DOZE),
            }
        }
        self.tell_board();
        let heard_out = self.outputs.finish()?;
        Ok(Ending { report: self.report, last: self.last, heard_out })
    }

    fn take(&mut self, mut outcome: Box<Outcome>) {
        self.report.counters = outcome.counters;
        if outcome.number.is_some() {
            self.publish(&mut outcome);
        }
        if clock::now_us() >= self.report.reported_us + REPORT_US {
            self.tell_board();
        }
        let returned = match self.keep_last && outcome.number.is_some() {
            true => self.last.replace(outcome),
            false => Some(outcome),
        };
        if let Some(mut returned) = returned {
            returned.still = None;
            self.links.results.put(returned);
            self.links.waiting.unpark();
        }
    }

    fn publish(&mut self, outcome: &mut Outcome) {
        let mut watch = Stopwatch::start();
        self.make_lines(outcome);
        let mut present_us = watch.lap_us();
        if let Some(due_us) = outcome.publish_at_us {
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
            analysis: &outcome.analysis,
            still: outcome.still.as_ref(),
            captured_us: outcome.stamp.captured_us,
            published_us,
        });
        if self.outputs.stdout_end().is_some() {
            self.links.shutdown.drain();
        }
        present_us += watch.lap_us();
        self.record(outcome, published_us, present_us);
    }

    fn make_lines(&mut self, outcome: &mut Outcome) {
        let decoders = &self.legend.decoders;
        let number = outcome.number.unwrap_or_default();
        if self.printing == Printing::Text {
            self.text = text::describe_frame(number, outcome.path.as_deref(), &outcome.analysis, decoders);
        }
        self.json.clear();
        if self.printing != Printing::Json && !self.outputs.needs_json() {
            return;
        }
        let origin = Origin {
            path: outcome.path.take(),
            width: outcome.width,
            height: outcome.height,
            frame: Some([number, outcome.stamp.sequence, outcome.stamp.captured_us]),
        };
        let (capture_us, total_us) = (outcome.capture_us, outcome.capture_us + outcome.used_us());
        let outer_timing = OuterTiming { capture_us, total_us, ..OuterTiming::default() };
        let line = JsonLine { origin: &origin, decoders, analysis: &outcome.analysis, masks: &[], outer_timing };
        match serde_json::to_writer(&mut self.json, &line) {
            Ok(()) => self.json.push(b'\n'),
            Err(error) => {
                log::error!("frame {number} cannot be written as JSON: {error}");
                self.json.clear();
            }
        }
        outcome.path = origin.path;
    }

    fn record(&mut self, outcome: &Outcome, published_us: u64, present_us: u64) {
        let (table, rows, report) = (&mut self.table, &self.rows, &mut self.report);
        rows.record(table, outcome, present_us);
        report.published += 1;
        if let Some(deadline) = &outcome.analysis.deadline {
            let deadlines = self.deadlines.get_or_insert_with(|| Deadlines::new(deadline.budget_us));
            deadlines.budget_us = deadline.budget_us;
            deadlines.count(deadline.missed);
        }
        if let Some(due_us) = outcome.publish_at_us {
            report.latency_us = Some(due_us - outcome.stamp.captured_us);
            table.record(rows.jitter, published_us.saturating_sub(due_us));
            report.late += u64::from(outcome.handed_over_us > due_us);
        }
    }

    fn tell_board(&mut self) {
        let report = &mut self.report;
        report.reported_us = clock::now_us();
        report.deadlines = self.deadlines;
        for ((_, summary), (_, statistics)) in report.stages.iter_mut().zip(self.table.rows()) {
            *summary = statistics.summary();
        }
        self.links.board.update(|shown| shown.clone_from(report));
    }
}

/// The stages of a run.
struct Rows {
    capture: Row,
    find: Row,
    align: Row,
    encode: Row,
    decode: Vec<Row>,
    present: Row,
    total: Row,
    jitter: Row,
}

impl Rows {
    fn register(table: &mut Table, legend: &Legend, period_us: Option<u64>) -> Rows {
        let mut row = |name: &str| table.register(name, None);
        let [capture, find, align, encode] = ["capture", "find", "align", "encode"].map(&mut row);
        let decode = legend.decoders.iter().map(|decoder| row(&format!("decode {}", decoder.task().name))).collect();
        let present = row("present");
        let total = table.register("total", period_us);
        Rows {
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

    fn record(&self, table: &mut Table, outcome: &Outcome, present_us: u64) {
        let timing = &outcome.analysis.timing;
        table.record(self.capture, outcome.capture_us);
        // Stages that a frame does not have are not counted as free.
        let stages = [(self.find, timing.find_us), (self.align, timing.align_us), (self.encode, timing.encode_us)];
        for (row, us) in stages.into_iter().chain(self.decode.iter().copied().zip(timing.decode_us.iter().copied())) {
            if us > 0 {
                table.record(row, us);
            }
        }
        table.record(self.present, present_us);
        table.record(self.total, outcome.capture_us + outcome.used_us());
    }
}
