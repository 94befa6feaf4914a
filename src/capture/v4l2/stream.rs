//! The queue of buffers that are mapped into memory.
//!
//! The stream of the `v4l` crate is not used: after a timeout it gives back a buffer that it does not have, and fails from
//! then on; and it panics when it is closed after a fault.

use std::io;
use std::slice;
use std::time::Duration;

use v4l::v4l_sys::*;
use v4l::v4l2::vidioc;

use crate::capture::v4l2::backend::{Filled, Stream};
use crate::capture::v4l2::event;
use crate::capture::v4l2::ioctl::{KernelStruct, Request};
use crate::capture::v4l2::mode::{Mode, PixFormat};
use crate::capture::v4l2::node::Node;
use crate::platform::clock;
use crate::platform::mmap::Mapping;
use crate::platform::poll::{Events, PollEntry, poll};

/// Number of buffers: one is shown, one is being filled, and two take the frames that arrive in the meantime.
const BUFFERS: u32 = 4;

/// The stream of an open node.
pub(crate) struct MappedStream {
    node: Node,
    format: PixFormat,
    mode: Mode,
    buffers: Vec<Mapping>,
    /// True when the last poll reported an error; a dequeue without a buffer is an error then.
    poll_failed: bool,
    has_events: bool,
    /// True when the last poll reported an event.
    event_pending: bool,
}

impl MappedStream {
    /// Maps the buffers and starts the camera, which has been set to `format`.
    ///
    /// # Errors
    /// Returns the kernel's error; `OutOfMemory` when the driver has fewer than two buffers.
    pub(crate) fn start(node: Node, format: PixFormat, mode: Mode) -> io::Result<MappedStream> {
        let mut request = v4l2_requestbuffers::zeroed();
        (request.count, request.type_, request.memory) = (BUFFERS, node.buffer_type(), v4l2_memory_V4L2_MEMORY_MMAP);
        node.ioctl(vidioc::VIDIOC_REQBUFS, &mut request)?;
        if request.count < 2 {
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, "the driver has no two buffers"));
        }
        let has_events = event::subscribe(&node);
        let buffers = Vec::new();
        let mut stream =
            MappedStream { node, format, mode, buffers, poll_failed: false, has_events, event_pending: false };
        for index in 0..request.count {
            let mapping = stream.map(index)?;
            stream.buffers.push(mapping);
            stream.enqueue(index)?;
        }
        stream.node.ioctl(vidioc::VIDIOC_STREAMON, &mut (stream.node.buffer_type() as i32))?;
        Ok(stream)
    }

    /// Calls the ioctl `request` for a buffer. Returns the buffer and its plane; for single-planar drivers the plane is
    /// filled from the buffer.
    fn buffer_ioctl(&self, request: Request, index: u32) -> io::Result<(v4l2_buffer, v4l2_plane)> {
        let mut plane = v4l2_plane::zeroed();
        let mut buffer = v4l2_buffer::zeroed();
        (buffer.index, buffer.type_, buffer.memory) = (index, self.node.buffer_type(), v4l2_memory_V4L2_MEMORY_MMAP);
        let multiplanar = self.node.is_multiplanar();
        if multiplanar {
            buffer.m.planes = &raw mut plane;
            buffer.length = 1;
        }
        self.node.ioctl(request, &mut buffer)?;
        if !multiplanar {
            (plane.bytesused, plane.length) = (buffer.bytesused, buffer.length);
            // SAFETY: the kernel wrote the offset for a mapped buffer; both variants are the same integer.
            plane.m.mem_offset = unsafe { buffer.m.offset };
        }
        buffer.m.offset = 0;
        Ok((buffer, plane))
    }

    fn map(&self, index: u32) -> io::Result<Mapping> {
        let (_, plane) = self.buffer_ioctl(vidioc::VIDIOC_QUERYBUF, index)?;
        let length = plane.length as usize;
        // SAFETY: `buffer_ioctl` has set the offset.
        let offset = unsafe { plane.m.mem_offset };
        Mapping::of_driver(self.node.as_fd(), offset, length)
    }

    fn enqueue(&self, index: u32) -> io::Result<()> {
        self.buffer_ioctl(vidioc::VIDIOC_QBUF, index).map(|_| ())
    }
}

impl Drop for MappedStream {
    fn drop(&mut self) {
        // This fails for a camera that is gone, which is harmless: closing the node frees everything.
        let _ = self.node.ioctl(vidioc::VIDIOC_STREAMOFF, &mut (self.node.buffer_type() as i32));
    }
}

impl Stream for MappedStream {
    fn mode(&self) -> &Mode {
        &self.mode
    }

    fn buffers(&self) -> usize {
        self.buffers.len()
    }

    fn wait(&mut self, until_us: u64) -> io::Result<bool> {
        let left = Duration::from_micros(until_us.saturating_sub(clock::now_us()));
        let urgent = if self.has_events { Events::URGENT } else { Events::NONE };
        let mut entry = PollEntry::new(self.node.fd(), Events::READABLE.and(urgent));
        let ready = poll(slice::from_mut(&mut entry), Some(left))?;
        self.poll_failed = entry.happened().intersects(Events::FAILED);
        self.event_pending = entry.happened().intersects(Events::URGENT);
        Ok(ready > 0)
    }

    fn source_changed(&mut self) -> bool {
        std::mem::take(&mut self.event_pending) && event::source_changed(&self.node)
    }

    fn dequeue(&mut self) -> io::Result<Option<Filled>> {
        let (buffer, plane) = match self.buffer_ioctl(vidioc::VIDIOC_DQBUF, 0) {
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let failed = std::mem::take(&mut self.poll_failed);
                return if failed { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(None) };
            }
            Err(error) => return Err(error),
        };
        let Some(mapping) = self.buffers.get(buffer.index as usize) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the driver gave a buffer that does not exist"));
        };
        let monotonic = buffer.flags & V4L2_BUF_FLAG_TIMESTAMP_MASK == V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
        let taken_us = buffer.timestamp.tv_sec as u64 * 1_000_000 + buffer.timestamp.tv_usec as u64;
        Ok(Some(Filled {
            index: buffer.index,
            used: (plane.bytesused as usize).min(mapping.length()),
            damaged: buffer.flags & V4L2_BUF_FLAG_ERROR != 0,
            sequence: buffer.sequence,
            taken_us: monotonic.then_some(taken_us),
        }))
    }

    fn requeue(&mut self, filled: Filled) -> Result<(), (Filled, io::Error)> {
        self.enqueue(filled.index).map_err(|error| (filled, error))
    }

    fn bytes(&self, filled: &Filled) -> &[u8] {
        let Some(mapping) = self.buffers.get(filled.index as usize) else { return &[] };
        // SAFETY: a mapping of the driver's memory. The buffer is not queued (requeueing consumes `Filled`), so the driver
        // does not write to it while the slice exists.
        unsafe { mapping.bytes(filled.used) }
    }

    fn format_changed(&self) -> bool {
        self.node.format().is_ok_and(|now| {
            let shape = |f: &PixFormat| (f.fourcc, f.width, f.height, f.stride);
            shape(&now) != shape(&self.format)
        })
    }
}
