//! Single frames as annotated PNGs, asked for while the loop runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::outlet::{Flow, Sink};
use super::overlay::{Artist, readable_size};
use super::png;
use super::scene::Scene;

/// So many snapshots may wait for a frame.
const WAITING: usize = 8;

/// Why the loop should keep pixels: somebody looks at them, or asked for a picture. Shared by all threads.
pub struct Watch {
    /// A display always shows what comes.
    always: AtomicBool,
    /// Browsers; counted by the preview.
    viewers: Box<dyn Fn() -> usize + Send + Sync>,
    waiting: AtomicUsize,
    requests: SyncSender<PathBuf>,
}

/// Too many snapshots wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{WAITING} snapshots wait for a frame already")]
pub struct Busy;

impl Watch {
    /// With the end that takes the requests.
    pub fn new(always: bool, viewers: Box<dyn Fn() -> usize + Send + Sync>) -> (Arc<Watch>, Receiver<PathBuf>) {
        let (requests, asked) = sync_channel(WAITING);
        let watch = Watch { always: AtomicBool::new(always), viewers, waiting: AtomicUsize::new(0), requests };
        (Arc::new(watch), asked)
    }

    /// Whether the loop should copy the pixels of the frame that it is at. Costs a few loads, no lock.
    pub fn wants_pixels(&self) -> bool {
        self.always.load(Ordering::Relaxed) || self.waiting.load(Ordering::Relaxed) > 0 || (self.viewers)() > 0
    }

    /// Asks for the next frame, annotated, as a PNG. Returns at once.
    ///
    /// # Errors
    /// When too many wait already.
    pub fn snapshot(&self, path: PathBuf) -> Result<(), Busy> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.requests.try_send(path).map_err(|_| {
            self.served();
            Busy
        })
    }

    /// One request has found its frame.
    pub fn served(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A frame and the file that it becomes.
#[derive(Default)]
pub struct Snapshot {
    pub path: PathBuf,
    pub scene: Scene,
}

/// Draws and writes snapshots.
pub struct Snapshots {
    artist: Artist,
}

impl Snapshots {
    pub fn new(artist: Artist) -> Snapshots {
        Snapshots { artist }
    }
}

impl Sink<Snapshot> for Snapshots {
    fn take(&mut self, snapshot: &mut Snapshot) -> Flow {
        if let Some(still) = snapshot.scene.still.take() {
            let picture = self.artist.draw(&still.view(), &snapshot.scene.analysis, readable_size);
            drop(still);
            match png::write_picture(&snapshot.path, picture) {
                Ok(()) => log::info!("snapshot written to {}", snapshot.path.display()),
                Err(reason) => log::error!("snapshot: {reason:#}"),
            }
        }
        Flow::Go
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_wanted_only_while_somebody_watches() {
        let viewers = Arc::new(AtomicUsize::new(0));
        let seen = viewers.clone();
        let (watch, asked) = Watch::new(false, Box::new(move || seen.load(Ordering::Relaxed)));
        assert!(!watch.wants_pixels());
        viewers.store(1, Ordering::Relaxed);
        assert!(watch.wants_pixels());
        viewers.store(0, Ordering::Relaxed);
        for number in 0..WAITING {
            assert_eq!(watch.snapshot(format!("{number}.png").into()), Ok(()));
        }
        assert_eq!(watch.snapshot("more.png".into()), Err(Busy));
        for number in 0..WAITING {
            assert!(watch.wants_pixels());
            assert_eq!(asked.try_recv(), Ok(format!("{number}.png").into()));
            watch.served();
        }
        assert!(!watch.wants_pixels());
    }
}
