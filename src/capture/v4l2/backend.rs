//! The traits between a camera and the operating system. `device` and `discovery` implement them for V4L2,
//! `fake_backend` for tests.

use std::io;
use std::path::{Path, PathBuf};

use v4l::FourCC;

use crate::capture::v4l2::capability::Capability;
use crate::capture::v4l2::mode::Mode;
use crate::capture::v4l2::offer::{FormatEntry, Rates, Sizes};

/// A buffer that the driver has filled and handed over. Only a stream makes one, and it cannot be copied, so that a
/// buffer is given back only after it was taken, and only once.
#[derive(Debug)]
pub(crate) struct Filled {
    pub index: u32,
    /// Bytes of the frame, at most the size of the buffer.
    pub used: usize,
    /// True when the driver flags the frame as damaged.
    pub damaged: bool,
    /// The driver's frame count.
    pub sequence: u32,
    /// When the frame was taken, if the driver says so on the monotonic clock.
    pub taken_us: Option<u64>,
}

/// A camera that delivers frames.
pub(crate) trait Stream: Send {
    fn mode(&self) -> &Mode;

    /// Returns the number of buffers.
    fn buffers(&self) -> usize;

    /// Waits until a buffer is filled, the camera has an event or the stream has failed (`true`), or the time is up
    /// (`false`).
    ///
    /// # Errors
    /// Returns the kernel's error.
    fn wait(&mut self, until_us: u64) -> io::Result<bool>;

    /// Returns true when the camera has reported a different input signal, perhaps of another size, since the last call.
    fn source_changed(&mut self) -> bool;

    /// Takes the oldest filled buffer; `None` when there is none.
    ///
    /// # Errors
    /// Returns the kernel's error; the stream is unusable then.
    fn dequeue(&mut self) -> io::Result<Option<Filled>>;

    /// Gives a buffer back to the driver.
    ///
    /// # Errors
    /// Returns the kernel's error together with the buffer, which the driver has not taken.
    fn requeue(&mut self, filled: Filled) -> Result<(), (Filled, io::Error)>;

    /// Returns the bytes of a frame.
    fn bytes(&self, filled: &Filled) -> &[u8];

    /// Returns true when the driver is set to another format than at the start of the stream.
    fn format_changed(&self) -> bool;
}

/// Opens one camera, as often as it takes, and keeps the time.
pub(crate) trait Backend: Send {
    type Stream: Stream;

    /// Finds the camera (the same one as the first time), configures and starts it.
    ///
    /// # Errors
    /// When the camera is absent or cannot be used; the message contains a remedy.
    fn open(&mut self) -> anyhow::Result<Self::Stream>;

    /// Returns the path of the camera's node.
    fn name(&self) -> String;

    /// Reads the monotonic clock.
    fn now_us(&self) -> u64;

    fn sleep_until_us(&mut self, until_us: u64);
}

/// An open node of a camera, which can be asked what it offers.
pub(crate) trait CameraNode {
    fn capability(&self) -> &Capability;

    /// Returns the pixel formats that the camera offers.
    fn formats(&self) -> Vec<FormatEntry>;

    /// Returns the frame sizes of a format.
    fn sizes(&self, fourcc: FourCC) -> Sizes;

    /// Returns the frame intervals of a format at one size.
    fn rates(&self, fourcc: FourCC, size: [u32; 2]) -> Rates;
}

/// The video nodes of a machine.
pub(crate) trait NodeDirectory {
    type Node: CameraNode;

    /// Returns the path of every node, sorted by number.
    fn paths(&self) -> Vec<PathBuf>;

    /// Opens a node.
    ///
    /// # Errors
    /// Returns the kernel's error; `ENOTTY` when it is not a V4L2 node; `Unsupported` when it does not capture video.
    fn open(&self, path: &Path) -> io::Result<Self::Node>;
}
