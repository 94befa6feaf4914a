//! The steps of an analysis one by one, for programs with a loop of their own; less stable than the crate root.
//!
//! [`Pipeline`] holds the network. Its steps for an image are: [`Pipeline::find`] the faces, sample one into the network's
//! input, [`Pipeline::encode`] what several tasks share, [`Pipeline::decode`] a task. `faceptor run` is such a program.

#[doc(no_inline)]
pub use crate::{Age, Augmentation, Colour, ImageView, PixelFormat, Point, Quality, ShortFrame};

pub use crate::align::face_window::WindowTransforms;
pub use crate::analysis::{Analysis, Deadline, Face, Timing};
pub use crate::analyze::{Locate, Pipeline};
pub use crate::detect::detection::{Detection, MAX_FACES};
pub use crate::detect::detector::Purpose;
pub use crate::embedded::{bundle as embedded_bundle, named as embedded_network};
pub use crate::geometry::{Similarity, TRACKING_LANDMARKS, keypoints_of_landmarks};
pub use crate::image::jpeg_markers::{JpegEvent, JpegMarkers};
#[cfg(feature = "photo")]
pub use crate::image::photo::{decode as decode_photo, read as read_photo};
pub use crate::image::picture::{Picture, Pixels};
pub use crate::image::view::{OwnedFrame, Sampler, each_format};
pub use crate::tasks::decoder::{Prediction, TaskDecoder, TaskResult, largest};
pub use crate::tasks::parsing::{OUTSIDE, Parsing};
pub use crate::tasks::selection::{MAX_TASKS, SelectionError, SharedPart, TaskList, parts_of, select as select_tasks};
pub use crate::tasks::smoothing;
pub use crate::track::tracker::{MAX_TRACKS, SWEEP_FRAMES, Search, Tracker, TrackerOptions};
