//! An open V4L2 node and its ioctls.
//!
//! The structures and numbers are those of the `v4l` crate. Its typed layer is not used: it panics on a card name that is
//! not UTF-8, on an unknown field order or colour space, and when closing fails.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use v4l::FourCC;
use v4l::v4l_sys::*;
use v4l::v4l2::vidioc;

use crate::capture::v4l2::backend::CameraNode;
use crate::capture::v4l2::capability::{Capability, Planes, text};
use crate::capture::v4l2::ioctl::{self, KernelStruct, Request};
use crate::capture::v4l2::mode::PixFormat;
use crate::capture::v4l2::offer::{FormatEntry, Interval, Rates, Sizes};

/// Number of entries that are read of a list; a faulty driver may never end its list.
const MAX_ENTRIES: u32 = 256;

/// An open node that captures video.
pub(crate) struct Node {
    file: File,
    capability: Capability,
}

impl Node {
    /// Opens a node for capturing. No later call blocks.
    ///
    /// # Errors
    /// Returns the kernel's error; `ENOTTY` when it is not a V4L2 node; `Unsupported` when it does not capture video.
    pub(crate) fn open(path: &Path) -> io::Result<Node> {
        let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        let answer = ioctl::query_capability(file.as_raw_fd())?;
        let capability = Capability::read(&answer, sysfs_index(path).unwrap_or(0))?;
        Ok(Node { file, capability })
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Returns the buffer type of this node, `V4L2_BUF_TYPE_...`.
    pub(crate) fn buffer_type(&self) -> u32 {
        self.capability.planes.buffer_type()
    }

    pub(crate) fn is_multiplanar(&self) -> bool {
        self.capability.planes == Planes::Multiple
    }

    /// Calls an ioctl of this node.
    ///
    /// # Errors
    /// Returns the kernel's error; `Interrupted` is never one of them.
    pub(crate) fn ioctl<T: KernelStruct>(&self, request: Request, argument: &mut T) -> io::Result<()> {
        ioctl::ioctl(self.fd(), request, argument)
    }

    /// Reads every entry of one of the driver's lists, up to the first that the driver refuses.
    fn list<T: KernelStruct>(&self, request: Request, prepare: impl Fn(&mut T, u32)) -> Vec<T> {
        let entry = |index| {
            let mut entry = T::zeroed();
            prepare(&mut entry, index);
            self.ioctl(request, &mut entry).ok().map(|()| entry)
        };
        (0..MAX_ENTRIES).map_while(entry).collect()
    }

    /// Returns the format that the camera is set to.
    ///
    /// # Errors
    /// Returns the kernel's error.
    pub(crate) fn format(&self) -> io::Result<PixFormat> {
        let mut format = v4l2_format::zeroed();
        format.type_ = self.buffer_type();
        self.ioctl(vidioc::VIDIOC_G_FMT, &mut format)?;
        Ok(self.pix_format(&format))
    }

    /// Sets a format and size, with any field order and stride. Returns what the driver has set, which may differ.
    ///
    /// # Errors
    /// Returns the kernel's error: `EBUSY` when another program streams from the camera.
    pub(crate) fn set_format(&self, fourcc: FourCC, [width, height]: [u32; 2]) -> io::Result<PixFormat> {
        let mut format = v4l2_format::zeroed();
        format.type_ = self.buffer_type();
        let field = v4l2_field_V4L2_FIELD_ANY;
        if self.is_multiplanar() {
            let mut pix = v4l2_pix_format_mplane::zeroed();
            (pix.width, pix.height, pix.pixelformat, pix.field) = (width, height, fourcc.into(), field);
            pix.num_planes = 1;
            format.fmt.pix_mp = pix;
        } else {
            // The stride must be zero: drivers would keep the old one for a new width.
            let mut pix = v4l2_pix_format::zeroed();
            (pix.width, pix.height, pix.pixelformat, pix.field) = (width, height, fourcc.into(), field);
            pix.priv_ = V4L2_PIX_FMT_PRIV_MAGIC;
            format.fmt.pix = pix;
        }
        self.ioctl(vidioc::VIDIOC_S_FMT, &mut format)?;
        Ok(self.pix_format(&format))
    }

    fn pix_format(&self, format: &v4l2_format) -> PixFormat {
        if self.is_multiplanar() {
            // SAFETY: the kernel wrote this variant for this buffer type; it holds integers only.
            let pix = unsafe { format.fmt.pix_mp };
            let plane = pix.plane_fmt[0];
            return PixFormat {
                width: pix.width,
                height: pix.height,
                fourcc: FourCC::from(pix.pixelformat),
                field: pix.field,
                stride: plane.bytesperline,
                size: plane.sizeimage,
                colorspace: pix.colorspace,
                // SAFETY: both variants are the same integer.
                encoding: u32::from(unsafe { pix.__bindgen_anon_1.ycbcr_enc }),
                quantization: u32::from(pix.quantization),
            };
        }
        // SAFETY: the kernel wrote this variant for this buffer type; it holds integers only.
        let pix = unsafe { format.fmt.pix };
        PixFormat {
            width: pix.width,
            height: pix.height,
            fourcc: FourCC::from(pix.pixelformat),
            field: pix.field,
            stride: pix.bytesperline,
            size: pix.sizeimage,
            colorspace: pix.colorspace,
            // SAFETY: both variants are the same integer.
            encoding: unsafe { pix.__bindgen_anon_1.ycbcr_enc },
            quantization: pix.quantization,
        }
    }

    /// Sets a frame interval. Returns the one that the driver has set; `None` when the driver cannot set it.
    ///
    /// # Errors
    /// Returns the kernel's error.
    pub(crate) fn set_interval(&self, interval: Interval) -> io::Result<Option<Interval>> {
        let mut parameters = v4l2_streamparm::zeroed();
        parameters.type_ = self.buffer_type();
        self.ioctl(vidioc::VIDIOC_G_PARM, &mut parameters)?;
        // SAFETY: the kernel wrote the variant of capture types; it holds integers only.
        let mut capture = unsafe { parameters.parm.capture };
        if capture.capability & V4L2_CAP_TIMEPERFRAME == 0 {
            return Ok(None);
        }
        let Interval { numerator, denominator } = interval;
        capture.timeperframe = v4l2_fract { numerator, denominator };
        parameters.parm.capture = capture;
        self.ioctl(vidioc::VIDIOC_S_PARM, &mut parameters)?;
        // SAFETY: as above.
        let taken = unsafe { parameters.parm.capture.timeperframe };
        let taken = Interval { numerator: taken.numerator, denominator: taken.denominator };
        Ok((taken.numerator > 0 && taken.denominator > 0).then_some(taken))
    }

    /// Sets a control of the camera.
    ///
    /// # Errors
    /// Returns the kernel's error: `EINVAL` when the camera does not have this control.
    pub(crate) fn set_control(&self, id: u32, value: i32) -> io::Result<()> {
        self.ioctl(vidioc::VIDIOC_S_CTRL, &mut v4l2_control { id, value })
    }
}

impl CameraNode for Node {
    fn capability(&self) -> &Capability {
        &self.capability
    }

