//! Analyzers and trackers.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use faceptor::stages::{
    Augmentation, ImageView, Locate, MAX_FACES, MAX_TRACKS, PhotoSearch, Picture, Pipeline, Pixels, Purpose, TaskList,
    embedded_bundle, embedded_network, select_tasks,
};
use faceptor::{Colour, Photo, PixelFormat};
use faceptor_nn::bundle::Bundle;
use faceptor_nn::thread_pool::{MAX_THREADS, Threads};
use faceptor_results::json::{Origin, OuterTiming};
use faceptor_results::video::TrackedVideo;

use crate::failure::{Failure, Outcome, Status};
use crate::outcome::{Legend, Results};
use crate::records;

/// The options of an analyzer, with what their pointers point to.
pub struct Options<'a> {
    pub model_path: Option<PathBuf>,
    pub model: Option<&'a [u8]>,
    pub tasks: Option<String>,
    pub record: records::Options,
}

/// A network with its memory. Calls from several threads run one after the other.
pub struct Analyzer {
    bundle: Arc<Bundle>,
    tasks: TaskList,
    threads: usize,
    looks: Augmentation,
    search: PhotoSearch,
    fine_masks: bool,
    max_faces: usize,
    legend: Arc<Legend>,
    /// `None` after a defect: it is made again.
    pipeline: Mutex<Option<Pipeline>>,
}

/// The origin of an image's pixels.
pub enum Source<'a> {
    Photo(Photo, Option<String>, u64),
    View(ImageView<'a>),
    Reversed(Picture),
}

impl Source<'_> {
    /// Returns the pixels in RGB, with path, warnings and time of reading of a photo.
    pub fn into_picture(self) -> (Picture, Option<String>, Vec<String>, u64) {
        match self {
            Source::Photo(photo, path, capture_us) => {
                let warnings = photo.warnings().to_vec();
                (photo.into_picture(), path, warnings, capture_us)
            }
            Source::View(view) => {
                let mut picture = Picture::default();
                view.to_picture(&mut picture);
                (picture, None, Vec::new(), 0)
            }
            Source::Reversed(picture) => (picture, None, Vec::new(), 0),
        }
    }
}

impl Analyzer {
    pub fn new(options: &Options<'_>) -> Outcome<Analyzer> {
        let records::Options { threads, looks, max_faces, min_face, upright, fine_masks, .. } = options.record;
        let (threads, max_faces) = (threads as usize, max_faces as usize);
        if !(1..=MAX_THREADS).contains(&threads) {
            return Err(Failure::argument(format!("{threads} threads: 1 to {MAX_THREADS} run the network")));
        }
        if !(1..=MAX_FACES).contains(&max_faces) {
            return Err(Failure::argument(format!("max_faces is {max_faces}: 1 to {MAX_FACES} faces are reported")));
        }
        if !(16.0..=10_000.0).contains(&min_face) {
            return Err(Failure::argument(format!("min_face is {min_face}: 16 to 10000 pixels are needed")));
        }
        let looks = match looks {
            1 => Augmentation::Off,
            2 => Augmentation::Mirror,
            6 => Augmentation::Six,
            10 => Augmentation::Ten,
            other => return Err(Failure::argument(format!("looks is {other}: 1, 2, 6 or 10 is needed"))),
        };
        let bundle = open(options.model_path.as_deref(), options.model)?;
        let tasks = select_tasks(bundle.manifest(), options.tasks.as_deref());
        let tasks = tasks.map_err(|reason| Failure::new(Status::Task, reason.to_string()))?;
        let search = PhotoSearch { min_face_px: min_face, upright_only: upright != 0 };
        let mut analyzer = Analyzer {
            bundle,
            tasks,
            threads,
            looks,
            search,
            fine_masks: fine_masks != 0,
            max_faces,
            legend: Arc::new(Legend::of(&[])),
            pipeline: Mutex::new(None),
        };
        let pipeline = analyzer.new_pipeline()?;
        analyzer.legend = Arc::new(Legend::of(pipeline.decoders()));
        analyzer.pipeline = Mutex::new(Some(pipeline));
        Ok(analyzer)
    }

    /// Returns the network.
    pub fn bundle(&self) -> &Arc<Bundle> {
        &self.bundle
    }

    fn new_pipeline(&self) -> Outcome<Pipeline> {
        let threads = Threads { count: self.threads, ..Threads::default() };
        let mut pipeline = Pipeline::with_threads(self.bundle.clone(), &self.tasks, &threads)?;
        pipeline.set_augmentation(self.looks);
        pipeline.set_photo_search(self.search);
        pipeline.enable_masks(self.fine_masks);
        Ok(pipeline)
    }

    /// Finds the faces of an image, or takes it as an aligned crop, and runs the tasks.
    pub fn analyze(&self, source: Source<'_>, aligned: bool) -> Outcome<Results> {
        let start = Instant::now();
        let locate = match aligned {
            true => Locate::Aligned,
            false => Locate::Find { purpose: Purpose::Photo, limit: self.max_faces },
        };
        let (picture, path, warnings, capture_us) = source.into_picture();
        let mut slot = self.pipeline.lock().unwrap_or_else(PoisonError::into_inner);
        // A pipeline that panics is not put back.
        let mut pipeline = match slot.take() {
            Some(pipeline) => pipeline,
            None => self.new_pipeline()?,
        };
        let analysis = pipeline.analyze(&picture, locate);
        *slot = Some(pipeline);
        drop(slot);
        let (width, height) = (picture.width(), picture.height());
        let total_us = capture_us + start.elapsed().as_micros() as u64;
        let outer_timing = OuterTiming { capture_us, total_us, ..OuterTiming::default() };
        let origin = Origin { path, width, height, frame: None, warnings };
        Ok(Results::new(analysis?, self.legend.clone(), origin, outer_timing))
    }
}

