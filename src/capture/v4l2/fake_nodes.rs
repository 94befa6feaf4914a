//! Fake video nodes for tests. They answer `VIDIOC_QUERYCAP` with the kernel's structure, as drivers do.

use std::io;
use std::path::{Path, PathBuf};

use v4l::FourCC;
use v4l::v4l_sys::*;

use crate::capture::v4l2::backend::{CameraNode, NodeDirectory};
use crate::capture::v4l2::capability::Capability;
use crate::capture::v4l2::ioctl::KernelStruct;
use crate::capture::v4l2::offer::{FormatEntry, Interval, Rates, Sizes};

/// The nodes `/dev/video0`, `/dev/video1` and so on of a machine.
pub(crate) struct FakeNodes(Vec<FakeNode>);

impl FakeNodes {
    pub(crate) fn new(nodes: impl IntoIterator<Item = FakeNode>) -> FakeNodes {
        FakeNodes(nodes.into_iter().collect())
    }
}

impl NodeDirectory for FakeNodes {
    type Node = OpenNode;

    fn paths(&self) -> Vec<PathBuf> {
        (0..self.0.len()).map(|number| PathBuf::from(format!("/dev/video{number}"))).collect()
    }

    fn open(&self, path: &Path) -> io::Result<OpenNode> {
        let number = self.paths().iter().position(|known| known == path).ok_or(io::ErrorKind::NotFound)?;
        let node = &self.0[number];
        let capability = match node.error {
            Some(error) => return Err(io::Error::from_raw_os_error(error)),
            None => Capability::read(&node.answer, 0)?,
        };
        Ok(OpenNode { capability, formats: node.formats.clone() })
    }
}

/// A node: the driver's answer to `VIDIOC_QUERYCAP`, or the error of opening it, and its formats.
pub(crate) struct FakeNode {
    answer: v4l2_capability,
    error: Option<i32>,
    formats: Vec<FourCC>,
}

impl FakeNode {
    fn new(driver: &[u8], card: &[u8], flags: u32, formats: &[&[u8; 4]]) -> FakeNode {
        let capabilities = V4L2_CAP_DEVICE_CAPS | flags;
        let mut answer = v4l2_capability { capabilities, device_caps: flags, ..v4l2_capability::zeroed() };
        answer.driver[..driver.len()].copy_from_slice(driver);
        answer.card[..card.len()].copy_from_slice(card);
        answer.bus_info[..5].copy_from_slice(b"bus-1");
        FakeNode { answer, error: None, formats: formats.iter().map(|name| FourCC::new(name)).collect() }
    }

    /// Returns a webcam with YUYV.
    pub(crate) fn webcam(card: &[u8]) -> FakeNode {
        FakeNode::new(b"uvcvideo", card, V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING, &[b"YUYV"])
    }

    /// Returns the camera interface of an SoC with these formats.
    pub(crate) fn multiplanar(card: &[u8], formats: &[&[u8; 4]]) -> FakeNode {
        FakeNode::new(b"rkisp", card, V4L2_CAP_VIDEO_CAPTURE_MPLANE | V4L2_CAP_STREAMING, formats)
    }

    /// Returns the receiver of a CSI sensor with this driver and these formats.
    pub(crate) fn sensor(driver: &[u8], formats: &[&[u8; 4]]) -> FakeNode {
        FakeNode::new(driver, b"sensor", V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING, formats)
    }

    /// Returns a codec, which does not capture.
    pub(crate) fn codec(card: &[u8]) -> FakeNode {
        FakeNode::new(b"codec", card, V4L2_CAP_VIDEO_M2M_MPLANE | V4L2_CAP_STREAMING, &[b"NV12"])
    }

    /// Returns a node that cannot be opened.
    pub(crate) fn failing(error: i32) -> FakeNode {
        FakeNode { error: Some(error), ..FakeNode::webcam(b"") }
    }

    /// Returns the node without the ability to map buffers.
    pub(crate) fn without_streaming(mut self) -> FakeNode {
        self.answer.device_caps &= !V4L2_CAP_STREAMING;
        self
    }
}

/// An open [`FakeNode`]. Each format has 640 x 480 pixels at 30 frames per second.
pub(crate) struct OpenNode {
    capability: Capability,
    formats: Vec<FourCC>,
}

impl CameraNode for OpenNode {
    fn capability(&self) -> &Capability {
        &self.capability
    }

    fn formats(&self) -> Vec<FormatEntry> {
        let entry = |&fourcc: &FourCC| FormatEntry { fourcc, description: format!("format {fourcc}"), emulated: false };
        self.formats.iter().map(entry).collect()
    }

    fn sizes(&self, _fourcc: FourCC) -> Sizes {
        Sizes::Discrete(vec![[640, 480]])
    }

    fn rates(&self, _fourcc: FourCC, _size: [u32; 2]) -> Rates {
        Rates::Discrete(vec![Interval { numerator: 1, denominator: 30 }])
    }
}
