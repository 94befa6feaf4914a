//! Makes a film of the annotated frames, through ffmpeg.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ChildStdin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::files::output_file::OutputRules;
use crate::outputs::draw::overlay::Legend;
use crate::outputs::shared_frame::SharedFrame;
use crate::outputs::sinks::sink::Sink;
use crate::outputs::sinks::video::film_file::FilmFile;
use crate::outputs::sinks::video::frames::VideoFrames;
use crate::platform::child_process::{ChildProcess, Piped, Program};

/// Time for ffmpeg to encode what it holds and to complete the file; a source that waits leaves it more.
pub(crate) const COMPLETION: Duration = Duration::from_secs(20);
const PATIENT_COMPLETION: Duration = Duration::from_secs(600);

/// Settings of a film.
#[derive(Clone, Debug)]
pub(crate) struct FilmOptions {
    pub path: PathBuf,
    pub rules: OutputRules,
    pub fps: f64,
    /// The source is live: a frame's time in the film is the time at which it comes.
    pub is_live: bool,
}

/// Draws frames and hands them to ffmpeg, which writes the film.
pub(crate) struct FilmSink {
    frames: VideoFrames,
    file: FilmFile,
    process: ChildProcess,
    /// `None` after ffmpeg has failed.
    input: Option<ChildStdin>,
    lost: u64,
    has_frames: bool,
    completion: Duration,
    incomplete: Arc<AtomicBool>,
}

impl FilmSink {
    /// Opens the file and starts ffmpeg.
    ///
    /// # Errors
    /// When the file must not be replaced or cannot be written, or ffmpeg is absent.
    pub(crate) fn open(options: &FilmOptions, legend: Arc<Legend>) -> Result<FilmSink> {
        let file = FilmFile::open(&options.path, &options.rules)?;
        let started = ChildProcess::start(&encoder(&file, options.is_live), Piped::Input);
        let started = started.with_context(|| format!("cannot make the film {}", options.path.display()));
        let mut process = started.inspect_err(|_| file.remove_if_empty())?;
        let input = process.input();
        Ok(FilmSink {
            frames: VideoFrames::new(legend, options.fps),
            file,
            process,
            input,
            lost: 0,
            has_frames: false,
            completion: if options.is_live { COMPLETION } else { PATIENT_COMPLETION },
            incomplete: Arc::default(),
        })
    }

    /// Returns the flag that is set when the film lacks frames.
    pub(crate) fn incomplete(&self) -> Arc<AtomicBool> {
        self.incomplete.clone()
    }

    fn fail(&mut self) {
        self.input = None;
        self.incomplete.store(true, Ordering::Release);
        self.process.wait_until(Instant::now() + Duration::from_secs(1));
        self.process.end();
        log::error!("the film {} ends here: {}", self.file.path().display(), self.process.last_words());
    }
}

/// Returns ffmpeg, which reads YUV4MPEG2 and writes the kind of film that the file's ending names.
fn encoder(file: &FilmFile, is_live: bool) -> Program {
    let mut arguments: Vec<&str> = vec!["-nostdin", "-hide_banner", "-loglevel", "error", "-y"];
    if is_live {
        arguments.extend(["-use_wallclock_as_timestamps", "1"]);
    }
    arguments.extend(["-f", "yuv4mpegpipe", "-i", "pipe:0", "-pix_fmt", "yuv420p"]);
    // The file is recognized by it later.
    let mark = concat!("comment=Faceptor Edge ", env!("CARGO_PKG_VERSION"));
    arguments.extend(["-metadata", mark]);
    let mut arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
    // With the prefix, no name is taken for an address or an option.
    arguments.push(format!("file:{}", file.path().display()));
    Program { names: &["ffmpeg"], packages: "ffmpeg", arguments, secrets: Vec::new() }
}

impl Sink<SharedFrame> for FilmSink {
    fn take(&mut self, scene: &mut SharedFrame) -> ControlFlow<()> {
        let Some(input) = &mut self.input else {
            scene.still = None;
            self.lost += 1;
            return ControlFlow::Continue(());
        };
        let Some(bytes) = self.frames.draw(scene) else {
            // The pool of pixel buffers was empty.
            self.lost += 1;
            return ControlFlow::Continue(());
        };
        match input.write_all(bytes) {
            Ok(()) => self.has_frames = true,
            Err(error) => {
                log::debug!("the film takes no frame: {error}");
                self.lost += 1;
                self.fail();
            }
        }
        ControlFlow::Continue(())
    }

    fn finish(&mut self) {
        let was_running = self.input.take().is_some();
        if was_running && self.has_frames {
            let ended = self.process.wait_until(Instant::now() + self.completion);
            self.process.end();
            if !ended || !self.process.succeeded() {
                self.incomplete.store(true, Ordering::Release);
                log::error!("the film {} is incomplete: {}", self.file.path().display(), self.process.last_words());
            }
        } else {
            self.process.end();
        }
        if !self.has_frames {
            self.file.remove_if_empty();
        }
        if self.lost > 0 {
            log::warn!("the film {} lacks {} frames", self.file.path().display(), self.lost);
        }
    }
}
