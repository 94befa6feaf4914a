//! Counts frames and their times, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::outputs::fan_out::PublishedFrame;

/// Upper limits of the buckets, microseconds: from a tracked face on a fast machine to a hung camera.
pub(super) const LIMITS_US: [u64; 14] =
    [1000, 2000, 5000, 10_000, 15_000, 20_000, 25_000, 33_333, 50_000, 66_667, 100_000, 200_000, 500_000, 1_000_000];

/// A histogram that several threads may read while one writes.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// One for each limit, and one for longer times.
    buckets: [AtomicU64; LIMITS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    fn record(&self, us: u64) {
        let place = LIMITS_US.iter().position(|limit| us <= *limit).unwrap_or(LIMITS_US.len());
        self.buckets[place].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// Returns the count of each bucket together with the shorter ones, and the sum in microseconds.
    pub(super) fn read(&self) -> ([u64; LIMITS_US.len() + 1], u64) {
        let mut sum = 0;
        let counts = self.buckets.each_ref().map(|bucket| {
            sum += bucket.load(Ordering::Relaxed);
            sum
        });
        (counts, self.sum_us.load(Ordering::Relaxed))
    }
}

/// Metrics of the frames.
#[derive(Debug, Default)]
pub(crate) struct FrameMetrics {
    pub(super) frames: AtomicU64,
    pub(super) faces: AtomicU64,
    /// Number of tracks so far: the highest id of a face.
    pub(super) tracks: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) deferred: AtomicU64,
    /// From capture to publication.
    pub(super) latency: Histogram,
    pub(super) find: Histogram,
    pub(super) align: Histogram,
    pub(super) encode: Histogram,
    pub(super) decode: Histogram,
}

impl FrameMetrics {
    /// Counts a frame: a few additions.
    pub(crate) fn observe(&self, frame: &PublishedFrame) {
        let add = |counter: &AtomicU64, count: u64| _ = counter.fetch_add(count, Ordering::Relaxed);
        add(&self.frames, 1);
        let faces = &frame.analysis.faces;
        self.faces.store(faces.len() as u64, Ordering::Relaxed);
        let newest = faces.iter().map(|face| u64::from(face.id)).max().unwrap_or(0);
        self.tracks.fetch_max(newest, Ordering::Relaxed);
        if let Some(deadline) = &frame.analysis.deadline {
            add(&self.misses, u64::from(deadline.missed));
            add(&self.deferred, deadline.deferred.len() as u64);
        }
        self.latency.record(frame.published_us.saturating_sub(frame.captured_us));
        let timing = &frame.analysis.timing;
        let decode_us: u64 = timing.decode_us.iter().sum();
        for (stage, us) in [
            (&self.find, timing.find_us),
            (&self.align, timing.align_us),
            (&self.encode, timing.encode_us),
            (&self.decode, decode_us),
        ] {
            // A stage that a frame does not have is not counted as free.
            if us > 0 {
                stage.record(us);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative() {
        let histogram = Histogram::default();
        for us in [0, 1000, 1001, 33_333, 2_000_000] {
            histogram.record(us);
        }
        let (counts, sum_us) = histogram.read();
        assert_eq!((counts[0], counts[1], counts[7], counts[13], counts[14]), (2, 3, 4, 4, 5));
        assert_eq!(sum_us, 2_035_334);
    }
}
