//! The programs that read sources which this one does not: their names and arguments.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::capture::child::pipeline::{self, PipelineError};
use crate::capture::source::SourceRequest;
use crate::capture::y4m::Header;
use crate::platform::child_process::Program;
use crate::platform::redaction;
use faceptor::stages::{Colour, PixelFormat};

/// The prefix of a GStreamer pipeline.
pub(crate) const PIPELINE: &str = "gst:";
/// The name of the camera of libcamera.
pub(crate) const LIBCAMERA: &str = "libcamera";
/// Schemes of live streams, with the protocols that a stream of each may open. Neither has `file`: a playlist of another
/// machine must not name files of this one.
const SCHEMES: [(&str, &str); 4] = [
    ("rtsp", "rtsp,rtsps,rtp,srtp,udp,tcp,tls,crypto"),
    ("rtsps", "rtsp,rtsps,rtp,srtp,udp,tcp,tls,crypto"),
    ("http", HTTP_PROTOCOLS),
    ("https", HTTP_PROTOCOLS),
];
const HTTP_PROTOCOLS: &str = "http,https,httpproxy,tcp,tls,crypto";
/// Endings of films: an address with one of them is played once, from its beginning to its end.
const FILM_ENDINGS: [&str; 16] =
    ["mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "m2ts", "mpg", "mpeg", "ogv", "flv", "wmv", "3gp", "mxf", "y4m"];
/// Size and rate of the camera of libcamera when none is requested.
const LIBCAMERA_SIZE: [u32; 2] = [640, 480];
const LIBCAMERA_FPS: f64 = 30.0;
/// Rows of libcamera's raw frames are padded to a multiple of so many pixels.
const LIBCAMERA_ROW: u32 = 64;

/// The program that reads a source.
#[derive(Clone, Debug)]
pub(crate) enum Reading {
    /// The newest frame of a stream that goes on.
    Live(LiveReading),
    /// Every frame of a film.
    Film(Program),
}

/// The program of a live stream.
#[derive(Clone, Debug)]
pub(crate) struct LiveReading {
    pub program: Program,
    /// Size and format of raw frames; `None` for YUV4MPEG2.
    pub raw: Option<Header>,
}

/// Reason why a name is no source of another program.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NameError {
    #[error("{0}:// is not read: rtsp://, rtsps://, http:// and https:// are; gst:PIPELINE reads what GStreamer knows")]
    Scheme(String),
    #[error("the address has no host")]
    NoHost,
    #[error("the address contains a space or a control character: write it as %20")]
    Space,
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    #[error("a width of {0} cannot be read from libcamera, whose rows are padded: use a multiple of {LIBCAMERA_ROW}")]
    Width(u32),
}

/// Returns how a name is read, if it is an address, a pipeline or libcamera; `None` for other names.
///
/// # Errors
/// When the name is of such a kind, but wrong.
pub(crate) fn reading_of(name: &str, request: &SourceRequest) -> Result<Option<Reading>, NameError> {
    if let Some(text) = name.strip_prefix(PIPELINE) {
        return Ok(Some(Reading::Live(pipeline_reading(text, request)?)));
    }
    if name == LIBCAMERA {
        return Ok(Some(Reading::Live(libcamera_reading(request)?)));
    }
    let Some((scheme, place)) = name.split_once("://") else { return Ok(None) };
    if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(NameError::Space);
    }
    let scheme = scheme.to_ascii_lowercase();
    let Some((_, protocols)) = SCHEMES.iter().find(|(known, _)| *known == scheme) else {
        return Err(NameError::Scheme(scheme.chars().take(20).collect()));
    };
    let host = place.split(['/', '?', '#']).next().unwrap_or_default();
    if host.rsplit('@').next().is_none_or(|host| host.is_empty() || host.starts_with(':')) {
        return Err(NameError::NoHost);
    }
    let is_film = scheme.starts_with("http") && has_film_ending(place);
    let mut input: Vec<String> = Vec::new();
    if scheme.starts_with("rtsp") {
        // Packets that UDP loses are grey blocks in the picture.
        input.extend(["-rtsp_flags", "prefer_tcp"].map(str::to_owned));
    }
    if !is_film {
        input.extend(["-fflags", "nobuffer", "-flags", "low_delay"].map(str::to_owned));
    }
    input.extend(["-protocol_whitelist", protocols, "-i", name].map(str::to_owned));
    let program = ffmpeg(&input, request, redaction::secrets_of(name));
    Ok(Some(match is_film {
        true => Reading::Film(program),
        false => Reading::Live(LiveReading { program, raw: None }),
    }))
}

