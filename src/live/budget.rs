//! What each step of a frame costs on this machine now, learnt while it runs.

use faceptor::stages::{MAX_TASKS, SharedPart};

/// So many of the latest durations are kept: two seconds at 30 frames/s, so that a hot or busy machine is noticed soon.
const WINDOW: usize = 64;
/// Of them, this share was not longer than the estimate.
const SHARE: f64 = 0.9;

/// A quantile of the latest durations of one step; exact, in fixed memory.
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
    /// Takes one duration.
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

    /// What the step takes in nine of ten frames at most; 0 before it ever ran.
    pub fn us(&self) -> u64 {
        self.estimate_us
    }
}

/// Estimates for all steps of a frame.
#[derive(Clone, Debug)]
pub struct Costs {
    pub find: RollingQuantile,
    /// Sampling one face.
    pub align: RollingQuantile,
    /// Each shared part, once a face.
    pub parts: Vec<RollingQuantile>,
    /// Each task's own part, once a face.
    pub tasks: Vec<RollingQuantile>,
    /// What comes after the last face.
    pub hand_over: RollingQuantile,
    /// The shared parts that each task needs, a bit each.
    needs: [u32; MAX_TASKS],
}

impl Costs {
    /// For a bundle with these shared parts and so many tasks; nothing is known yet.
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

    /// The shared parts that a task needs, a bit each.
    pub fn parts_of(&self, task: u8) -> u32 {
        self.needs.get(usize::from(task)).copied().unwrap_or(0)
    }

    /// What a task adds to a face of which the shared parts `computed` are there, in microseconds.
    pub fn task_us(&self, task: u8, computed: u32) -> u64 {
        let missing = self.parts_of(task) & !computed;
        let parts = self.parts.iter().enumerate().filter(|(part, _)| missing >> part & 1 == 1);
        parts.map(|(_, cost)| cost.us()).sum::<u64>() + self.tasks.get(usize::from(task)).map_or(0, RollingQuantile::us)
    }

    /// One face with all these tasks.
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

    /// Costs as given: each shared part by the tasks that need it, and each task.
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
    fn nine_of_ten_durations_are_not_above_the_estimate() {
        let mut quantile = RollingQuantile::default();
        assert_eq!(quantile.us(), 0);
        quantile.record(700);
        assert_eq!(quantile.us(), 700);
        (1..=WINDOW as u64).for_each(|us| quantile.record(us));
        assert_eq!(quantile.us(), 58);
    }

    #[test]
    fn one_slow_frame_changes_little_and_a_slow_machine_much() {
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
    fn shared_parts_are_paid_once() {
        let costs = costs(10, &[(0b111, 1000), (0b001, 300)], &[50, 60, 70]);
        assert_eq!((costs.task_us(0, 0), costs.task_us(1, 0), costs.task_us(1, 1)), (1350, 1060, 60));
        assert_eq!(costs.face_us(&[1, 2]), 10 + 1000 + 60 + 70);
        assert_eq!(costs.face_us(&[2, 1, 0]), 10 + 1000 + 300 + 50 + 60 + 70);
        assert_eq!(costs.face_us(&[]), 0);
    }
}
