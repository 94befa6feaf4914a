//! Plans which faces a frame analyzes and which tasks they get, so that the frame keeps its budget.
//!
//! - Each face is sampled and encoded and gets its tracking landmarks; the face that has waited longest comes first. A
//!   face that does not fit is moved by its speed and analyzed in a later frame.
//! - The other tasks follow in the order of priority, over all faces, as long as they fit. A task that waits moves up one
//!   place with each frame, so low priorities are run too, only more rarely.
//! - A task that alone exceeds the remaining budget would wait for ever: after [`PATIENCE`] frames it is run all the same,
//!   at most once in [`FORCED_EVERY`] frames, and the frame may miss its deadline.
//!
//! So no task waits longer than `PATIENCE + FORCED_EVERY * results` frames, where `results` is tasks times faces.

use crate::live::budget::Costs;
use faceptor::stages::{FaceShare, MAX_TASKS, MAX_TRACKS, Plan, TaskList};

/// Frames that a task waits before it is run beyond the budget.
pub const PATIENCE: u16 = 15;
/// Frames between two tasks that are run beyond the budget.
pub const FORCED_EVERY: u16 = 8;
/// Frames that the tasks of a new face count as having waited.
const NEW_FACE: u16 = 4;

/// The faces, tasks and time of a frame to plan.
#[derive(Clone, Copy, Debug)]
pub struct FrameDemand<'a> {
    /// Slots of the tracked faces.
    pub faces: &'a [usize],
    /// The selected tasks in the order of priority.
    pub tasks: &'a [u8],
    /// The task of the tracking landmarks, if there is one.
    pub guide: Option<u8>,
    /// Time for the faces in microseconds; `None` without a budget.
    pub available_us: Option<u64>,
    /// The degradation level: see [`crate::live::degradation`].
    pub level: u8,
}

/// How long each task of each face has waited.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Frames since each task was run, for each slot.
    waits: [[u16; MAX_TASKS]; MAX_TRACKS],
    since_forced: u16,
}

impl Default for Schedule {
    fn default() -> Schedule {
        Schedule { waits: [[NEW_FACE; MAX_TASKS]; MAX_TRACKS], since_forced: FORCED_EVERY }
    }
}

/// A task of a face that waits for its turn.
struct Candidate {
    /// Place in the queue: the smallest comes first.
    place: i32,
    face: usize,
    task: u8,
    wait: u16,
}

impl Schedule {
    /// Resets a slot that has a new face.
    pub fn welcome(&mut self, slot: usize) {
        self.waits[slot] = [NEW_FACE; MAX_TASKS];
    }

    /// Resets a task that was selected anew, because it was not waiting before.
    pub fn welcome_task(&mut self, task: u8) {
        self.waits.iter_mut().for_each(|waits| waits[usize::from(task)] = NEW_FACE);
    }

    /// Plans one frame.
    pub fn plan(&mut self, frame: &FrameDemand, costs: &Costs) -> Plan {
        self.since_forced = self.since_forced.saturating_add(1);
        let mut left = frame.available_us.unwrap_or(u64::MAX);
        let mut plan = Plan::new();
        let mut faces: heapless::Vec<usize, MAX_TRACKS> = frame.faces.iter().copied().collect();
        // The face that has waited longest without any result comes first. If a task may be forced in this frame, the face
        // with the longest wait of a task does; otherwise the turns of faces and of forced tasks could keep in step.
        let forcing = self.since_forced >= FORCED_EVERY;
        faces.sort_unstable_by_key(|&slot| {
            let (shortest, longest) = self.waits_of(slot, frame);
            let impatient = if forcing && longest >= PATIENCE { longest } else { 0 };
            (std::cmp::Reverse((impatient, shortest)), slot)
        });
        let turns = if frame.level >= 3 { 1 } else { faces.len() };
        for &slot in faces.iter().take(turns) {
            let Some(guide) = frame.guide else {
                let _ = plan.push(FaceShare { slot, tasks: 0, surely: 0 });
                continue;
            };
            let cost = costs.align.us() + costs.task_us(guide, 0);
            // One face is always analyzed, or tracking would stop.
            if plan.is_empty() || cost <= left {
                left = left.saturating_sub(cost);
                let _ = plan.push(FaceShare { slot, tasks: 1 << guide, surely: 1 << guide });
            }
        }
        self.give_tasks(frame, costs, left, &mut plan);
        plan.retain(|share| share.tasks != 0);
        plan
    }

