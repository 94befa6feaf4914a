//! One frame's way through the network, within its budget: find or follow, then for each face sample, encode and decode.

use anyhow::Result;

use crate::live::budget::Costs;
use crate::live::schedule::{self, FaceShare, Plan, Schedule};
use crate::live::virtual_clock::{LoopClock, Stage};
use faceptor::stages::{
    Analysis, Deadline, Face, ImageView, Pipeline, Prediction, Purpose, SWEEP_FRAMES, Search, TRACKING_LANDMARKS,
    TaskDecoder, TaskList, TaskResult, Timing, Tracker, TrackerOptions, each_format, smoothing,
};
use faceptor_nn::manifest::TaskKind;

/// Landmarks that nobody has chosen are decoded to follow faces by when they cost no more than so many halves of a run
/// of the finder, and no longer when they cost more than so many.
const GUIDE_TAKEN_HALVES: u64 = 4;
const GUIDE_KEPT_HALVES: u64 = 5;

/// The faces of the loop and all that is remembered from frame to frame.
pub struct Faces {
    pipeline: Pipeline,
    tracker: Tracker,
    /// The memory of each slot of `tracker`.
    known: Vec<Face>,
    costs: Costs,
    schedule: Schedule,
    tasks: TaskList,
    /// The task whose landmarks faces are followed by.
    guide: Option<u8>,
    /// The same when nobody has chosen it: decoded for following alone, as long as that is worth its time.
    spare_guide: Option<u8>,
    /// The chosen tasks, and the guide if it is not one of them.
    worked: TaskList,
    limit: usize,
    timing: Timing,
    deferred: TaskList,
    /// Time constant of the answers that are smoothed; 0 leaves them as they are.
    steady_s: f32,
    /// An answer of each task before it is smoothed.
    fresh: Vec<Prediction>,
    time: LoopClock,
}

/// What one frame may cost.
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
    /// Whether something that takes so long still fits.
    fn has_room(&self, us: u64, time: &LoopClock) -> bool {
        self.budget_us.is_none_or(|budget| time.now_us() - self.started_us + us <= budget)
    }
}

/// What was done for a frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    pub finder_ran: bool,
    /// Answers of earlier frames that are given again.
    pub stale_answers: u64,
}

impl Faces {
    /// Takes a pipeline with its chosen tasks.
    pub fn new(pipeline: Pipeline, options: TrackerOptions) -> Faces {
        let decoders = pipeline.decoders();
        let mut faces = Faces {
            tracker: Tracker::new(options, pipeline.template()),
            known: (0..options.limit).map(|_| Face::blank(decoders)).collect(),
            costs: Costs::new(pipeline.shared(), decoders.len()),
            schedule: Schedule::default(),
            tasks: TaskList::new(),
            guide: None,
            spare_guide: None,
            worked: TaskList::new(),
            limit: options.limit,
            timing: Timing::new(decoders.len()),
            deferred: TaskList::new(),
            steady_s: smoothing::TIME_CONSTANT_S,
            fresh: decoders.iter().map(TaskDecoder::blank).collect(),
            time: LoopClock::Machine,
            pipeline,
        };
        let chosen = faces.pipeline.tasks().clone();
        faces.choose(&chosen);
        faces
    }

    /// With another time constant for expression, age and attributes; 0 leaves them as the network gives them.
    pub fn steadied(mut self, time_constant_s: f32) -> Faces {
        self.steady_s = time_constant_s;
        self
    }

    /// Its stages take as long as a script says.
    pub fn in_time(mut self, time: LoopClock) -> Faces {
        self.time = time;
        self
    }

    /// The time that its stages are measured by.
    pub fn time(&self) -> &LoopClock {
        &self.time
    }

    /// Whether masks may be drawn of the answers of the frames that come, which is so at first.
    pub fn for_masks(&mut self, wanted: bool) {
        self.pipeline.for_masks(wanted);
    }

    /// The network.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// What everything costs.
    pub fn costs(&self) -> &Costs {
        &self.costs
    }

    /// The chosen tasks in the order of priority.
    pub fn tasks(&self) -> &TaskList {
        &self.tasks
    }

    /// Those, and the landmarks that faces are followed by if nobody has chosen them.
    pub fn worked_tasks(&self) -> &TaskList {
        &self.worked
    }

