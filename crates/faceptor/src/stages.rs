//! The steps of an analysis one by one, for programs with a loop of their own; less stable than the crate root.
//!
//! [`Pipeline`] holds the network. Its steps for an image: [`find`](Pipeline::find) the faces, [`sample`](Pipeline::sample)
//! one into the network's input, [`encode`](Pipeline::encode) what several tasks share, [`decode`](Pipeline::decode) a task.
//! [`run_face`](Pipeline::run_face) runs the last three in their order; [`VideoFaces`] tracks faces from frame to frame
//! within what a [`FramePolicy`] allows. `faceptor run` is such a program.

#[doc(no_inline)]
pub use crate::{Age, Augmentation, Colour, ImageView, PixelFormat, Point, Pose, Quality, ShortFrame};

pub use crate::align::crop::aligned_crop;
pub use crate::align::face_window::WindowTransforms;
pub use crate::analysis::{Analysis, Deadline, Face, Timing};
pub use crate::analyze::{Locate, Observer, Step};
pub use crate::detect::detection::{Detection, MAX_FACES};
pub use crate::detect::detector::Purpose;
pub use crate::detect::search::PhotoSearch;
pub use crate::embedded::{bundle as embedded_bundle, named as embedded_network};
pub use crate::frame_policy::{FaceShare, FramePolicy, FrameSummary, Plan};
pub use crate::geometry::{Similarity, keypoints_of_landmarks};
pub use crate::image::containment::contain as contain_panic;
pub use crate::image::jpeg::{JpegContents, JpegDecoder};
pub use crate::image::jpeg_markers::{JpegEvent, JpegMarkers};
#[cfg(feature = "photo")]
pub use crate::image::photo::{decode as decode_photo, read as read_photo, read_within as read_photo_within};
pub use crate::image::picture::{Picture, Pixels};
pub use crate::image::view::OwnedFrame;
pub use crate::pipeline::{FaceImage, Pipeline};
pub use crate::sightings::Sightings;
pub use crate::tasks::decoder::{TaskDecoder, TaskResult, largest};
pub use crate::tasks::parsing::{OUTSIDE, Parsing};
pub use crate::tasks::prediction::Prediction;
pub use crate::tasks::selection::{MAX_TASKS, SelectionError, SharedPart, TaskList, parts_of, select as select_tasks};
pub use crate::track::track_check::Suspicion;
pub use crate::track::tracker::{MAX_TRACKS, TrackerOptions};
pub use crate::video::VideoFaces;
