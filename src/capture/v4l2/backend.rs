//! What a camera needs of the kernel. The tests put a model of it in its place, which is stricter than drivers are.

use std::io;

use crate::capture::v4l2::mode::Mode;

/// A buffer that the driver has filled and that is now ours. Only the stream makes them and they cannot be copied: a
/// buffer can be given back only when it was taken out, and only once.
#[derive(Debug)]
pub struct Filled {
    pub(crate) index: u32,
    /// Bytes of the frame, at most as many as the buffer has.
    pub(crate) used: usize,
    /// The driver says that the frame is damaged.
    pub(crate) damaged: bool,
    /// The driver's count.
    pub(crate) sequence: u32,
    /// When the frame was taken, if the driver says so on the monotonic clock.
    pub(crate) taken_us: Option<u64>,
}

/// A camera that delivers.
pub trait Stream: Send {
    fn mode(&self) -> &Mode;

    /// How many buffers there are.
    fn buffers(&self) -> usize;

    /// Waits until a buffer is filled, the camera has something to tell or something is wrong (`true`), or the time is up
    /// (`false`).
    ///
    /// # Errors
    /// The kernel's.
    fn wait(&mut self, until_us: u64) -> io::Result<bool>;

    /// The camera has told since the last time that its signal is another one, of another size perhaps.
    fn source_changed(&mut self) -> bool;

    /// The oldest filled buffer; `None` when there is none.
    ///
    /// # Errors
    /// The kernel's: the stream is broken then.
    fn dequeue(&mut self) -> io::Result<Option<Filled>>;

    /// Gives a buffer back to the driver.
    ///
    /// # Errors
    /// The kernel's, with the buffer: it is still ours.
    fn requeue(&mut self, filled: Filled) -> Result<(), (Filled, io::Error)>;

    /// The bytes of a frame.
    fn bytes(&self, filled: &Filled) -> &[u8];

    /// The driver is set to another format than when the stream was started.
    fn format_changed(&self) -> bool;
}

/// Opens the camera, and tells the time.
pub trait Backend: Send {
    type Stream: Stream;

    /// Finds the camera, the same one as before if it was open, sets it up and starts it.
    ///
    /// # Errors
    /// The message says what to do.
    fn open(&mut self) -> anyhow::Result<Self::Stream>;

    /// The camera in words: its node.
    fn name(&self) -> String;

    /// The monotonic clock.
    fn now_us(&self) -> u64;

    fn sleep_until_us(&mut self, until_us: u64);
}