    /// Faces that are followed.
    pub fn count(&self) -> usize {
        self.tracker.count()
    }

    /// The next frame has nothing to do with the last one.
    pub fn cut(&mut self) {
        self.tracker.cut();
        // A face in the same place is somebody else.
        self.known.iter_mut().flat_map(|face| &mut face.results).for_each(|result| result.known = false);
    }

    /// Changes the tasks from the next frame on. Nothing is compiled, optimized or allocated for it: every task has its
    /// decoder, its place in the engine and its memory from the start.
    pub fn choose(&mut self, tasks: &TaskList) {
        let before = std::mem::take(&mut self.tasks);
        self.pipeline.choose(tasks);
        self.tasks.clone_from(self.pipeline.tasks());
        for &task in self.tasks.iter().filter(|task| !before.contains(task)) {
            self.schedule.welcome_task(task);
        }
        for task in (0..self.pipeline.decoders().len()).filter(|&task| !self.tasks.contains(&(task as u8))) {
            self.known.iter_mut().for_each(|face| face.results[task].known = false);
        }
        let decoders = self.pipeline.decoders();
        let leads = |&task: &u8| {
            let decoder = &decoders[usize::from(task)];
            decoder.task().kind == TaskKind::Landmarks && decoder.outputs() == TRACKING_LANDMARKS
        };
        self.guide = self.tasks.iter().copied().find(leads);
        self.spare_guide = if self.guide.is_some() { None } else { (0..decoders.len() as u8).find(leads) };
        self.worked.clone_from(&self.tasks);
    }

    /// Decides whether faces are followed by landmarks that nobody has asked for. Crops that come from them lie six
    /// times steadier than the finder's (`docs/loop.md` has the numbers), so they may cost twice as much. Without a
    /// budget their cost does not matter, and a file gives the same answers on every machine.
    fn weigh_guide(&mut self, has_budget: bool) {
        let Some(spare) = self.spare_guide else {
            self.pipeline.follow_by(self.guide);
            return;
        };
        self.worked.clone_from(&self.tasks);
        // It has room for every task.
        let _ = self.worked.push(spare);
        let extra_us = self.costs.face_us(&self.worked).saturating_sub(self.costs.face_us(&self.tasks));
        let halves = if self.guide.is_some() { GUIDE_KEPT_HALVES } else { GUIDE_TAKEN_HALVES };
        let pays = self.tracker.count().max(1) as u64 * extra_us <= self.costs.find.us() * halves / 2;
        let worth = !self.tasks.is_empty() && (pays || !has_budget);
        self.guide = worth.then_some(spare);
        if !worth {
            self.worked.clone_from(&self.tasks);
        }
        self.pipeline.follow_by(self.guide);
    }

    /// Learns what everything costs before the first frame comes; what is seen does not matter for that.
    pub fn warm_up(&mut self, view: &ImageView, rounds: u32) -> Result<()> {
        let slot = 0;
        let chosen = self.tasks.clone();
        self.choose(&(0..self.pipeline.decoders().len() as u8).collect());
        let side = view.width().min(view.height()) as f64 / 2.0;
        for _ in 0..rounds {
            let mut since_us = self.time.now_us();
            each_format!(view, pixels => self.pipeline.find(pixels, Purpose::Live, self.limit))?;
            self.costs.find.record(self.time.lap_us(&mut since_us, Stage::Find));
            let share = FaceShare { slot, tasks: u32::MAX, surely: u32::MAX };
            let allowance = Allowance { started_us: since_us, budget_us: None, level: 0 };
            self.known[slot].to_picture = faceptor::stages::Similarity::scaling(side);
            self.known[slot].views = self.pipeline.views(&self.known[slot].to_picture, None);
            self.decode_share(&share, view, &allowance)?;
        }
        self.known.iter_mut().flat_map(|face| &mut face.results).for_each(|result| result.known = false);
        self.timing.clear();
        self.choose(&chosen);
        Ok(())
    }

    /// Everything about one frame, taken `elapsed_s` after the last one.
    pub fn process(&mut self, view: &ImageView, elapsed_s: f32, allowance: &Allowance) -> Result<Done> {
        self.timing.clear();
        self.deferred.clear();
        self.known.iter_mut().flat_map(|face| &mut face.results).for_each(|result| result.since_s += elapsed_s);
        self.weigh_guide(allowance.budget_us.is_some());
        let finder_ran = self.find(view, elapsed_s, allowance)?;
        let plan = self.plan(allowance);
        for share in &plan {
            let answered = self.look(share, view, allowance)?;
            self.schedule.record(share.slot, &self.worked, answered);
        }
        let stale_answers = self.settle(&plan, allowance);
        Ok(Done { finder_ran, stale_answers })
    }

