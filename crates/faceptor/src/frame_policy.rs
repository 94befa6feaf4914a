//! What a frame of a video is spent on: the decisions that a program takes for [`VideoFaces`](crate::video::VideoFaces).

use crate::analyze::Observer;
use crate::tasks::selection::TaskList;
use crate::track::tracker::MAX_TRACKS;

/// A face's share of the work in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaceShare {
    /// The slot of the face.
    pub slot: usize,
    /// Tasks of the manifest, a bit each.
    pub tasks: u32,
    /// The tasks among them that run even when time has run out.
    pub surely: u32,
}

/// Faces that are sampled in a frame, in this order.
pub type Plan = heapless::Vec<FaceShare, MAX_TRACKS>;

/// Decides what a frame is spent on. `()` has no limit on time: every face gets every task.
pub trait FramePolicy: Observer {
    /// Decides whether landmarks that were not requested, by `task`, are decoded to track `faces` faces; `in_use`: they
    /// were in the last frame.
    fn tracks_by(&mut self, _task: u8, tasks: &TaskList, _faces: usize, _in_use: bool) -> bool {
        !tasks.is_empty()
    }

    /// Decides whether the face detector runs half as often where no face is suspicious.
    fn finds_rarely(&self) -> bool {
        false
    }

    /// Decides how many of at most `limit` faces are kept.
    fn face_limit(&self, limit: usize) -> usize {
        limit
    }

    /// Plans the faces (slots) and tasks of a frame; `tracking_task` is that whose landmarks tracking uses.
    fn plan(&mut self, faces: &[usize], _tasks: &TaskList, _tracking_task: Option<u8>) -> Plan {
        faces.iter().map(|&slot| FaceShare { slot, tasks: u32::MAX, surely: u32::MAX }).collect()
    }

    /// Takes notice of the share whose face comes next.
    fn share_begins(&mut self, _share: &FaceShare) {}

    /// Takes notice of the tasks (a bit each) that ran for the face in a slot, of the chosen `tasks`.
    fn share_ended(&mut self, _slot: usize, _tasks: &TaskList, _ran: u32) {}

    /// Takes notice of a new face in a slot.
    fn face_appeared(&mut self, _slot: usize) {}

    /// Takes notice of a task that was not chosen before.
    fn task_chosen(&mut self, _task: u8) {}
}

impl FramePolicy for () {}

/// Work that was done for a frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameSummary {
    /// The face detector ran.
    pub finder_ran: bool,
    /// Results of earlier frames that are reported again.
    pub stale_results: u64,
}
