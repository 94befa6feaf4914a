//! The faces of a video: finds or tracks them, and runs the tasks that a policy has time for on each.

use crate::analysis::{Analysis, Face};
use crate::analyze::Step;
use crate::detect::detection::{Detection, Detections};
use crate::detect::detector::Purpose;
use crate::error::{Error, Result};
use crate::frame_policy::{FaceShare, FramePolicy, FrameSummary, Plan};
use crate::geometry::{Point, Similarity, TRACKING_LANDMARKS};
use crate::image::view::{ImageView, each_format};
use crate::pipeline::{FaceImage, Pipeline};
use crate::quality::LIVE_ROLL;
use crate::sightings::Sightings;
use crate::tasks::decoder::{TaskDecoder, TaskResult};
use crate::tasks::prediction::Prediction;
use crate::tasks::selection::TaskList;
use crate::tasks::smoothing;
use crate::track::face_track::Track;
use crate::track::likeness::Likeness;
use crate::track::search_roll::SearchRoll;
use crate::track::track_check::Suspicion;
use crate::track::tracker::{MAX_TRACKS, SWEEP_FRAMES, Search, Tracker, TrackerOptions};
use faceptor_nn::manifest::TaskKind;

/// The faces of a video and what is kept of them from frame to frame. The network is lent to each call, so that several videos
/// can share one.
pub struct VideoFaces {
    tracker: Tracker,
    search_roll: SearchRoll,
    /// For each slot of `tracker`.
    faces: Vec<Face>,
    tasks: TaskList,
    /// The task whose landmarks tracking uses.
    tracking_task: Option<u8>,
    /// A task for that which was not chosen: decoded for tracking alone, as long as the policy says so.
    unrequested_task: Option<u8>,
    /// The chosen tasks, and the tracking task if it is not one of them.
    run_tasks: TaskList,
    limit: usize,
    /// Width and height of the last frame, pixels.
    size: [usize; 2],
    deferred: TaskList,
    /// Time constant of smoothed results, seconds; 0 leaves them as they are.
    smoothing_s: f32,
    /// A prediction of each task before it is smoothed.
    unsmoothed: Vec<Prediction>,
    sightings: Sightings,
    /// Detector runs that are not urgent are spread over several frames.
    is_spread: bool,
}

impl VideoFaces {
    /// Starts without faces, with the chosen tasks of a pipeline. Later calls take the same one.
    pub fn new(pipeline: &mut Pipeline, options: TrackerOptions) -> VideoFaces {
        let decoders = pipeline.decoders();
        let mut faces = VideoFaces {
            tracker: Tracker::new(options, pipeline.template()),
            search_roll: SearchRoll::default(),
            faces: (0..options.limit).map(|_| Face { most_roll: LIVE_ROLL, ..Face::blank(decoders) }).collect(),
            tasks: TaskList::new(),
            tracking_task: None,
            unrequested_task: None,
            run_tasks: TaskList::new(),
            limit: options.limit,
            size: [0; 2],
            deferred: TaskList::new(),
            smoothing_s: smoothing::TIME_CONSTANT_S,
            unsmoothed: decoders.iter().map(TaskDecoder::blank).collect(),
            sightings: Sightings::default(),
            is_spread: true,
        };
        let chosen = pipeline.tasks().clone();
        faces.choose(pipeline, &chosen, &mut ());
        faces
    }

    /// Sets the time constant of expression, age and attributes, seconds; 0 leaves them as the network gives them.
    pub fn set_smoothing(&mut self, time_constant_s: f32) {
        self.smoothing_s = time_constant_s;
    }

    /// Sets whether detector runs that are not urgent are spread over several frames; on at first. A pipeline prepares the run of
    /// one video only, so videos that share it turn this off.
    pub fn spread_searches(&mut self, on: bool) {
        self.is_spread = on;
    }