    /// The most faces.
    pub fn limit(&self) -> usize {
        self.limit
    }

    fn limit_at(&self, level: u8) -> usize {
        if level >= 4 { self.limit.div_ceil(2) } else { self.limit }
    }

    fn find(&mut self, view: &ImageView, elapsed_s: f32, allowance: &Allowance) -> Result<bool> {
        let guided = self.guide.is_some();
        self.tracker.begin(elapsed_s);
        let mut since_us = self.time.now_us();
        let search = self.tracker.search(guided, allowance.level >= 1);
        let found = match search {
            Search::Nothing => return Ok(false),
            Search::Part(part) => {
                self.pipeline.sweep(view, part, SWEEP_FRAMES as usize);
                self.timing.find_us = self.time.lap_us(&mut since_us, Stage::FindPart);
                return Ok(false);
            }
            Search::Prepared => self.pipeline.find_swept(view, self.limit)?,
            Search::Whole => each_format!(view, pixels => self.pipeline.find(pixels, Purpose::Live, self.limit))?,
        };
        let limit = self.limit_at(allowance.level);
        if search == Search::Whole {
            self.tracker.check(&found, guided, limit);
            self.timing.find_us = self.time.lap_us(&mut since_us, Stage::Find);
            self.costs.find.record(self.timing.find_us);
        } else {
            self.tracker.compare(&found, limit);
            self.timing.find_us = self.time.lap_us(&mut since_us, Stage::FindPart);
        }
        for (slot, track) in self.tracker.iter() {
            let known = &mut self.known[slot];
            if known.id != track.id {
                (known.id, known.light) = (track.id, None);
                known.results.iter_mut().for_each(|result| result.known = false);
                self.schedule.welcome(slot);
            }
        }
        Ok(true)
    }

    fn plan(&mut self, allowance: &Allowance) -> Plan {
        let guided = self.guide.is_some();
        let slots = self.tracker.iter().map(|(slot, _)| slot);
        let slots: heapless::Vec<usize, { faceptor::stages::MAX_TRACKS }> =
            slots.filter(|&slot| self.tracker.is_visible(slot, guided)).collect();
        let spent_us = self.time.now_us() - allowance.started_us + self.costs.hand_over.us();
        let frame = schedule::FrameDemand {
            faces: &slots,
            tasks: &self.tasks,
            guide: self.guide,
            available_us: allowance.budget_us.map(|budget| budget.saturating_sub(spent_us)),
            level: allowance.level,
        };
        let plan = self.schedule.plan(&frame, &self.costs);
        for &slot in &slots {
            self.known[slot]
                .results
                .iter_mut()
                .for_each(|result| result.stale_frames = result.stale_frames.saturating_add(1));
            if !plan.iter().any(|share| share.slot == slot) {
                self.schedule.record(slot, &self.worked, 0);
            }
        }
        plan
    }

    /// Looks at one face; returns the tasks that it got.
    fn look(&mut self, share: &FaceShare, view: &ImageView, allowance: &Allowance) -> Result<u32> {
        let slot = share.slot;
        let Some(track) = self.tracker.get(slot) else { return Ok(0) };
        let Some(to_picture) = self.pipeline.frame_of(track.keypoints()) else { return Ok(0) };
        self.known[slot].to_picture = to_picture;
        self.known[slot].views = self.pipeline.views(&to_picture, Some(&track.detection()));
        let answered = self.decode_share(share, view, allowance)?;
        let guide = self.guide.and_then(|guide| self.known[slot].results.get_mut(usize::from(guide)));
        if let Some(TaskResult { prediction: Prediction::Landmarks(landmarks), stale_frames: 0, .. }) = guide {
            self.tracker.observe(slot, &mut landmarks.points, &to_picture, self.pipeline.glance());
        }
        Ok(answered)
    }

