//! Annotated video: films through ffmpeg, and frames on standard output.

use std::fs;
use std::process::{Command, Stdio};

use faceptor_test_support::skip;

use crate::control::Run;
use crate::program::{Folder, Output, command, faceptor, finish, wait_until};
use crate::streams::{NO_FFMPEG, has_ffmpeg, processes_with, script};

/// Counts the frames of a film, and checks that it is whole.
fn frames_of(path: &str) -> usize {
    let decoded = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-i", path, "-fps_mode", "passthrough", "-f", "framecrc", "-"])
        .output()
        .expect("ffmpeg can be started");
    assert!(decoded.status.success() && decoded.stderr.is_empty(), "{}", String::from_utf8_lossy(&decoded.stderr));
    String::from_utf8_lossy(&decoded.stdout).lines().filter(|line| line.starts_with("0,")).count()
}

fn film(path: &str, more: &[&str]) -> Output {
    let arguments = ["run", "--source", "demo", "--tasks", "none", "--record-video", path];
    faceptor(&[&arguments, more].concat())
}

#[test]
fn films_have_every_frame_of_a_source_that_waits() {
    if !has_ffmpeg() {
        return skip(NO_FFMPEG);
    }
    let folder = Folder::new();
    for name in ["a.mp4", "b.mkv", "-c.avi"] {
        let path = folder.file(name);
        film(&path, &["--frames", "8"]).expect(0);
        assert_eq!(frames_of(&format!("file:{path}")), 8, "{name}");
        // A film of this program is replaced, one of others is not.
        film(&path, &["--frames", "3"]).expect(0);
        assert_eq!(frames_of(&format!("file:{path}")), 3, "{name}");
    }
    let other = folder.write("other.mp4", b"not by this program");
    let refused = film(&other, &["--frames", "3"]).expect(1);
    assert!(
        refused.err.contains("add --force") && fs::read(&other).expect("kept").starts_with(b"not by"),
        "{refused:?}"
    );
    film(&other, &["--frames", "3", "--force"]).expect(0);
    assert_eq!(frames_of(&other), 3);
    let itself =
        faceptor(&["run", "--source", &other, "--tasks", "none", "--record-video", &other, "--force"]).expect(1);
    assert!(itself.err.contains("input of this command") && frames_of(&other) == 3, "{itself:?}");
}

#[test]
fn a_film_is_whole_after_sigterm_and_sigint() {
    if !has_ffmpeg() {
        return skip(NO_FFMPEG);
    }
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let folder = Folder::new();
        let path = folder.file("film.mp4");
        // Small frames, which an encoder of low priority takes also on a busy machine.
        let frames = (0..30).flat_map(|level: u8| [b"FRAME\n".to_vec(), vec![8 * level; 64 * 48]].concat());
        let bytes: Vec<u8> = b"YUV4MPEG2 W64 H48 F15:1 Cmono\n".iter().copied().chain(frames).collect();
        let source = folder.write("small.y4m", &bytes);
        let arguments = ["--source", &source, "--fps", "15", "--frames", "100000", "--json", "--tasks", "none"];
        let run = Run::with(folder, &[&arguments, ["--record-video", path.as_str()].as_slice()].concat(), true);
        for _ in 0..20 {
            run.frame();
        }
        run.signal(signal);
        let (ended, folder) = run.end();
        assert_eq!(ended.status, Some(0), "{}", ended.err);
        assert!(frames_of(&path) > 0, "{}", ended.err);
        assert!(processes_with(&path).is_empty());
        drop(folder);
    }
}

#[test]
fn an_encoder_that_dies_is_a_loss_and_no_end() {
    let folder = Folder::new();
    script(&folder, "ffmpeg", "head -c 100000 >/dev/null; echo 'no room for geese' >&2; exit 1");
    let path = folder.file("film.mp4");
    let mut command =
        command(&["run", "--source", "demo", "--tasks", "none", "--frames", "30", "--record-video", &path]);
    command.env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()));
    let output = finish(command).expect(1);
    assert!(output.err.contains("ends here: ffmpeg: no room for geese"), "{}", output.err);
    assert!(output.err.contains("lacks") && output.out.contains("frame 29"), "{output:?}");
    assert!(!folder.names("").contains(&"film.mp4".to_owned()), "an empty file is removed");
}

#[test]
fn films_that_cannot_be_made_are_refused_before_the_run() {
    let folder = Folder::new();
    let mut absent = command(&["run", "--source", "demo", "--record-video", &folder.file("film.mp4")]);
    absent.env("PATH", folder.path());
    let refused = finish(absent).expect(1);
    assert!(
        refused.err.contains("film.mp4: the program ffmpeg is not installed: sudo apt install ffmpeg"),
        "{refused:?}"
    );
    assert!(folder.names("").is_empty());
    for (path, expected) in
        [("/dev/null", "name it film.mp4"), ("film", "name it film.mp4"), ("/nonexistent/a.mp4", "No such file")]
    {
        let refused = film(path, &[]).expect(1);
        assert!(refused.out.is_empty() && refused.err.contains(expected), "{refused:?}");
    }
}

#[test]
fn frames_go_to_the_next_program_of_a_pipe() {
    let video = ["run", "--source", "demo", "--tasks", "none", "--video", "-"];
    let output = command(&[&video, ["--frames", "3"].as_slice()].concat()).output().expect("it can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let header = b"YUV4MPEG2 W";
    assert!(output.stdout.starts_with(header));
    assert_eq!(output.stdout.windows(6).filter(|window| window == b"FRAME\n").count(), 3);
    assert!(String::from_utf8_lossy(&output.stderr).contains("stage, ms"), "the table is on standard error");
    // This program reads what it has written.
    let mut first = command(&[&video, ["--frames", "5"].as_slice()].concat());
    let mut first = first.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it can be started");
    let mut second = command(&["run", "--source", "-", "--json", "--tasks", "none"]);
    second.stdin(first.stdout.take().expect("a pipe"));
    assert_eq!(finish(second).expect(0).json().len(), 5);
    assert!(first.wait().expect("a child").success());
    // A reader that leaves is no failure.
    let mut run = command(&[&video, ["--frames", "100000"].as_slice()].concat());
    let mut run = run.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it can be started");
    drop(run.stdout.take());
    let mut status = None;
    wait_until("the run ends with its reader", || {
        status = run.try_wait().expect("a child");
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    let refused = faceptor(&[&video, ["--json"].as_slice()].concat()).expect(2);
    assert!(refused.err.contains("--json cannot go there: use --record FILE"), "{refused:?}");
    faceptor(&["run", "--video", "film.y4m"]).expect(2);
}