    /// Sets whether the detector runs on every frame, for [`VideoFaces::sightings`]. It costs a run of the detector a frame.
    pub fn watch_closely(&mut self, on: bool) {
        self.sightings.set_wanted(on);
    }

    /// Returns every place of this frame where the detector has seen what may be a face, tracked or not.
    pub fn sightings(&self) -> &Sightings {
        &self.sightings
    }

    /// Returns the tracks that are not shown, because their faces are covered or in doubt: their numbers and places.
    pub fn hidden(&self) -> impl Iterator<Item = (u32, Detection)> {
        let guided = self.tracking_task.is_some();
        let hidden = self.tracker.iter().filter(move |(slot, _)| !self.tracker.is_visible(*slot, guided));
        hidden.map(|(_, track)| (track.id, track.detection()))
    }

    /// Returns the place of the face in a slot; it may reach beyond the frame.
    pub fn place(&self, slot: usize) -> Option<Detection> {
        self.tracker.get(slot).map(Track::detection)
    }

    /// Returns the chosen tasks in the order of priority.
    pub fn tasks(&self) -> &TaskList {
        &self.tasks
    }

    /// Returns the chosen tasks, and the one that runs for tracking alone.
    pub fn run_tasks(&self) -> &TaskList {
        &self.run_tasks
    }

    /// Returns the tasks that at least one face did not get in this frame.
    pub fn deferred(&self) -> &TaskList {
        &self.deferred
    }

    /// Returns how many faces are tracked and shown.
    pub fn count(&self) -> usize {
        let guided = self.tracking_task.is_some();
        self.tracker.iter().filter(|(slot, _)| self.tracker.is_visible(*slot, guided)).count()
    }

    /// Returns the most faces.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Declares that the next frame shows another scene.
    pub fn cut(&mut self) {
        self.tracker.cut();
        self.search_roll.restart();
        // A face in the same place is another person's.
        self.forget_results();
    }

    fn forget_results(&mut self) {
        self.faces.iter_mut().flat_map(|face| &mut face.results).for_each(|result| result.known = false);
    }

    /// Chooses the tasks from the next frame on, without compiling or allocating anything: every task has its decoder,
    /// its place in the engine and its memory from the start.
    pub fn choose(&mut self, pipeline: &mut Pipeline, tasks: &TaskList, policy: &mut impl FramePolicy) {
        let before = std::mem::take(&mut self.tasks);
        pipeline.choose(tasks);
        self.tasks.clone_from(pipeline.tasks());
        self.tasks.iter().filter(|task| !before.contains(task)).for_each(|&task| policy.task_chosen(task));
        for task in (0..pipeline.decoders().len()).filter(|&task| !self.tasks.contains(&(task as u8))) {
            self.faces.iter_mut().for_each(|face| face.results[task].known = false);
        }
        let decoders = pipeline.decoders();
        let leads = |&task: &u8| {
            let decoder = &decoders[usize::from(task)];
            decoder.task().kind == TaskKind::Landmarks && decoder.outputs() == TRACKING_LANDMARKS
        };
        self.tracking_task = self.tasks.iter().copied().find(leads);
        self.unrequested_task = if self.tracking_task.is_some() { None } else { (0..decoders.len() as u8).find(leads) };
        self.run_tasks.clone_from(&self.tasks);
    }

    /// Decides whether faces are tracked by landmarks that were not requested. Crops from them are six times steadier
    /// than the finder's (`docs/loop.md` has the numbers).
    fn choose_tracking(&mut self, pipeline: &mut Pipeline, policy: &mut impl FramePolicy) {
        if let Some(task) = self.unrequested_task {
            let in_use = self.tracking_task.is_some();
            let used = policy.tracks_by(task, &self.tasks, self.tracker.count(), in_use);
            self.tracking_task = used.then_some(task);
            self.run_tasks.clone_from(&self.tasks);
            if used {
                // It has room for every task.
                let _ = self.run_tasks.push(task);
            }
        }
        pipeline.track_by(self.tracking_task);
    }