    /// Samples, encodes and decodes one face; returns the tasks that there was time for.
    fn decode_share(&mut self, share: &FaceShare, view: &ImageView, allowance: &Allowance) -> Result<u32> {
        let face = &mut self.known[share.slot];
        let views = face.views;
        let mut since_us = self.time.now_us();
        self.pipeline.look_at(view, &views)?;
        face.light = self.pipeline.light();
        let align_us = self.time.lap_us(&mut since_us, Stage::Align);
        self.costs.align.record(align_us);
        self.timing.align_us += align_us;
        let (mut answered, mut computed) = (0, 0);
        let first = self.guide.iter();
        let others = self.tasks.iter().filter(|task| Some(**task) != self.guide);
        for &task in first.chain(others).filter(|task| share.tasks >> **task & 1 == 1) {
            let cost_us = self.costs.task_us(task, computed) + self.costs.hand_over.us();
            if share.surely >> task & 1 == 0 && !allowance.has_room(cost_us, &self.time) {
                continue;
            }
            let missing = self.costs.parts_of(task) & !computed;
            for part in (0..self.costs.parts.len()).filter(|part| missing >> part & 1 == 1) {
                self.pipeline.encode(part)?;
                let encode_us = self.time.lap_us(&mut since_us, Stage::Part(part));
                self.costs.parts[part].record(encode_us);
                self.timing.encode_us += encode_us;
            }
            computed |= missing;
            let place = usize::from(task);
            let result = &mut face.results[place];
            if result.known && self.steady_s > 0.0 && smoothing::applies(&result.prediction) {
                let fresh = &mut self.fresh[place];
                self.pipeline.decode(place, &views, fresh)?;
                smoothing::blend(&mut result.prediction, fresh, smoothing::share(result.since_s, self.steady_s));
            } else {
                self.pipeline.decode(place, &views, &mut result.prediction)?;
            }
            // Landmarks for following alone are nobody's answer.
            (result.known, result.stale_frames, result.since_s) = (self.tasks.contains(&task), 0, 0.0);
            let decode_us = self.time.lap_us(&mut since_us, Stage::Task(place));
            self.costs.tasks[place].record(decode_us);
            self.timing.decode_us[place] += decode_us;
            answered |= 1 << task;
        }
        Ok(answered)
    }

    /// Ends the frame: duplicates and lost faces go, and what was put off is noted. Returns the number of old answers.
    fn settle(&mut self, plan: &Plan, allowance: &Allowance) -> u64 {
        self.tracker.settle(self.limit_at(allowance.level));
        let guided = self.guide.is_some();
        let mut stale = 0;
        for (slot, _) in self.tracker.iter().filter(|(slot, _)| self.tracker.is_visible(*slot, guided)) {
            let looked_at = plan.iter().any(|share| share.slot == slot);
            for &task in &self.tasks {
                let result = &self.known[slot].results[usize::from(task)];
                let missing = !looked_at || !result.known || result.stale_frames > 0;
                stale += u64::from(result.known && result.stale_frames > 0);
                if missing && !self.deferred.contains(&task) {
                    // It has room for every task.
                    let _ = self.deferred.push(task);
                }
            }
        }
        stale
    }

    /// Copies what is known of this frame, faces in the order of their numbers. Takes no memory.
    pub fn copy_to(&self, analysis: &mut Analysis, allowance: &Allowance) {
        analysis.tasks.clone_from(&self.tasks);
        analysis.timing.clone_from(&self.timing);
        analysis.faces.clear();
        let guided = self.guide.is_some();
        let mut order: heapless::Vec<(u32, usize), { faceptor::stages::MAX_TRACKS }> =
            self.tracker.iter().map(|(slot, track)| (track.id, slot)).collect();
        order.sort_unstable();
        for (_, slot) in order.into_iter().filter(|(_, slot)| self.tracker.is_visible(*slot, guided)) {
            if let Some(track) = self.tracker.get(slot) {
                analysis.faces.push_copy(&self.known[slot]);
                if let Some(face) = analysis.faces.last_mut() {
                    face.detection = track.detection();
                }
            }
        }
        analysis.deadline = allowance.budget_us.map(|budget_us| {
            let used_us = self.time.now_us() - allowance.started_us;
            Deadline { budget_us, used_us, missed: used_us > budget_us, deferred: self.deferred.clone() }
        });
    }

    /// What the copying and handing over of a result took.
    pub fn record_hand_over(&mut self, us: u64) {
        self.costs.hand_over.record(us);
    }
}
