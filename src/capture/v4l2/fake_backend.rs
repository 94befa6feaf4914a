//! Fake cameras for tests: virtual time that passes only while the camera is waited for, a buffer queue that is stricter
//! than those of drivers, scripted faults, and nodes that answer as drivers do.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, anyhow};
use v4l::FourCC;

use crate::capture::v4l2::backend::{Backend, Filled, Stream};
use crate::capture::v4l2::coding::Coding;
use crate::capture::v4l2::mode::Mode;
use crate::capture::v4l2::offer::Interval;
use faceptor::stages::{Colour, PixelFormat};

/// Time from frame to frame.
pub(crate) const PERIOD_US: u64 = 40_000;
/// Time from taking a frame until it is in the queue.
pub(crate) const DELAY_US: u64 = 10_000;
pub(crate) const BUFFERS: usize = 4;

/// An event that the fake camera produces instead of its next frame.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Delivers a frame of these bytes.
    Frame(Vec<u8>),
    /// Delivers a frame that the driver flags as damaged.
    Flagged,
    /// Counts a frame that never arrives.
    Lost,
    /// Delivers no more frames until the stream is closed.
    Hang,
    /// Fails with this error until the stream is closed.
    Fail(i32),
}

/// The state of the camera and its driver.
#[derive(Debug)]
pub(crate) struct World {
    pub now_us: u64,
    /// When the next frame is taken.
    next_us: u64,
    sequence: u32,
    /// The next events. When it is empty, frames of the mode are delivered.
    pub script: VecDeque<Act>,
    pub mode: Mode,
    /// True when another program has changed the format.
    pub other_format: bool,
    /// True when the camera has reported a different input signal.
    pub source_changed: bool,
    /// Reasons for which the next attempts to open fail.
    pub refuse_open: VecDeque<&'static str>,
    /// Errors with which the next buffers are refused.
    pub refuse_buffers: VecDeque<i32>,
    pub monotonic: bool,
    /// Number of times that the camera was opened.
    pub opened: u32,
    pub open_times_us: Vec<u64>,
    /// Buffers that wait for a frame.
    queued: VecDeque<u32>,
    done: VecDeque<(u32, Vec<u8>, bool, u32, u64)>,
    ours: Vec<u32>,
    hanging: bool,
    failed: Option<i32>,
    streaming: bool,
}

/// The fake camera; a clone refers to the same one.
#[derive(Clone)]
pub(crate) struct FakeBackend(Arc<Mutex<World>>);

/// Returns a mode with 25 frames per second.
pub(crate) fn mode(fourcc: &[u8; 4], size: [usize; 2]) -> Mode {
    let fourcc = FourCC::new(fourcc);
    Mode {
        fourcc,
        coding: Coding::of(fourcc).expect("a format that is read"),
        colour: Colour::Bt601Full,
        width: size[0],
        height: size[1],
        stride: size[0],
        interval: Some(Interval { numerator: 1, denominator: 25 }),
        interlaced: false,
    }
}

impl FakeBackend {
    pub(crate) fn new(mode: Mode) -> FakeBackend {
        FakeBackend(Arc::new(Mutex::new(World {
            now_us: 1_000_000,
            next_us: 0,
            sequence: 0,
            script: VecDeque::new(),
            mode,
            other_format: false,
            source_changed: false,
            refuse_open: VecDeque::new(),
            refuse_buffers: VecDeque::new(),
            monotonic: true,
            opened: 0,
            open_times_us: Vec::new(),
            queued: VecDeque::new(),
            done: VecDeque::new(),
            ours: Vec::new(),
            hanging: false,
            failed: None,
            streaming: false,
        })))
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets time pass, as a loop that processes a frame does.
    pub(crate) fn pass_us(&self, us: u64) {
        let mut world = self.world();
        let until = world.now_us + us;
        world.run_until(until);
    }

    pub(crate) fn script(&self, acts: impl IntoIterator<Item = Act>) {
        self.world().script.extend(acts);
    }
}

impl World {
    /// Takes frames until this time.
    fn run_until(&mut self, until_us: u64) {
        while self.streaming && self.next_us + DELAY_US <= until_us {
            let taken_us = self.next_us;
            self.next_us += PERIOD_US;
            if self.hanging || self.failed.is_some() {
                continue;
            }
            let sequence = self.sequence;
            self.sequence += 1;
            let frame = vec![sequence as u8; self.mode.stride * self.mode.height];
            match self.script.pop_front().unwrap_or(Act::Frame(frame)) {
                Act::Frame(bytes) => self.fill(bytes, false, sequence, taken_us),
                Act::Flagged => self.fill(Vec::new(), true, sequence, taken_us),
                Act::Lost => {}
                Act::Hang => self.hanging = true,
                Act::Fail(error) => self.failed = Some(error),
            }
        }
        self.now_us = self.now_us.max(until_us);
    }

