//! The faces of the live loop: the library's driver with a budget for each frame, and costs that are learnt while it runs.

use std::sync::Arc;

use anyhow::Result;

use crate::live::budget::Costs;
use crate::live::schedule::{self, Schedule};
use crate::live::shield::{Blur, Shield};
use crate::live::virtual_clock::{LoopClock, Stage};
use crate::recognition::dates;
use crate::recognition::identities::Identities;
use crate::recognition::track_names::TrackNames;
use faceptor::stages::{
    Analysis, Deadline, FaceShare, FramePolicy, ImageView, Observer, Pipeline, Plan, Step, TaskList, Timing,
    TrackerOptions, VideoFaces,
};
use faceptor_gallery::Roster;
use faceptor_results::cover::Covers;

/// Landmarks that were not requested are decoded for tracking when they cost at most so many halves of a detector run,
/// and no longer when they cost more than so many.
const TRACKING_TAKEN_HALVES: u64 = 4;
const TRACKING_KEPT_HALVES: u64 = 5;

/// The network of the loop, and the faces of each source.
pub struct Faces {
    pipeline: Pipeline,
    policy: Budgeted,
    sources: Vec<SourceFaces>,
    /// The source whose turn it is.
    turn: usize,
}

/// The faces of one source and all that is kept of them from frame to frame.
struct SourceFaces {
    video: VideoFaces,
    /// Names of the tracks, with a gallery.
    names: Option<TrackNames>,
    /// Covers of the heads, with `--blur`.
    shield: Option<Shield>,
    /// Seconds from the last frame to this one, and its width and height.
    elapsed_s: f32,
    size: [usize; 2],
}

/// Limits of one frame.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// When the loop had the frame.
    pub started_us: u64,
    /// From then on; `None` is no limit.
    pub budget_us: Option<u64>,
    /// See [`crate::live::degradation`].
    pub level: u8,
}

impl Allowance {
    /// Reports whether a step of so many microseconds still fits.
    fn has_room(&self, us: u64, time: &LoopClock) -> bool {
        self.budget_us.is_none_or(|budget| time.now_us() - self.started_us + us <= budget)
    }
}

/// Work that was done for a frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// The face detector ran.
    pub finder_ran: bool,
    /// Results of earlier frames that are reported again.
    pub stale_answers: u64,
}

/// Keeps each frame within its allowance, by the costs of the last frames.
struct Budgeted {
    allowance: Allowance,
    costs: Costs,
    /// One for each source.
    schedules: Vec<Schedule>,
    /// The source whose turn it is.
    turn: usize,
    time: LoopClock,
    timing: Timing,
    /// When the step that runs began.
    since_us: u64,
    /// Tasks of the share that runs, even when time has run out; a bit each.
    surely: u32,
}

impl Observer for Budgeted {
    fn begin(&mut self) {
        self.since_us = self.time.now_us();
    }

    fn ended(&mut self, step: Step) {
        let Budgeted { time, since_us, timing, costs, .. } = self;
        match step {
            Step::Find => {
                timing.find_us = time.lap_us(since_us, Stage::Find);
                costs.find.record(timing.find_us);
            }
            Step::FindPart => timing.find_us = time.lap_us(since_us, Stage::FindPart),
            Step::Sample => {
                let us = time.lap_us(since_us, Stage::Align);
                costs.align.record(us);
                timing.align_us += us;
            }
            Step::Part(part) => {
                let us = time.lap_us(since_us, Stage::Part(part));
                costs.parts[part].record(us);
                timing.encode_us += us;
            }
            Step::Task(task) => {
                let us = time.lap_us(since_us, Stage::Task(task));
                costs.tasks[task].record(us);
                timing.decode_us[task] += us;
            }
        }
    }

    fn admits(&mut self, task: u8, computed: u32) -> bool {
        let cost_us = self.costs.task_us(task, computed) + self.costs.hand_over.us();
        self.surely >> task & 1 == 1 || self.allowance.has_room(cost_us, &self.time)
    }
}

impl FramePolicy for Budgeted {
    /// Crops from landmarks are much steadier than the detector's, so they may cost twice as much. Without a budget their
    /// cost does not matter, and a file gives the same results on every machine.
    fn tracks_by(&mut self, task: u8, tasks: &TaskList, faces: usize, in_use: bool) -> bool {
        let mut both = tasks.clone();
        // It has room for every task.
        let _ = both.push(task);
        let extra_us = self.costs.face_us(&both).saturating_sub(self.costs.face_us(tasks));
        let halves = if in_use { TRACKING_KEPT_HALVES } else { TRACKING_TAKEN_HALVES };
        let pays = faces.max(1) as u64 * extra_us <= self.costs.find.us() * halves / 2;
        !tasks.is_empty() && (pays || self.allowance.budget_us.is_none())
    }

