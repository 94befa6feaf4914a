//! A running loop that is steered: over its socket, by good clients and bad ones, and by signals.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use faceptor_edge::platform::clock::now_us;
use serde_json::{Value, json};

use crate::program::{Folder, Output, PATIENCE, command, faceptor, finish};

/// `faceptor run` on the demo with a control socket.
pub(crate) struct Run {
    pub(crate) child: Child,
    pub(crate) folder: Folder,
    pub(crate) lines: Option<Receiver<String>>,
    pub(crate) reader: Option<JoinHandle<()>>,
}

impl Run {
    /// Runs at 30 frames/s until it is ended.
    pub(crate) fn start(tasks: &str) -> Run {
        Run::with(Folder::new(), &["--fps", "30", "--frames", "1000000", "--json", "--tasks", tasks], true)
    }

    pub(crate) fn with(folder: Folder, arguments: &[&str], is_read: bool) -> Run {
        Run::prepared(folder, arguments, is_read, |_| {})
    }

    /// As [`Run::with`]; `prepare` changes the command before it is started.
    pub(crate) fn prepared(
        folder: Folder,
        arguments: &[&str],
        is_read: bool,
        prepare: impl FnOnce(&mut Command),
    ) -> Run {
        let socket = folder.file("s");
        let mut run = command(&["run", "--control", &socket]);
        if !arguments.contains(&"--source") {
            run.args(["--source", "demo"]);
        }
        if !arguments.contains(&"--rt") {
            run.args(["--rt", "off"]);
        }
        run.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        prepare(&mut run);
        let child = run.spawn().expect("the binary can be started");
        let mut started = Run { child, folder, lines: None, reader: None };
        if is_read {
            started.read();
        }
        started.wait_for_socket();
        started
    }

    pub(crate) fn socket(&self) -> String {
        self.folder.file("s")
    }

    pub(crate) fn read(&mut self) {
        let (sender, receiver) = channel();
        let out: ChildStdout = self.child.stdout.take().expect("it is piped");
        self.lines = Some(receiver);
        self.reader = Some(thread::spawn(move || {
            let mut out = BufReader::new(out);
            let mut line = String::new();
            while out.read_line(&mut line).is_ok_and(|count| count > 0) {
                let _ = sender.send(std::mem::take(&mut line));
            }
        }));
    }

    pub(crate) fn wait_for_socket(&mut self) {
        let until = Instant::now() + PATIENCE;
        while UnixStream::connect(self.socket()).is_err() {
            assert!(Instant::now() < until, "no socket");
            if let Some(status) = self.child.try_wait().expect("a child") {
                panic!("it ended: {status}, {}", self.errors());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns the next line, as it came.
    pub(crate) fn line(&self) -> String {
        self.lines.as_ref().expect("it is read").recv_timeout(PATIENCE).expect("frames go on")
    }

    /// Returns the next frame.
    pub(crate) fn frame(&self) -> Value {
        serde_json::from_str(&self.line()).expect("each line is one JSON object")
    }

    /// Frames until one has a face with exactly these answers.
    pub(crate) fn frame_with(&self, tasks: &[&str]) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let frame = self.frame();
            if answers(&frame) == Some(tasks.iter().map(|task| (*task).to_owned()).collect()) {
                return frame;
            }
            assert!(Instant::now() < until, "no frame with {tasks:?}, but {frame}");
        }
    }

    pub(crate) fn ctl(&self, arguments: &[&str]) -> Output {
        let socket = self.socket();
        faceptor(&[&["ctl", "--control", &socket], arguments].concat())
    }

    pub(crate) fn signal(&self, signal: libc::c_int) {
        // SAFETY: no pointers; the child has not been waited for, so the number is still its own.
        assert_eq!(unsafe { libc::kill(self.child.id() as libc::pid_t, signal) }, 0);
    }

    pub(crate) fn errors(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut err) = self.child.stderr.take() {
            err.read_to_string(&mut text).expect("text");
        }
        text
    }

