//! Estimates of what each step of a frame costs on this machine, learned during the run.

use faceptor::stages::{MAX_TASKS, SharedPart};

/// Number of latest durations that are kept: two seconds at 30 frames/s, so that the estimate soon follows a hot or busy
/// machine.
const WINDOW: usize = 64;
/// Share of those durations that are not longer than the estimate.
const SHARE: f64 = 0.9;

/// An exact quantile of the latest durations of one step, in fixed memory.
#[derive(Clone, Debug)]
pub struct RollingQuantile {
    latest_us: [u32; WINDOW],
    count: usize,
    next: usize,
    estimate_us: u64,
}

impl Default for RollingQuantile {
    fn default() -> RollingQuantile {
        RollingQuantile { latest_us: [0; WINDOW], count: 0, next: 0, estimate_us: 0 }
    }
}

impl RollingQuantile {
    /// Records one duration in microseconds.
    pub fn record(&mut self, us: u64) {
        self.latest_us[self.next] = us.min(u64::from(u32::MAX)) as u32;
        self.next = (self.next + 1) % WINDOW;
        self.count = (self.count + 1).min(WINDOW);
        let mut sorted = self.latest_us;
        let sorted = &mut sorted[..self.count];
        let place = ((self.count as f64 * SHARE).ceil() as usize).clamp(1, self.count) - 1;
        let (_, &mut estimate, _) = sorted.select_nth_unstable(place);
        self.estimate_us = u64::from(estimate);
    }

    /// Returns what the step takes at most in nine of ten frames, in microseconds; 0 before its first run.
    pub fn us(&self) -> u64 {
        self.estimate_us
    }
}

/// Cost estimates of all steps of a frame.
#[derive(Clone, Debug)]
pub struct Costs {
    /// A run of the detector.
    pub find: RollingQuantile,
    /// Sampling one face.
    pub align: RollingQuantile,
    /// Each shared part of the network, per face.
    pub parts: Vec<RollingQuantile>,
    /// Each task's own part, per face.
    pub tasks: Vec<RollingQuantile>,
    /// Handing the result over after the last face.
    pub hand_over: RollingQuantile,
    /// The shared parts that each task needs, one bit each.
    needs: [u32; MAX_TASKS],
}

impl Costs {
    /// Starts without knowledge, for a bundle with these shared parts and this number of tasks.
    pub fn new(shared: &[SharedPart], tasks: usize) -> Costs {
        let mut needs = [0; MAX_TASKS];
        for (part, shared) in shared.iter().enumerate().take(u32::BITS as usize) {
            for (task, needs) in needs.iter_mut().enumerate() {
                *needs |= (shared.needed_by >> task & 1) << part;
            }
        }
        Costs {
            find: RollingQuantile::default(),
            align: RollingQuantile::default(),
            parts: vec![RollingQuantile::default(); shared.len()],
            tasks: vec![RollingQuantile::default(); tasks],
            hand_over: RollingQuantile::default(),
            needs,
        }
    }

    /// Returns the shared parts that a task needs, one bit each.
    pub fn parts_of(&self, task: u8) -> u32 {
        self.needs.get(usize::from(task)).copied().unwrap_or(0)
    }

    /// Returns what a task adds to a face whose shared parts `computed` (one bit each) exist, in microseconds.
    pub fn task_us(&self, task: u8, computed: u32) -> u64 {
        let missing = self.parts_of(task) & !computed;
        let parts = self.parts.iter().enumerate().filter(|(part, _)| missing >> part & 1 == 1);
        parts.map(|(_, cost)| cost.us()).sum::<u64>() + self.tasks.get(usize::from(task)).map_or(0, RollingQuantile::us)
    }

    /// Returns the cost of one face with all these tasks, in microseconds.
    pub fn face_us(&self, tasks: &[u8]) -> u64 {
        let mut computed = 0;
        let mut sum = if tasks.is_empty() { 0 } else { self.align.us() };
        for &task in tasks {
            sum += self.task_us(task, computed);
            computed |= self.parts_of(task);
        }
        sum
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Makes costs from values: each shared part with the tasks that need it, and each task.
    pub fn costs(align_us: u64, parts: &[(u32, u64)], tasks_us: &[u64]) -> Costs {
        let shared =
            parts.iter().map(|&(needed_by, _)| SharedPart { name: String::new(), tensor: String::new(), needed_by });
        let mut costs = Costs::new(&shared.collect::<Vec<_>>(), tasks_us.len());
        costs.align.record(align_us);
        for (quantile, (_, us)) in costs.parts.iter_mut().zip(parts) {
            quantile.record(*us);
        }
        for (quantile, us) in costs.tasks.iter_mut().zip(tasks_us) {
            quantile.record(*us);
        }
        costs
    }

    #[test]
    fn estimate_covers_nine_of_ten_durations() {
        let mut quantile = RollingQuantile::default();
        assert_eq!(quantile.us(), 0);
        quantile.record(700);
        assert_eq!(quantile.us(), 700);
        (1..=WINDOW as u64).for_each(|us| quantile.record(us));
        assert_eq!(quantile.us(), 58);
    }

    #[test]
    fn estimate_ignores_one_slow_frame_and_follows_a_slow_machine() {
        let mut quantile = RollingQuantile::default();
        (0..100).for_each(|_| quantile.record(1000));
        quantile.record(50_000);
        assert_eq!(quantile.us(), 1000);
        (0..7).for_each(|_| quantile.record(1500));
        assert_eq!(quantile.us(), 1500);
        (0..WINDOW).for_each(|_| quantile.record(800));
        assert_eq!(quantile.us(), 800, "and it recovers");
    }

    #[test]
    fn shared_parts_count_once() {
        let costs = costs(10, &[(0b111, 1000), (0b001, 300)], &[50, 60, 70]);
        assert_eq!((costs.task_us(0, 0), costs.task_us(1, 0), costs.task_us(1, 1)), (1350, 1060, 60));
        assert_eq!(costs.face_us(&[1, 2]), 10 + 1000 + 60 + 70);
        assert_eq!(costs.face_us(&[2, 1, 0]), 10 + 1000 + 300 + 50 + 60 + 70);
        assert_eq!(costs.face_us(&[]), 0);
    }
}
