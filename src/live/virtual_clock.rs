//! The loop's time: the machine's, or one that a script makes.
//!
//! With a script every stage takes as long as the script says, whatever it took: so a test leads the loop through
//! overload and recovery with the same outcome on every machine (`tests/integration/overload.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::platform::clock;

/// What takes time in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Find,
    /// Preparing a part of the finder's picture, or looking at what was prepared.
    FindPart,
    /// Sampling one face.
    Align,
    /// A shared part of the network, by its place in `Pipeline::shared`.
    Part(usize),
    /// A task of the manifest.
    Task(usize),
    /// Copying the result.
    HandOver,
}

/// A clock that moves only when stages are run or somebody moves it.
pub struct VirtualClock {
    now_us: AtomicU64,
    cost_us: Box<dyn Fn(Stage, u64) -> u64 + Send + Sync>,
}

impl VirtualClock {
    /// Time begins at a second; `cost_us` says what a stage takes that begins at a time.
    pub fn new(cost_us: impl Fn(Stage, u64) -> u64 + Send + Sync + 'static) -> Arc<VirtualClock> {
        Arc::new(VirtualClock { now_us: AtomicU64::new(1_000_000), cost_us: Box::new(cost_us) })
    }

    /// Microseconds.
    pub fn now_us(&self) -> u64 {
        self.now_us.load(Ordering::Relaxed)
    }

    /// Moves the clock on; never back.
    pub fn wait_until_us(&self, us: u64) {
        self.now_us.fetch_max(us, Ordering::Relaxed);
    }
}

/// Where the loop's time comes from.
#[derive(Clone, Default)]
pub enum LoopClock {
    /// [`clock::now_us`].
    #[default]
    Machine,
    Virtual(Arc<VirtualClock>),
}

impl LoopClock {
    /// Microseconds; of the machine, on the clock of `captured_us`.
    pub fn now_us(&self) -> u64 {
        match self {
            LoopClock::Machine => clock::now_us(),
            LoopClock::Virtual(script) => script.now_us(),
        }
    }

    /// A stage has been run: microseconds since `since_us`, which becomes the time now.
    pub fn lap_us(&self, since_us: &mut u64, stage: Stage) -> u64 {
        if let LoopClock::Virtual(script) = self {
            script.wait_until_us(script.now_us() + (script.cost_us)(stage, script.now_us()));
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
    fn a_script_s_stages_take_what_it_says() {
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
    fn the_machine_s_time_passes_by_itself() {
        let mut since_us = clock::now_us();
        let before = since_us;
        let lap_us = LoopClock::default().lap_us(&mut since_us, Stage::Align);
        assert_eq!(before + lap_us, since_us);
    }
}
