//! `faceptor devices`: lists the cameras of this machine and what each offers.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::capture::v4l2::backend::NodeDirectory;
use crate::capture::v4l2::capability::Planes;
use crate::capture::v4l2::coding::Coding;
use crate::capture::v4l2::discovery::VideoNodes;
use crate::capture::v4l2::offer::{Interval, Rates, Sizes};
use crate::capture::v4l2::probe::{self, Probed, ProbedCamera, ProbedFormat};
use crate::capture::v4l2::selection::Choice;
use crate::cli::Outcome;
use crate::cli::output;

#[derive(Args)]
pub(crate) struct DevicesArguments {
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
    /// The mode that `run` takes without further options; null when it can take none.
    chosen: Option<Chosen>,
    formats: Vec<FormatReport>,
    /// True for MPLANE drivers. For the text only.
    #[serde(skip)]
    multiplanar: bool,
    /// Why there is no chosen mode. For the text only.
    #[serde(skip)]
    problem: Option<String>,
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
    /// True when `run` supports it.
    read: bool,
    sizes: Vec<SizeReport>,
}

/// One size, or a range of sizes with `up_to`.
#[derive(Serialize)]
struct SizeReport {
    width: u32,
    height: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    up_to: Option<[u32; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<[u32; 2]>,
    /// Frames per second, fastest first; with `any_fps_between` the highest and lowest rate.
    fps: Vec<f64>,
    any_fps_between: bool,
}

pub(crate) fn run(arguments: DevicesArguments) -> Result<Outcome> {
    let report = Report::of(&VideoNodes::of_this_machine());
    match arguments.json {
        true => output::print_json(&report)?,
        false => output::print(&table(&report))?,
    }
    let all_refused = report.cameras.is_empty() && !report.unusable.is_empty();
    Ok(if all_refused { Outcome::SomeFailed } else { Outcome::Done })
}

impl Report {
    fn of(nodes: &impl NodeDirectory) -> Report {
        let mut report = Report { cameras: Vec::new(), unusable: Vec::new() };
        for Probed { path, camera } in probe::probe_all(nodes) {
            match camera {
                Ok(camera) => report.cameras.push(CameraReport::new(path, camera)),
                Err(error) => report.unusable.push(Unusable { reason: probe::explain(&error), path }),
            }
        }
        report
    }
}

/// Returns the rate of an interval to a hundredth, frames per second.
fn fps(interval: Interval) -> f64 {
    (interval.fps() * 100.0).round() / 100.0
}

impl CameraReport {
    fn new(path: PathBuf, camera: ProbedCamera) -> CameraReport {
        let ProbedCamera { identity, planes, formats, choice } = camera;
        let (chosen, problem) = match choice {
            Ok(choice) => (Some(Chosen::new(choice)), None),
            Err(reason) => (None, Some(reason.to_string())),
        };
        CameraReport {
            path,
            driver: identity.driver,
            card: identity.card,
            bus: identity.bus,
            chosen,
            formats: formats.into_iter().map(FormatReport::new).collect(),
            multiplanar: planes == Planes::Multiple,
            problem,
        }
    }
}

impl Chosen {
    fn new(choice: Choice) -> Chosen {
        let [width, height] = choice.size;
        Chosen { fourcc: choice.fourcc.to_string(), width, height, fps: fps(choice.interval) }
    }
}

impl FormatReport {
    fn new(format: ProbedFormat) -> FormatReport {
        let ProbedFormat { entry, sizes, rates } = format;
        let sizes = match sizes {
            Sizes::Discrete(sizes) => {
                sizes.into_iter().zip(rates).map(|(size, rates)| size_report(size, None, None, rates)).collect()
            }
            Sizes::Range { min, max, step } => {
                rates.into_iter().map(|rates| size_report(min, Some(max), Some(step), rates)).collect()
            }
            Sizes::Unknown => Vec::new(),
        };
        let read = Coding::of(entry.fourcc).is_some();
        FormatReport { fourcc: entry.fourcc.to_string(), description: entry.description, read, sizes }
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
        // Writing to a string cannot fail.
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
    let planes = if camera.multiplanar { ", multi-planar" } else { "" };
    writeln!(text, "{}: {} ({}, {}{planes})", camera.path.display(), camera.card, camera.driver, camera.bus)?;
    match &camera.chosen {
        Some(Chosen { fourcc, width, height, fps }) => {
            writeln!(text, "  run uses {fourcc} {width} x {height} at {fps} frames/s")?;
        }
        None => writeln!(text, "  run cannot use it: {}", camera.problem.as_deref().unwrap_or("no supported format"))?,
    }
    for format in &camera.formats {
        let unread = if format.read { "" } else { ", not supported" };
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
    use serde_json::Value;

    use super::*;
    use crate::capture::v4l2::fake_nodes::{FakeNode, FakeNodes};

    fn rates(fps: &[u32]) -> Rates {
        Rates::Discrete(fps.iter().map(|&fps| Interval { numerator: 1, denominator: fps }).collect())
    }

    #[test]
    fn table_lists_the_modes_of_a_camera() {
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
            multiplanar: false,
            problem: None,
        };
        let unusable = vec![Unusable { path: PathBuf::from("/dev/video2"), reason: "no permission".to_owned() }];
        let expected = "/dev/video0: Camera (uvcvideo, usb-1)\n  run uses YUYV 640 x 480 at 30 frames/s\n  \
                        YUYV (YUYV 4:2:2)\n    640 x 480: 30, 15 frames/s\n    48 x 32 to 1920 x 1080 in steps of \
                        2 x 2: 60 to 1 frames/s\n  H264 (H.264, not supported)\n    640 x 480\n/dev/video2: no permission\n";
        assert_eq!(table(&Report { cameras: vec![camera], unusable }), expected);
    }

    #[test]
    fn advice_is_given_without_a_camera() {
        let empty = || Report { cameras: Vec::new(), unusable: Vec::new() };
        assert!(table(&empty()).contains("no camera") && table(&empty()).contains("--source demo"));
        assert!(no_camera(false).contains("modprobe uvcvideo"));
    }

    #[test]
    fn cameras_with_broken_names_and_several_planes_are_listed() {
        let nodes = FakeNodes::new([
            FakeNode::webcam(b"Cam\xe9ra"),
            FakeNode::multiplanar(b"mainpath", &[b"NV12"]),
            FakeNode::multiplanar(b"selfpath", &[b"NM12"]),
            FakeNode::failing(libc::EBUSY),
            FakeNode::sensor(b"unicam", &[b"pRAA"]),
        ]);
        let report = Report::of(&nodes);
        let text = table(&report);
        for expected in [
            "/dev/video0: Cam\u{fffd}ra (uvcvideo, bus-1)\n  run uses YUYV 640 x 480 at 30 frames/s\n",
            "/dev/video1: mainpath (rkisp, bus-1, multi-planar)\n  run uses NV12 640 x 480 at 30 frames/s\n",
            "/dev/video2: selfpath (rkisp, bus-1, multi-planar)\n  run cannot use it: none of its formats (NM12) is read",
            "/dev/video3: another program uses it (fuser -v names it)\n",
            "turns into pictures: faceptor run --source libcamera\n",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        let json = serde_json::to_value(&report).expect("JSON");
        let first = &json["cameras"][0];
        let mut fields: Vec<&str> = first.as_object().expect("an object").keys().map(String::as_str).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["bus", "card", "chosen", "driver", "formats", "path"]);
        assert_eq!((&json["cameras"][2]["chosen"], &first["chosen"]["width"]), (&Value::Null, &Value::from(640)));
    }
}
