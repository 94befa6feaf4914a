//! The arguments of `faceptor run`.

use std::path::PathBuf;

use clap::Args;
use v4l::FourCC;

use crate::capture::source::SourceRequest;
use crate::capture::source_names::NamedSource;
use crate::cli::UsageError;
use crate::cli::blur_arguments::BlurArguments;
use crate::cli::network_arguments::{NetworkArguments, TaskArguments};
use crate::cli::output_rules::{self, ForceArgument};
use crate::cli::run_gallery::RunGalleryArguments;
use crate::control::socket::SocketError;
use crate::control::socket_paths;
use crate::files::output_file::OutputRules;
use crate::live::live_loop::LoopSettings;
use crate::outputs::buses::mqtt_sink::Broker;
use crate::outputs::fan_out::{BusOptions, OutputOptions};
use crate::outputs::http::address::Address;
use crate::outputs::sinks::display::parse_display;
use crate::outputs::sinks::preview::parse_address;
use crate::outputs::sinks::recording::RecordingOptions;
use crate::platform::network_threads::ThreadArguments;
use crate::platform::scheduling::RealtimeArguments;
use faceptor::stages::MAX_TRACKS;

#[derive(Args)]
pub struct RunArguments {
    /// Take options from this TOML file: its keys are the long options below. Options of the command line win.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A camera (/dev/video0), a network camera (rtsp://..., http://...), `libcamera` (a Raspberry Pi's camera),
    /// `gst:PIPELINE` (what GStreamer reads), `demo` (the embedded clip), a film, a photo, a folder of photos, or `-` for
    /// YUV4MPEG2 or JPEGs on standard input. Addresses and films need ffmpeg. Given up to eight times, the sources share the
    /// network and the time; NAME=SOURCE names one in every output [default: the name of its device, file or host].
    #[arg(long = "source", value_name = "SOURCE", default_value = "demo")]
    pub sources: Vec<String>,
    #[command(flatten)]
    camera: CameraArguments,
    #[command(flatten)]
    pub tasks: TaskArguments,
    #[command(flatten)]
    pub network: NetworkArguments,
    /// End after this many frames of each source. A source that ends before starts over; a pipe cannot, so the run ends with status 1
    /// [default: the whole source once].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub frames: Option<u64>,
    #[command(flatten)]
    pub pace: PaceArguments,
    #[command(flatten)]
    pub following: FollowArguments,
    #[command(flatten)]
    pub naming: RunGalleryArguments,
    #[command(flatten)]
    pub blur: BlurArguments,
    #[command(flatten)]
    pub outputs: OutputArguments,
    #[command(flatten)]
    pub realtime: RealtimeArguments,
    #[command(flatten)]
    pub threads: ThreadArguments,
}

#[derive(Args)]
struct CameraArguments {
    /// Frame rate: requested from a camera or a network stream. Demo, photos and files are played at this rate, and frames
    /// that the loop is too slow for are dropped, as with a camera [default: the camera's own; other sources give every
    /// frame].
    #[arg(long, value_name = "F", value_parser = positive)]
    fps: Option<f64>,
    /// Width and height requested from a camera; network streams and pipelines are scaled to it [default: near 640x480, a
    /// stream's own].
    #[arg(long, value_name = "WxH", value_parser = size)]
    size: Option<[u32; 2]>,
    /// Pixel format requested from a camera: yuyv, mjpg, nv12, uyvy, grey, or another V4L2 code [default: the cheapest to
    /// convert].
    #[arg(long, value_name = "CODE", value_parser = fourcc)]
    format: Option<FourCC>,
}

#[derive(Args)]
pub struct PaceArguments {
    /// Time budget of a frame. Tasks that do not fit are deferred, and their last results are repeated [default: a live
    /// source's period, the mean time between two frames of several, no limit for others].
    #[arg(long, value_name = "MS", value_parser = positive)]
    pub budget_ms: Option<f64>,
    /// Results of a live source are published this long after capture [default: chosen from the cost of the first frames].
    #[arg(long, value_name = "MS", value_parser = positive)]
    pub latency_ms: Option<f64>,
    /// End with a failure when the camera is disconnected, instead of waiting for it.
    #[arg(long)]
    pub exit_on_lost: bool,
}

#[derive(Args)]
pub struct FollowArguments {
    /// Most faces of a frame; those with the highest score are kept.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=MAX_TRACKS as i64))]
    pub max_faces: u16,
    /// Do not smooth landmarks with the One-Euro filter.
    #[arg(long)]
    pub no_smoothing: bool,
    /// Time constant of the smoothing of age, attributes and other scores: two thirds of a change have passed after this time.
    /// 0 turns the smoothing off.
    #[arg(long, value_name = "MS", default_value_t = 300.0, value_parser = constant)]
    pub steady_ms: f64,
}

