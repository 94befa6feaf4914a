//! Outlets of a run: recordings that are killed, limited and full; a reader that leaves; the service manager.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::program::{Folder, PATIENCE, command, faceptor, wait_until};

/// Kills the process when the test ends early.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a run that goes on for long, its output thrown away.
fn start(arguments: &[&str]) -> Running {
    let all = [&["run", "--source", "demo", "--frames", "100000000"], arguments].concat();
    Running(command(&all).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary can be started"))
}

fn size(path: &str) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Parses lines, each of which must be an object. Returns an incomplete last one.
fn whole_lines(bytes: &[u8]) -> (Vec<Value>, &[u8]) {
    let end = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let lines = bytes[..end].split_inclusive(|&byte| byte == b'\n');
    let lines = lines.map(|line| {
        let value: Value = serde_json::from_slice(line).expect("a whole line");
        assert!(value["faces"].is_array());
        value
    });
    (lines.collect(), &bytes[end..])
}

#[test]
fn a_recording_has_the_lines_that_are_printed() {
    let folder = Folder::new();
    let file = folder.file("a.jsonl");
    let run = faceptor(&["run", "--frames", "20", "--json", "--tasks", "age", "--record", &file]).expect(0);
    assert_eq!(fs::read_to_string(&file).expect("it is there"), run.out);
    // Without --json the file has JSON all the same, after what was there.
    let run = faceptor(&["run", "--frames", "5", "--tasks", "age", "--record", &file]).expect(0);
    assert!(run.out.starts_with("frame 0: "));
    let bytes = fs::read(&file).expect("it is there");
    let (lines, rest) = whole_lines(&bytes);
    assert_eq!((lines.len(), rest.len()), (25, 0));
    assert_eq!(lines[24]["frame"], 4);
}

#[test]
fn a_recording_survives_being_killed_in_the_middle_of_a_write() {
    let folder = Folder::new();
    let file = folder.file("a.jsonl");
    let mut lines = 0;
    for round in 0..8 {
        let before = size(&file);
        let run = start(&["--tasks", "all", "--record", &file]);
        wait_until("lines are recorded", || size(&file) > before + 30_000);
        drop(run);
        let bytes = fs::read(&file).expect("it is there");
        let (found, _torn) = whole_lines(&bytes);
        assert!(found.len() > lines, "round {round}: nothing that was recorded is lost");
        lines = found.len();
    }
    // A power loss may leave half a line, and blocks that were never written.
    let mut bytes = fs::read(&file).expect("it is there");
    bytes.truncate(whole_lines(&bytes).1.as_ptr() as usize - bytes.as_ptr() as usize);
    let whole = bytes.len();
    bytes.extend(b"{\"width\":640,\"hei");
    bytes.extend([0; 9000]);
    fs::write(&file, &bytes).expect("written");
    let run = faceptor(&["run", "--frames", "2", "--tasks", "none", "--record", &file]).expect(0);
    assert!(run.line_about("a.jsonl").contains(&format!("{} bytes cut off", bytes.len() - whole)), "{}", run.err);
    let bytes = fs::read(&file).expect("it is there");
    let (found, rest) = whole_lines(&bytes);
    assert_eq!((found.len(), rest.len()), (lines + 2, 0));
}

#[test]
fn a_disk_that_is_full_loses_lines_and_tears_none() {
    let folder = Folder::new();
    let file = folder.file("a.jsonl");
    let limit = |process: u32, bytes: u64| {
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: the struct lives through the call, and the old limit is not asked for.
        let set = unsafe { libc::prlimit(process as i32, libc::RLIMIT_FSIZE, &limit, std::ptr::null_mut()) };
        assert_eq!(set, 0, "our own child's limit can be set");
    };
    let mut run = start(&["--tasks", "age", "--record", &file]);
    let process = run.0.id();
    // The limit falls into the middle of a line: a call takes a part of it, the next one fails.
    wait_until("lines are recorded", || size(&file) > 0);
    let full = size(&file) + 100_001;
    limit(process, full);
    let mut log = BufReader::new(run.0.stderr.take().expect("piped")).lines();
    let said =
        log.find(|line| line.as_ref().is_ok_and(|line| line.contains("a.jsonl"))).expect("a line").expect("text");
    assert!(said.contains("no room") && said.contains("lines are lost"), "{said}");
    thread::sleep(Duration::from_millis(300));
    let bytes = fs::read(&file).expect("it is there");
    let (before, rest) = whole_lines(&bytes);
    assert!(rest.is_empty() && bytes.len() as u64 <= full, "{} bytes torn", rest.len());
    // There is room again.
    limit(process, libc::RLIM_INFINITY);
    let said =
        log.find(|line| line.as_ref().is_ok_and(|line| line.contains("a.jsonl"))).expect("a line").expect("text");
    assert!(said.contains("recording again"), "{said}");
    wait_until("it goes on", || size(&file) > full + 50_000);
    drop(run);
    let bytes = fs::read(&file).expect("it is there");
    let (after, _) = whole_lines(&bytes);
    let gap = after[before.len()]["frame"].as_u64().zip(after[before.len() - 1]["frame"].as_u64());
    assert!(after[..before.len()] == before[..] && gap.is_some_and(|(next, last)| next > last + 1), "{gap:?}");
}

#[test]
fn a_recording_keeps_to_its_limit() {
    let folder = Folder::new();
    let file = folder.file("a.jsonl");
    // So many frames that the third file is half full, however long the lines of this network are. The demo clip waits for its
    // outputs, so no line is lost, and the run ends by itself, however long that takes.
    let run = |frames: u64, file: &str| {
        let frames = frames.to_string();
        let limits = ["--record-limit-mb", "1", "--record-files", "3"];
        let arguments = ["run", "--source", "demo", "--frames", &frames, "--tasks", "all", "--record", file];
        faceptor(&[arguments.as_slice(), limits.as_slice()].concat()).expect(0);
    };
    let few = folder.file("few.jsonl");
    run(20, &few);
    let count = 20 * 2_500_000 / size(&few);
    fs::remove_file(&few).expect("it is there");
    run(count, &file);
    assert_eq!(folder.names(""), ["a.jsonl", "a.jsonl.1", "a.jsonl.2"]);
    let mut frames = Vec::new();
    for name in ["a.jsonl.2", "a.jsonl.1", "a.jsonl"] {
        let bytes = fs::read(folder.file(name)).expect("it is there");
        assert!(bytes.len() <= 1_000_000, "{name}: {} bytes", bytes.len());
        let (lines, rest) = whole_lines(&bytes);
        assert!(rest.is_empty(), "{name}");
        frames.extend(lines.iter().filter_map(|line| line["frame"].as_u64()));
    }
    assert!(frames.iter().copied().eq(0..count), "a line is lost between the files: {frames:?} of {count}");
}

#[test]
fn a_target_that_cannot_be_recorded_to_is_named() {
    let folder = Folder::new();
    let photo = folder.write("photo.jpg", b"\xff\xd8\xff\xe0");
    for (path, reason) in [
        (photo.as_str(), "is not a recording"),
        ("/nonexistent/a.jsonl", "cannot record to"),
        (folder.path().to_str().expect("plain"), "it is not a file"),
    ] {
        let run = faceptor(&["run", "--frames", "1", "--tasks", "none", "--record", path]).expect(1);
        assert!(run.err.contains(path) && run.err.contains(reason), "{}", run.err);
    }
    assert_eq!(size(&photo), 4);
    assert!(faceptor(&["run", "--record-files", "3"]).expect(2).err.contains("--record"));
    for display in ["/dev/fb0", "fb:", "hdmi"] {
        assert!(faceptor(&["run", "--display", display]).expect(2).err.contains("fb:/dev/fb0"));
    }
    let run = faceptor(&["run", "--frames", "1", "--display", "fb:/dev/null"]).expect(1);
    assert!(run.err.contains("the display /dev/null is not a framebuffer"), "{}", run.err);
    assert!(faceptor(&["run", "--preview", "nowhere"]).expect(2).err.contains("127.0.0.1:8080"));
}

#[test]
fn a_reader_that_leaves_ends_the_run_without_a_failure() {
    let mut command = command(&["run", "--json", "--frames", "100000000", "--tasks", "none"]);
    let mut run = Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts"));
    let mut out = BufReader::new(run.0.stdout.take().expect("piped"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    assert!(line.starts_with('{') && line.ends_with("}\n"), "{line}");
    drop(out);
    let status = run.0.wait().expect("it ends");
    let mut said = String::new();
    run.0.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}

#[test]
fn a_run_that_is_told_to_end_does_not_wait_for_a_reader_that_has_stopped() {
    let mut command = command(&["run", "--json", "--frames", "100000000", "--tasks", "none"]);
    let run = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut run = Running(run);
    let out = run.0.stdout.take().expect("piped");
    // The pipe is full, and so are all queues after it.
    thread::sleep(Duration::from_secs(2));
    let process = run.0.id() as i32;
    // SAFETY: a signal to our own child, which has not been waited for.
    assert_eq!(unsafe { libc::kill(process, libc::SIGTERM) }, 0);
    let mut status = None;
    wait_until("it ends", || {
        status = run.0.try_wait().expect("our child");
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    drop(out);
}

#[test]
fn the_service_manager_hears_when_the_loop_is_ready_alive_and_stopping() {
    let folder = Folder::new();
    let socket = folder.file("notify");
    let manager = UnixDatagram::bind(&socket).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut command = command(&["run", "--frames", "40", "--fps", "20", "--tasks", "none"]);
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "400000").env_remove("WATCHDOG_PID");
    let begun = Instant::now();
    let mut run = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"));
    let mut heard = Vec::new();
    let mut buffer = [0; 1000];
    while heard.last().is_none_or(|message: &String| !message.contains("STOPPING=1")) {
        let count = manager.recv(&mut buffer).expect("a message within a minute");
        heard.push(String::from_utf8_lossy(&buffer[..count]).into_owned());
    }
    assert!(run.0.wait().expect("it ends").success());
    assert!(heard[0].starts_with("READY=1\nWATCHDOG=1\nSTATUS="), "{heard:?}");
    // The manager is fed every tenth of a second at most, and more than once.
    let fed = heard.iter().filter(|message| message.contains("WATCHDOG=1")).count();
    let most = begun.elapsed().as_millis() / 100 + 2;
    assert!((5..=25).contains(&fed) && fed as u128 <= most, "{fed} of at most {most}: {heard:?}");
}
