//! What the element does: properties, states and frames.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use faceptor::stages::{TaskList, contain_panic};
use faceptor_nn::bundle::Bundle;
use faceptor_results::json::{Origin, OuterTiming};
use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer::subclass::prelude::*;
use gstreamer_base as gst_base;
use gstreamer_base::prelude::*;
use gstreamer_base::subclass::BaseTransformMode;
use gstreamer_base::subclass::prelude::*;
use gstreamer_video::{VideoCapsBuilder, VideoInfo, VideoMeta};

use super::LOG;
use crate::drawing;
use crate::lateness::{Late, Lateness};
use crate::options::Options;
use crate::pixels::{FORMATS, Layout};
use crate::report::{self, Times};
use crate::session::{self, Refusal, Session};

/// Time between two frames where their stamps do not say it, as for the films of `faceptor run`.
const NOMINAL_PERIOD_S: f32 = 1.0 / 30.0;
/// Limits of the time between two frames, as in the loop of `faceptor run`.
const SHORTEST_S: f32 = 1e-4;
const LONGEST_S: f32 = 0.5;

/// Stamps that differ by so little from whole periods are rounded ones.
const ROUNDING_S: f64 = 2e-6;

/// The options, and what the network makes of them while the element runs.
#[derive(Default)]
struct Control {
    options: Options,
    /// Open from READY to PAUSED on.
    bundle: Option<Arc<Bundle>>,
    /// Tasks that were chosen while the element runs, and that no frame has seen.
    chosen: Option<TaskList>,
}

/// What a stream needs from frame to frame.
struct Stream {
    session: Session,
    info: Option<VideoInfo>,
    /// Bytes of frames whose planes do not lie as the library wants them.
    scratch: Vec<u8>,
    /// Stamp of the last frame that was analyzed.
    last: Option<gst::ClockTime>,
    /// Frames since that one.
    since: u32,
    /// Frames of the stream, and those that were analyzed.
    frames: u64,
    analyzed: u64,
}

/// What became of a frame.
enum Outcome {
    /// The JSON of the frame, if it was asked for.
    Analyzed(Option<String>),
    /// The buffer does not hold the frame that its caps promise.
    Short,
    Failed(String),
}

#[derive(Default)]
pub struct Faceptor {
    control: Mutex<Control>,
    /// `None` while the element is stopped, and after a defect.
    /// Boxed, because GObject has at most 64 KiB for an instance.
    stream: Mutex<Option<Box<Stream>>>,
    lateness: Mutex<Lateness>,
    analyzed: AtomicU64,
    late: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[glib::object_subclass]
impl ObjectSubclass for Faceptor {
    const NAME: &'static str = "Faceptor";
    type Type = super::Faceptor;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for Faceptor {
    fn constructed(&self) {
        self.parent_constructed();
        // The property `qos` of the base class.
        self.obj().set_property("qos", true);
    }

    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(Options::specifications);
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, specification: &glib::ParamSpec) {
        let mut control = lock(&self.control);
        let mut options = control.options.clone();
        options.set(specification.name(), value);
        if let Some(bundle) = control.bundle.clone().filter(|_| specification.name() == "tasks") {
            match contain_panic(|| session::tasks_of(&bundle, options.tasks.as_deref())) {
                Some(Ok(tasks)) => control.chosen = Some(tasks),
                refused => {
                    // The tasks stay as they were, and so does the property.
                    drop(control);
                    let text = match refused {
                        Some(Err(Refusal::Setting(text) | Refusal::Bundle(text))) => text,
                        _ => DEFECT.to_owned(),
                    };
                    gst::element_imp_warning!(self, gst::LibraryError::Settings, ("{text}"));
                    return;
                }
            }
        }
        control.options = options;
    }

    fn property(&self, _id: usize, specification: &glib::ParamSpec) -> glib::Value {
        match specification.name() {
            "analyzed" => self.analyzed.load(Ordering::Relaxed).to_value(),
            "late" => self.late.load(Ordering::Relaxed).to_value(),
            name => lock(&self.control).options.get(name).unwrap_or_else(|| specification.default_value().clone()),
        }
    }
}

impl GstObjectImpl for Faceptor {}

impl ElementImpl for Faceptor {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Faces of a video",
                "Filter/Analyzer/Video",
                "Finds and tracks faces, and reads landmarks, parsing, age, expression and attributes from them, on a CPU",
                "The Faceptor Edge developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = VideoCapsBuilder::new().format_list(FORMATS).build();
            let template = |name, direction| gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps);
            [("src", gst::PadDirection::Src), ("sink", gst::PadDirection::Sink)]
                .into_iter()
                .filter_map(|(name, direction)| template(name, direction).ok())
                .collect()
        });
        &TEMPLATES
    }
}