#[derive(Args)]
pub struct OutputArguments {
    /// Print one JSON object a frame, each on a line.
    #[arg(long)]
    pub json: bool,
    /// Write the last frame, annotated, as a PNG. Several sources have a file each: last-NAME.png.
    #[arg(long, value_name = "PNG")]
    pub out: Option<PathBuf>,
    /// Record the JSON lines in this file.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Begin a new recording file at this size.
    #[arg(long, value_name = "MB", default_value_t = 100.0, value_parser = positive, requires = "record")]
    record_limit_mb: f64,
    /// Number of files kept of a recording.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000), requires = "record")]
    record_files: u32,
    /// Make a film of the annotated frames, by ffmpeg: film.mp4, film.mkv, or another ending that it knows.
    #[arg(long, value_name = "FILE")]
    record_video: Option<PathBuf>,
    /// Write the annotated frames as YUV4MPEG2 to standard output, for the next program of a pipe. Only `-` is possible.
    #[arg(long, value_name = "-", value_parser = standard_output)]
    video: Option<()>,
    #[command(flatten)]
    pub force: ForceArgument,
    /// Show annotated frames on a framebuffer: fb:/dev/fb0.
    #[arg(long, value_name = "fb:DEVICE", value_parser = parse_display)]
    display: Option<PathBuf>,
    /// Serve a preview page with picture and results: 127.0.0.1:PORT, or a port.
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    preview: Option<std::net::SocketAddr>,
    /// Serve metrics for Prometheus at /metrics: 127.0.0.1:PORT, or a port.
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    metrics: Option<std::net::SocketAddr>,
    /// Post an event (JSON) when a face appears, gets a name, leaves: http://host:port/path.
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
    /// Publish presence, count, name, age and more by MQTT, also for Home Assistant:
    /// mqtt://user:password@host:port/topic.
    #[arg(long, value_name = "URL")]
    mqtt: Option<String>,
    /// Trust the authorities of this file of certificates (PEM), and no others, for mqtts:// and https:// [default: those that
    /// the system trusts].
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Listen for `faceptor ctl` on this Unix socket [without a value: $XDG_RUNTIME_DIR/faceptor.sock, or
    /// /run/faceptor/faceptor.sock if that directory is writable, or faceptor.sock in a private directory under $TMPDIR].
    #[arg(long, value_name = "SOCKET", num_args = 0..=1)]
    control: Option<Option<PathBuf>>,
}

fn standard_output(text: &str) -> Result<(), String> {
    match text {
        "-" => Ok(()),
        _ => Err("only standard output, -, is possible: --record-video FILE makes a film".to_owned()),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number <= 1e6 => Ok(number),
        _ => Err("a number above 0 and at most 1000000 is needed".to_owned()),
    }
}

fn constant(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (0.0..=60_000.0).contains(number));
    number.ok_or_else(|| "a number from 0 to 60000 is needed".to_owned())
}

fn size(text: &str) -> Result<[u32; 2], String> {
    let sides =
        text.split_once(['x', 'X']).and_then(|(width, height)| Some([width.parse().ok()?, height.parse().ok()?]));
    let fits = |sides: &[u32; 2]| sides.iter().all(|side| (1..=16_384).contains(side));
    sides.filter(fits).ok_or_else(|| "a size such as 640x480 is needed".to_owned())
}

fn fourcc(text: &str) -> Result<FourCC, String> {
    let code = match text.to_ascii_uppercase().as_str() {
        "MJPEG" => "MJPG".to_owned(),
        "GRAY" => "GREY".to_owned(),
        code => code.to_owned(),
    };
    let bytes: [u8; 4] = code.as_bytes().try_into().map_err(|_| "a code of four characters is needed".to_owned())?;
    Ok(FourCC::new(&bytes))
}

fn us(ms: f64) -> u64 {
    (ms * 1000.0).round() as u64
}

impl RunArguments {
    /// Returns how the source is opened.
    pub fn request(&self) -> SourceRequest {
        let CameraArguments { fps, size, format: fourcc } = self.camera;
        SourceRequest { fps, size, fourcc, exit_on_lost: self.pace.exit_on_lost }
    }