    fn give_tasks(&mut self, frame: &FrameDemand, costs: &Costs, mut left: u64, plan: &mut Plan) {
        let mut candidates: heapless::Vec<Candidate, { MAX_TASKS * MAX_TRACKS }> = heapless::Vec::new();
        for (face, share) in plan.iter().enumerate() {
            for (rank, &task) in frame.tasks.iter().enumerate().filter(|(_, task)| Some(**task) != frame.guide) {
                let wait = self.waits[share.slot][usize::from(task)];
                if frame.level < 2 || wait > 0 {
                    let _ = candidates.push(Candidate { place: rank as i32 - i32::from(wait), face, task, wait });
                }
            }
        }
        candidates.sort_unstable_by_key(|candidate| {
            (candidate.place, std::cmp::Reverse(candidate.wait), candidate.face, candidate.task)
        });
        for candidate in &candidates {
            let share = &mut plan[candidate.face];
            let computed = (0..MAX_TASKS as u8).filter(|task| share.tasks >> task & 1 == 1);
            let computed = computed.fold(0, |parts, task| parts | costs.parts_of(task));
            let align = if share.tasks == 0 { costs.align.us() } else { 0 };
            let cost = align + costs.task_us(candidate.task, computed);
            let forced = cost > left && candidate.wait >= PATIENCE && self.since_forced >= FORCED_EVERY;
            if cost <= left || forced {
                left = left.saturating_sub(cost);
                share.tasks |= 1 << candidate.task;
                if forced {
                    share.surely |= 1 << candidate.task;
                    self.since_forced = 0;
                }
            }
        }
    }

    /// Returns the shortest and the longest wait of a face's tasks.
    fn waits_of(&self, slot: usize, frame: &FrameDemand) -> (u16, u16) {
        let waits = frame.guide.iter().chain(frame.tasks).map(|&task| self.waits[slot][usize::from(task)]);
        waits.fold((u16::MAX, 0), |(shortest, longest), wait| (shortest.min(wait), longest.max(wait)))
    }

