//! What the loop keeps of a source from frame to frame, besides its faces.

use std::path::{Path, PathBuf};

use crate::capture::source::{Source, Stamp};
use crate::live::degradation::Degradation;
use crate::live::frame_result::Counters;
use crate::live::latency::Latency;

/// Time between frames of a source without a rate, for smoothing and speeds.
const NOMINAL_PERIOD_S: f32 = 1.0 / 30.0;
/// Longer pauses between frames count as this time, because they do not show how a face moves.
const LONGEST_PAUSE_S: f32 = 0.5;
/// A source without a frame for this many periods, and at least for the time below, leaves its share of the time to the others.
const SILENT_PERIODS: u64 = 8;
const SILENT_US: u64 = 2_000_000;

/// The state of a source.
pub(super) struct Seat {
    pub period_us: Option<u64>,
    pub latency: Latency,
    pub degradation: Degradation,
    pub counters: Counters,
    /// Number of the next frame.
    pub number: u64,
    last: Option<Stamp>,
    /// The scene and the file of the last frame.
    last_scene: u64,
    last_path: Option<PathBuf>,
    /// When the counters were last handed over.
    pub counters_us: u64,
    /// Time of the last frame; of the start before the first.
    pub seen_us: u64,
    /// Nothing more comes from it.
    pub is_over: bool,
    /// It has been opened, or that has not been tried yet.
    pub is_openable: bool,
    /// The reason why it ended before its time.
    pub failure: Option<String>,
}

impl Seat {
    pub fn new(period_us: Option<u64>, latency_us: Option<u64>, now_us: u64) -> Seat {
        Seat {
            period_us,
            latency: Latency::new(latency_us),
            degradation: Degradation::default(),
            counters: Counters::default(),
            number: 0,
            last: None,
            last_scene: 0,
            last_path: None,
            counters_us: now_us,
            seen_us: now_us,
            is_over: false,
            is_openable: true,
            failure: None,
        }
    }

    /// Returns the seconds since the last frame: by the clock for a live source, by the frame count for others, so that a
    /// file gives the same results on every machine.
    pub fn elapsed_s(&mut self, stamp: &Stamp, is_live: bool) -> f32 {
        let elapsed_s = match self.last.replace(*stamp) {
            Some(last) if is_live => stamp.captured_us.saturating_sub(last.captured_us) as f32 / 1e6,
            Some(last) => stamp.sequence.saturating_sub(last.sequence).max(1) as f32 * NOMINAL_PERIOD_S,
            None => NOMINAL_PERIOD_S,
        };
        elapsed_s.clamp(1e-4, LONGEST_PAUSE_S)
    }

    /// Reports whether the source knows of a cut before this frame: between photos, where a film starts over, after a camera was
    /// lost.
    pub fn is_cut(&mut self, source: &dyn Source) -> bool {
        let scene = source.scene();
        let is_last = |path: &&Path| self.last_path.as_deref() == Some(*path);
        let another_file = source.path().filter(|path| !is_last(path));
        let is_cut = another_file.is_some() || scene != self.last_scene;
        self.last_scene = scene;
        if let Some(path) = another_file {
            self.last_path = Some(path.to_owned());
        }
        is_cut
    }

    /// Returns the frames per second that the source gives now; `None` for one without a rate.
    pub fn rate(&self, now_us: u64) -> Option<f64> {
        let period_us = self.period_us.filter(|_| !self.is_over)?.max(1);
        let silence_us = now_us.saturating_sub(self.seen_us);
        (silence_us <= SILENT_US.max(SILENT_PERIODS * period_us)).then_some(1e6 / period_us as f64)
    }
}

/// Returns the time that each frame may take where these sources share the loop: the mean time between two of their frames.
pub(super) fn shared_period_us(seats: &[Seat], now_us: u64) -> Option<u64> {
    if let [seat] = seats {
        return seat.period_us;
    }
    let rate: f64 = seats.iter().filter_map(|seat| seat.rate(now_us)).sum();
    if rate > 0.0 {
        return Some((1e6 / rate) as u64);
    }
    // All of them are silent: the next frame is alone.
    seats.iter().filter_map(|seat| seat.period_us).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_share_the_time_by_their_rates_and_silent_ones_leave_it_to_the_others() {
        let seat = |period_us: u64, seen_us| Seat { seen_us, ..Seat::new(Some(period_us), None, 0) };
        let now_us = 60_000_000;
        assert_eq!(shared_period_us(&[seat(66_667, 0)], now_us), Some(66_667), "alone");
        let four = [66_667; 4].map(|period_us| seat(period_us, now_us));
        assert_eq!(shared_period_us(&four, now_us), Some(16_666));
        assert_eq!(shared_period_us(&[seat(100_000, now_us), seat(25_000, now_us)], now_us), Some(20_000));
        assert_eq!(shared_period_us(&[seat(100_000, now_us - 2_500_000), seat(25_000, now_us)], now_us), Some(25_000));
        assert_eq!(
            shared_period_us(&[seat(500_000, now_us - 2_500_000), seat(500_000, now_us)], now_us),
            Some(250_000)
        );
        assert_eq!(shared_period_us(&[seat(100_000, 0), seat(25_000, 0)], now_us), Some(25_000), "all are silent");
        let mut over = seat(25_000, now_us);
        over.is_over = true;
        assert_eq!(shared_period_us(&[seat(100_000, now_us), over], now_us), Some(100_000));
        assert_eq!(shared_period_us(&[Seat::new(None, None, 0), Seat::new(None, None, 0)], now_us), None);
    }
}
