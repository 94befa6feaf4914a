//! `faceptor run`: frames of a source, one after the other, and what each stage took.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use super::Outcome;
use super::network::{NetworkArguments, TaskArguments};
use super::output;
use crate::capture::{Frame, Picture, Pixels, Source};
use crate::locate::Purpose;
use crate::pace::clock::Stopwatch;
use crate::pace::statistics::{Row, Table};
use crate::perceive::{Analysis, Locate, Pipeline};
use crate::present::json::{Around, Line, Origin};
use crate::present::{caption, overlay, png};

/// The most faces that a run may follow.
const MAX_FACES: i64 = 16;

#[derive(Args)]
pub struct RunArguments {
    /// `demo` (the embedded clip), a photo or a folder of photos.
    #[arg(long, value_name = "SOURCE", default_value = "demo")]
    source: String,
    #[command(flatten)]
    tasks: TaskArguments,
    #[command(flatten)]
    network: NetworkArguments,
    /// Stop after so many frames; the source starts over when it ends [default: everything once].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    frames: Option<u64>,
    /// One JSON object per frame and line.
    #[arg(long)]
    json: bool,
    /// Write the last frame, annotated, as a PNG.
    #[arg(long, value_name = "PNG")]
    out: Option<PathBuf>,
    /// The most faces of a frame, best first.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=MAX_FACES))]
    max_faces: u16,
    #[command(flatten)]
    later: LaterArguments,
}

/// Options that belong to the live loop: known, so that asking for one is told apart from a typing error.
#[derive(Args)]
struct LaterArguments {
    #[arg(long, hide = true, value_name = "MS", value_parser = later)]
    budget_ms: Option<String>,
    #[arg(long, hide = true, value_name = "fb:DEVICE", value_parser = later)]
    display: Option<String>,
    #[arg(long, hide = true, value_name = "ADDRESS", value_parser = later)]
    preview: Option<String>,
    #[arg(long, hide = true, value_name = "FILE", value_parser = later)]
    record: Option<String>,
    #[arg(long, hide = true, value_name = "SOCKET", value_parser = later)]
    control: Option<String>,
}

fn later(_: &str) -> Result<String, String> {
    Err("not supported in this version".to_owned())
}

pub fn run(arguments: RunArguments) -> Result<Outcome> {
    let (mut source, failures) = Source::open(&arguments.source)?;
    let mut outcome = Outcome::Done;
    for failure in &failures {
        log::error!("{failure}");
        outcome = Outcome::SomeFailed;
    }
    let bundle = arguments.network.open()?;
    let mut pipeline = arguments.tasks.pipeline(&bundle)?;
    let locate = Locate::Find { purpose: Purpose::Live, limit: usize::from(arguments.max_faces) };
    let mut table = Table::default();
    let rows = Rows::register(&mut table, &pipeline);
    let (mut picture, mut last) = (Picture::default(), None);
    let mut shown = 0;
    for number in 0..arguments.frames.unwrap_or_else(|| source.length()) {
        let (mut whole, mut stage) = (Stopwatch::start(), Stopwatch::start());
        let frame = match source.next(&mut picture) {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(failure) => {
                log::error!("{failure}");
                outcome = Outcome::SomeFailed;
                continue;
            }
        };
        let mut around = Around { capture_us: stage.lap_us(), ..Around::default() };
        let analysis = pipeline.analyse(&picture, locate)?;
        stage.lap_us();
        if !arguments.json {
            output::print(&describe(number, &frame, &analysis, &pipeline))?;
            around.present_us = stage.lap_us();
        }
        around.total_us = whole.lap_us();
        if arguments.json {
            let origin = Origin {
                path: frame.path.as_ref().map(|path| path.to_string_lossy().into_owned()),
                width: picture.width(),
                height: picture.height(),
                frame: Some([number, frame.sequence, frame.captured_us]),
            };
            let readers = pipeline.readers();
            output::print_json(&Line { origin: &origin, readers, analysis: &analysis, masks: &[], around })?;
        }
        rows.record(&mut table, &analysis, &around);
        shown += 1;
        last = Some(analysis);
    }
    let Some(last) = last else { bail!("source {} gave no frame", arguments.source) };
    if let Some(path) = &arguments.out {
        png::write_picture(path, &overlay::annotate(&picture, &last, &pipeline))?;
    }
    let report = format!("{shown} frames\n{table}\n");
    match arguments.json {
        // Standard output holds JSON only; when standard error is closed there is nobody to tell.
        true => drop(std::io::stderr().write_all(report.as_bytes())),
        false => output::print(&report)?,
    }
    Ok(outcome)
}

/// One line for people.
fn describe(number: u64, frame: &Frame, analysis: &Analysis, pipeline: &Pipeline) -> String {
    let faces = analysis.faces.iter().map(|face| {
        let phrases = caption::phrases(face, pipeline.readers());
        let [x, y, width, height] = face.detection.xywh();
        format!("face {} at {x:.0},{y:.0} {width:.0} x {height:.0}: {}", face.id, phrases.join(", "))
    });
    let faces: Vec<String> = faces.collect();
    let name = frame.path.as_ref().map(|path| format!(" {}", path.display())).unwrap_or_default();
    format!("frame {number}{name}: {}\n", if faces.is_empty() { "no face".to_owned() } else { faces.join("; ") })
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
}

impl Rows {
    fn register(table: &mut Table, pipeline: &Pipeline) -> Rows {
        let mut row = |name: &str| table.register(name, None);
        let [capture, find, align, encode] = ["capture", "find", "align", "encode"].map(&mut row);
        let decode = pipeline.readers().iter().map(|reader| row(&format!("decode {}", reader.task().name))).collect();
        Rows { capture, find, align, encode, decode, present: row("present"), total: row("total") }
    }

    fn record(&self, table: &mut Table, analysis: &Analysis, around: &Around) {
        let timing = &analysis.timing;
        table.record(self.capture, around.capture_us);
        table.record(self.find, timing.find_us);
        // Stages that a frame without a face does not have are not counted as free.
        if !analysis.faces.is_empty() && !analysis.tasks.is_empty() {
            table.record(self.align, timing.align_us);
            table.record(self.encode, timing.encode_us);
            for task in analysis.tasks.iter().map(|&task| usize::from(task)) {
                if let (Some(&row), Some(&us)) = (self.decode.get(task), timing.decode_us.get(task)) {
                    table.record(row, us);
                }
            }
        }
        table.record(self.present, around.present_us);
        table.record(self.total, around.total_us);
    }
}