    /// Returns what the outputs may replace.
    pub fn rules(&self, sources: &[NamedSource]) -> OutputRules {
        let network = output_rules::network_files(&self.network);
        let inputs: Vec<PathBuf> =
            sources.iter().flat_map(|source| output_rules::source_files(&source.place)).chain(network).collect();
        let gallery = self.naming.gallery.files();
        self.outputs.force.rules(inputs.iter().chain(&self.config).chain(&self.outputs.tls_ca).chain(gallery))
    }

    /// Returns the settings of the loop.
    pub fn settings(&self) -> LoopSettings {
        LoopSettings {
            frames: self.frames,
            budget_us: self.pace.budget_ms.map(us),
            latency_us: self.pace.latency_ms.map(us),
            exit_on_lost: self.pace.exit_on_lost,
        }
    }
}

impl FollowArguments {
    /// Returns the time constant of the smoothing, s.
    pub fn steady_s(&self) -> f32 {
        (self.steady_ms / 1000.0) as f32
    }
}

impl OutputArguments {
    /// Returns the outputs. `live`: the source has a rate and does not wait.
    pub fn options(&self, live: bool, rules: &OutputRules) -> OutputOptions {
        let record = self.record.as_ref().map(|path| RecordingOptions {
            path: path.clone(),
            limit_bytes: (self.record_limit_mb * 1e6) as u64,
            files: self.record_files,
            rules: rules.clone(),
        });
        OutputOptions {
            print: !self.writes_video(),
            record,
            display: self.display.clone(),
            preview: self.preview,
            film: self.record_video.clone(),
            video_pipe: self.writes_video(),
            metrics: self.metrics,
            buses: BusOptions::default(),
            source_waits: !live,
            rules: rules.clone(),
        }
    }

    /// Returns the other systems that get results. Their addresses are parsed here and not with the other arguments, because
    /// that message would repeat a password.
    ///
    /// # Errors
    /// When an address is wrong.
    pub fn buses(&self) -> Result<BusOptions, UsageError> {
        let wrong = |option: &str, error: &dyn std::fmt::Display| UsageError(format!("--{option}: {error}"));
        let authorities = self.tls_ca.as_deref();
        let webhook = self.webhook.as_ref().map(|text| Address::parse(text, "http", [80, 443])).transpose();
        let webhook = webhook.map_err(|error| wrong("webhook", &error))?;
        let mqtt = self.mqtt.as_ref().map(|text| Broker::parse(text)).transpose();
        let mqtt = mqtt.map_err(|error| wrong("mqtt", &error))?;
        let is_encrypted = webhook.as_ref().is_some_and(|address| address.is_encrypted)
            || mqtt.as_ref().is_some_and(Broker::is_encrypted);
        if authorities.is_some() && !is_encrypted {
            return Err(wrong("tls-ca", &"neither --mqtt nor --webhook has an encrypted address (mqtts://, https://)"));
        }
        let webhook = webhook.map(|address| address.trusting(authorities)).transpose();
        let mqtt = mqtt.map(|broker| broker.trusting(authorities)).transpose();
        Ok(BusOptions {
            webhook: webhook.map_err(|error| wrong("webhook", &error))?,
            mqtt: mqtt.map_err(|error| wrong("mqtt", &error))?,
        })
    }

    /// Checks that each output can show several sources.
    ///
    /// # Errors
    /// For outputs of one picture.
    pub fn check_for_several(&self) -> Result<(), UsageError> {
        let refused = [
            ("--display", self.display.is_some()),
            ("--record-video", self.record_video.is_some()),
            ("--video -", self.writes_video()),
        ];
        match refused.iter().find(|(_, is_given)| *is_given) {
            Some((option, _)) => Err(UsageError(format!(
                "{option} shows the picture of one source, and this run has several: start another run for it, or use --preview"
            ))),
            None => Ok(()),
        }
    }

    /// Returns the path of the last frame of a source; `name` is that of one of several.
    pub fn last_frame(&self, name: Option<&str>) -> Option<PathBuf> {
        let path = self.out.as_ref()?;
        let Some(name) = name else { return Some(path.clone()) };
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let ending = path.extension().map(|ending| format!(".{}", ending.to_string_lossy())).unwrap_or_default();
        Some(path.with_file_name(format!("{stem}-{name}{ending}")))
    }

    /// Returns true when standard output holds frames, and neither lines nor the table.
    pub fn writes_video(&self) -> bool {
        self.video.is_some()
    }

    /// Returns the path of the control socket, if there is one.
    ///
    /// # Errors
    /// When no path is given and there is no folder for a socket.
    pub fn socket(&self) -> Result<Option<PathBuf>, SocketError> {
        match &self.control {
            Some(None) => socket_paths::path_to_listen_at().map(Some),
            given => Ok(given.clone().flatten()),
        }
    }
}