    /// Waits for the end and gives what was left of its output.
    pub(crate) fn end(mut self) -> (Output, Folder) {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().expect("a child") {
                Some(status) => break status,
                None if Instant::now() > until => panic!("it does not end"),
                None => thread::sleep(Duration::from_millis(5)),
            }
        };
        if let Some(reader) = self.reader.take() {
            reader.join().expect("no panic");
        }
        let out = self.lines.take().map(|lines| lines.iter().collect()).unwrap_or_default();
        let err = self.errors();
        (Output { status: status.code(), out, err }, std::mem::replace(&mut self.folder, Folder::new()))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the tasks that the face of a frame has answers of; `None` without a face.
fn answers(frame: &Value) -> Option<BTreeSet<String>> {
    const OTHERS: [&str; 7] = ["id", "score", "box", "keypoints", "quality", "pose", "stale_frames"];
    let face = frame["faces"].as_array().expect("a list").first()?.as_object().expect("an object");
    Some(face.keys().filter(|key| !OTHERS.contains(&key.as_str())).cloned().collect())
}

/// A program that talks to the socket itself.
struct Talk {
    stream: BufReader<UnixStream>,
}

impl Talk {
    fn to(run: &Run) -> Talk {
        let stream = UnixStream::connect(run.socket()).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Talk { stream: BufReader::new(stream) }
    }

    fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    fn receive(&mut self) -> Value {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a response");
        serde_json::from_str(&line).expect("a response is JSON")
    }