    fn finds_rarely(&self) -> bool {
        self.allowance.level >= 1
    }

    fn face_limit(&self, limit: usize) -> usize {
        if self.allowance.level >= 4 { limit.div_ceil(2) } else { limit }
    }

    fn plan(&mut self, faces: &[usize], tasks: &TaskList, tracking_task: Option<u8>) -> Plan {
        let spent_us = self.time.now_us() - self.allowance.started_us + self.costs.hand_over.us();
        let frame = schedule::FrameDemand {
            faces,
            tasks,
            guide: tracking_task,
            available_us: self.allowance.budget_us.map(|budget| budget.saturating_sub(spent_us)),
            level: self.allowance.level,
        };
        self.schedules[self.turn].plan(&frame, &self.costs)
    }

    fn share_begins(&mut self, share: &FaceShare) {
        self.surely = share.surely;
    }

    fn share_ended(&mut self, slot: usize, tasks: &TaskList, ran: u32) {
        self.schedules[self.turn].record(slot, tasks, ran);
    }

    fn face_appeared(&mut self, slot: usize) {
        self.schedules[self.turn].welcome(slot);
    }

    fn task_chosen(&mut self, task: u8) {
        self.schedules[self.turn].welcome_task(task);
    }
}

impl Faces {
    /// Takes a pipeline with its chosen tasks, for one source.
    pub fn new(pipeline: Pipeline, options: TrackerOptions) -> Faces {
        Faces::of_several(pipeline, options, 1)
    }

    /// Takes a pipeline with its chosen tasks, which `sources` sources share. The first one has its turn.
    pub fn of_several(mut pipeline: Pipeline, options: TrackerOptions, sources: usize) -> Faces {
        let (tasks, count) = (pipeline.decoders().len(), sources.max(1));
        let policy = Budgeted {
            allowance: Allowance { started_us: 0, budget_us: None, level: 0 },
            costs: Costs::new(pipeline.shared(), tasks),
            schedules: vec![Schedule::default(); count],
            turn: 0,
            time: LoopClock::Machine,
            timing: Timing::new(tasks),
            since_us: 0,
            surely: 0,
        };
        let sources = (0..count).map(|_| {
            let mut video = VideoFaces::new(&mut pipeline, options);
            // A pipeline prepares the spread run of one video only.
            video.spread_searches(count == 1);
            SourceFaces { video, names: None, shield: None, elapsed_s: 0.0, size: [0; 2] }
        });
        let sources = sources.collect();
        Faces { pipeline, policy, sources, turn: 0 }
    }

    /// Gives a source its turn: frames, cuts and results are those of this one.
    pub fn turn_to(&mut self, source: usize) {
        let turn = source.min(self.sources.len() - 1);
        (self.turn, self.policy.turn) = (turn, turn);
    }

    fn now(&self) -> &SourceFaces {
        &self.sources[self.turn]
    }

    /// Names the tracks by a gallery.
    pub fn named(mut self, names: Option<TrackNames>) -> Faces {
        if let Some(names) = names {
            self.sources.iter_mut().for_each(|source| source.names = Some(names.of_another_source()));
        }
        self
    }

    /// Covers heads on the frames that are shown.
    pub fn blurred(mut self, blur: Option<Blur>) -> Faces {
        self.sources.iter_mut().for_each(|source| source.shield = blur.map(Shield::new));
        self
    }

    /// Announces whether the next frame is shown. Where heads are covered, the detector then runs on it.
    pub fn watch_closely(&mut self, is_shown: bool) {
        let SourceFaces { video, shield, .. } = &mut self.sources[self.turn];
        video.watch_closely(is_shown && shield.is_some());
    }

    /// Returns what is covered on the last frame that was copied; `None` without `--blur`.
    pub fn covers(&self) -> Option<&Covers> {
        self.now().shield.as_ref().map(Shield::covers)
    }

    /// Takes another state of the gallery from the next frame on, without freeing or allocating anything.
    pub fn set_roster(&mut self, roster: Arc<Roster>) {
        for names in self.sources.iter_mut().filter_map(|source| source.names.as_mut()) {
            names.set_roster(roster.clone());
        }
    }

    /// Returns the gallery's answers for the faces of the last frame that was copied.
    pub fn identities(&self) -> Option<&Identities> {
        self.now().names.as_ref().map(TrackNames::identities)
    }

    /// Sets the time constant of expression, age and attributes, seconds; 0 leaves them as the network gives them.
    pub fn smoothed(mut self, time_constant_s: f32) -> Faces {
        self.sources.iter_mut().for_each(|source| source.video.set_smoothing(time_constant_s));
        self
    }