    /// Records which of the selected tasks a face got in this frame.
    pub fn record(&mut self, slot: usize, tasks: &TaskList, answered: u32) {
        for &task in tasks {
            let wait = &mut self.waits[slot][usize::from(task)];
            *wait = if answered >> task & 1 == 1 { 0 } else { wait.saturating_add(1) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::budget::tests::costs;

    const LANDMARKS: u8 = 0;

    /// Encoder 1000 us for all, pixel decoder 300 us for landmarks and parsing; landmarks 500, parsing 400, four more
    /// of 200 us.
    fn six() -> Costs {
        costs(100, &[(0b11_1111, 1000), (0b11, 300)], &[500, 400, 200, 200, 200, 200])
    }

    fn every() -> TaskList {
        (0..6).collect()
    }

    struct Simulation {
        schedule: Schedule,
        costs: Costs,
        faces: Vec<usize>,
        tasks: TaskList,
        guide: Option<u8>,
        budget_us: u64,
        level: u8,
        /// How long each task waited at most, for each face.
        longest: [[u16; 6]; MAX_TRACKS],
        answered: [[u32; 6]; MAX_TRACKS],
        over: u32,
    }

    impl Simulation {
        fn new(faces: usize, budget_us: u64) -> Simulation {
            Simulation {
                schedule: Schedule::default(),
                costs: six(),
                faces: (0..faces).collect(),
                tasks: every(),
                guide: Some(LANDMARKS),
                budget_us,
                level: 0,
                longest: [[0; 6]; MAX_TRACKS],
                answered: [[0; 6]; MAX_TRACKS],
                over: 0,
            }
        }

        fn frame(&mut self) -> Plan {
            let frame = FrameDemand {
                faces: &self.faces,
                tasks: &self.tasks,
                guide: self.guide,
                available_us: Some(self.budget_us),
                level: self.level,
            };
            let plan = self.schedule.plan(&frame, &self.costs);
            let mut spent = 0;
            for share in &plan {
                let tasks: Vec<u8> = (0..6).filter(|task| share.tasks >> task & 1 == 1).collect();
                spent += self.costs.face_us(&tasks);
            }
            self.over += u32::from(spent > self.budget_us);
            for &slot in &self.faces {
                let answered = plan.iter().find(|share| share.slot == slot).map_or(0, |share| share.tasks);
                self.schedule.record(slot, &self.tasks, answered);
                for &task in &self.tasks {
                    let task = usize::from(task);
                    self.answered[slot][task] += answered >> task & 1;
                    self.longest[slot][task] = self.longest[slot][task].max(self.schedule.waits[slot][task]);
                }
            }
            plan
        }

        fn run(&mut self, frames: u32) {
            (0..frames).for_each(|_| drop(self.frame()));
        }
    }

    #[test]
    fn plans_everything_without_a_budget() {
        let (mut schedule, costs, tasks) = (Schedule::default(), six(), every());
        let frame = FrameDemand { faces: &[0, 1], tasks: &tasks, guide: None, available_us: None, level: 0 };
        let plan = schedule.plan(&frame, &costs);
        assert_eq!(plan.iter().map(|share| share.tasks).collect::<Vec<_>>(), [0b11_1111; 2]);
    }

    #[test]
    fn tasks_that_do_not_fit_wait_for_their_turn() {
        // Room for landmarks and parsing, or for landmarks and two of the others.
        let mut simulation = Simulation::new(1, 2350);
        let first: Vec<u32> = (0..4).map(|_| simulation.frame()[0].tasks).collect();
        assert_eq!(first[0], 0b00_0011, "priorities first");
        simulation.run(200);
        assert_eq!(simulation.answered[0][0], 204, "landmarks always");
        assert_eq!(simulation.over, 0, "the budget is kept");
        let [_, second, .., last] = simulation.answered[0];
        assert!(second > last && last > 20, "{:?}", simulation.answered[0]);
        assert!(simulation.longest[0].iter().all(|&wait| wait < 12), "{:?}", simulation.longest[0]);
    }

    #[test]
    fn no_task_starves_under_any_budget() {
        for faces in [1, 3, 16] {
            for budget_us in [0, 1000, 1950, 2200, 4500, 9000] {
                for guide in [Some(LANDMARKS), None] {
                    let mut simulation = Simulation::new(faces, budget_us);
                    simulation.guide = guide;
                    simulation.run(6000);
                    let bound = PATIENCE + FORCED_EVERY * 6 * faces as u16 + NEW_FACE;
                    let longest = simulation.longest[..faces].iter().flatten().max().copied();
                    assert!(longest <= Some(bound), "{faces} faces, {budget_us} us: {longest:?} of {bound}");
                }
            }
        }
    }

    #[test]
    fn forces_a_task_longer_than_the_budget_now_and_then() {
        let mut simulation = Simulation::new(1, 2200);
        simulation.costs = costs(100, &[(0b11, 1000)], &[500, 5000]);
        simulation.tasks = (0..2).collect();
        simulation.run(160);
        let forced = simulation.answered[0][1];
        assert_eq!((forced, simulation.over), (10, 10));
    }

    #[test]
    fn faces_share_the_budget_in_turns() {
        // Two faces with their landmarks fit, four do not.
        let mut simulation = Simulation::new(4, 3900);
        let seen: Vec<Vec<usize>> =
            (0..4).map(|_| simulation.frame().iter().map(|share| share.slot).collect()).collect();
        assert_eq!(seen, [[0, 1], [2, 3], [0, 1], [2, 3]]);
        assert_eq!(simulation.over, 0);
    }

    #[test]
    fn levels_shed_work_in_order() {
        let mut simulation = Simulation::new(3, 1_000_000);
        simulation.run(2);
        simulation.level = 2;
        let tasks: Vec<u32> = (0..4).map(|_| simulation.frame()[0].tasks).collect();
        assert_eq!(tasks, [1, 0b11_1111, 1, 0b11_1111], "every second answer");
        simulation.level = 3;
        let seen: Vec<Vec<usize>> =
            (0..4).map(|_| simulation.frame().iter().map(|share| share.slot).collect()).collect();
        assert!(seen.iter().all(|slots| slots.len() == 1), "one face a frame: {seen:?}");
        let mut slots: Vec<usize> = seen[..3].concat();
        slots.sort_unstable();
        assert_eq!(slots, [0, 1, 2], "in turns");
    }

    #[test]
    fn plans_live_on_the_stack() {
        assert!(std::mem::size_of::<Plan>() < 1000 && std::mem::size_of::<Schedule>() < 2000);
    }
}