    /// Runs the detector and every task on a frame, so that `policy` learns what they cost; the results are dropped.
    ///
    /// # Errors
    /// When the network fails, or has no face detector.
    pub fn warm_up(
        &mut self,
        pipeline: &mut Pipeline,
        view: &ImageView,
        rounds: u32,
        policy: &mut impl FramePolicy,
    ) -> Result<(), Error> {
        let slot = 0;
        let chosen = self.tasks.clone();
        self.choose(pipeline, &(0..pipeline.decoders().len() as u8).collect(), policy);
        let side = view.width().min(view.height()) as f64 / 2.0;
        for _ in 0..rounds {
            policy.begin();
            match self.sightings.are_wanted() {
                true => drop(self.sightings.search(pipeline, view)?),
                false => drop(pipeline.find(view, Purpose::Live, self.limit)?),
            }
            policy.ended(Step::Find);
            self.faces[slot].to_picture = Similarity::scaling(side);
            self.faces[slot].windows = pipeline.windows(&self.faces[slot].to_picture, None);
            self.run_share(pipeline, &FaceShare { slot, tasks: u32::MAX, surely: u32::MAX }, view, policy)?;
        }
        self.forget_results();
        self.choose(pipeline, &chosen, policy);
        Ok(())
    }

    /// Processes a frame, taken `elapsed_s` seconds after the last one.
    ///
    /// # Errors
    /// When the network fails, or has no face detector.
    pub fn process(
        &mut self,
        pipeline: &mut Pipeline,
        view: &ImageView,
        elapsed_s: f32,
        policy: &mut impl FramePolicy,
    ) -> Result<FrameSummary, Error> {
        self.deferred.clear();
        self.size = [view.width(), view.height()];
        self.faces.iter_mut().for_each(|face| face.picture = Some(self.size));
        if self.tracker.resize(self.size) {
            self.search_roll.restart();
            self.forget_results();
        }
        self.faces.iter_mut().flat_map(|face| &mut face.results).for_each(|result| result.since_s += elapsed_s);
        self.choose_tracking(pipeline, policy);
        let finder_ran = self.find(pipeline, view, elapsed_s, policy)?;
        let plan = self.plan(policy);
        for share in &plan {
            let ran = self.process_face(pipeline, share, view, policy)?;
            policy.share_ended(share.slot, &self.run_tasks, ran);
        }
        let template = *pipeline.template();
        self.tracker.memorize(&|keypoints| likeness(view, keypoints, &template));
        let stale_results = self.settle(&plan, policy);
        Ok(FrameSummary { finder_ran, stale_results })
    }

    fn find(
        &mut self,
        pipeline: &mut Pipeline,
        view: &ImageView,
        elapsed_s: f32,
        policy: &mut impl FramePolicy,
    ) -> Result<bool> {
        let guided = self.tracking_task.is_some();
        self.tracker.begin(elapsed_s);
        policy.begin();
        let template = *pipeline.template();
        let look = |keypoints: &[Point; 5]| likeness(view, keypoints, &template);
        if self.tracker.look(&look) {
            self.search_roll.restart();
        }
        self.sightings.begin();
        let mut search = self.tracker.search(guided, policy.finds_rarely());
        if self.sightings.are_wanted() || !self.is_spread {
            // A run on this frame needs no preparation.
            search = match search {
                Search::Prepared => Search::Whole,
                Search::Part(_) => Search::Nothing,
                other => other,
            };
        }
        let found = match search {
            Search::Nothing if self.sightings.are_wanted() => {
                self.sightings.search(pipeline, view)?;
                policy.ended(Step::Find);
                return Ok(true);
            }
            Search::Nothing => return Ok(false),
            Search::Part(part) => {
                pipeline.sweep(view, part, SWEEP_FRAMES as usize);
                policy.ended(Step::FindPart);
                return Ok(false);
            }
            Search::Prepared => pipeline.find_swept(view, self.limit)?,
            Search::Whole => self.search_whole(pipeline, view)?,
        };
        let limit = policy.face_limit(self.limit);
        if search == Search::Whole {
            self.tracker.end_cut(&found, &look);
            self.tracker.check(&found, guided, limit);
            policy.ended(Step::Find);
        } else {
            self.tracker.compare(&found, limit);
            policy.ended(Step::FindPart);
        }
        for (slot, track) in self.tracker.iter() {
            let face = &mut self.faces[slot];
            if face.id != track.id {
                (face.id, face.light, face.sharpness, face.likeness) = (track.id, None, None, None);
                face.results.iter_mut().for_each(|result| result.known = false);
                policy.face_appeared(slot);
            }
        }
        Ok(true)
    }

