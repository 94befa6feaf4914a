//! Sheds work step by step when frames keep missing their deadline or the machine is hot, and takes it up again later.
//!
//! | level | shed |
//! |---|---|
//! | 1 | half of the detector's runs: new faces are found later |
//! | 2 | every second result of each task but the tracking landmarks |
//! | 3 | all faces but one in each frame: they take turns |
//! | 4 | half of the faces |
//! | 5 | every second frame |
//!
//! A level includes the levels before it. It rises when a quarter of the latest frames missed their deadline, and falls
//! after three seconds in which every frame left a third of its budget. A level that rises again soon after it fell
//! doubles that wait, up to a minute and a half. Heat sets a minimum level.

/// The highest level.
pub const MAX_LEVEL: u8 = 5;
/// A missed deadline weighs as much as this number of frames in time.
const MISS: u32 = 3;
/// The weight at which the level rises.
const LIMIT: u32 = 18;
/// Consecutive calm frames before the level falls: three seconds at 30 frames/s.
const CALM_FRAMES: u32 = 90;
/// The longest wait, in calm frames.
const MAX_CALM_FRAMES: u32 = 30 * CALM_FRAMES;

/// The degradation level and the history that it depends on.
#[derive(Clone, Debug)]
pub struct Degradation {
    level: u8,
    weight: u32,
    calm: u32,
    wait: u32,
    since_fall: u32,
}

impl Default for Degradation {
    fn default() -> Degradation {
        Degradation { level: 0, weight: 0, calm: 0, wait: CALM_FRAMES, since_fall: u32::MAX }
    }
}

impl Degradation {
    /// Records the time that a frame used of its budget, in microseconds. Returns the new level if it changed.
    pub fn record(&mut self, used_us: u64, budget_us: u64) -> Option<u8> {
        let before = self.level;
        self.since_fall = self.since_fall.saturating_add(1);
        if used_us > budget_us {
            (self.weight, self.calm) = (self.weight + MISS, 0);
            if self.weight >= LIMIT {
                self.weight = 0;
                if self.level < MAX_LEVEL {
                    self.level += 1;
                    if self.since_fall < 2 * self.wait {
                        self.wait = (2 * self.wait).min(MAX_CALM_FRAMES);
                    }
                }
            }
        } else {
            self.weight = self.weight.saturating_sub(1);
            self.calm = if used_us * 3 <= budget_us * 2 { self.calm + 1 } else { 0 };
            if self.calm >= self.wait && self.level > 0 {
                (self.level, self.calm, self.since_fall) = (self.level - 1, 0, 0);
            }
            if self.level == 0 && self.since_fall > 2 * self.wait {
                self.wait = CALM_FRAMES;
            }
        }
        (self.level != before).then_some(self.level)
    }

    /// Returns the level, which is at least `heat`.
    pub fn level(&self, heat: u8) -> u8 {
        self.level.max(heat.min(MAX_LEVEL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn occasional_misses_are_no_overload() {
        let mut degradation = Degradation::default();
        for frame in 0..10_000 {
            degradation.record(if frame % 5 == 0 { 40 } else { 20 }, 33);
        }
        assert_eq!(degradation.level(0), 0);
        assert_eq!((degradation.level(2), degradation.level(9)), (2, MAX_LEVEL));
    }

    #[test]
    fn overload_raises_the_level_and_calm_lowers_it_later() {
        let mut degradation = Degradation::default();
        let mut rises = Vec::new();
        for frame in 0..60 {
            rises.extend(degradation.record(50, 33).map(|level| (frame, level)));
        }
        assert_eq!(rises, [(5, 1), (11, 2), (17, 3), (23, 4), (29, 5)]);
        let mut falls = Vec::new();
        for frame in 0..500 {
            // Between two thirds of the budget and all of it nothing changes.
            falls.extend(degradation.record(if frame < 40 { 30 } else { 20 }, 33).map(|level| (frame, level)));
        }
        assert_eq!(falls, [(129, 4), (219, 3), (309, 2), (399, 1), (489, 0)]);
    }

    #[test]
    fn a_level_left_too_early_is_kept_longer_next_time() {
        // A machine that is overloaded at level 0 and has time to spare at level 1.
        let mut degradation = Degradation::default();
        let mut falls = Vec::new();
        for frame in 0..20_000u32 {
            let used = if degradation.level(0) == 0 { 40 } else { 20 };
            if degradation.record(used, 33) == Some(0) {
                falls.push(frame);
            }
        }
        let waits: Vec<u32> = falls.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(waits[..4].windows(2).all(|pair| pair[1] > pair[0] + pair[0] / 2), "{waits:?}");
        assert!(waits.iter().all(|&wait| wait < MAX_CALM_FRAMES + 20) && falls.len() < 16, "{waits:?}");
    }
}
