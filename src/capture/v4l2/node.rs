//! An opened V4L2 node and its ioctls.
//!
//! The structures and numbers are the `v4l` crate's. Its typed layer is not used: it panics on a card name that is no
//! UTF-8, on an unknown field order or colour space, and when closing fails.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use v4l::FourCC;
use v4l::v4l_sys::*;
use v4l::v4l2::vidioc;

use crate::capture::v4l2::mode::{Interval, Rates, Sizes};

/// Most entries that are read of a driver's list: a driver that never ends its list is not followed for ever.
const MAX_ENTRIES: u32 = 256;
/// `V4L2_CAP_VIDEO_CAPTURE` or its kind with several planes.
const CAPTURE: u32 = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_VIDEO_CAPTURE_MPLANE;

/// Structures that the kernel reads and writes: plain integers and unions of them, for which zero is a value.
///
/// # Safety
/// Only for types for which all bytes zero are valid.
pub(crate) unsafe trait KernelStruct: Copy {
    fn zeroed() -> Self {
        // SAFETY: the implementer promises that zero is a value.
        unsafe { mem::zeroed() }
    }
}

macro_rules! kernel_structs {
    ($($name:ty),* $(,)?) => {
        // SAFETY: structures of linux/videodev2.h: integers, arrays and unions of them, and pointers that may be null.
        $(unsafe impl KernelStruct for $name {})*
    };
}

kernel_structs!(
    v4l2_capability,
    v4l2_fmtdesc,
    v4l2_frmsizeenum,
    v4l2_frmivalenum,
    v4l2_format,
    v4l2_streamparm,
    v4l2_control,
    v4l2_requestbuffers,
    v4l2_buffer,
    v4l2_plane,
    v4l2_event,
    v4l2_event_subscription,
    v4l2_dv_timings,
    i32,
);

/// Who a camera is: what is looked for when its node has gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The kernel's driver, `uvcvideo`.
    pub driver: String,
    /// The camera's name.
    pub card: String,
    /// Where it is plugged in, `usb-0000:00:14.0-1`.
    pub bus: String,
    /// Which of the nodes of the same device, 0 for the first.
    pub index: u32,
}

/// The answer to S_FMT or G_FMT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixFormat {
    pub width: u32,
    pub height: u32,
    pub fourcc: FourCC,
    pub field: u32,
    /// Bytes from row to row; 0 for compressed formats.
    pub stride: u32,
    /// The most bytes of a frame.
    pub size: u32,
    pub colorspace: u32,
    pub encoding: u32,
    pub quantization: u32,
}

/// One entry of the list of formats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatEntry {
    pub fourcc: FourCC,
    pub description: String,
    /// Made by software from another format.
    pub emulated: bool,
}

/// An open node that captures video.
pub struct Node {
    file: File,
    identity: Identity,
    /// `V4L2_BUF_TYPE_VIDEO_CAPTURE` or its kind with several planes.
    kind: u32,
    streams: bool,
}

/// Up to the first zero; what is no UTF-8 is replaced.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim().to_owned()
}

