//! Our own queue of mapped buffers.
//!
//! The `v4l` crate's stream gives a buffer back that it does not have after the first timeout, which fails for ever
//! after, and panics when it is closed after a fault.

use std::io;
use std::slice;
use std::time::Duration;

use v4l::v4l_sys::*;
use v4l::v4l2::vidioc;

use crate::capture::v4l2::backend::{Filled, Stream};
use crate::capture::v4l2::event;
use crate::capture::v4l2::mode::Mode;
use crate::capture::v4l2::node::{KernelStruct, Node, PixFormat};
use crate::platform::clock;
use crate::platform::mmap::Mapping;
use crate::platform::poll::{Events, PollEntry, poll};

/// One in our hands, one being filled, two for frames that come while we compute.
const BUFFERS: u32 = 4;

/// Buffers of an open node that fill with frames.
pub struct MappedStream {
    node: Node,
    format: PixFormat,
    mode: Mode,
    buffers: Vec<Mapping>,
    /// The last poll reported an error: a dequeue that brings nothing then is one too.
    poll_failed: bool,
    /// It has events, and the last poll reported some.
    has_events: bool,
    told: bool,
}

impl MappedStream {
    /// Maps the buffers and starts the camera, which has been set to `format`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn start(node: Node, format: PixFormat, mode: Mode) -> io::Result<MappedStream> {
        let mut request = v4l2_requestbuffers::zeroed();
        (request.count, request.type_, request.memory) = (BUFFERS, node.kind(), v4l2_memory_V4L2_MEMORY_MMAP);
        node.ioctl(vidioc::VIDIOC_REQBUFS, &mut request)?;
        if request.count < 2 {
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, "the driver has no two buffers"));
        }
        let has_events = event::subscribe(&node);
        let buffers = Vec::new();
        let mut stream = MappedStream { node, format, mode, buffers, poll_failed: false, has_events, told: false };
        for index in 0..request.count {
            let mapping = stream.map(index)?;
            stream.buffers.push(mapping);
            stream.enqueue(index)?;
        }
        stream.node.ioctl(vidioc::VIDIOC_STREAMON, &mut (stream.node.kind() as i32))?;
        Ok(stream)
    }

    /// Calls `request` for a buffer; `plane` is where drivers with several planes tell of theirs.
    fn buffer_ioctl(&self, request: vidioc::_IOC_TYPE, index: u32) -> io::Result<(v4l2_buffer, v4l2_plane)> {
        let mut plane = v4l2_plane::zeroed();
        let mut buffer = v4l2_buffer::zeroed();
        (buffer.index, buffer.type_, buffer.memory) = (index, self.node.kind(), v4l2_memory_V4L2_MEMORY_MMAP);
        let in_planes = self.node.kind() == v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE;
        if in_planes {
            buffer.m.planes = &raw mut plane;
            buffer.length = 1;
        }
        self.node.ioctl(request, &mut buffer)?;
        if !in_planes {
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
        // SAFETY: the kernel wrote it, see above.
        let offset = unsafe { plane.m.mem_offset };
        Mapping::of_driver(self.node.as_fd(), offset, length)
    }

    fn enqueue(&self, index: u32) -> io::Result<()> {
        self.buffer_ioctl(vidioc::VIDIOC_QBUF, index).map(|_| ())
    }
}

impl Drop for MappedStream {
    fn drop(&mut self) {
        // A camera that is gone cannot be stopped, and need not be: closing the node frees everything.
        let _ = self.node.ioctl(vidioc::VIDIOC_STREAMOFF, &mut (self.node.kind() as i32));
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
        self.told = entry.happened().intersects(Events::URGENT);
        Ok(ready > 0)
    }

    fn source_changed(&mut self) -> bool {
        std::mem::take(&mut self.told) && event::source_changed(&self.node)
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
        // SAFETY: a mapping of the driver's. The buffer is ours (it was dequeued, and `Filled` is used up by giving it
        // back), so the driver does not write to it while the slice lives.
        unsafe { mapping.bytes(filled.used) }
    }

    fn format_changed(&self) -> bool {
        self.node.format().is_ok_and(|now| {
            let shape = |f: &PixFormat| (f.fourcc, f.width, f.height, f.stride);
            shape(&now) != shape(&self.format)
        })
    }
}
