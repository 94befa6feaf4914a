//! Cameras: V4L2 on Linux, with recovery from the failures of cameras on a board.
//!
//! ```text
//! camera       a camera as a source                        tests run it on `fake_backend`
//!   recovery     what to do when something fails
//!   frame_clock  the driver's counts and times -> Stamp
//!   backend      traits between a camera and the operating system
//! device       backend for V4L2: finds, configures and starts a camera
//!   stream       queue of mapped buffers
//!   event        changes of the input signal
//! discovery    the nodes of the machine; finds a camera again
//! probe        what each camera offers, for `devices` and `doctor`; chooses a mode for `device`
//!   selection    choice of format, size and rate
//!   sensors      nodes with raw Bayer pixels, and the source to use instead
//! node         an open node and its ioctls
//!   ioctl        the call itself and its structures
//!   mode         format, size and rate that the driver has set
//!   capability   who a camera is, and how it delivers frames
//!   offer        formats, sizes and rates that a camera lists
//!   coding       pixel formats that are supported
//! ```
//!
//! Each poll of a [`camera::Camera`] drains the queue, keeps the newest frame and gives the other buffers back. A raw frame
//! is read in the driver's buffer, which is given back at the next poll.
#![allow(unsafe_code)]

pub(crate) mod backend;
pub(crate) mod camera;
pub(crate) mod capability;
pub(crate) mod coding;
mod device;
pub(crate) mod discovery;
mod event;
#[cfg(test)]
mod fake_backend;
#[cfg(test)]
pub(crate) mod fake_nodes;
mod frame_clock;
mod ioctl;
mod mode;
mod node;
pub(crate) mod offer;
pub(crate) mod probe;
mod recovery;
pub(crate) mod selection;
mod sensors;
mod stream;