impl BaseTransformImpl for Faceptor {
    const MODE: BaseTransformMode = BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let options = lock(&self.control).options.clone();
        let opened = contain_panic(|| {
            let bundle = session::open_bundle(&options)?;
            let session = Session::new(&bundle, &options)?;
            Ok((bundle, session))
        });
        let (bundle, session) = match opened {
            Some(Ok(opened)) => opened,
            Some(Err(Refusal::Bundle(text))) => return Err(gst::error_msg!(gst::ResourceError::OpenRead, ("{text}"))),
            Some(Err(Refusal::Setting(text))) => return Err(gst::error_msg!(gst::LibraryError::Settings, ("{text}"))),
            None => return Err(gst::error_msg!(gst::LibraryError::Failed, ("{DEFECT}"))),
        };
        gst::info!(LOG, imp = self, "network {} with {options:?}", bundle.manifest().name);
        let stream = Stream { session, info: None, scratch: Vec::new(), last: None, since: 0, frames: 0, analyzed: 0 };
        *lock(&self.stream) = Some(Box::new(stream));
        {
            let mut control = lock(&self.control);
            // Tasks that were set in the meantime.
            if control.options.tasks != options.tasks {
                control.chosen = session::tasks_of(&bundle, control.options.tasks.as_deref()).ok();
            }
            control.bundle = Some(bundle);
        }
        lock(&self.lateness).reset();
        self.analyzed.store(0, Ordering::Relaxed);
        self.late.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        let mut control = lock(&self.control);
        (control.bundle, control.chosen) = (None, None);
        drop(control);
        *lock(&self.stream) = None;
        Ok(())
    }

    fn set_caps(&self, incaps: &gst::Caps, _outcaps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let info = VideoInfo::from_caps(incaps).map_err(|_| gst::loggable_error!(LOG, "{incaps} are no video"))?;
        if let Some(stream) = &mut *lock(&self.stream) {
            stream.info = Some(info);
        }
        Ok(())
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        if event.type_() == gst::EventType::FlushStop || event.type_() == gst::EventType::StreamStart {
            lock(&self.lateness).reset();
            if let Some(stream) = &mut *lock(&self.stream) {
                stream.session.cut();
                stream.last = None;
            }
        }
        self.parent_sink_event(event)
    }

    fn src_event(&self, event: gst::Event) -> bool {
        if let gst::EventView::Qos(qos) = event.view() {
            if self.heeds_qos() {
                lock(&self.lateness).record(qos);
            }
            // The base class would drop frames that are late, where this element only does not analyze them.
            return self.obj().sink_pad().push_event(event);
        }
        self.parent_src_event(event)
    }

    fn transform_ip(&self, buffer: &mut gst::BufferRef) -> Result<gst::FlowSuccess, gst::FlowError> {
        let times = self.times(buffer);
        let (options, chosen) = {
            let mut control = lock(&self.control);
            (control.options.clone(), control.chosen.take())
        };
        let mut slot = lock(&self.stream);
        // A stream whose frame panics is not put back.
        let mut stream = slot.take().ok_or(gst::FlowError::NotNegotiated)?;
        if let Some(tasks) = chosen {
            stream.session.choose(&tasks);
        }
        (stream.frames, stream.since) = (stream.frames + 1, stream.since.saturating_add(1));
        let late = lock(&self.lateness).judge(times.running).filter(|_| self.heeds_qos());
        if let Some(late) = late {
            *slot = Some(stream);
            drop(slot);
            self.pass_late(&times, late);
            return Ok(gst::FlowSuccess::Ok);
        }
        let outcome = contain_panic(|| {
            let outcome = stream.analyze(buffer, &times, &options);
            (outcome, stream)
        });
        let Some((outcome, stream)) = outcome else {
            drop(slot);
            gst::element_imp_error!(self, gst::LibraryError::Failed, ("{DEFECT}"));
            return Err(gst::FlowError::Error);
        };
        *slot = Some(stream);
        // A receiver of a message may ask the element for anything.
        drop(slot);
        match outcome {
            Outcome::Analyzed(json) => {
                self.analyzed.fetch_add(1, Ordering::Relaxed);
                if let Some(json) = json {
                    let message = gst::message::Element::builder(report::message(&json, &times)).src(&*self.obj());
                    // Without a bus there is no receiver.
                    let _ = self.obj().post_message(message.build());
                }
                Ok(gst::FlowSuccess::Ok)
            }
            Outcome::Short => {
                let text =
                    "a buffer does not hold the frame that its caps promise: it was passed on without an analysis";
                gst::element_imp_warning!(self, gst::StreamError::Format, ("{text}"));
                Ok(gst::FlowSuccess::Ok)
            }
            Outcome::Failed(text) => {
                gst::element_imp_error!(self, gst::LibraryError::Failed, ("{text}"));
                Err(gst::FlowError::Error)
            }
        }
    }
}

