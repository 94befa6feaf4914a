//! Single frames as annotated PNGs, asked for while the loop runs.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};

use crate::outputs::draw::overlay::{Annotator, readable_size};
use crate::outputs::draw::png;
use crate::outputs::shared_frame::SharedFrame;
use crate::outputs::sinks::sink::Sink;

/// So many snapshots may wait for a frame.
const WAITING: usize = 8;

/// Why the loop should keep pixels: somebody looks at them, or asked for a picture. Shared by all threads.
pub struct PixelDemand {
    /// A display always shows what comes.
    always: AtomicBool,
    /// Browsers; counted by the preview.
    viewers: Box<dyn Fn() -> usize + Send + Sync>,
    waiting: AtomicUsize,
    requests: SyncSender<SnapshotRequest>,
}

/// What becomes of a snapshot, for whoever asked for it.
#[derive(Clone, Debug, Default)]
pub struct Ticket(Arc<OnceLock<Result<(), String>>>);

impl Ticket {
    fn settle(&self, outcome: Result<(), String>) {
        // It is said once.
        let _ = self.0.set(outcome);
    }

    /// Written, or why not; `None` while it waits for its frame.
    pub fn outcome(&self) -> Option<Result<(), String>> {
        match self.0.get() {
            None if Arc::strong_count(&self.0) == 1 => Some(Err("the run ended before".to_owned())),
            outcome => outcome.cloned(),
        }
    }
}

/// A snapshot that somebody wants.
#[derive(Debug)]
pub struct SnapshotRequest {
    pub path: PathBuf,
    ticket: Ticket,
}

impl SnapshotRequest {
    /// Nobody will write it. Logged too, because nobody may be waiting any more.
    pub fn refuse(self, reason: &str) {
        log::warn!("snapshot {}: {reason}", self.path.display());
        self.ticket.settle(Err(reason.to_owned()));
    }
}

/// Too many snapshots wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{WAITING} snapshots wait for a frame already")]
pub struct Busy;

impl PixelDemand {
    /// With the end that takes the requests.
    pub fn new(
        always: bool,
        viewers: Box<dyn Fn() -> usize + Send + Sync>,
    ) -> (Arc<PixelDemand>, Receiver<SnapshotRequest>) {
        let (requests, asked) = sync_channel(WAITING);
        let watch = PixelDemand { always: AtomicBool::new(always), viewers, waiting: AtomicUsize::new(0), requests };
        (Arc::new(watch), asked)
    }

    /// Whether the loop should copy the pixels of the frame that it is at. Costs a few loads, no lock.
    pub fn wants_pixels(&self) -> bool {
        self.always.load(Ordering::Relaxed) || self.waiting.load(Ordering::Relaxed) > 0 || (self.viewers)() > 0
    }

    /// Asks for the next frame, annotated, as a PNG. Returns at once; the ticket tells what becomes of it.
    ///
    /// # Errors
    /// When too many wait already.
    pub fn snapshot(&self, path: PathBuf) -> Result<Ticket, Busy> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let ticket = Ticket::default();
        match self.requests.try_send(SnapshotRequest { path, ticket: ticket.clone() }) {
            Ok(()) => Ok(ticket),
            Err(_) => {
                self.served();
                Err(Busy)
            }
        }
    }

    /// One request has found its frame.
    pub fn served(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A frame and the file that it becomes.
#[derive(Default)]
pub struct SnapshotFrame {
    pub request: Option<SnapshotRequest>,
    pub frame: SharedFrame,
}

/// Draws and writes snapshots.
pub struct SnapshotSink {
    annotator: Annotator,
}

impl SnapshotSink {
    pub fn new(annotator: Annotator) -> SnapshotSink {
        SnapshotSink { annotator }
    }
}

impl Sink<SnapshotFrame> for SnapshotSink {
    fn take(&mut self, snapshot: &mut SnapshotFrame) -> ControlFlow<()> {
        if let (Some(SnapshotRequest { path, ticket }), Some(still)) =
            (snapshot.request.take(), snapshot.frame.still.take())
        {
            let picture = self.annotator.draw(&still.view(), &snapshot.frame.analysis, readable_size);
            drop(still);
            let written = png::write_picture(&path, picture).map_err(|reason| format!("{reason:#}"));
            match &written {
                Ok(()) => log::info!("snapshot written to {}", path.display()),
                Err(reason) => log::error!("snapshot: {reason}"),
            }
            ticket.settle(written);
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_wanted_only_while_somebody_watches() {
        let viewers = Arc::new(AtomicUsize::new(0));
        let seen = viewers.clone();
        let (watch, asked) = PixelDemand::new(false, Box::new(move || seen.load(Ordering::Relaxed)));
        assert!(!watch.wants_pixels());
        viewers.store(1, Ordering::Relaxed);
        assert!(watch.wants_pixels());
        viewers.store(0, Ordering::Relaxed);
        let mut tickets = Vec::new();
        for number in 0..WAITING {
            tickets.push(watch.snapshot(format!("{number}.png").into()).expect("there is room"));
        }
        assert!(matches!(watch.snapshot("more.png".into()), Err(Busy)));
        for (number, ticket) in tickets.iter().enumerate() {
            assert!(watch.wants_pixels());
            let request = asked.try_recv().expect("it waits");
            assert_eq!(request.path, PathBuf::from(format!("{number}.png")));
            watch.served();
            assert_eq!(ticket.outcome(), None, "not yet");
            match number {
                0 => request.refuse("full"),
                1 => request.ticket.settle(Ok(())),
                _ => drop(request),
            }
        }
        assert!(!watch.wants_pixels());
        assert_eq!(tickets[0].outcome(), Some(Err("full".to_owned())));
        assert_eq!(tickets[1].outcome(), Some(Ok(())));
        assert_eq!(tickets[2].outcome(), Some(Err("the run ended before".to_owned())));
    }
}