impl Node {
    /// Opens a node for capturing, without blocking in any later call.
    ///
    /// # Errors
    /// Those of opening; `ENOTTY` when it is no V4L2 node; `Unsupported` when it does not capture video.
    pub fn open(path: &Path) -> io::Result<Node> {
        let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        let mut capability = v4l2_capability::zeroed();
        let asked = ioctl(file.as_raw_fd(), vidioc::VIDIOC_QUERYCAP, &mut capability);
        asked.map_err(|error| match error.raw_os_error() {
            // Emulation of a single program (qemu-user) knows no V4L2 at all.
            Some(libc::ENOSYS) => io::Error::from_raw_os_error(libc::ENOTTY),
            _ => error,
        })?;
        let given = capability.capabilities;
        let able = if given & V4L2_CAP_DEVICE_CAPS != 0 { capability.device_caps } else { given };
        let kind = match able {
            _ if able & V4L2_CAP_VIDEO_CAPTURE != 0 => v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE,
            _ if able & CAPTURE != 0 => v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE,
            _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "it does not capture video")),
        };
        let identity = Identity {
            driver: text(&capability.driver),
            card: text(&capability.card),
            bus: text(&capability.bus_info),
            index: sysfs_index(path).unwrap_or(0),
        };
        Ok(Node { file, identity, kind, streams: able & V4L2_CAP_STREAMING != 0 })
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Frames can be mapped into memory, which is the only way used here.
    pub fn streams(&self) -> bool {
        self.streams
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    pub(crate) fn kind(&self) -> u32 {
        self.kind
    }

    fn is_multiplanar(&self) -> bool {
        self.kind == v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE
    }

    /// # Errors
    /// The kernel's; `Interrupted` is never one of them.
    pub(crate) fn ioctl<T: KernelStruct>(&self, request: vidioc::_IOC_TYPE, argument: &mut T) -> io::Result<()> {
        ioctl(self.fd(), request, argument)
    }

    /// Every entry of one of the kernel's lists, until it says that there is no more.
    fn list<T: KernelStruct>(&self, request: vidioc::_IOC_TYPE, prepare: impl Fn(&mut T, u32)) -> Vec<T> {
        let entry = |index| {
            let mut entry = T::zeroed();
            prepare(&mut entry, index);
            self.ioctl(request, &mut entry).ok().map(|()| entry)
        };
        (0..MAX_ENTRIES).map_while(entry).collect()
    }

    /// The formats that the camera offers.
    pub fn formats(&self) -> Vec<FormatEntry> {
        let entries = self.list(vidioc::VIDIOC_ENUM_FMT, |entry: &mut v4l2_fmtdesc, index| {
            (entry.index, entry.type_) = (index, self.kind);
        });
        let entry = |entry: v4l2_fmtdesc| FormatEntry {
            fourcc: FourCC::from(entry.pixelformat),
            description: text(&entry.description),
            emulated: entry.flags & V4L2_FMT_FLAG_EMULATED != 0,
        };
        entries.into_iter().map(entry).collect()
    }

    /// The sizes of a format.
    pub fn sizes(&self, fourcc: FourCC) -> Sizes {
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

    /// The frame intervals of a format and size.
    pub fn rates(&self, fourcc: FourCC, [width, height]: [u32; 2]) -> Rates {
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

    /// What the camera is set to.
    ///
    /// # Errors
    /// The kernel's.
    pub fn format(&self) -> io::Result<PixFormat> {
        let mut format = v4l2_format::zeroed();
        format.type_ = self.kind;
        self.ioctl(vidioc::VIDIOC_G_FMT, &mut format)?;
        Ok(self.pix_format(&format))
    }

    /// Asks for a format and size, progressive, rows as long as the driver likes; gives what the driver made of it.
    ///
    /// # Errors
    /// The kernel's: `EBUSY` when another program streams from it.
    pub fn set_format(&self, fourcc: FourCC, [width, height]: [u32; 2]) -> io::Result<PixFormat> {
        let mut format = v4l2_format::zeroed();
        format.type_ = self.kind;
        let field = v4l2_field_V4L2_FIELD_ANY;
        if self.is_multiplanar() {
            let mut pix = v4l2_format::zeroed_planes();
            (pix.width, pix.height, pix.pixelformat, pix.field) = (width, height, fourcc.into(), field);
            pix.num_planes = 1;
            format.fmt.pix_mp = pix;
        } else {
            // Zero rows and sizes: the old stride would be kept for a new width.
            let mut pix = v4l2_format::zeroed_single();
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

    /// Asks for a frame interval and gives the one that the driver took; `None` when it has no say in it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_interval(&self, interval: Interval) -> io::Result<Option<Interval>> {
        let mut parameters = v4l2_streamparm::zeroed();
        parameters.type_ = self.kind;
        self.ioctl(vidioc::VIDIOC_G_PARM, &mut parameters)?;
        // SAFETY: the variant of capture types; it holds integers only.
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
    /// The kernel's; cameras without that control say `EINVAL`.
    pub fn set_control(&self, id: u32, value: i32) -> io::Result<()> {
        self.ioctl(vidioc::VIDIOC_S_CTRL, &mut v4l2_control { id, value })
    }
}

/// Zeroed parts of the union in `v4l2_format`.
trait FormatParts {
    fn zeroed_single() -> v4l2_pix_format;
    fn zeroed_planes() -> v4l2_pix_format_mplane;
}

impl FormatParts for v4l2_format {
    fn zeroed_single() -> v4l2_pix_format {
        // SAFETY: integers only.
        unsafe { mem::zeroed() }
    }

    fn zeroed_planes() -> v4l2_pix_format_mplane {
        // SAFETY: integers only.
        unsafe { mem::zeroed() }
    }
}

fn ioctl<T: KernelStruct>(fd: RawFd, request: vidioc::_IOC_TYPE, argument: &mut T) -> io::Result<()> {
    // The number of an ioctl carries the size of its argument.
    let size = (request >> 16) as usize & 0x3fff;
    if size != size_of::<T>() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the argument is not the one of this ioctl"));
    }
    loop {
        let pointer: *mut T = argument;
        // SAFETY: `argument` is ours for the call, and as large as the kernel takes it to be. A pointer inside (to the
        // plane of a buffer) points to a value of the caller that outlives the call.
        match unsafe { v4l::v4l2::ioctl(fd, request, pointer.cast()) } {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Which of its device's nodes this is.
fn sysfs_index(path: &Path) -> Option<u32> {
    let node = path.canonicalize().ok()?;
    let file = Path::new("/sys/class/video4linux").join(node.file_name()?).join("index");
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_at_its_first_zero_and_may_be_no_utf8() {
        assert_eq!(text(b"UVC Camera\0\0garbage"), "UVC Camera");
        assert_eq!(text(b"Cam\xe9ra \0"), "Cam\u{fffd}ra");
        assert_eq!(text(&[b'x'; 32]).len(), 32);
    }

    #[test]
    fn what_is_no_camera_is_told_apart() {
        let missing = Node::open(Path::new("/dev/no-such-video")).err().map(|e| e.kind());
        assert_eq!(missing, Some(io::ErrorKind::NotFound));
        let null = Node::open(Path::new("/dev/null")).err().and_then(|e| e.raw_os_error());
        assert_eq!(null, Some(libc::ENOTTY));
    }

    #[test]
    fn an_argument_of_another_size_never_reaches_the_kernel() -> io::Result<()> {
        let file = File::open("/dev/null")?;
        let error = ioctl(file.as_raw_fd(), vidioc::VIDIOC_QUERYCAP, &mut v4l2_control::zeroed()).err();
        assert_eq!(error.map(|e| e.kind()), Some(io::ErrorKind::InvalidInput));
        Ok(())
    }
}
