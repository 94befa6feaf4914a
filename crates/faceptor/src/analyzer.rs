//! Finds the faces of an image and runs the chosen tasks on each.

use crate::analyze::Locate;
use crate::augmentation::Augmentation;
use crate::bundle::Bundle;
use crate::detect::detection::MAX_FACES;
use crate::detect::detector::Purpose;
use crate::detect::search::PhotoSearch;
use crate::error::{Error, ErrorKind, Result, ensure};
use crate::face::Analysis;
use crate::image::colour::Colour;
#[cfg(feature = "photo")]
use crate::image::photo::Photo;
use crate::image::picture::{Picture, Pixels};
use crate::image::view::{ImageView, PixelFormat, ShortFrame};
use crate::pipeline::Pipeline;
use crate::task::Task;
use crate::tasks::selection::{self, TaskList};
use faceptor_nn::thread_pool::{MAX_THREADS, Threads};

/// Finds the faces of an image and runs the chosen tasks on each.
///
/// It holds the network and its memory: make one and use it for every image.
///
/// ```
/// # #[cfg(all(feature = "embedded", feature = "photo"))]
/// # fn main() -> Result<(), faceptor::Error> {
/// use faceptor::{Analyzer, Augmentation, ImageView, Task};
///
/// let pixels = vec![128u8; 3 * 320 * 240];
/// let view = ImageView::rgb(&pixels, 320, 240)?;
/// let mut analyzer = Analyzer::embedded()?.tasks([Task::Age])?.augmentation(Augmentation::Off);
/// assert!(analyzer.analyze(view)?.faces.is_empty());
/// # Ok(())
/// # }
/// # #[cfg(not(all(feature = "embedded", feature = "photo")))]
/// # fn main() {}
/// ```
pub struct Analyzer {
    bundle: Bundle,
    pipeline: Pipeline,
    augmentation: Augmentation,
    max_faces: usize,
    search: PhotoSearch,
    fine_masks: bool,
    /// The image in RGB, where it came otherwise.
    picture: Picture,
}

impl Analyzer {
    /// Makes an analyzer of the network inside the library, with the tasks that the bundle runs by default (all but
    /// recognition), on the caller's thread alone.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`](crate::ErrorKind::Bundle) when the library was built without a network, or it cannot be run
    /// on this CPU.
    pub fn embedded() -> Result<Analyzer, Error> {
        Analyzer::from_bundle(&Bundle::embedded()?)
    }

    /// Makes an analyzer of a bundle, with the tasks that it runs by default.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`](crate::ErrorKind::Bundle) when the bundle contradicts itself, has no tasks, or cannot be run
    /// on this CPU.
    pub fn from_bundle(bundle: &Bundle) -> Result<Analyzer, Error> {
        let tasks = selection::defaults(bundle.inner().manifest());
        let pipeline = Pipeline::new(bundle.inner().clone(), &tasks)?;
        Ok(Analyzer {
            bundle: bundle.clone(),
            pipeline,
            augmentation: Augmentation::Ten,
            max_faces: MAX_FACES,
            search: PhotoSearch::default(),
            fine_masks: true,
            picture: Picture::default(),
        })
    }

    /// Chooses the tasks, in place of those chosen before; none leaves the face detector alone.
    ///
    /// Every task is a [`Task`] or its name. Nothing is compiled or allocated for another choice.
    ///
    /// # Errors
    /// [`ErrorKind::Task`](crate::ErrorKind::Task) when the bundle has no task of that name.
    pub fn tasks(mut self, tasks: impl IntoIterator<Item = impl Into<Task>>) -> Result<Analyzer, Error> {
        let mut chosen = TaskList::new();
        for task in tasks {
            let index = selection::find(self.bundle.inner().manifest(), task.into().name())?;
            if !chosen.contains(&index) {
                // There is room for every task of a bundle.
                let _ = chosen.push(index);
            }
        }
        self.pipeline.choose(&chosen);
        Ok(self)
    }

    /// Runs the network on `count` threads, the caller's included: 1 to 8. It loads the network again.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for another number.
    pub fn threads(mut self, count: usize) -> Result<Analyzer, Error> {
        ensure!((1..=MAX_THREADS).contains(&count), Unsupported, "{count} threads: 1 to {MAX_THREADS} run the network");
        let threads = Threads { count, ..Threads::default() };
        let tasks = self.pipeline.tasks().clone();
        self.pipeline = Pipeline::with_threads(self.bundle.inner().clone(), &tasks, &threads)?;
        Ok(self)
    }

    /// Runs the network on this many views of each face and averages the results: [`Augmentation::Ten`] at first, as
    /// `faceptor image` does. Ten views take ten times as long as one.
    #[must_use]
    pub fn augmentation(mut self, augmentation: Augmentation) -> Analyzer {
        self.augmentation = augmentation;
        self
    }

    /// Reports at most this many faces of an image, best score first: 1 to 64, and 64 at first.
    #[must_use]
    pub fn max_faces(mut self, count: usize) -> Analyzer {
        self.max_faces = count.clamp(1, MAX_FACES);
        self
    }

    /// Looks for faces whose longer side has this many pixels of the image or more: 24 at first. In images of more than 768
    /// pixels for a face of 24, parts are searched one by one: time grows with the area and with the inverse square of this size.
    /// Faces below 16 pixels are not found; smaller ones than asked for may be.
    #[must_use]
    pub fn min_face(mut self, pixels: f32) -> Analyzer {
        self.search.min_face_px = pixels;
        self
    }

