//! The faces of a video for programs without a loop of their own.

use std::time::Duration;

use crate::analysis;
use crate::analyzer::Analyzer;
use crate::error::{Error, Result};
use crate::face::Analysis;
use crate::image::view::ImageView;
use crate::pipeline::Pipeline;
use crate::track::tracker::{MAX_TRACKS, TrackerOptions};
use crate::video::VideoFaces;

/// Tracks the faces of a video: a face keeps its number from frame to frame, and the face detector rests while landmarks
/// show where the faces are.
///
/// Every face gets every chosen task in every frame, with one view of it. Landmarks are smoothed, and so are age,
/// expression and attributes.
///
/// ```
/// # #[cfg(all(feature = "embedded", feature = "photo"))]
/// # fn main() -> Result<(), faceptor::Error> {
/// use std::time::Duration;
///
/// use faceptor::{Analyzer, ImageView, Photo, Task, Tracker};
///
/// let frame = Photo::open("../../models/demo/astronaut.jpg")?;
/// let view = ImageView::rgb(frame.rgb(), frame.width(), frame.height())?;
/// let mut tracker = Tracker::new(Analyzer::embedded()?.tasks([Task::Age])?, 4);
/// for _ in 0..3 {
///     let analysis = tracker.update(&view, Duration::from_millis(33))?;
///     assert_eq!(analysis.faces[0].id(), 1);
/// }
/// # Ok(())
/// # }
/// # #[cfg(not(all(feature = "embedded", feature = "photo")))]
/// # fn main() {}
/// ```
pub struct Tracker {
    pipeline: Pipeline,
    video: VideoFaces,
    record: analysis::Analysis,
    analysis: Analysis,
}

impl Tracker {
    /// Takes an analyzer with its tasks and tracks at most this many faces: 1 to 16.
    pub fn new(analyzer: Analyzer, max_faces: usize) -> Tracker {
        let mut pipeline = analyzer.into_pipeline();
        let limit = max_faces.clamp(1, MAX_TRACKS);
        let record = analysis::Analysis::with_room(limit, pipeline.decoders());
        pipeline.track_by(None);
        let video = VideoFaces::new(&mut pipeline, TrackerOptions { limit, smoothing: true });
        Tracker { pipeline, video, record, analysis: Analysis::default() }
    }

    /// Processes the next frame, taken `elapsed` after the last one, and returns its faces.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when the bundle has no face detector.
    pub fn update(&mut self, frame: &ImageView<'_>, elapsed: Duration) -> Result<&Analysis, Error> {
        self.video.process(&mut self.pipeline, frame, elapsed.as_secs_f32(), &mut ())?;
        self.video.copy_to(&mut self.record);
        let decoders = self.pipeline.shared_decoders();
        self.analysis.copy_from(&self.record, decoders, [frame.width(), frame.height()]);
        Ok(&self.analysis)
    }

    /// Declares that the next frame shows another scene: earlier results are dropped, and the face detector runs on it.
    pub fn cut(&mut self) {
        self.video.cut();
    }
}