    /// Runs the detector on a whole frame, at the roll whose turn it is.
    fn search_whole(&mut self, pipeline: &mut Pipeline, view: &ImageView) -> Result<Detections> {
        let roll = self.search_roll.choose(self.tracker.iter().map(|(_, track)| track));
        let upright = match self.sightings.are_wanted() {
            true => Some(self.sightings.search(pipeline, view)?),
            false => None,
        };
        let mut found = match (roll, upright) {
            (0.0, Some(mut faces)) => {
                faces.truncate(self.limit);
                faces
            }
            (0.0, None) => pipeline.find(view, Purpose::Live, self.limit)?,
            _ => pipeline.find_rolled(view, roll, self.limit)?,
        };
        if roll != 0.0 {
            self.sightings.add(&found);
        }
        self.search_roll.retain(&mut found, self.tracker.iter().map(|(_, track)| track));
        self.tracker.searched_at(roll);
        Ok(found)
    }

    fn plan(&mut self, policy: &mut impl FramePolicy) -> Plan {
        let guided = self.tracking_task.is_some();
        let slots = self.tracker.iter().map(|(slot, _)| slot);
        let slots: heapless::Vec<usize, MAX_TRACKS> =
            slots.filter(|&slot| self.tracker.is_visible(slot, guided)).collect();
        let mut plan = policy.plan(&slots, &self.tasks, self.tracking_task);
        // A face without tasks is not sampled.
        plan.retain(|share| self.run_tasks.iter().any(|task| share.tasks >> task & 1 == 1));
        for &slot in &slots {
            let results = self.faces[slot].results.iter_mut();
            results.for_each(|result| result.stale_frames = result.stale_frames.saturating_add(1));
            if !plan.iter().any(|share| share.slot == slot) {
                policy.share_ended(slot, &self.run_tasks, 0);
            }
        }
        plan
    }

    /// Processes a face; returns the tasks that ran, a bit each.
    fn process_face(
        &mut self,
        pipeline: &mut Pipeline,
        share: &FaceShare,
        view: &ImageView,
        policy: &mut impl FramePolicy,
    ) -> Result<u32> {
        let slot = share.slot;
        let Some(track) = self.tracker.get(slot) else { return Ok(0) };
        let Some(to_picture) = pipeline.aligned_frame(track.keypoints()) else { return Ok(0) };
        self.faces[slot].to_picture = to_picture;
        self.faces[slot].windows = pipeline.windows(&to_picture, Some(&track.detection()));
        let ran = self.run_share(pipeline, share, view, policy)?;
        let tracked = self.tracking_task.and_then(|task| self.faces[slot].results.get_mut(usize::from(task)));
        if let Some(TaskResult { prediction: Prediction::Landmarks(landmarks), stale_frames: 0, .. }) = tracked {
            self.tracker.observe(slot, &mut landmarks.points, &to_picture, pipeline.appearance());
        }
        Ok(ran)
    }