    /// Looks for upright faces alone, turned by up to about 35 degrees in the image: in less than half of the time.
    #[must_use]
    pub fn upright_only(mut self, on: bool) -> Analyzer {
        self.search.upright_only = on;
        self
    }

    /// Keeps the scores of parsing, from which [`Parsing::mask`](crate::Parsing::mask) interpolates smooth borders; on at
    /// first. Without them parsing is faster, its shares are the same, and a mask shows the network's cells.
    #[must_use]
    pub fn fine_masks(mut self, on: bool) -> Analyzer {
        self.fine_masks = on;
        self
    }

    /// Returns the chosen tasks.
    pub fn chosen_tasks(&self) -> impl Iterator<Item = Task> {
        let decoders = self.pipeline.decoders();
        self.pipeline.tasks().iter().map(|&task| Task::named(&decoders[usize::from(task)].task().name))
    }

    /// Finds the faces of an image, best score first, and runs the chosen tasks on each.
    ///
    /// The image is a `&Photo`, an [`ImageView`] in any [`PixelFormat`], or, with the feature `photo`, an
    /// `&image::RgbImage`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when the bundle has no face detector,
    /// [`ErrorKind::Image`](crate::ErrorKind::Image) when the image has no pixels.
    pub fn analyze<'a>(&mut self, image: impl Into<Image<'a>>) -> Result<Analysis, Error> {
        ensure!(
            self.pipeline.has_finder(),
            Unsupported,
            "this bundle has no face detector: analyze_aligned takes aligned crops"
        );
        let locate = Locate::Find { purpose: Purpose::Photo, limit: self.max_faces };
        self.run(image.into(), locate)
    }

    /// Runs the chosen tasks on an aligned crop: a square image of one face, the eye centres 40/192 of its side apart and
    /// their middle at (96/192, 82/192).
    ///
    /// # Errors
    /// [`ErrorKind::Image`](crate::ErrorKind::Image) when the image is not square.
    pub fn analyze_aligned<'a>(&mut self, image: impl Into<Image<'a>>) -> Result<Analysis, Error> {
        self.run(image.into(), Locate::Aligned)
    }

    /// Gives the pipeline with its tasks to a tracker.
    pub(crate) fn into_pipeline(mut self) -> Pipeline {
        self.pipeline.enable_masks(self.fine_masks);
        self.pipeline
    }

    fn run(&mut self, image: Image<'_>, locate: Locate) -> Result<Analysis, Error> {
        self.pipeline.set_augmentation(self.augmentation);
        self.pipeline.set_photo_search(self.search);
        self.pipeline.enable_masks(self.fine_masks);
        let picture = match image.0 {
            Source::Picture(picture) => picture,
            Source::View(view) => {
                view?.to_picture(&mut self.picture);
                &self.picture
            }
        };
        let record = self.pipeline.analyze(picture, locate)?;
        let mut analysis = Analysis::default();
        analysis.copy_from(&record, self.pipeline.shared_decoders(), [picture.width(), picture.height()]);
        Ok(analysis)
    }
}

impl<'a> ImageView<'a> {
    /// Views `width * height` pixels of three bytes each (red, green, blue), rows without gaps.
    ///
    /// # Errors
    /// [`ErrorKind::Image`] when there are no pixels, or fewer bytes than that.
    pub fn rgb(bytes: &'a [u8], width: usize, height: usize) -> Result<ImageView<'a>, Error> {
        let view =
            ImageView::new(PixelFormat::Rgb24, Colour::default(), [width, height], width.saturating_mul(3), bytes);
        Ok(view?)
    }
}

impl From<ShortFrame> for Error {
    fn from(reason: ShortFrame) -> Error {
        Error::new(ErrorKind::Image, reason.to_string())
    }
}

/// An image to analyze: made of a `&Photo`, an [`ImageView`] or an `&image::RgbImage` by [`Analyzer::analyze`].
pub struct Image<'a>(Source<'a>);

enum Source<'a> {
    Picture(&'a Picture),
    /// An error is reported when the image is analyzed.
    View(Result<ImageView<'a>>),
}

impl<'a> From<ImageView<'a>> for Image<'a> {
    fn from(view: ImageView<'a>) -> Image<'a> {
        Image(Source::View(Ok(view)))
    }
}

impl<'a> From<&ImageView<'a>> for Image<'a> {
    fn from(view: &ImageView<'a>) -> Image<'a> {
        Image(Source::View(Ok(*view)))
    }
}

impl<'a> From<&'a Picture> for Image<'a> {
    fn from(picture: &'a Picture) -> Image<'a> {
        Image(Source::Picture(picture))
    }
}

#[cfg(feature = "photo")]
impl<'a> From<&'a Photo> for Image<'a> {
    fn from(photo: &'a Photo) -> Image<'a> {
        Image(Source::Picture(photo.picture()))
    }
}

#[cfg(feature = "photo")]
impl<'a> From<&'a ::image::RgbImage> for Image<'a> {
    fn from(image: &'a ::image::RgbImage) -> Image<'a> {
        let (width, height) = (image.width() as usize, image.height() as usize);
        Image(Source::View(ImageView::rgb(image.as_raw(), width, height)))
    }
}