    fn formats(&self) -> Vec<FormatEntry> {
        let entries = self.list(vidioc::VIDIOC_ENUM_FMT, |entry: &mut v4l2_fmtdesc, index| {
            (entry.index, entry.type_) = (index, self.buffer_type());
        });
        let entry = |entry: v4l2_fmtdesc| FormatEntry {
            fourcc: FourCC::from(entry.pixelformat),
            description: text(&entry.description),
            emulated: entry.flags & V4L2_FMT_FLAG_EMULATED != 0,
        };
        entries.into_iter().map(entry).collect()
    }

    fn sizes(&self, fourcc: FourCC) -> Sizes {
        let entries = self.list(vidioc::VIDIOC_ENUM_FRAMESIZES, |entry: &mut v4l2_frmsizeenum, index| {
            (entry.index, entry.pixel_format) = (index, fourcc.into());
        });
        match entries.first() {
            None => Sizes::Unknown,
            Some(first) if first.type_ == v4l2_frmsizetypes_V4L2_FRMSIZE_TYPE_DISCRETE => {
                // SAFETY: the kernel wrote the variant that `type_` names; all are integers.
                let size = |e: &v4l2_frmsizeenum| unsafe { e.__bindgen_anon_1.discrete };
                Sizes::Discrete(entries.iter().map(size).map(|s| [s.width, s.height]).collect())
            }
            Some(first) => {
                // SAFETY: as above.
                let range = unsafe { first.__bindgen_anon_1.stepwise };
                Sizes::Range {
                    min: [range.min_width, range.min_height],
                    max: [range.max_width, range.max_height],
                    step: [range.step_width, range.step_height],
                }
            }
        }
    }

    fn rates(&self, fourcc: FourCC, [width, height]: [u32; 2]) -> Rates {
        let entries = self.list(vidioc::VIDIOC_ENUM_FRAMEINTERVALS, |entry: &mut v4l2_frmivalenum, index| {
            (entry.index, entry.pixel_format, entry.width, entry.height) = (index, fourcc.into(), width, height);
        });
        let interval = |f: v4l2_fract| Interval { numerator: f.numerator, denominator: f.denominator };
        match entries.first() {
            None => Rates::Unknown,
            Some(first) if first.type_ == v4l2_frmivaltypes_V4L2_FRMIVAL_TYPE_DISCRETE => {
                // SAFETY: the kernel wrote the variant that `type_` names; all are integers.
                let fraction = |e: &v4l2_frmivalenum| unsafe { e.__bindgen_anon_1.discrete };
                Rates::Discrete(entries.iter().map(fraction).map(interval).collect())
            }
            Some(first) => {
                // SAFETY: as above.
                let range = unsafe { first.__bindgen_anon_1.stepwise };
                Rates::Range { shortest: interval(range.min), longest: interval(range.max) }
            }
        }
    }
}

/// Returns the number of this node among those of its device.
fn sysfs_index(path: &Path) -> Option<u32> {
    let node = path.canonicalize().ok()?;
    let file = Path::new("/sys/class/video4linux").join(node.file_name()?).join("index");
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_nodes_and_other_devices_have_different_errors() {
        let missing = Node::open(Path::new("/dev/no-such-video")).err().map(|e| e.kind());
        assert_eq!(missing, Some(io::ErrorKind::NotFound));
        let null = Node::open(Path::new("/dev/null")).err().and_then(|e| e.raw_os_error());
        assert_eq!(null, Some(libc::ENOTTY));
    }
}
