//! Decides when the loop copies pixels, and queues requests for snapshots.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};

/// Most snapshots that wait for a frame.
const MAX_WAITING: usize = 8;

/// Decides whether the loop copies the pixels of the next frame. Shared by all threads.
pub struct PixelDemand {
    /// A display shows every frame.
    always: bool,
    /// Counts the browsers that show the preview.
    viewers: Box<dyn Fn() -> usize + Send + Sync>,
    waiting: AtomicUsize,
    requests: SyncSender<SnapshotRequest>,
}

/// The result of a snapshot, for the caller that requested it.
#[derive(Clone, Debug, Default)]
pub struct Ticket(Arc<OnceLock<Result<(), String>>>);

impl Ticket {
    pub(super) fn settle(&self, outcome: Result<(), String>) {
        // Set once.
        let _ = self.0.set(outcome);
    }

    /// Returns whether the file was written, or why not; `None` while the request waits for its frame.
    pub fn outcome(&self) -> Option<Result<(), String>> {
        match self.0.get() {
            None if Arc::strong_count(&self.0) == 1 => Some(Err("the run ended before".to_owned())),
            outcome => outcome.cloned(),
        }
    }
}

/// A request for a snapshot.
#[derive(Debug)]
pub struct SnapshotRequest {
    pub path: PathBuf,
    /// Replace a file that this program did not write.
    pub force: bool,
    pub(super) ticket: Ticket,
}

impl SnapshotRequest {
    /// Refuses the request. Also logs it, because the caller may no longer be waiting.
    pub fn refuse(self, reason: &str) {
        log::warn!("snapshot {}: {reason}", self.path.display());
        self.ticket.settle(Err(reason.to_owned()));
    }
}

/// Too many snapshots are waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_WAITING} snapshots wait for a frame already")]
pub struct Busy;

impl PixelDemand {
    /// Creates the demand. Also returns the receiver of the requests.
    pub fn new(
        always: bool,
        viewers: Box<dyn Fn() -> usize + Send + Sync>,
    ) -> (Arc<PixelDemand>, Receiver<SnapshotRequest>) {
        let (requests, asked) = sync_channel(MAX_WAITING);
        let demand = PixelDemand { always, viewers, waiting: AtomicUsize::new(0), requests };
        (Arc::new(demand), asked)
    }

    /// Returns whether the loop should copy the pixels of the current frame. Costs a few loads, no lock.
    pub fn wants_pixels(&self) -> bool {
        self.always || self.waiting.load(Ordering::Relaxed) > 0 || (self.viewers)() > 0
    }

    /// Requests the next frame, annotated, as a PNG. Returns at once; the ticket gets the result.
    ///
    /// # Errors
    /// When too many requests are waiting.
    pub fn snapshot(&self, path: PathBuf, force: bool) -> Result<Ticket, Busy> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let ticket = Ticket::default();
        match self.requests.try_send(SnapshotRequest { path, force, ticket: ticket.clone() }) {
            Ok(()) => Ok(ticket),
            Err(_) => {
                self.served();
                Err(Busy)
            }
        }
    }

    /// Notes that one request has got its frame.
    pub fn served(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_wanted_only_while_an_output_needs_them() {
        let viewers = Arc::new(AtomicUsize::new(0));
        let seen = viewers.clone();
        let (demand, asked) = PixelDemand::new(false, Box::new(move || seen.load(Ordering::Relaxed)));
        assert!(!demand.wants_pixels());
        viewers.store(1, Ordering::Relaxed);
        assert!(demand.wants_pixels());
        viewers.store(0, Ordering::Relaxed);
        let mut tickets = Vec::new();
        for number in 0..MAX_WAITING {
            tickets.push(demand.snapshot(format!("{number}.png").into(), false).expect("there is room"));
        }
        assert!(matches!(demand.snapshot("more.png".into(), false), Err(Busy)));
        for (number, ticket) in tickets.iter().enumerate() {
            assert!(demand.wants_pixels());
            let request = asked.try_recv().expect("it waits");
            assert_eq!(request.path, PathBuf::from(format!("{number}.png")));
            demand.served();
            assert_eq!(ticket.outcome(), None, "not yet");
            match number {
                0 => request.refuse("full"),
                1 => request.ticket.settle(Ok(())),
                _ => drop(request),
            }
        }
        assert!(!demand.wants_pixels());
        assert_eq!(tickets[0].outcome(), Some(Err("full".to_owned())));
        assert_eq!(tickets[1].outcome(), Some(Ok(())));
        assert_eq!(tickets[2].outcome(), Some(Err("the run ended before".to_owned())));
    }
}