    /// Measures the steps by another clock, such as a script's.
    pub fn in_time(mut self, time: LoopClock) -> Faces {
        self.policy.time = time;
        self
    }

    /// Returns the clock that measures the steps.
    pub fn time(&self) -> &LoopClock {
        &self.policy.time
    }

    /// Sets whether parsing keeps the scores for masks; on at first.
    pub fn enable_masks(&mut self, on: bool) {
        self.pipeline.enable_masks(on);
    }

    /// Returns the network.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// Returns what each step costs.
    pub fn costs(&self) -> &Costs {
        &self.policy.costs
    }

    /// Returns the chosen tasks in the order of priority.
    pub fn tasks(&self) -> &TaskList {
        self.now().video.tasks()
    }

    /// Returns the chosen tasks, and the landmarks that run for tracking alone.
    pub fn run_tasks(&self) -> &TaskList {
        self.now().video.run_tasks()
    }

    /// Returns how many faces are tracked.
    pub fn count(&self) -> usize {
        self.now().video.count()
    }

    /// Returns the most faces.
    pub fn limit(&self) -> usize {
        self.now().video.limit()
    }

    /// Declares that the next frame shows another scene.
    pub fn cut(&mut self) {
        let SourceFaces { video, names, shield, .. } = &mut self.sources[self.turn];
        video.cut();
        if let Some(names) = names {
            names.cut();
        }
        if let Some(shield) = shield {
            shield.cut();
        }
    }

    /// Chooses the tasks of all sources from the next frame on, without compiling or allocating anything.
    pub fn choose(&mut self, tasks: &TaskList) {
        for (turn, source) in self.sources.iter_mut().enumerate() {
            self.policy.turn = turn;
            source.video.choose(&mut self.pipeline, tasks, &mut self.policy);
        }
        self.policy.turn = self.turn;
    }

    /// Learns what each step costs, from a frame that may show anything.
    pub fn warm_up(&mut self, view: &ImageView, rounds: u32) -> Result<()> {
        self.policy.allowance = Allowance { started_us: self.policy.time.now_us(), budget_us: None, level: 0 };
        self.watch_closely(true);
        self.sources[self.turn].video.warm_up(&mut self.pipeline, view, rounds, &mut self.policy)?;
        self.policy.timing.clear();
        Ok(())
    }

    /// Processes a frame, taken `elapsed_s` seconds after the last one of its source.
    pub fn process(&mut self, view: &ImageView, elapsed_s: f32, allowance: &Allowance) -> Result<Done> {
        self.policy.allowance = *allowance;
        self.policy.timing.clear();
        let source = &mut self.sources[self.turn];
        (source.elapsed_s, source.size) = (elapsed_s, [view.width(), view.height()]);
        let summary = source.video.process(&mut self.pipeline, view, elapsed_s, &mut self.policy)?;
        Ok(Done { finder_ran: summary.finder_ran, stale_answers: summary.stale_results })
    }

    /// Copies the results of this frame, faces in the order of their numbers, finds their names and covers heads, without allocating.
    pub fn copy_to(&mut self, analysis: &mut Analysis, allowance: &Allowance) {
        let SourceFaces { video, names, shield, elapsed_s, size } = &mut self.sources[self.turn];
        video.copy_to(analysis);
        if let Some(names) = names {
            self.policy.identify(video, names, analysis);
        }
        if let Some(shield) = shield {
            let identities = names.as_ref().map(TrackNames::identities);
            shield.update(video, identities, *size, *elapsed_s);
        }
        analysis.timing.clone_from(&self.policy.timing);
        analysis.deadline = allowance.budget_us.map(|budget_us| {
            let used_us = self.policy.time.now_us() - allowance.started_us;
            Deadline { budget_us, used_us, missed: used_us > budget_us, deferred: video.deferred().clone() }
        });
    }

    /// Records what copying and handing over a result took, with the comparison with the gallery.
    pub fn record_hand_over(&mut self, us: u64) {
        self.policy.costs.hand_over.record(us);
    }
}

impl Budgeted {
    /// Compares the faces with the gallery. The time is part of the recognition's.
    fn identify(&mut self, video: &VideoFaces, names: &mut TrackNames, analysis: &Analysis) {
        let mut since_us = self.time.now_us();
        let tracks = video.visible().zip(analysis.faces.iter());
        names.update(tracks.map(|((slot, _, suspicion), face)| (slot, face, suspicion)), dates::now());
        let us = self.time.lap_us(&mut since_us, Stage::Identify);
        if let Some(total_us) = self.timing.decode_us.get_mut(names.task()) {
            *total_us += us;
        }
    }
}
