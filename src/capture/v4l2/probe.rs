//! Describes every camera of a machine: what `faceptor devices` lists and `faceptor doctor` checks. Capture chooses its
//! mode with the same functions.

use std::io;
use std::path::PathBuf;

use crate::capture::source::SourceRequest;
use crate::capture::v4l2::backend::{CameraNode, NodeDirectory};
use crate::capture::v4l2::capability::{Identity, Planes};
use crate::capture::v4l2::offer::{FormatEntry, Rates, Sizes};
use crate::capture::v4l2::selection::{self, Candidate, Choice, ModeError};
use crate::capture::v4l2::sensors;

/// Advice for a multi-planar camera whose formats are not supported.
const MULTIPLANAR_ADVICE: &str = "this is a multi-planar (MPLANE) camera: it is supported with formats of one plane only; \
    convert its frames: gst-launch-1.0 -q v4l2src device=/dev/videoN ! videoconvert ! video/x-raw,format=I420 ! y4menc ! \
    fdsink | faceptor run --source -";

/// A node that was opened, or the error of opening it.
pub(crate) struct Probed {
    pub path: PathBuf,
    pub camera: io::Result<ProbedCamera>,
}

/// A camera and what it offers.
pub(crate) struct ProbedCamera {
    pub identity: Identity,
    pub planes: Planes,
    pub formats: Vec<ProbedFormat>,
    /// The mode that `faceptor run` takes without further options.
    pub choice: Result<Choice, CameraError>,
}

/// A pixel format with its sizes. Each size has its rates; a range has those of its largest size.
pub(crate) struct ProbedFormat {
    pub entry: FormatEntry,
    pub sizes: Sizes,
    pub rates: Vec<Rates>,
}

/// Reason why a camera that can be opened cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CameraError {
    #[error("it can only be read byte by byte, not mapped into memory")]
    NotMapped,
    #[error(transparent)]
    Mode(ModeError),
    #[error("{0}; {MULTIPLANAR_ADVICE}")]
    Multiplanar(ModeError),
    #[error(
        "it is a sensor with raw Bayer pixels ({offered}), which the board's image processor turns into pictures: {command}"
    )]
    Sensor { offered: String, command: &'static str },
}

/// Opens and describes every node of `nodes` that captures video.
pub(crate) fn probe_all(nodes: &impl NodeDirectory) -> Vec<Probed> {
    let mut probed = Vec::new();
    for path in nodes.paths() {
        match nodes.open(&path) {
            // Outputs, codecs, and the metadata nodes of webcams.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => log::debug!("{}: {error}", path.display()),
            opened => probed.push(Probed { path, camera: opened.map(|node| describe(&node)) }),
        }
    }
    probed
}

fn describe(node: &impl CameraNode) -> ProbedCamera {
    let probe = |entry: FormatEntry| {
        let sizes = node.sizes(entry.fourcc);
        let rates = match &sizes {
            Sizes::Discrete(sizes) => sizes.iter().map(|&size| node.rates(entry.fourcc, size)).collect(),
            Sizes::Range { max, .. } => vec![node.rates(entry.fourcc, *max)],
            Sizes::Unknown => Vec::new(),
        };
        ProbedFormat { entry, sizes, rates }
    };
    let capability = node.capability();
    ProbedCamera {
        identity: capability.identity.clone(),
        planes: capability.planes,
        formats: node.formats().into_iter().map(probe).collect(),
        choice: choose_mode(node, &SourceRequest::default()),
    }
}

/// Chooses the mode of a camera for a request.
///
/// # Errors
/// When the camera cannot be mapped into memory, has no supported format, or not the requested one.
pub(crate) fn choose_mode(node: &impl CameraNode, request: &SourceRequest) -> Result<Choice, CameraError> {
    let capability = node.capability();
    if !capability.streams {
        return Err(CameraError::NotMapped);
    }
    let formats: Vec<_> = node.formats().into_iter().map(|format| format.fourcc).collect();
    if let (None, Some(command)) = (request.fourcc, sensors::command_for(&capability.identity.driver, &formats)) {
        let offered = formats.iter().map(ToString::to_string).collect::<Vec<String>>().join(", ");
        return Err(CameraError::Sensor { offered, command });
    }
    selection::choose(&candidates(node, request), request).map_err(|error| match (capability.planes, &error) {
        (Planes::Multiple, ModeError::NoneRead { .. }) => CameraError::Multiplanar(error),
        _ => CameraError::Mode(error),
    })
}

/// Lists the formats and sizes of the camera that are worth considering.
fn candidates(node: &impl CameraNode, request: &SourceRequest) -> Vec<Candidate> {
    let wanted = selection::wanted_size(request);
    // An emulated format is no better than the one from which a library makes it.
    let formats = node.formats().into_iter().filter(|format| !format.emulated);
    let sizes = formats
        .flat_map(|format| node.sizes(format.fourcc).near(wanted).into_iter().map(move |size| (format.fourcc, size)));
    sizes.map(|(fourcc, size)| Candidate { fourcc, size, rates: node.rates(fourcc, size) }).collect()
}