/// Returns the program that reads a film file.
pub(crate) fn film_program(path: &Path) -> Program {
    // With the prefix, no name is taken for an address or an option.
    let path = std::path::absolute(path).unwrap_or(path.to_owned());
    let name = format!("file:{}", path.display());
    let input = ["-protocol_whitelist", "file,crypto,data", "-i", &name].map(str::to_owned);
    ffmpeg(&input, &SourceRequest::default(), Vec::new())
}

/// Returns true when the path of an address ends like a film.
fn has_film_ending(place: &str) -> bool {
    let path = place.split(['?', '#']).next().unwrap_or_default();
    let ending = path.split_once('/').and_then(|(_, path)| path.rsplit_once('.')).map(|(_, ending)| ending);
    ending.is_some_and(|ending| FILM_ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

/// Returns ffmpeg with an input, and YUV4MPEG2 on its standard output.
fn ffmpeg(input: &[String], request: &SourceRequest, secrets: Vec<String>) -> Program {
    let mut arguments: Vec<String> = ["-nostdin", "-hide_banner", "-loglevel", "error"].map(str::to_owned).to_vec();
    arguments.extend_from_slice(input);
    let mut filters = Vec::new();
    if let Some(fps) = request.fps {
        filters.push(format!("fps={fps}"));
    }
    // The reader takes the colours of YUV4MPEG2 for BT.601.
    let size = request.size.map(|[width, height]| format!("{width}:{height}:")).unwrap_or_default();
    filters.push(format!("scale={size}out_color_matrix=bt601:out_range=tv"));
    filters.push("format=yuv420p".to_owned());
    let filters = filters.join(",");
    let output = ["-map", "0:v:0", "-an", "-sn", "-dn", "-vf", &filters, passthrough_option(), "passthrough"];
    arguments.extend(output.map(str::to_owned));
    arguments.extend(["-f", "yuv4mpegpipe", "-flush_packets", "1", "pipe:1"].map(str::to_owned));
    Program { names: &["ffmpeg"], packages: "ffmpeg", arguments, secrets }
}

/// Returns the option by which this machine's ffmpeg neither repeats nor drops frames: its name changed with 5.1.
fn passthrough_option() -> &'static str {
    static OPTION: OnceLock<&'static str> = OnceLock::new();
    OPTION.get_or_init(|| {
        let mut command = Command::new("ffmpeg");
        let asked = command.arg("-version").stdin(Stdio::null()).stderr(Stdio::null()).output();
        let text = asked.map(|asked| String::from_utf8_lossy(&asked.stdout).into_owned()).unwrap_or_default();
        if is_before_5_1(&text) { "-vsync" } else { "-fps_mode" }
    })
}

/// Reads the first line of `ffmpeg -version`.
fn is_before_5_1(text: &str) -> bool {
    let version = text.strip_prefix("ffmpeg version ").unwrap_or_default().trim_start_matches('n');
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < (5, 1),
        // Versions between releases have no number.
        _ => false,
    }
}

fn pipeline_reading(text: &str, request: &SourceRequest) -> Result<LiveReading, PipelineError> {
    let mut arguments = vec!["-q".to_owned()];
    arguments.extend(pipeline::words(text)?);
    let mut caps = "video/x-raw,format=I420,colorimetry=bt601".to_owned();
    let mut chain = vec!["!", "videoconvert"];
    if let Some([width, height]) = request.size {
        chain.extend(["!", "videoscale"]);
        caps = format!("{caps},width={width},height={height}");
    }
    if let Some(fps) = request.fps {
        chain.extend(["!", "videorate"]);
        caps = format!("{caps},framerate={}/1000", (fps * 1000.0).round());
    }
    chain.extend(["!", &caps, "!", "y4menc", "!", "fdsink", "fd=1", "sync=false"]);
    arguments.extend(chain.into_iter().map(str::to_owned));
    let packages = "gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good";
    let program = Program { names: &["gst-launch-1.0"], packages, arguments, secrets: redaction::secrets_of(text) };
    Ok(LiveReading { program, raw: None })
}

fn libcamera_reading(request: &SourceRequest) -> Result<LiveReading, NameError> {
    let [width, height] = request.size.unwrap_or(LIBCAMERA_SIZE);
    if width % LIBCAMERA_ROW != 0 {
        return Err(NameError::Width(width));
    }
    let fps = request.fps.unwrap_or(LIBCAMERA_FPS);
    let mut arguments: Vec<String> =
        ["--timeout", "0", "--nopreview", "--codec", "yuv420", "--flush", "--output", "-"].map(str::to_owned).to_vec();
    for (option, value) in
        [("--width", width.to_string()), ("--height", height.to_string()), ("--framerate", fps.to_string())]
    {
        arguments.extend([option.to_owned(), value]);
    }
    let header = Header {
        width: width as usize,
        height: height as usize,
        format: PixelFormat::I420,
        colour: Colour::Bt601Limited,
        fps: Some(fps),
        interlaced: false,
    };
    let names = &["rpicam-vid", "libcamera-vid"];
    let packages = "rpicam-apps (libcamera-apps before Debian 12)";
    Ok(LiveReading { program: Program { names, packages, arguments, secrets: Vec::new() }, raw: Some(header) })
}

