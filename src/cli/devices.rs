//! `faceptor devices`: the cameras of this machine, and what each offers.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::capture::source::SourceRequest;
use crate::capture::v4l2;
use crate::capture::v4l2::mode::{Coding, Interval, Rates, Sizes};
use crate::capture::v4l2::node::Node;
use crate::cli::Outcome;
use crate::cli::output;

#[derive(Args)]
pub struct DevicesArguments {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    cameras: Vec<CameraReport>,
    /// Nodes that could not be opened.
    unusable: Vec<Unusable>,
}

#[derive(Serialize)]
struct Unusable {
    path: PathBuf,
    reason: String,
}

#[derive(Serialize)]
struct CameraReport {
    path: PathBuf,
    driver: String,
    card: String,
    bus: String,
    /// What `run` takes when nothing is asked for; null when none of the formats is read.
    chosen: Option<Chosen>,
    formats: Vec<FormatReport>,
}

#[derive(Serialize)]
struct Chosen {
    fourcc: String,
    width: u32,
    height: u32,
    fps: f64,
}

#[derive(Serialize)]
struct FormatReport {
    fourcc: String,
    description: String,
    /// `run` can read it.
    read: bool,
    sizes: Vec<SizeReport>,
}

/// One size, or with `up_to` a range of them.
#[derive(Serialize)]
struct SizeReport {
    width: u32,
    height: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    up_to: Option<[u32; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<[u32; 2]>,
    /// Frames a second, fastest first; the two ends when any rate between them can be had.
    fps: Vec<f64>,
    any_fps_between: bool,
}

pub fn run(arguments: DevicesArguments) -> Result<Outcome> {
    let mut report = Report { cameras: Vec::new(), unusable: Vec::new() };
    for path in v4l2::nodes() {
        match Node::open(&path) {
            Ok(node) => report.cameras.push(describe(path, &node)),
            // Outputs, codecs and the metadata nodes of webcams.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                log::debug!("{}: {error}", path.display());
            }
            Err(error) => report.unusable.push(Unusable { reason: v4l2::advice(&error), path }),
        }
    }
    match arguments.json {
        true => output::print_json(&report)?,
        false => output::print(&table(&report))?,
    }
    let all_refused = report.cameras.is_empty() && !report.unusable.is_empty();
    Ok(if all_refused { Outcome::SomeFailed } else { Outcome::Done })
}

/// To a hundredth.
fn fps(interval: Interval) -> f64 {
    (interval.fps() * 100.0).round() / 100.0
}

fn describe(path: PathBuf, node: &Node) -> CameraReport {
    let identity = node.identity().clone();
    let chosen = v4l2::survey(node, &SourceRequest::default()).ok().map(|choice| Chosen {
        fourcc: choice.fourcc.to_string(),
        width: choice.size[0],
        height: choice.size[1],
        fps: fps(choice.interval),
    });
    let formats = node.formats().into_iter().map(|format| {
        let sizes = match node.sizes(format.fourcc) {
            Sizes::Discrete(sizes) => {
                sizes.into_iter().map(|size| size_report(size, None, None, node.rates(format.fourcc, size))).collect()
            }
            Sizes::Range { min, max, step } => {
                vec![size_report(min, Some(max), Some(step), node.rates(format.fourcc, max))]
            }
            Sizes::Unknown => Vec::new(),
        };
        let read = Coding::of(format.fourcc).is_some();
        FormatReport { fourcc: format.fourcc.to_string(), description: format.description, read, sizes }
    });
    CameraReport {
        path,
        driver: identity.driver,
        card: identity.card,
        bus: identity.bus,
        chosen,
        formats: formats.collect(),
    }
}

fn size_report([width, height]: [u32; 2], up_to: Option<[u32; 2]>, step: Option<[u32; 2]>, rates: Rates) -> SizeReport {
    let (mut fps, any_fps_between) = match rates {
        Rates::Discrete(intervals) => (intervals.into_iter().map(fps).collect::<Vec<f64>>(), false),
        Rates::Range { shortest, longest } => (vec![fps(shortest), fps(longest)], true),
        Rates::Unknown => (Vec::new(), false),
    };
    fps.sort_by(|a, b| b.total_cmp(a));
    SizeReport { width, height, up_to, step, fps, any_fps_between }
}