/// Tracks faces from frame to frame.
pub struct Tracker {
    legend: Arc<Legend>,
    /// `None` after a defect.
    video: Mutex<Option<TrackedVideo>>,
}

impl Tracker {
    pub fn new(analyzer: &Analyzer, max_faces: u32) -> Outcome<Tracker> {
        let limit = max_faces as usize;
        if !(1..=MAX_TRACKS).contains(&limit) {
            return Err(Failure::argument(format!("max_faces is {limit}: 1 to {MAX_TRACKS} faces are tracked")));
        }
        let video = TrackedVideo::new(analyzer.new_pipeline()?, limit);
        Ok(Tracker { legend: analyzer.legend.clone(), video: Mutex::new(Some(video)) })
    }

    pub fn update(&self, source: Source<'_>, elapsed: f64) -> Outcome<Results> {
        if !TrackedVideo::is_time(elapsed) {
            return Err(Failure::argument(format!("elapsed is {elapsed}: seconds since the last frame are needed")));
        }
        let start = Instant::now();
        let mut slot = self.video.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = || Failure::new(Status::Defect, "a defect stopped this tracker: make another one");
        // A tracker that panics is not put back.
        let mut video = slot.take().ok_or_else(gone)?;
        let view = match &source {
            Source::View(view) => *view,
            Source::Reversed(picture) => picture.view(),
            Source::Photo(photo, ..) => photo.picture().view(),
        };
        let outcome = video.process(&view, elapsed);
        *slot = Some(video);
        let (analysis, frame) = outcome?;
        let frame = Some(frame);
        let origin = Origin { path: None, width: view.width(), height: view.height(), frame, warnings: Vec::new() };
        let total_us = start.elapsed().as_micros() as u64;
        let outer_timing = OuterTiming { total_us, ..OuterTiming::default() };
        Ok(Results::new(analysis, self.legend.clone(), origin, outer_timing))
    }

    pub fn cut(&self) {
        if let Some(video) = &mut *self.video.lock().unwrap_or_else(PoisonError::into_inner) {
            video.cut();
        }
    }
}

/// Views the pixels of an image of the header; blue, green, red is copied in the other order.
pub fn source<'a>(image: &records::Image, bytes: &'a [u8]) -> Outcome<Source<'a>> {
    let (format, is_reversed) = match image.format {
        0 => (PixelFormat::Rgb24, false),
        1 => (PixelFormat::Rgb24, true),
        2 => (PixelFormat::Grey, false),
        3 => (PixelFormat::Nv12, false),
        4 => (PixelFormat::I420, false),
        5 => (PixelFormat::I422, false),
        6 => (PixelFormat::I444, false),
        7 => (PixelFormat::Yuyv, false),
        8 => (PixelFormat::Uyvy, false),
        other => return Err(Failure::argument(format!("{other} is not a faceptor_format"))),
    };
    let colour = match image.colour {
        0 if format == PixelFormat::Grey => Colour::Bt601Full,
        0 | 1 => Colour::Bt601Limited,
        2 => Colour::Bt601Full,
        3 => Colour::Bt709Limited,
        4 => Colour::Bt709Full,
        other => return Err(Failure::argument(format!("{other} is not a faceptor_colour"))),
    };
    let [width, height] = [image.width as usize, image.height as usize];
    let stride = if image.stride == 0 { format.row_bytes(width) } else { image.stride };
    let view = ImageView::new(format, colour, [width, height], stride, bytes)
        .map_err(|reason| Failure::new(Status::Image, reason.to_string()))?;
    if !is_reversed {
        return Ok(Source::View(view));
    }
    let mut picture = Picture::default();
    view.to_picture(&mut picture);
    picture.bytes_mut().as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| pixel.swap(0, 2));
    Ok(Source::Reversed(picture))
}

/// Opens a bundle: a file, the content of one, a network inside by its name, or the default one inside.
fn open(path: Option<&Path>, content: Option<&[u8]>) -> Outcome<Arc<Bundle>> {
    let refused = |reason: String| Failure::new(Status::Bundle, reason);
    let inside = |reason| refused(format!("the network inside this library: {reason}"));
    match (path, content) {
        (Some(_), Some(_)) => Err(Failure::argument("model_path and model_data are both given: give one of them")),
        (Some(path), None) => match path.to_str().filter(|_| !path.exists()).and_then(embedded_network) {
            Some(bundle) => bundle.map_err(inside),
            None => Bundle::open(path).map_err(|reason| refused(format!("{}: {reason}", path.display()))),
        },
        (None, Some(content)) => Bundle::from_bytes(content).map_err(|reason| refused(reason.to_string())),
        (None, None) => embedded_bundle().map_err(inside),
    }
}