    fn ask(&mut self, request: &Value) -> Value {
        self.send(format!("{request}\n").as_bytes()).expect("sent");
        self.receive()
    }
}

#[test]
fn ctl_chooses_the_tasks_of_the_running_loop() {
    let run = Run::start("age");
    run.frame_with(&["age"]);
    let chosen = run.ctl(&["set-tasks", "landmarks,expression", "--json"]).expect(0);
    assert_eq!(chosen.json(), [json!({"tasks": ["landmarks", "expression"]})]);
    let frame = run.frame_with(&["expression", "landmarks"]);
    assert_eq!(frame["faces"][0]["landmarks"]["points"].as_array().map(Vec::len), Some(68));
    let tasks = run.ctl(&["tasks"]).expect(0).out;
    assert!(tasks.contains("tasks: landmarks, expression\n"), "{tasks}");
    assert!(tasks.lines().any(|line| line.starts_with("available: ") && line.contains("recognition")), "{tasks}");
    run.ctl(&["set-tasks", "none"]).expect(0);
    run.frame_with(&[]);
    let wrong = run.ctl(&["set-tasks", "nose"]).expect(2);
    assert!(wrong.err.contains("nose") && wrong.err.contains("landmarks"), "{}", wrong.err);
    run.ctl(&["set-tasks", "all"]).expect(0);
    run.frame_with(&["age", "attributes", "expression", "landmarks", "parsing", "recognition"]);
    run.ctl(&["quit"]).expect(0);
    let (ended, folder) = run.end();
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    assert!(folder.names("").is_empty(), "the socket is removed");
}

#[test]
fn a_thousand_switches_while_frames_go_on() {
    let run = Run::start("age");
    run.frame_with(&["age"]);
    let sets = [vec!["age"], vec!["expression", "landmarks"], vec!["parsing"]];
    let mut talk = Talk::to(&run);
    let mut choose = |number: usize| {
        let tasks = &sets[number % sets.len()];
        let until = Instant::now() + PATIENCE;
        // Busy is an answer too: the loop takes commands once a frame.
        loop {
            let response = talk.ask(&json!({"verb": "set-tasks", "tasks": tasks}));
            if response["ok"] == true {
                break;
            }
            assert!(response["error"]["code"] == "busy" && Instant::now() < until, "{response}");
            thread::sleep(Duration::from_millis(1));
        }
    };
    let is_part_of = |frame: &Value, set: usize| {
        let only = |answers: BTreeSet<String>| answers.iter().all(|task| sets[set].contains(&task.as_str()));
        answers(frame).is_none_or(only)
    };
    // As fast as they are taken, several within each frame: every frame has the tasks of one of them, never a mixture.
    (0..1000).for_each(&mut choose);
    let last_us = now_us();
    let mut last = run.frame();
    while last["captured_us"].as_u64() < Some(last_us) {
        let next = run.frame();
        assert!(
            next["frame"].as_u64() > last["frame"].as_u64()
                && next["captured_us"].as_u64() > last["captured_us"].as_u64()
        );
        assert!((0..sets.len()).any(|set| is_part_of(&next, set)), "{next}");
        last = next;
    }
    // One by one: the next frame has the new tasks. A frame that was already being taken may come between.
    for number in 1000..1020 {
        choose(number);
        let chosen_us = now_us();
        let mut after = 0;
        while after < 3 {
            let frame = run.frame();
            after += usize::from(frame["captured_us"].as_u64() > Some(chosen_us));
            assert!(after < 2 || is_part_of(&frame, number % sets.len()), "switch {number}: {frame}");
        }
    }
    run.frame_with(&sets[1019 % sets.len()]);
}

#[test]
fn bad_clients_disturb_neither_the_loop_nor_good_ones() {
    let run = Run::start("age");
    let mut oversized = Talk::to(&run);
    // It is cut off, perhaps while it still sends.
    let _ = oversized.send(&vec![b'{'; 1 << 20]);
    assert_eq!(oversized.receive()["error"]["code"], "too-long");
    let mut malformed = Talk::to(&run);
    malformed.send(b"\x00\xffgarbage\n").expect("sent");
    assert_eq!(malformed.receive()["error"]["code"], "malformed");
    assert_eq!(malformed.ask(&json!({"id": 5, "verb": "explode"}))["error"]["code"], "unknown-verb");
    // One that begins a request and never ends it, one that never reads, one that has gone.
    let mut slow = Talk::to(&run);
    slow.send(b"{\"verb\": ").expect("sent");
    let mut deaf = Talk::to(&run);
    deaf.stream.get_ref().set_nonblocking(true).expect("it can be");
    let _ = deaf.send(&b"{\"verb\":\"status\"}\n".repeat(2000));
    drop(Talk::to(&run));
    // And more of them than there are places.
    let crowd: Vec<Talk> = (0..20).map(|_| Talk::to(&run)).collect();
    let first = run.frame();
    for _ in 0..30 {
        assert!(run.frame()["frame"].as_u64() > first["frame"].as_u64());
    }
    drop((crowd, deaf));
    // The one with a place has it still.
    assert_eq!(malformed.ask(&json!({"id": 6, "verb": "set-tasks", "tasks": "landmarks"}))["ok"], true);
    run.frame_with(&["landmarks"]);
    slow.send(b"\"tasks\"}\n").ok();
    run.ctl(&["quit"]).expect(0);
    assert_eq!(run.end().0.status, Some(0));
}

#[test]
fn budget_status_statistics_and_snapshots() {
    let run = Run::start("age");
    run.frame_with(&["age"]);
    let budget = run.ctl(&["budget", "12.5", "--json"]).expect(0);
    assert_eq!(budget.json(), [json!({"budget_ms": 12.5})]);
    let until = Instant::now() + PATIENCE;
    while run.frame()["deadline"]["budget_us"] != 12_500 {
        assert!(Instant::now() < until, "the budget is not taken");
    }
    assert_eq!(run.ctl(&["budget"]).expect(0).out, "budget ms: 12.5\n");
    assert!(run.ctl(&["budget", "0"]).expect(2).err.contains("above 0"));
    let status = run.ctl(&["status", "--json"]).expect(0).json().remove(0);
    assert!(status["frames"].is_u64() && status["tasks"] == json!(["age"]), "{status}");
    assert!(status["heat"]["level"].is_u64() && status["realtime"]["missing"].is_array(), "{status}");
    let text = run.ctl(&["status"]).expect(0).out;
    assert!(text.contains("frames: ") && text.contains("tasks: age\n"), "{text}");
    // The reported values may be a second old.
    let until = Instant::now() + PATIENCE;
    loop {
        let stats = run.ctl(&["stats", "--json"]).expect(0).json().remove(0);
        if stats["stages"]["encode"]["n"].as_u64() > Some(0) {
            assert!(stats["stages"]["encode"]["p99_us"].is_u64(), "{stats}");
            break;
        }
        assert!(Instant::now() < until, "{stats}");
        thread::sleep(Duration::from_millis(100));
    }
    assert!(run.ctl(&["stats"]).expect(0).out.lines().any(|line| line.trim_start().starts_with("encode ")));
    // A relative path is one of the folder that ctl is called in.
    let mut snapshot = command(&["ctl", "--control", &run.socket(), "snapshot", "look at.png"]);
    snapshot.current_dir(run.folder.path());
    let text = finish(snapshot).expect(0).out;
    assert!(text.contains("written: yes"), "{text}");
    // The answer comes when the file is there.
    let picture = image::open(run.folder.path().join("look at.png")).expect("a PNG").into_rgb8();
    assert_eq!(picture.dimensions(), (640, 480));
    let nowhere = run.ctl(&["snapshot", &run.folder.file("no/such/folder.png")]).expect(1);
    assert!(nowhere.err.contains("folder.png"), "{}", nowhere.err);
    // Others are served while one waits for its picture.
    let (mut waiting, mut other) = (Talk::to(&run), Talk::to(&run));
    waiting
        .send(format!("{}\n", json!({"id": 1, "verb": "snapshot", "file": run.folder.file("b.png")})).as_bytes())
        .expect("sent");
    assert_eq!(other.ask(&json!({"id": 2, "verb": "tasks"}))["ok"], true);
    assert_eq!(waiting.receive()["result"]["written"], true);
}

#[test]
fn a_run_with_all_tasks_keeps_below_forty_mebibytes() {
    let folder = Folder::new();
    // Memory is locked where that is permitted.
    let run =
        Run::with(folder, &["--fps", "30", "--frames", "1000000", "--json", "--tasks", "all", "--rt", "auto"], true);
    (0..40).for_each(|_| drop(run.frame()));
    let status = fs::read_to_string(format!("/proc/{}/status", run.child.id())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("the kernel reports it");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
    println!("resident: {kib} KiB");
    assert!(kib < 40 << 10, "{kib} KiB are resident");
    run.ctl(&["quit"]).expect(0);
    run.end().0.expect(0);
}

#[test]
fn a_bundle_file_cut_short_during_a_run_does_not_end_the_program() {
    let folder = Folder::new();
    let embedded = faceptor::stages::embedded_bundle().expect("the network inside");
    let bytes = embedded.repacked(embedded.packing()).expect("the network was compiled");
    let file = folder.write("cut.bundle", &bytes);
    let run =
        Run::with(folder, &["--model", &file, "--fps", "30", "--frames", "1000000", "--json", "--tasks", "all"], true);
    run.frame_with(&["age", "attributes", "expression", "landmarks", "parsing", "recognition"]);
    let shortened = fs::OpenOptions::new().write(true).open(&file).expect("the bundle can be opened");
    shortened.set_len(100).expect("the bundle can be cut short");
    (0..30).for_each(|_| drop(run.frame()));
    run.ctl(&["quit"]).expect(0);
    run.end().0.expect(0);
}

#[test]
fn a_socket_is_its_owners_alone_and_has_one_loop() {
    let run = Run::start("none");
    let mode = fs::metadata(run.socket()).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = faceptor(&["run", "--source", "demo", "--frames", "5", "--control", &run.socket()]).expect(1);
    assert!(second.err.contains("another faceptor listens there"), "{}", second.err);
    run.frame();
    run.ctl(&["tasks"]).expect(0);
    // After a kill its socket is left, and the next run takes it over.
    run.signal(libc::SIGKILL);
    let (killed, folder) = run.end();
    assert_eq!((killed.status, folder.names("")), (None, vec!["s".to_owned()]));
    let next = Run::with(folder, &["--fps", "30", "--frames", "1000000", "--json", "--tasks", "none"], true);
    next.ctl(&["quit"]).expect(0);
    let (ended, folder) = next.end();
    assert_eq!((ended.status, folder.names("").len()), (Some(0), 0), "{}", ended.err);
}