fn table(report: &Report) -> String {
    let mut text = String::new();
    for camera in &report.cameras {
        // Writing into a string cannot fail.
        let _ = write_camera(&mut text, camera);
    }
    for Unusable { path, reason } in &report.unusable {
        let _ = writeln!(text, "{}: {reason}", path.display());
    }
    if report.cameras.is_empty() && report.unusable.is_empty() {
        text += no_camera(Path::new("/sys/class/video4linux").exists());
    }
    text
}

fn no_camera(has_subsystem: bool) -> &'static str {
    match has_subsystem {
        true => {
            "no camera: plug one in and look at `dmesg | tail`; in a container, pass it in (docker run --device \
             /dev/video0)\n`faceptor run --source demo` runs without one\n"
        }
        false => {
            "no camera, and the kernel has no video4linux: load its driver (modprobe uvcvideo for USB cameras)\n\
             `faceptor run --source demo` runs without one\n"
        }
    }
}

fn write_camera(text: &mut String, camera: &CameraReport) -> std::fmt::Result {
    writeln!(text, "{}: {} ({}, {})", camera.path.display(), camera.card, camera.driver, camera.bus)?;
    match &camera.chosen {
        Some(Chosen { fourcc, width, height, fps }) => {
            writeln!(text, "  run takes {fourcc} {width} x {height} at {fps} frames/s")?;
        }
        None => writeln!(text, "  none of its formats is read")?,
    }
    for format in &camera.formats {
        let unread = if format.read { "" } else { ", not read" };
        writeln!(text, "  {} ({}{unread})", format.fourcc, format.description)?;
        for size in &format.sizes {
            write!(text, "    {} x {}", size.width, size.height)?;
            if let (Some([width, height]), Some([across, down])) = (size.up_to, size.step) {
                write!(text, " to {width} x {height} in steps of {across} x {down}")?;
            }
            let separator = if size.any_fps_between { " to " } else { ", " };
            let rates: Vec<String> = size.fps.iter().map(f64::to_string).collect();
            match rates.is_empty() {
                true => writeln!(text)?,
                false => writeln!(text, ": {} frames/s", rates.join(separator))?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(fps: &[u32]) -> Rates {
        Rates::Discrete(fps.iter().map(|&fps| Interval { numerator: 1, denominator: fps }).collect())
    }

    #[test]
    fn the_table_says_what_a_camera_offers() {
        let range = Rates::Range {
            shortest: Interval { numerator: 1, denominator: 60 },
            longest: Interval { numerator: 1, denominator: 1 },
        };
        let yuyv = FormatReport {
            fourcc: "YUYV".to_owned(),
            description: "YUYV 4:2:2".to_owned(),
            read: true,
            sizes: vec![
                size_report([640, 480], None, None, rates(&[15, 30])),
                size_report([48, 32], Some([1920, 1080]), Some([2, 2]), range),
            ],
        };
        let h264 = FormatReport {
            fourcc: "H264".to_owned(),
            description: "H.264".to_owned(),
            read: false,
            sizes: vec![size_report([640, 480], None, None, Rates::Unknown)],
        };
        let camera = CameraReport {
            path: PathBuf::from("/dev/video0"),
            driver: "uvcvideo".to_owned(),
            card: "Camera".to_owned(),
            bus: "usb-1".to_owned(),
            chosen: Some(Chosen { fourcc: "YUYV".to_owned(), width: 640, height: 480, fps: 30.0 }),
            formats: vec![yuyv, h264],
        };
        let unusable = vec![Unusable { path: PathBuf::from("/dev/video2"), reason: "no permission".to_owned() }];
        let expected = "/dev/video0: Camera (uvcvideo, usb-1)\n  run takes YUYV 640 x 480 at 30 frames/s\n  \
                        YUYV (YUYV 4:2:2)\n    640 x 480: 30, 15 frames/s\n    48 x 32 to 1920 x 1080 in steps of \
                        2 x 2: 60 to 1 frames/s\n  H264 (H.264, not read)\n    640 x 480\n/dev/video2: no permission\n";
        assert_eq!(table(&Report { cameras: vec![camera], unusable }), expected);
    }

    #[test]
    fn without_a_camera_there_is_advice() {
        let empty = || Report { cameras: Vec::new(), unusable: Vec::new() };
        assert!(table(&empty()).contains("no camera") && table(&empty()).contains("--source demo"));
        assert!(no_camera(false).contains("modprobe uvcvideo"));
    }
}
