//! The clock of the loop: the machine's clock, or a virtual one for tests.
//!
//! On a virtual clock each stage takes the time that the test sets, so a test takes the loop through
//! overload and recovery with the same result on every machine (`tests/integration/overload.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::platform::clock;

/// A stage of a frame that takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A run of the detector.
    Find,
    /// One slice of a detector run: preparing a part of its input, or running it on the prepared input.
    FindPart,
    /// Sampling one face.
    Align,
    /// A shared part of the network, by its index in `Pipeline::shared`.
    Part(usize),
    /// A task, by its index in the manifest.
    Task(usize),
    /// Comparing the faces with the gallery.
    Identify,
    /// Copying the result.
    HandOver,
}

/// A clock that moves only when a stage is run or a test moves it.
pub struct VirtualClock {
    now_us: AtomicU64,
    cost_us: Box<dyn Fn(Stage, u64) -> u64 + Send + Sync>,
}

impl VirtualClock {
    /// Starts at one second. `cost_us` returns the microseconds of a stage that begins at the given time.
    pub fn new(cost_us: impl Fn(Stage, u64) -> u64 + Send + Sync + 'static) -> Arc<VirtualClock> {
        Arc::new(VirtualClock { now_us: AtomicU64::new(1_000_000), cost_us: Box::new(cost_us) })
    }

    /// Returns the time in microseconds.
    pub fn now_us(&self) -> u64 {
        self.now_us.load(Ordering::Relaxed)
    }

    /// Moves the clock forward to `us`; never back.
    pub fn wait_until_us(&self, us: u64) {
        self.now_us.fetch_max(us, Ordering::Relaxed);
    }
}

/// The clock that the loop uses.
#[derive(Clone, Default)]
pub enum LoopClock {
    /// The machine's clock: [`clock::now_us`].
    #[default]
    Machine,
    /// A virtual clock, for tests.
    Virtual(Arc<VirtualClock>),
}

impl LoopClock {
    /// Returns the time in microseconds, on the clock of `captured_us`.
    pub fn now_us(&self) -> u64 {
        match self {
            LoopClock::Machine => clock::now_us(),
            LoopClock::Virtual(clock) => clock.now_us(),
        }
    }

    /// Ends a stage: returns the microseconds since `since_us`, and sets `since_us` to the present time.
    pub fn lap_us(&self, since_us: &mut u64, stage: Stage) -> u64 {
        if let LoopClock::Virtual(clock) = self {
            clock.wait_until_us(clock.now_us() + (clock.cost_us)(stage, clock.now_us()));
        }
        let now_us = self.now_us();
        let lap_us = now_us - *since_us;
        *since_us = now_us;
        lap_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_take_the_time_of_the_virtual_clock() {
        let script = VirtualClock::new(|stage, now_us| if stage == Stage::Find { 700 } else { now_us / 1_000_000 });
        let time = LoopClock::Virtual(script.clone());
        let mut since_us = time.now_us();
        assert_eq!(time.lap_us(&mut since_us, Stage::Find), 700);
        script.wait_until_us(5_000_000);
        script.wait_until_us(2_000_000);
        assert_eq!(time.now_us(), 5_000_000);
        let mut since_us = time.now_us();
        assert_eq!(time.lap_us(&mut since_us, Stage::Part(1)), 5);
        assert_eq!((since_us, time.now_us()), (5_000_005, 5_000_005));
    }

    #[test]
    fn the_machine_clock_moves_by_itself() {
        let mut since_us = clock::now_us();
        let before = since_us;
        let lap_us = LoopClock::default().lap_us(&mut since_us, Stage::Align);
        assert_eq!(before + lap_us, since_us);
    }
}