const DEFECT: &str = "a defect of faceptor stopped this element; please report it";

impl Faceptor {
    /// Reports the property `qos` of the base class.
    fn heeds_qos(&self) -> bool {
        self.obj().property("qos")
    }

    /// Returns the times of a frame in the segment that the base class keeps.
    fn times(&self, buffer: &gst::BufferRef) -> Times {
        let timestamp = buffer.pts().or_else(|| buffer.dts());
        let segment = self.obj().segment();
        let segment = segment.downcast_ref::<gst::ClockTime>();
        Times {
            timestamp,
            running: segment.and_then(|segment| segment.to_running_time(timestamp)),
            stream: segment.and_then(|segment| segment.to_stream_time(timestamp)),
            duration: buffer.duration(),
        }
    }

    /// Counts a late frame, and says so on the bus as other elements do.
    fn pass_late(&self, times: &Times, late: Late) {
        let passed = self.late.fetch_add(1, Ordering::Relaxed) + 1;
        let analyzed = self.analyzed.load(Ordering::Relaxed);
        let message = gst::message::Qos::builder(false)
            .src(&*self.obj())
            .running_time(times.running)
            .stream_time(times.stream)
            .timestamp(times.timestamp)
            .duration(times.duration)
            .values(late.jitter_ns, late.proportion, 1_000_000)
            .stats(gst::format::Buffers::from_u64(analyzed), gst::format::Buffers::from_u64(passed));
        // Without a bus there is no receiver.
        let _ = self.obj().post_message(message.build());
    }
}

impl Stream {
    /// Analyzes a frame, attaches the results and draws them if that is asked for.
    fn analyze(&mut self, buffer: &mut gst::BufferRef, times: &Times, options: &Options) -> Outcome {
        let start = Instant::now();
        let elapsed_s = self.elapsed_s(times);
        let Some(info) = &self.info else { return Outcome::Short };
        let Some(layout) = Layout::of(info, buffer.meta::<VideoMeta>().as_deref()) else { return Outcome::Short };
        let mut outer_timing = OuterTiming::default();
        let before_and_after = {
            let Ok(map) = buffer.map_readable() else { return Outcome::Short };
            let Some(view) = layout.view(map.as_slice(), &mut self.scratch) else { return Outcome::Short };
            outer_timing.convert_us = start.elapsed().as_micros() as u64;
            if let Err(error) = self.session.process(&view, elapsed_s, options.draw) {
                return Outcome::Failed(error.to_string());
            }
            options.draw.then(|| self.session.draw(&view))
        };
        if let Some((before, after)) = before_and_after {
            let drawn = Instant::now();
            let Ok(mut map) = buffer.map_writable() else { return Outcome::Short };
            drawing::write_changes(&layout, map.as_mut_slice(), before, after);
            outer_timing.present_us = drawn.elapsed().as_micros() as u64;
        }
        outer_timing.total_us = start.elapsed().as_micros() as u64;
        let captured_us = times.timestamp.map_or(0, gst::ClockTime::useconds);
        let numbers = [self.analyzed, self.frames - 1, captured_us];
        self.analyzed += 1;
        let (width, height) = (layout.width, layout.height);
        let origin = Origin { path: None, width, height, frame: Some(numbers), warnings: Vec::new() };
        let json = options.messages.then(|| report::line(&self.session, &origin, outer_timing)).transpose();
        match (report::attach(buffer, &self.session), json) {
            (Ok(()), Ok(json)) => Outcome::Analyzed(json),
            (Err(error), _) | (_, Err(error)) => Outcome::Failed(error.to_string()),
        }
    }

    /// Returns the seconds since the last frame that was analyzed.
    fn elapsed_s(&mut self, times: &Times) -> f32 {
        let elapsed_s = match (self.last, times.timestamp) {
            (Some(last), Some(now)) => self.whole_periods(now.saturating_sub(last)),
            (None, _) => NOMINAL_PERIOD_S,
            (Some(_), None) => self.since.max(1) as f32 * NOMINAL_PERIOD_S,
        };
        (self.last, self.since) = (times.timestamp.or(self.last), 0);
        elapsed_s.clamp(SHORTEST_S, LONGEST_S)
    }

    /// Converts a time to seconds: to whole periods of the stream's rate where that is what rounded stamps stand for, so that a film
    /// gives the answers of `faceptor run`.
    fn whole_periods(&self, time: gst::ClockTime) -> f32 {
        let seconds = time.nseconds() as f64 / 1e9;
        let rate = self.info.as_ref().map_or(0.0, |info| f64::from(info.fps().numer()) / f64::from(info.fps().denom()));
        let periods = (seconds * rate).round();
        if rate > 0.0 && periods >= 1.0 && (periods / rate - seconds).abs() < ROUNDING_S {
            return periods as f32 * (1.0 / rate) as f32;
        }
        seconds as f32
    }
}
