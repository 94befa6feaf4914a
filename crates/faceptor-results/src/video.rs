//! A video of a program without a loop of its own: its faces, and the numbers and times of its frames.

use faceptor::Error;
use faceptor::stages::{Analysis, Augmentation, ImageView, Pipeline, TrackerOptions, VideoFaces};

/// Tracks the faces of a video, one view of each, and counts its frames.
pub struct TrackedVideo {
    pipeline: Pipeline,
    faces: VideoFaces,
    frames: u64,
    time_s: f64,
}

impl TrackedVideo {
    /// Longest time between two frames, seconds.
    pub const LONGEST_S: f64 = 86_400.0;

    /// Takes a network with its tasks and tracks at most this many faces: 1 to 16.
    pub fn new(mut pipeline: Pipeline, max_faces: usize) -> TrackedVideo {
        pipeline.set_augmentation(Augmentation::Off);
        pipeline.track_by(None);
        let options = TrackerOptions { limit: max_faces, smoothing: true };
        let faces = VideoFaces::new(&mut pipeline, options);
        TrackedVideo { pipeline, faces, frames: 0, time_s: 0.0 }
    }

    /// Reports whether a time between two frames is one: 0 to [`TrackedVideo::LONGEST_S`] seconds.
    pub fn is_time(elapsed_s: f64) -> bool {
        (0.0..=TrackedVideo::LONGEST_S).contains(&elapsed_s)
    }

    /// Processes the next frame, taken this many seconds after the last one. Returns its faces with what
    /// [`Origin::frame`](crate::json::Origin::frame) holds: number, sequence number and time of capture.
    ///
    /// # Errors
    /// When the bundle has no face detector, or the network fails; the frame is not counted then.
    pub fn process(&mut self, view: &ImageView<'_>, elapsed_s: f64) -> Result<(Analysis, [u64; 3]), Error> {
        self.faces.process(&mut self.pipeline, view, elapsed_s as f32, &mut ())?;
        let mut analysis = Analysis::default();
        self.faces.copy_to(&mut analysis);
        // Not measured for each task: one entry a task keeps the JSON in form.
        analysis.timing.decode_us = vec![0; self.pipeline.decoders().len()];
        let number = self.frames;
        self.frames += 1;
        self.time_s += elapsed_s;
        Ok((analysis, [number, number, (self.time_s * 1e6) as u64]))
    }

    /// Declares that the next frame shows another scene.
    pub fn cut(&mut self) {
        self.faces.cut();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_seconds_are_times() {
        for time in [0.0, 0.04, 86_400.0] {
            assert!(TrackedVideo::is_time(time), "{time}");
        }
        for time in [-0.001, 86_400.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(!TrackedVideo::is_time(time), "{time}");
        }
    }
}
