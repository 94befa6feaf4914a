//! The reading thread of one of several sources: it opens the source, waits for a frame, lends the source to the loop, and waits
//! for it to come back.
//!
//! The source itself goes to and fro, so a frame is never copied, and the loop can ask for a newer one before it begins.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::capture::open;
use crate::capture::source::{Poll, Source, SourceError, SourceRequest};
use crate::capture::source_names::NamedSource;
use crate::platform::clock;

/// The reader lends the source without a frame after this time, so that the loop sees its counters.
const PATIENCE_US: u64 = 100_000;
/// First and longest wait before a source is opened again that could not be opened; each is twice the one before.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Number of reasons that are remembered, so that each is logged once.
const REASONS: usize = 8;
/// A thread that waits looks at least this often whether the end is asked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a reader lends to the loop.
pub(crate) enum Lent {
    /// An open source with the outcome of its poll.
    Source(Box<dyn Source>, Result<Poll, SourceError>),
    /// It could not be opened; with `is_final` no further attempt is made.
    Unopened { reason: String, is_final: bool },
}

/// The loop's end of a reader. Dropping it asks the thread to end.
pub(crate) struct SourceReader {
    lent: Receiver<Lent>,
    returned: SyncSender<Box<dyn Source>>,
    is_closing: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// How the sources of a run are opened.
#[derive(Clone)]
pub(crate) struct Opening {
    pub request: SourceRequest,
    /// Called by each reading thread at its start.
    pub prepare: Arc<dyn Fn() + Send + Sync>,
}

impl SourceReader {
    /// Starts the thread. `waiting` is the loop's thread, which is woken when something is lent.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(source: NamedSource, opening: Opening, waiting: Thread) -> Result<SourceReader> {
        let (lend, lent) = sync_channel(1);
        let (returned, back) = sync_channel(1);
        let is_closing = Arc::new(AtomicBool::new(false));
        let worker = Worker { source, opening, lend, back, is_closing: is_closing.clone(), waiting };
        let builder = thread::Builder::new().name("source".to_owned());
        let thread = builder.spawn(move || worker.work()).context("cannot start the thread of a source")?;
        Ok(SourceReader { lent, returned, is_closing, thread })
    }

    /// Returns what the thread has lent, if there is something.
    pub(crate) fn take(&self) -> Option<Lent> {
        self.lent.try_recv().ok()
    }

    /// Gives the source back.
    pub(crate) fn give_back(&self, source: Box<dyn Source>) {
        // There is room: the thread has one source only.
        let _ = self.returned.try_send(source);
        self.thread.thread().unpark();
    }

    /// Asks the thread to end.
    pub(crate) fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.thread.thread().unpark();
    }

    /// Reports whether the thread has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }
}

impl Drop for SourceReader {
    fn drop(&mut self) {
        self.close();
    }
}

/// The state of the thread.
struct Worker {
    source: NamedSource,
    opening: Opening,
    lend: SyncSender<Lent>,
    back: Receiver<Box<dyn Source>>,
    is_closing: Arc<AtomicBool>,
    waiting: Thread,
}

impl Worker {
    fn work(self) {
        (self.opening.prepare)();
        let Some(mut source) = self.open() else { return };
        log::info!("{}: {}", self.source.name, source.describe());
        loop {
            let polled = source.poll(clock::now_us() + PATIENCE_US);
            let is_last = matches!(&polled, Err(SourceError::Lost { .. }));
            if self.is_closing() || !self.lend(Lent::Source(source, polled)) || is_last {
                return;
            }
            source = match self.wait_for_return() {
                Some(source) => source,
                None => return,
            };
        }
    }

    fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// Lends something; returns false when the loop has ended.
    fn lend(&self, lent: Lent) -> bool {
        // There is room: what was lent before has come back.
        let is_taken = self.lend.send(lent).is_ok();
        self.waiting.unpark();
        is_taken
    }

    /// Opens the source, again and again if it is live by itself: a camera may come, a missing film does not. Each reason is
    /// reported once; the first goes to the loop.
    fn open(&self) -> Option<Box<dyn Source>> {
        let by_itself = SourceRequest { fps: None, ..self.opening.request.clone() };
        let tries_again = open::is_live(&self.source.place, &by_itself).unwrap_or(false);
        let mut reasons: Vec<String> = Vec::new();
        let mut wait = FIRST_WAIT;
        while !self.is_closing() {
            let reason = match open::open(&self.source.place, &self.opening.request) {
                Ok(source) => return Some(source),
                Err(error) => format!("{error:#}"),
            };
            if reasons.is_empty() && !self.lend(Lent::Unopened { reason: reason.clone(), is_final: !tries_again }) {
                return None;
            }
            if !tries_again {
                return None;
            }
            if reasons.len() < REASONS && !reasons.contains(&reason) {
                if !reasons.is_empty() {
                    log::warn!("{}: {reason}; trying again", self.source.name);
                }
                reasons.push(reason);
            }
            self.pause(wait);
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        None
    }

    /// Waits for so long, or until the end is asked for.
    fn pause(&self, pause: Duration) {
        let until_us = clock::now_us() + pause.as_micros() as u64;
        while !self.is_closing() && clock::now_us() < until_us {
            thread::park_timeout(LOOK_EVERY);
        }
    }

    fn wait_for_return(&self) -> Option<Box<dyn Source>> {
        while !self.is_closing() {
            match self.back.try_recv() {
                Ok(source) => return Some(source),
                Err(TryRecvError::Empty) => thread::park_timeout(LOOK_EVERY),
                Err(TryRecvError::Disconnected) => return None,
            }
        }
        None
    }
}