/// Explains an error of opening a node, with a remedy.
pub(crate) fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => "no camera there: `faceptor devices` lists them".to_owned(),
        Some(libc::EACCES | libc::EPERM) => {
            "no permission: add your user to the group video (sudo usermod -aG video \"$USER\") and log in again"
                .to_owned()
        }
        Some(libc::EBUSY) => "another program uses it (fuser -v names it)".to_owned(),
        Some(libc::ENOTTY) => "not a camera: `faceptor devices` lists them".to_owned(),
        _ if error.kind() == io::ErrorKind::NotFound => "no camera there: `faceptor devices` lists them".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::v4l2::fake_nodes::{FakeNode, FakeNodes};

    #[test]
    fn camera_names_that_are_not_utf8_are_replaced() {
        let nodes = FakeNodes::new([FakeNode::webcam(b"Cam\xe9ra\xff")]);
        let [probed] = &probe_all(&nodes)[..] else { panic!("one camera") };
        let camera = probed.camera.as_ref().expect("a camera");
        assert_eq!((camera.identity.card.as_str(), camera.planes), ("Cam\u{fffd}ra\u{fffd}", Planes::Single));
        assert!(camera.choice.is_ok());
    }

    #[test]
    fn multiplanar_cameras_are_cameras() {
        let nodes = FakeNodes::new([
            FakeNode::multiplanar(b"rkisp_mainpath", &[b"NM12", b"NV12"]),
            FakeNode::multiplanar(b"rkisp_selfpath", &[b"NM12"]),
        ]);
        let probed = probe_all(&nodes);
        let choices: Vec<_> = probed.iter().filter_map(|probed| probed.camera.as_ref().ok()).collect();
        assert_eq!(choices.iter().map(|camera| camera.planes).collect::<Vec<_>>(), [Planes::Multiple; 2]);
        assert_eq!(choices[0].choice.as_ref().map(|choice| choice.fourcc.to_string()), Ok("NV12".to_owned()));
        let reason = choices[1].choice.as_ref().expect_err("two planes").to_string();
        assert!(reason.starts_with("none of its formats (NM12) is read: MJPG, "), "{reason}");
        assert!(reason.contains("multi-planar") && reason.contains("gst-launch-1.0"), "{reason}");
    }

    #[test]
    fn raw_sensors_are_answered_with_the_command_that_reads_them() {
        for (driver, formats, expected) in [
            (b"tegra-video".as_slice(), [b"RG10"].as_slice(), "gst:nvarguscamerasrc"),
            (b"unicam", &[b"pRAA", b"RG10"], "--source libcamera"),
            (b"rp1-cfe", &[b"YUYV", b"pBAA"], "--source libcamera"),
            (b"imx-csi", &[b"RGGB"], "gst:libcamerasrc"),
        ] {
            let nodes = FakeNodes::new([FakeNode::sensor(driver, formats)]);
            let [probed] = &probe_all(&nodes)[..] else { panic!("one camera") };
            let choice = &probed.camera.as_ref().expect("it opens").choice;
            let reason = choice.as_ref().expect_err("no picture").to_string();
            assert!(reason.contains("raw Bayer") && reason.contains(expected), "{reason}");
            // `run` chooses its mode with the same function; a format that is asked for by name is tried.
            let node = nodes.open(&probed.path).expect("it opens");
            let named = SourceRequest { fourcc: Some(v4l::FourCC::new(b"YUYV")), ..SourceRequest::default() };
            assert_eq!(choose_mode(&node, &named).is_ok(), formats.contains(&b"YUYV"));
            assert!(matches!(choose_mode(&node, &SourceRequest::default()), Err(CameraError::Sensor { .. })));
        }
    }

    #[test]
    fn nodes_that_do_not_capture_are_left_out_and_broken_ones_reported() {
        let nodes = FakeNodes::new([
            FakeNode::codec(b"bcm2835-codec"),
            FakeNode::webcam(b"Camera"),
            FakeNode::failing(libc::ENODEV),
            FakeNode::webcam(b"Old camera").without_streaming(),
        ]);
        let probed = probe_all(&nodes);
        let paths: Vec<_> = probed.iter().map(|probed| probed.path.display().to_string()).collect();
        assert_eq!(paths, ["/dev/video1", "/dev/video2", "/dev/video3"]);
        assert_eq!(probed[1].camera.as_ref().err().and_then(io::Error::raw_os_error), Some(libc::ENODEV));
        let old = probed[2].camera.as_ref().expect("it opens");
        assert_eq!(old.choice, Err(CameraError::NotMapped));
    }
}
