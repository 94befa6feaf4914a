//! The newest frame of a live stream, passed from the thread that reads it to the loop.

use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::capture::source::{SourceCounters, Stamp};
use crate::capture::y4m::Header;
use crate::platform::clock;

/// A frame with its pixels.
#[derive(Debug)]
pub(super) struct LiveFrame {
    pub header: Header,
    pub bytes: Vec<u8>,
    pub stamp: Stamp,
    /// Changes where the stream was started again.
    pub scene: u64,
}

/// The state that the loop finds.
#[derive(Debug)]
pub(super) enum Found {
    /// The frame that was handed in has become the newest one.
    Frame,
    Nothing,
    /// The stream has ended for this reason.
    Ended(String),
}

#[derive(Debug, Default)]
struct Content {
    newest: Option<LiveFrame>,
    /// The buffer that the loop has returned.
    spare: Vec<u8>,
    counters: SourceCounters,
    ended: Option<String>,
    stopping: bool,
}

/// The place of the newest frame. Its lock is held only while buffers change hands.
#[derive(Debug, Default)]
pub(super) struct Slot {
    content: Mutex<Content>,
    changed: Condvar,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a frame in place of one that was not fetched. Returns a buffer for the next.
    pub(super) fn put(&self, frame: LiveFrame) -> Vec<u8> {
        let mut content = self.lock();
        let older = content.newest.take();
        let stale_dropped = older.as_ref().map_or(0, |older| older.stamp.stale_dropped + 1);
        content.counters.stale_dropped += u64::from(older.is_some());
        content.newest = Some(LiveFrame { stamp: Stamp { stale_dropped, ..frame.stamp }, ..frame });
        let spare = older.map_or_else(|| mem::take(&mut content.spare), |older| older.bytes);
        drop(content);
        self.changed.notify_one();
        spare
    }

    /// Fetches the newest frame into `shown`, whose buffer is used again. Waits for it until `until_us`.
    pub(super) fn fetch(&self, shown: &mut Option<LiveFrame>, until_us: u64) -> Found {
        let mut content = self.lock();
        loop {
            if let Some(frame) = content.newest.take() {
                content.counters.frames += 1;
                if let Some(older) = shown.replace(frame) {
                    content.spare = older.bytes;
                }
                return Found::Frame;
            }
            if let Some(reason) = &content.ended {
                return Found::Ended(reason.clone());
            }
            let left = until_us.saturating_sub(clock::now_us());
            if left == 0 {
                return Found::Nothing;
            }
            content = match self.changed.wait_timeout(content, Duration::from_micros(left)) {
                Ok((content, _)) => content,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    pub(super) fn counters(&self) -> SourceCounters {
        self.lock().counters
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut SourceCounters)) {
        count(&mut self.lock().counters);
    }

    /// Notes that no frame will come.
    pub(super) fn end(&self, reason: String) {
        self.lock().ended = Some(reason);
        self.changed.notify_all();
    }

    /// Asks the reading thread to end.
    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.changed.notify_all();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Waits for so long, or until the end is asked for.
    pub(super) fn pause(&self, pause: Duration) {
        let waiting = |content: &mut Content| !content.stopping;
        // Both results of the wait mean the same here.
        drop(self.changed.wait_timeout_while(self.lock(), pause, waiting));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faceptor::stages::{Colour, PixelFormat};

    fn frame(sequence: u64) -> LiveFrame {
        let (format, colour) = (PixelFormat::Grey, Colour::Bt601Limited);
        let header = Header { width: 1, height: 1, format, colour, fps: None, interlaced: false };
        let stamp = Stamp { sequence, ..Stamp::default() };
        LiveFrame { header, bytes: vec![sequence as u8], stamp, scene: 0 }
    }

    #[test]
    fn the_newest_frame_wins_and_buffers_go_round() {
        let (slot, mut shown) = (Slot::default(), None);
        assert!(matches!(slot.fetch(&mut shown, 0), Found::Nothing));
        assert!(slot.put(frame(1)).is_empty());
        assert_eq!(slot.put(frame(2)), [1], "the buffer of the frame that was not fetched");
        assert_eq!(slot.put(frame(3)), [2]);
        assert!(matches!(slot.fetch(&mut shown, 0), Found::Frame));
        let newest = shown.as_ref().map(|frame| (frame.stamp.sequence, frame.stamp.stale_dropped));
        assert_eq!((newest, slot.counters().stale_dropped, slot.counters().frames), (Some((3, 2)), 2, 1));
        slot.put(frame(4));
        assert!(matches!(slot.fetch(&mut shown, 0), Found::Frame));
        assert_eq!(slot.put(frame(5)), [3], "the buffer that the loop has returned");
        slot.end("why".to_owned());
        assert!(matches!(slot.fetch(&mut shown, 0), Found::Frame), "what came before the end");
        assert!(matches!(slot.fetch(&mut shown, u64::MAX), Found::Ended(reason) if reason == "why"));
    }

    #[test]
    fn waits_end_with_a_frame_and_pauses_with_a_stop() {
        let slot = std::sync::Arc::new(Slot::default());
        let other = slot.clone();
        let waiting = std::thread::spawn(move || matches!(other.fetch(&mut None, u64::MAX / 2), Found::Frame));
        slot.put(frame(1));
        assert!(waiting.join().expect("no panic"));
        let other = slot.clone();
        let pausing = std::thread::spawn(move || other.pause(Duration::from_secs(3600)));
        slot.stop();
        pausing.join().expect("no panic");
        assert!(slot.is_stopping());
    }
}
