//! Sources that another program reads: a network camera that fails, a server's multipart stream, films, GStreamer
//! pipelines, libcamera; and what happens when the program is absent, hangs, or this one is killed.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use faceptor_test_support::skip;
use serde_json::Value;

use crate::control::Run;
use crate::program::{Folder, PORTRAIT, command, faceptor, finish, wait_until};

const PASSWORD: &str = "geh-eim";
const RTSP_SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rtsp_server.py");

/// Returns true when a program is there.
fn has(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

pub(crate) fn has_ffmpeg() -> bool {
    has("ffmpeg", &["-version"])
}

fn has_rtsp_server() -> bool {
    let import = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer";
    has("/usr/bin/python3", &["-c", import]) && has("gst-inspect-1.0", &["rtpjpegpay"])
}

pub(crate) const NO_FFMPEG: &str = "ffmpeg is not installed: .ci/install ffmpeg";
const NO_GSTREAMER: &str = "GStreamer is not installed: .ci/install gstreamer1.0-tools gstreamer1.0-plugins-base \
                            gstreamer1.0-plugins-good python3-gi gir1.2-gst-rtsp-server-1.0";

/// Returns a free port of the loopback interface.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// A process of a test, killed at its end.
pub(crate) struct Helper(pub(crate) Child);

impl Helper {
    pub(crate) fn start(command: &mut Command) -> Helper {
        Helper(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("it can be started"))
    }

    pub(crate) fn signal(&self, signal: libc::c_int) {
        // SAFETY: no pointers; the child has not been waited for, so the number is still its own.
        assert_eq!(unsafe { libc::kill(self.0.id() as libc::pid_t, signal) }, 0);
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn rtsp_server(port: u16) -> Helper {
    let mut server = Command::new("/usr/bin/python3");
    server.arg(RTSP_SERVER).arg(port.to_string()).args(["viewer", PASSWORD]).stdout(Stdio::null());
    let started = Helper::start(&mut server);
    wait_until("the RTSP server listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    started
}

/// Numbers of the living processes whose arguments contain a text.
pub(crate) fn processes_with(text: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let own = std::process::id();
    let lives = |number: &u32| {
        let arguments = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).into_owned();
        *number != own && arguments.contains(text) && !arguments.contains("rtsp_server.py")
    };
    numbers.filter(lives).collect()
}

fn status(run: &Run) -> Value {
    run.ctl(&["status", "--json"]).expect(0).json().remove(0)
}

fn counter(run: &Run, name: &str) -> u64 {
    status(run)["source_counters"][name].as_u64().expect("a number")
}

/// Waits for a frame whose scene began after the stream was started again.
fn wait_for_count(run: &Run, name: &str, least: u64) {
    wait_until(name, || {
        while run.lines.as_ref().is_some_and(|lines| lines.try_recv().is_ok()) {}
        counter(run, name) >= least
    });
}

#[test]
fn a_network_camera_is_lost_and_found_and_its_password_is_not_shown() {
    if !has_ffmpeg() || !has_rtsp_server() {
        return skip(format!("{NO_FFMPEG}; {NO_GSTREAMER}"));
    }
    let port = free_port();
    let server = rtsp_server(port);
    let address = format!("rtsp://viewer:{PASSWORD}@127.0.0.1:{port}/camera");
    let run = Run::with(Folder::new(), &["--json", "--tasks", "none", "--source", &address, "-v"], true);
    let first = run.frame();
    assert_eq!((&first["width"], &first["height"]), (&Value::from(160), &Value::from(120)));
    // Killed and restarted.
    drop(server);
    wait_for_count(&run, "lost", 1);
    let server = rtsp_server(port);
    wait_for_count(&run, "reopened", 1);
    run.frame();
    // Hung, and going on.
    server.signal(libc::SIGSTOP);
    wait_for_count(&run, "timeouts", 1);
    server.signal(libc::SIGCONT);
    wait_for_count(&run, "reopened", 2);
    let shown = status(&run);
    assert!(shown["source"].as_str().is_some_and(|source| source.starts_with(&format!("rtsp://127.0.0.1:{port}/"))));
    run.signal(libc::SIGTERM);
    let (ended, _) = run.end();
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    assert!(ended.err.contains("getting it back") && ended.err.contains("frames again after"), "{}", ended.err);
    for text in [&ended.err, &ended.out, &shown.to_string()] {
        assert!(!text.contains(PASSWORD), "{text}");
    }
    let sequences: Vec<_> = ended.json().iter().filter_map(|frame| frame["sequence"].as_u64()).collect();
    assert!(sequences.is_sorted(), "{sequences:?}");
    assert!(processes_with(&format!("@127.0.0.1:{port}/camera")).is_empty(), "ffmpeg has ended");
    // This is the same camera with another password.
    let wrong = format!("rtsp://viewer:other-{PASSWORD}@127.0.0.1:{port}/camera");
    let refused = faceptor(&["run", "--source", &wrong]).expect(1);
    assert!(refused.err.contains("401") && !refused.err.contains(PASSWORD), "{}", refused.err);
}

#[test]
fn a_killed_run_leaves_no_program_behind() {
    if !has_ffmpeg() || !has_rtsp_server() {
        return skip(format!("{NO_FFMPEG}; {NO_GSTREAMER}"));
    }
    let port = free_port();
    let _server = rtsp_server(port);
    let address = format!("rtsp://viewer:{PASSWORD}@127.0.0.1:{port}/camera");
    for signal in [libc::SIGKILL, libc::SIGINT] {
        let run = Run::with(Folder::new(), &["--json", "--tasks", "none", "--source", &address], true);
        run.frame();
        assert!(processes_with(&address).len() >= 2, "the run and ffmpeg");
        run.signal(signal);
        drop(run.end());
        wait_until("ffmpeg has ended", || processes_with(&address).is_empty());
    }
}

#[test]
fn a_multipart_stream_of_a_server_is_read() {
    if !has_ffmpeg() {
        return skip(NO_FFMPEG);
    }
    let port = free_port();
    let preview = format!("127.0.0.1:{port}");
    let served = Run::with(
        Folder::new(),
        &["--fps", "15", "--frames", "1000000", "--tasks", "none", "--preview", &preview],
        true,
    );
    let address = format!("http://user:{PASSWORD}@{preview}/stream.mjpg?token={PASSWORD}");
    let output = faceptor(&["run", "--json", "--tasks", "none", "--source", &address, "--frames", "5", "--rt", "off"]);
    let output = output.expect(0);
    assert_eq!(output.json().len(), 5);
    assert!(
        !output.err.contains(PASSWORD) && output.err.contains(&format!("http://{preview}/stream.mjpg?***")),
        "{}",
        output.err
    );
    drop(served);
    // The server is gone.
    let refused = faceptor(&["run", "--source", &address]).expect(1);
    assert!(refused.err.contains("refused") && !refused.err.contains(PASSWORD), "{}", refused.err);
}

#[test]
fn an_address_that_never_answers_is_given_up() {
    if !has_ffmpeg() {
        return skip(NO_FFMPEG);
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let held = thread::spawn(move || listener.incoming().take(1).collect::<Vec<_>>());
    let refused = faceptor(&["run", "--source", &format!("http://127.0.0.1:{port}/stream")]).expect(1);
    assert!(refused.err.contains("no frame for 15 s"), "{}", refused.err);
    drop(held.join());
}

/// Makes a film of the portrait.
pub(crate) fn make_film(path: &str, frames: u32) {
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-loop", "1", "-r", "10", "-i", PORTRAIT, "-frames:v"])
        .args([&frames.to_string(), "-pix_fmt", "yuv420p", "-y", path])
        .status();
    assert!(made.is_ok_and(|status| status.success()));
}

#[test]
fn films_are_read_whole_and_start_over() {
    if !has_ffmpeg() {
        return skip(NO_FFMPEG);
    }
    let folder = Folder::new();
    for name in ["film.mp4", "film.mkv", "-i film.avi", "100% film.mov", "film.webm.mp4"] {
        let path = folder.file(name);
        make_film(&format!("file:{path}"), 6);
        let lines = faceptor(&["run", "--json", "--tasks", "none", "--source", &path]).expect(0).json();
        assert_eq!(lines.len(), 6, "{name}");
        assert!(lines.iter().all(|line| line["faces"].as_array().is_some_and(|faces| faces.len() == 1)), "{name}");
    }
    let path = folder.file("film.mp4");
    let lines = faceptor(&["run", "--json", "--tasks", "none", "--source", &path, "--frames", "14"]).expect(0).json();
    let found: Vec<_> = lines.iter().map(|line| (line["sequence"].as_u64(), line["faces"][0]["id"].as_u64())).collect();
    let expected: Vec<_> = (0..14).map(|number| (Some(number), Some(number / 6 + 1))).collect();
    assert_eq!(found, expected);
    // The name of the file says nothing; it begins like no photo.
    let bare = folder.file("film");
    fs::copy(&path, &bare).expect("copied");
    assert_eq!(faceptor(&["run", "--json", "--tasks", "none", "--source", &bare]).expect(0).json().len(), 6);
    // Cut off, empty, not a film, a playlist that names another place.
    let bytes = fs::read(&path).expect("readable");
    folder.write("cut.mp4", &bytes[..bytes.len() / 2]);
    folder.write("text.mp4", b"no film\n");
    folder.write("list.mp4", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/a.ts\n");
    for name in ["cut.mp4", "text.mp4", "list.mp4"] {
        let refused = faceptor(&["run", "--source", &folder.file(name)]).expect(1);
        assert!(refused.err.contains(name) && refused.err.contains("read by ffmpeg: ffmpeg: "), "{}", refused.err);
    }
}

#[test]
fn pipelines_of_gstreamer_are_sources_and_are_started_again() {
    if !has("gst-inspect-1.0", &["y4menc"]) {
        return skip(NO_GSTREAMER);
    }
    let pipeline = "gst:videotestsrc is-live=true num-buffers=20 ! 'video/x-raw,width=96,height=64,framerate=30/1'";
    let run = Run::with(Folder::new(), &["--json", "--tasks", "none", "--source", pipeline], true);
    assert_eq!(run.frame()["width"], Value::from(96));
    wait_for_count(&run, "reopened", 2);
    run.signal(libc::SIGTERM);
    let (ended, _) = run.end();
    assert!(ended.status == Some(0) && ended.err.contains("the stream has ended; getting it back"), "{}", ended.err);
    let lost = faceptor(&["run", "--json", "--tasks", "none", "--source", pipeline, "--exit-on-lost", "--rt", "off"]);
    assert!(lost.status == Some(1) && lost.err.contains("the stream has ended"), "{}", lost.err);
    for (pipeline, expected) in [
        ("gst:no-such-element", "no element \"no-such-element\""),
        ("gst:filesrc location=/nonexistent ! decodebin", "/nonexistent"),
        ("gst:", "the pipeline is empty"),
    ] {
        let refused = faceptor(&["run", "--source", pipeline]).expect(1);
        assert!(refused.err.contains(expected), "{}", refused.err);
    }
}

#[test]
fn an_absent_program_is_named_with_its_package() {
    let folder = Folder::new();
    let film = folder.write("film.mp4", b"....ftyp");
    for (source, expected) in [
        ("rtsp://u:geh-eim@127.0.0.1/x", "ffmpeg is not installed: sudo apt install ffmpeg"),
        ("http://127.0.0.1/x", "ffmpeg is not installed: sudo apt install ffmpeg"),
        (&film, "ffmpeg is not installed: sudo apt install ffmpeg"),
        ("gst:videotestsrc", "gst-launch-1.0 is not installed: sudo apt install gstreamer1.0-tools"),
        ("libcamera", "rpicam-vid or libcamera-vid is not installed: sudo apt install rpicam-apps"),
    ] {
        let mut command = command(&["run", "--source", source]);
        command.env("PATH", folder.path());
        let refused = finish(command).expect(1);
        assert!(refused.err.contains(expected) && !refused.err.contains(PASSWORD), "{}", refused.err);
    }
}

/// Writes a script that stands in for a program.
pub(crate) fn script(folder: &Folder, name: &str, text: &str) {
    let path = folder.write(name, format!("#!/bin/sh\n{text}\n").as_bytes());
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("made executable");
}

#[test]
fn raw_frames_of_libcamera_are_read() {
    let folder = Folder::new();
    // The older name of the program, which is what this machine has. It prints its arguments and three grey frames.
    script(&folder, "libcamera-vid", "echo \"$@\" >&2\nhead -c 18432 /dev/zero | tr '\\0' '\\200'\nexit 3");
    let mut command = command(&["run", "--json", "--tasks", "none", "--source", "libcamera", "--size", "64x64"]);
    command.args(["--exit-on-lost", "--rt", "off", "-v"]);
    command.env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()));
    let output = finish(command);
    assert_eq!(output.status, Some(1), "{output:?}");
    let frames = output.json();
    assert!(!frames.is_empty() && frames.iter().all(|frame| frame["width"] == 64), "{output:?}");
    assert!(
        output.err.contains("--codec yuv420 --flush --output - --width 64 --height 64 --framerate 30"),
        "{output:?}"
    );
}

#[test]
fn addresses_reach_no_shell_and_no_other_protocol() {
    let folder = Folder::new();
    script(&folder, "ffmpeg", "for a; do printf '%s\\n' \"[$a]\" >> \"$0.log\"; done; exit 1");
    let nasty = format!("http://h/;touch${{IFS}}{}/made`id`$(id)", folder.path().display());
    for source in [&nasty, "file:///etc/passwd", "concat:/etc/passwd|/etc/group", "-i", "http://h/a\n-i"] {
        let mut command = command(&["run", &format!("--source={source}")]);
        command.env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()));
        finish(command).expect(1);
    }
    let log = fs::read_to_string(folder.path().join("ffmpeg.log")).expect("it was called");
    assert!(log.contains(&format!("[{nasty}]\n")) && !log.contains("passwd"), "{log}");
    assert!(!Path::new(&folder.file("made")).exists());
}
