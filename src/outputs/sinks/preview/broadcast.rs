//! Passes the newest picture and result to all connections, and counts the viewers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// Published bytes with their number.
pub type Numbered = (u64, Arc<Vec<u8>>);

/// Holds the newest bytes: the drawing thread publishes, the connections wait. The loop and the publisher never use it.
#[derive(Default)]
pub struct Broadcast {
    newest: Mutex<Newest>,
    changed: Condvar,
    /// Connections that show the picture.
    viewers: AtomicUsize,
}

#[derive(Default)]
struct Newest {
    picture: Numbered,
    event: Numbered,
    closed: bool,
}

/// Kinds of published bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Picture,
    Event,
}

impl Newest {
    fn get(&self, kind: Kind) -> &Numbered {
        match kind {
            Kind::Picture => &self.picture,
            Kind::Event => &self.event,
        }
    }
}

impl Broadcast {
    /// Publishes bytes to all connections.
    pub fn publish(&self, kind: Kind, bytes: Vec<u8>) {
        let mut newest = self.lock();
        let place = match kind {
            Kind::Picture => &mut newest.picture,
            Kind::Event => &mut newest.event,
        };
        *place = (place.0 + 1, Arc::new(bytes));
        drop(newest);
        self.changed.notify_all();
    }

    /// Returns the newest bytes; number 0 before the first.
    pub fn newest(&self, kind: Kind) -> Numbered {
        self.lock().get(kind).clone()
    }

    /// Waits at most `patience` for bytes newer than number `seen`. Returns `Ok(None)` when nothing came.
    ///
    /// # Errors
    /// When the broadcast has been closed.
    pub fn wait(&self, kind: Kind, seen: u64, patience: Duration) -> Result<Option<Numbered>, Closed> {
        let waiting = |newest: &mut Newest| !newest.closed && newest.get(kind).0 <= seen;
        let newest = match self.changed.wait_timeout_while(self.lock(), patience, waiting) {
            Ok((newest, _)) => newest,
            Err(poisoned) => poisoned.into_inner().0,
        };
        match newest.get(kind) {
            _ if newest.closed => Err(Closed),
            found if found.0 > seen => Ok(Some(found.clone())),
            _ => Ok(None),
        }
    }

    /// Closes the broadcast and ends all waits.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Returns how many connections show the picture.
    pub fn viewers(&self) -> usize {
        self.viewers.load(Ordering::Relaxed)
    }

    /// Counts a viewer until the returned value is dropped.
    pub fn view(self: &Arc<Broadcast>) -> Viewer {
        self.viewers.fetch_add(1, Ordering::Relaxed);
        Viewer { broadcast: self.clone() }
    }

    /// Locks the state. It is consistent at all times, also when a thread panicked with the lock.
    fn lock(&self) -> MutexGuard<'_, Newest> {
        self.newest.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The broadcast has been closed: the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// A connection that shows the picture.
pub struct Viewer {
    broadcast: Arc<Broadcast>,
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.broadcast.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_connection_gets_only_the_newest() {
        let broadcast = Arc::new(Broadcast::default());
        assert_eq!(broadcast.wait(Kind::Picture, 0, Duration::from_millis(1)), Ok(None));
        for number in 1..=5 {
            broadcast.publish(Kind::Picture, vec![number]);
        }
        broadcast.publish(Kind::Event, vec![9]);
        assert_eq!(broadcast.wait(Kind::Picture, 2, Duration::ZERO), Ok(Some((5, Arc::new(vec![5])))));
        assert_eq!(broadcast.wait(Kind::Picture, 5, Duration::ZERO), Ok(None));
        assert_eq!(broadcast.newest(Kind::Event), (1, Arc::new(vec![9])));
        let waiting = std::thread::spawn({
            let broadcast = broadcast.clone();
            move || broadcast.wait(Kind::Picture, 5, Duration::from_secs(60))
        });
        broadcast.close();
        assert_eq!(waiting.join().ok(), Some(Err(Closed)));
    }

    #[test]
    fn viewers_are_counted() {
        let broadcast = Arc::new(Broadcast::default());
        let (one, two) = (broadcast.view(), broadcast.view());
        assert_eq!(broadcast.viewers(), 2);
        drop((one, two));
        assert_eq!(broadcast.viewers(), 0);
    }
}
