//! The ioctl call, and the kernel structures that may be passed to it.

use std::io;
use std::mem;
use std::os::fd::RawFd;

use v4l::v4l_sys::*;
use v4l::v4l2::vidioc;

pub(crate) use v4l::v4l2::vidioc::_IOC_TYPE as Request;

/// Structures that the kernel reads and writes: integers, arrays and unions of them, and pointers that may be null.
///
/// # Safety
/// Implement it only for types for which all bytes zero are valid.
pub(crate) unsafe trait KernelStruct: Copy {
    fn zeroed() -> Self {
        // SAFETY: the implementer promises that zero is a valid value.
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
    v4l2_pix_format,
    v4l2_pix_format_mplane,
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

/// Calls the ioctl `request`, again after each interruption by a signal.
///
/// # Errors
/// Returns the kernel's error, but never `Interrupted`; `InvalidInput` when `argument` has another size than `request`
/// expects.
pub(crate) fn ioctl<T: KernelStruct>(fd: RawFd, request: Request, argument: &mut T) -> io::Result<()> {
    // The number of an ioctl contains the size of its argument.
    let size = (request >> 16) as usize & 0x3fff;
    if size != size_of::<T>() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the argument is not the one of this ioctl"));
    }
    loop {
        let pointer: *mut T = argument;
        // SAFETY: `argument` is borrowed mutably for the call and is as large as the kernel expects. A pointer in it (to
        // the plane of a buffer) points to a value of the caller that outlives the call.
        match unsafe { v4l::v4l2::ioctl(fd, request, pointer.cast()) } {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Returns the number of a V4L2 ioctl whose argument is a `T`. `direction` is 1 for writing and 2 for reading.
pub(crate) const fn number<T>(direction: Request, number: Request) -> Request {
    direction << 30 | (size_of::<T>() as Request) << 16 | (b'V' as Request) << 8 | number
}

/// Asks for the driver's name, the card's name and the capabilities of an open file.
///
/// # Errors
/// Returns the kernel's error; `ENOTTY` when the file is not a V4L2 node.
pub(crate) fn query_capability(fd: RawFd) -> io::Result<v4l2_capability> {
    let mut answer = v4l2_capability::zeroed();
    match ioctl(fd, vidioc::VIDIOC_QUERYCAP, &mut answer) {
        // The emulation of a single program (qemu-user) does not know V4L2.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Err(io::Error::from_raw_os_error(libc::ENOTTY)),
        asked => asked.map(|()| answer),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn argument_of_another_size_never_reaches_the_kernel() -> io::Result<()> {
        let file = File::open("/dev/null")?;
        let error = ioctl(file.as_raw_fd(), vidioc::VIDIOC_QUERYCAP, &mut v4l2_control::zeroed()).err();
        assert_eq!(error.map(|e| e.kind()), Some(io::ErrorKind::InvalidInput));
        Ok(())
    }
}