    /// Runs the tasks of a share, that of tracking first.
    fn run_share(
        &mut self,
        pipeline: &mut Pipeline,
        share: &FaceShare,
        view: &ImageView,
        policy: &mut impl FramePolicy,
    ) -> Result<u32> {
        let VideoFaces { faces, tasks, unsmoothed, tracking_task, smoothing_s, .. } = self;
        let Face { windows, results, light, sharpness, likeness, .. } = &mut faces[share.slot];
        let others = tasks.iter().filter(|task| Some(**task) != *tracking_task);
        let order = tracking_task.iter().chain(others).copied().filter(|task| share.tasks >> task & 1 == 1);
        policy.share_begins(share);
        let ran = pipeline.run_face(FaceImage::Frame(view), windows, order, policy, |pipeline, task| {
            let result = &mut results[task];
            if result.known && *smoothing_s > 0.0 && result.prediction.is_smoothed() {
                let fresh = &mut unsmoothed[task];
                pipeline.decode(task, windows, fresh)?;
                smoothing::blend(&mut result.prediction, fresh, smoothing::share(result.since_s, *smoothing_s));
            } else {
                pipeline.decode(task, windows, &mut result.prediction)?;
            }
            // Landmarks for tracking alone are not reported.
            (result.known, result.stale_frames, result.since_s) = (tasks.contains(&(task as u8)), 0, 0.0);
            Ok(())
        })?;
        (*light, *sharpness) = (pipeline.light(), pipeline.sharpness());
        // Without a task in this frame, the last probability stands.
        *likeness = pipeline.likeness().or(*likeness);
        Ok(ran)
    }

    /// Ends the frame: drops duplicates and lost faces, and notes what was deferred. Returns the number of stale results.
    fn settle(&mut self, plan: &Plan, policy: &mut impl FramePolicy) -> u64 {
        self.tracker.settle(policy.face_limit(self.limit));
        let guided = self.tracking_task.is_some();
        let mut stale = 0;
        for (slot, _) in self.tracker.iter().filter(|(slot, _)| self.tracker.is_visible(*slot, guided)) {
            let sampled = plan.iter().any(|share| share.slot == slot);
            for &task in &self.tasks {
                let result = &self.faces[slot].results[usize::from(task)];
                let missing = !sampled || !result.known || result.stale_frames > 0;
                stale += u64::from(result.known && result.stale_frames > 0);
                if missing && !self.deferred.contains(&task) {
                    // It has room for every task.
                    let _ = self.deferred.push(task);
                }
            }
        }
        stale
    }

    /// Returns the faces of this frame with their slots and the suspicion against their tracks, in the order of their numbers,
    /// as [`copy_to`](VideoFaces::copy_to) copies them. Allocates nothing.
    pub fn visible(&self) -> impl Iterator<Item = (usize, &Face, Suspicion)> {
        let guided = self.tracking_task.is_some();
        let mut order: heapless::Vec<(u32, usize), MAX_TRACKS> =
            self.tracker.iter().map(|(slot, track)| (track.id, slot)).collect();
        order.sort_unstable();
        let visible = order.into_iter().filter(move |(_, slot)| self.tracker.is_visible(*slot, guided));
        visible.filter_map(|(_, slot)| Some((slot, &self.faces[slot], self.tracker.get(slot)?.suspicion())))
    }

    /// Copies the tasks and the faces of this frame, in the order of their numbers, without allocating.
    pub fn copy_to(&self, analysis: &mut Analysis) {
        analysis.tasks.clone_from(&self.tasks);
        analysis.faces.clear();
        for (slot, face, _) in self.visible() {
            if let Some(track) = self.tracker.get(slot) {
                analysis.faces.push_copy(face);
                if let Some(face) = analysis.faces.last_mut() {
                    face.detection = track.detection().clipped(self.size);
                }
            }
        }
    }
}

/// Samples what a frame shows of the face with these keypoints.
fn likeness(view: &ImageView, keypoints: &[Point; 5], template: &[Point; 5]) -> Option<Likeness> {
    let to_picture = Similarity::fit(keypoints, template)?.inverse();
    Some(each_format!(view, pixels => Likeness::sample(pixels, &to_picture)))
}