/// Returns true for a file whose name ends like a film's.
pub(crate) fn is_film_name(extension: &OsStr) -> bool {
    FILM_ENDINGS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(name: &str, request: &SourceRequest) -> LiveReading {
        match reading_of(name, request) {
            Ok(Some(Reading::Live(reading))) => reading,
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn addresses_become_one_argument_after_the_option() {
        for name in ["rtsp://a:b@h:554/x?y=-z", "http://h/$(reboot)", "HTTP://-h/;ls", "https://h/a.mp4.mjpg"] {
            let arguments = live(name, &SourceRequest::default()).program.arguments;
            let at = arguments.iter().position(|argument| argument == name).expect("the address");
            assert_eq!(arguments[at - 1], "-i", "{name}");
            let allowed = arguments.iter().position(|argument| argument == "-protocol_whitelist").expect("a list");
            assert!(!arguments[allowed + 1].split(',').any(|p| ["file", "concat", "subfile", "pipe"].contains(&p)));
        }
        let film = film_program(Path::new("-i concat:a|b.mp4")).arguments;
        assert!(film.iter().any(|argument| argument.starts_with("file:/") && argument.ends_with("/-i concat:a|b.mp4")));
    }

    #[test]
    fn films_of_a_server_are_played_once() {
        for (name, is_film) in [
            ("http://h/a.mp4", true),
            ("https://h/b/a.MKV?x=1", true),
            ("http://h/stream", false),
            ("http://h.mp4", false),
            ("http://h/a.m3u8", false),
            ("rtsp://h/a.mp4", false),
        ] {
            let reading = reading_of(name, &SourceRequest::default());
            assert_eq!(matches!(reading, Ok(Some(Reading::Film(_)))), is_film, "{name}: {reading:?}");
        }
    }

    #[test]
    fn wrong_names_are_refused_and_others_left_alone() {
        let refusal = |name: &str| {
            let refused = reading_of(name, &SourceRequest::default());
            refused.expect_err("it is wrong").to_string()
        };
        assert!(refusal("file:///etc/passwd").starts_with("file:// is not read: rtsp://"));
        assert!(refusal("concat://a").starts_with("concat:// is not read"));
        assert!(refusal("-x://a").starts_with("-x:// is not read"));
        for name in ["rtsp://", "rtsp:///x", "http://u:p@/x", "http://:80/x"] {
            assert!(refusal(name).contains("no host"), "{name}");
        }
        assert!(refusal("http://h/a b").contains("a space") && refusal("http://h/a\nb").contains("control"));
        assert!(refusal("gst:").contains("empty") && refusal("gst:-v x").contains("option"));
        let odd = SourceRequest { size: Some([600, 400]), ..SourceRequest::default() };
        assert!(reading_of("libcamera", &odd).expect_err("padded").to_string().contains("multiple of 64"));
        for name in ["demo", "concat:a|b", "file:a", "libcamera2", "/dev/video0", "a.mp4", "-i", "gst"] {
            assert!(matches!(reading_of(name, &SourceRequest::default()), Ok(None)), "{name}");
        }
    }

    #[test]
    fn requests_become_arguments() {
        let request = SourceRequest { fps: Some(12.5), size: Some([1280, 720]), ..SourceRequest::default() };
        let text = |name| live(name, &request).program.arguments.join(" ");
        assert!(text("rtsp://h/x").contains("-vf fps=12.5,scale=1280:720:out_color_matrix=bt601"));
        assert!(text("gst:videotestsrc").contains(
            "videorate ! video/x-raw,format=I420,colorimetry=bt601,width=1280,height=720,framerate=12500/1000"
        ));
        assert!(text("libcamera").ends_with("--width 1280 --height 720 --framerate 12.5"));
    }

    #[test]
    fn versions_of_ffmpeg_are_compared() {
        for (text, expected) in [
            ("ffmpeg version 4.4.2-0ubuntu0.22.04.1 Copyright", true),
            ("ffmpeg version 5.0 ", true),
            ("ffmpeg version 5.1.6-0+deb12u1", false),
            ("ffmpeg version n7.1", false),
            ("ffmpeg version N-109-g3c", false),
            ("", false),
        ] {
            assert_eq!(is_before_5_1(text), expected, "{text}");
        }
    }
}