    /// Puts a frame into a queued buffer. Without one it is lost.
    fn fill(&mut self, bytes: Vec<u8>, damaged: bool, sequence: u32, taken_us: u64) {
        if let Some(index) = self.queued.pop_front() {
            self.done.push_back((index, bytes, damaged, sequence, taken_us));
        }
    }
}

pub(crate) struct FakeStream {
    world: FakeBackend,
    mode: Mode,
    /// The bytes of each buffer.
    memory: Vec<Vec<u8>>,
}

impl Drop for FakeStream {
    fn drop(&mut self) {
        self.world.world().streaming = false;
    }
}

impl Stream for FakeStream {
    fn mode(&self) -> &Mode {
        &self.mode
    }

    fn buffers(&self) -> usize {
        BUFFERS
    }

    fn wait(&mut self, until_us: u64) -> io::Result<bool> {
        let mut world = self.world.world();
        loop {
            if !world.done.is_empty() || world.failed.is_some() || world.source_changed {
                return Ok(true);
            }
            let next = world.next_us + DELAY_US;
            if next > until_us {
                world.run_until(until_us);
                return Ok(!world.done.is_empty() || world.failed.is_some());
            }
            world.run_until(next);
        }
    }

    fn source_changed(&mut self) -> bool {
        std::mem::take(&mut self.world.world().source_changed)
    }

    fn dequeue(&mut self) -> io::Result<Option<Filled>> {
        let mut world = self.world.world();
        if let Some(error) = world.failed {
            return Err(io::Error::from_raw_os_error(error));
        }
        let monotonic = world.monotonic;
        let Some((index, bytes, damaged, sequence, taken_us)) = world.done.pop_front() else { return Ok(None) };
        world.ours.push(index);
        let used = bytes.len();
        self.memory[index as usize] = bytes;
        Ok(Some(Filled { index, used, damaged, sequence, taken_us: monotonic.then_some(taken_us) }))
    }

    fn requeue(&mut self, filled: Filled) -> Result<(), (Filled, io::Error)> {
        let mut world = self.world.world();
        if let Some(error) = world.failed.or_else(|| world.refuse_buffers.pop_front()) {
            return Err((filled, io::Error::from_raw_os_error(error)));
        }
        let at = world.ours.iter().position(|&index| index == filled.index);
        let at = at.unwrap_or_else(|| panic!("buffer {} was given back without having been taken", filled.index));
        world.ours.remove(at);
        world.queued.push_back(filled.index);
        Ok(())
    }

    fn bytes(&self, filled: &Filled) -> &[u8] {
        &self.memory[filled.index as usize][..filled.used]
    }

    fn format_changed(&self) -> bool {
        self.world.world().other_format
    }
}

impl Backend for FakeBackend {
    type Stream = FakeStream;

    fn open(&mut self) -> Result<FakeStream> {
        let mut world = self.world();
        assert!(!world.streaming, "opened while it was open");
        let now_us = world.now_us;
        world.open_times_us.push(now_us);
        if let Some(reason) = world.refuse_open.pop_front() {
            return Err(anyhow!(reason));
        }
        world.opened += 1;
        (world.streaming, world.hanging, world.failed, world.other_format) = (true, false, None, false);
        world.source_changed = false;
        (world.next_us, world.sequence) = (now_us, 0);
        world.queued = (0..BUFFERS as u32).collect();
        (world.done, world.ours) = (VecDeque::new(), Vec::new());
        world.refuse_buffers.clear();
        let mode = world.mode;
        drop(world);
        Ok(FakeStream { world: self.clone(), mode, memory: vec![Vec::new(); BUFFERS] })
    }

    fn name(&self) -> String {
        "fake".to_owned()
    }

    fn now_us(&self) -> u64 {
        self.world().now_us
    }

    fn sleep_until_us(&mut self, until_us: u64) {
        let mut world = self.world();
        world.run_until(until_us);
    }
}

/// Returns a GREY frame of one value.
pub(crate) fn grey(value: u8, mode: &Mode) -> Act {
    assert_eq!(mode.coding, Coding::Raw(PixelFormat::Grey));
    Act::Frame(vec![value; mode.stride * mode.height])
}
