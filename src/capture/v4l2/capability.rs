//! Reads a V4L2 node's capabilities: its identity and how it delivers frames.

use std::io;

use v4l::v4l_sys::*;

/// Identifies a camera, so that it is found again after its node has disappeared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Name of the kernel's driver, `uvcvideo`.
    pub driver: String,
    /// Name of the camera.
    pub card: String,
    /// Where the camera is plugged in, `usb-0000:00:14.0-1`.
    pub bus: String,
    /// Number of this node among those of the same device, 0 for the first.
    pub index: u32,
}

/// How the driver lays out a frame in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planes {
    /// One buffer for a frame (`V4L2_CAP_VIDEO_CAPTURE`): webcams.
    Single,
    /// One or several buffers for a frame (`V4L2_CAP_VIDEO_CAPTURE_MPLANE`): the camera interfaces of many ARM SoCs.
    Multiple,
}

impl Planes {
    /// Returns the buffer type to use in every ioctl.
    pub(crate) fn buffer_type(self) -> u32 {
        match self {
            Planes::Single => v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE,
            Planes::Multiple => v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE,
        }
    }
}

/// The answer to `VIDIOC_QUERYCAP` of a node that captures video.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Capability {
    pub identity: Identity,
    pub planes: Planes,
    /// True when buffers can be mapped into memory, which is the only way of reading that is used.
    pub streams: bool,
}

impl Capability {
    /// Reads the driver's answer. The names may be any bytes; those that are not UTF-8 are replaced by U+FFFD.
    ///
    /// # Errors
    /// `Unsupported` when the node does not capture video: outputs, codecs, metadata.
    pub(crate) fn read(answer: &v4l2_capability, index: u32) -> io::Result<Capability> {
        // `capabilities` are those of the whole device, `device_caps` those of this node.
        let has_own = answer.capabilities & V4L2_CAP_DEVICE_CAPS != 0;
        let flags = if has_own { answer.device_caps } else { answer.capabilities };
        let planes = match flags {
            _ if flags & V4L2_CAP_VIDEO_CAPTURE != 0 => Planes::Single,
            _ if flags & V4L2_CAP_VIDEO_CAPTURE_MPLANE != 0 => Planes::Multiple,
            _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "it does not capture video")),
        };
        let identity =
            Identity { driver: text(&answer.driver), card: text(&answer.card), bus: text(&answer.bus_info), index };
        Ok(Capability { identity, planes, streams: flags & V4L2_CAP_STREAMING != 0 })
    }
}

/// Reads a fixed-size text up to its first zero byte.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::v4l2::ioctl::KernelStruct;

    #[test]
    fn names_end_at_the_first_zero_and_may_be_invalid_utf8() {
        assert_eq!(text(b"UVC Camera\0\0garbage"), "UVC Camera");
        assert_eq!(text(b"Cam\xe9ra \0"), "Cam\u{fffd}ra");
        assert_eq!(text(&[b'x'; 32]).len(), 32);
    }

    #[test]
    fn flags_of_the_node_count_more_than_those_of_its_device() {
        let read = |capabilities, device_caps| {
            let answer = v4l2_capability { capabilities, device_caps, ..v4l2_capability::zeroed() };
            Capability::read(&answer, 0).map(|found| (found.planes, found.streams)).map_err(|error| error.kind())
        };
        let (single, multiple) = (V4L2_CAP_VIDEO_CAPTURE, V4L2_CAP_VIDEO_CAPTURE_MPLANE);
        assert_eq!(read(single | V4L2_CAP_STREAMING, 0), Ok((Planes::Single, true)));
        assert_eq!(read(V4L2_CAP_DEVICE_CAPS | single, multiple), Ok((Planes::Multiple, false)));
        // The second node of a webcam gives metadata only.
        let metadata = read(V4L2_CAP_DEVICE_CAPS | single, V4L2_CAP_META_CAPTURE);
        assert_eq!(metadata, Err(io::ErrorKind::Unsupported));
        assert_eq!(read(V4L2_CAP_VIDEO_M2M_MPLANE, 0), Err(io::ErrorKind::Unsupported), "a codec");
    }
}
