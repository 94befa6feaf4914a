//! The signals of a running loop: SIGTERM and SIGINT end it, a second one ends it at once, SIGUSR1 prints statistics.

use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::control::Run;
use crate::program::{Folder, PATIENCE, command};

#[test]
fn sigterm_and_sigint_end_it_with_whole_lines() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let run = Run::start("landmarks");
        let first = run.frame();
        run.signal(signal);
        let (ended, folder) = run.end();
        assert_eq!(ended.status, Some(0), "{}", ended.err);
        let mut last = first["frame"].as_u64();
        assert!(ended.out.is_empty() || ended.out.ends_with('\n'));
        for frame in ended.json() {
            assert!(frame["frame"].as_u64() > last);
            last = frame["frame"].as_u64();
        }
        assert!(ended.err.contains("stage, ms"), "the statistics are printed: {}", ended.err);
        assert!(folder.names("").is_empty(), "the socket is removed");
    }
}

/// Returns a run that has filled the pipe to a reader that takes nothing, and waits for it.
fn stuck() -> Run {
    let run = Run::with(Folder::new(), &["--frames", "1000000", "--json", "--tasks", "landmarks"], false);
    let frames = || run.ctl(&["status", "--json"]).expect(0).json()[0]["frames"].as_u64();
    let (until, mut before) = (Instant::now() + PATIENCE, None);
    while before != frames() || before < Some(1) {
        assert!(Instant::now() < until, "it does not wait for its reader");
        before = frames();
        // The report is a second old at most.
        thread::sleep(Duration::from_millis(2500));
    }
    run
}

#[test]
fn one_signal_ends_a_run_whose_output_is_not_read() {
    let run = stuck();
    run.signal(libc::SIGTERM);
    let (ended, folder) = run.end();
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    assert!(ended.err.contains("standard output: still busy"), "{}", ended.err);
    assert!(folder.names("").is_empty(), "the socket is removed");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let run = stuck();
    run.signal(libc::SIGTERM);
    run.signal(libc::SIGINT);
    assert_ended_by_a_second_signal(run);
}

/// Asserts the status after SIGTERM and SIGINT: signals that are pending together may be handled in either order.
fn assert_ended_by_a_second_signal(run: Run) {
    let status = run.end().0.status;
    assert!([libc::SIGTERM, libc::SIGINT].map(|signal| Some(128 + signal)).contains(&status), "{status:?}");
}

/// Returns a run of 40 live frames that has come to its own end while its reader takes nothing: its last flush is under way.
fn flushing() -> Run {
    let folder = Folder::new();
    let manager = UnixDatagram::bind(folder.file("notify")).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let socket = folder.file("s");
    let mut command = command(&["run", "--source", "demo", "--control", &socket, "--rt", "off"]);
    command.args(["--fps", "30", "--frames", "40", "--json", "--tasks", "landmarks"]);
    command.env("NOTIFY_SOCKET", folder.file("notify")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("the binary can be started");
    let run = Run { child, folder, lines: None, reader: None };
    let out = run.child.stdout.as_ref().expect("it is piped").as_raw_fd();
    // SAFETY: no pointers; the descriptor is open. A pipe of one page holds a line or two.
    assert!(unsafe { libc::fcntl(out, libc::F_SETPIPE_SZ, 4096) } > 0);
    let mut message = [0; 1000];
    loop {
        let count = manager.recv(&mut message).expect("a message");
        if message[..count].starts_with(b"STOPPING=1") {
            break;
        }
    }
    thread::sleep(Duration::from_millis(200));
    run
}

#[test]
fn first_signal_during_the_last_flush_still_flushes() {
    let mut run = flushing();
    run.signal(libc::SIGTERM);
    run.read();
    let (ended, _) = run.end();
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    assert!(ended.err.contains("stage, ms"), "the statistics are printed: {}", ended.err);
    // The queue has room for all frames; a machine too slow to read within the limit reports what it lost.
    let lines = ended.json().len();
    assert!(lines == 40 || ended.err.contains("is lost") || ended.err.contains(" lost because"), "{lines} lines");
}

#[test]
fn second_signal_during_the_last_flush_ends_it_at_once() {
    let run = flushing();
    run.signal(libc::SIGTERM);
    run.signal(libc::SIGINT);
    assert_ended_by_a_second_signal(run);
}

#[test]
fn sigusr1_prints_the_statistics_and_the_loop_goes_on() {
    let mut run = Run::start("age");
    run.frame_with(&["age"]);
    let mut errors = BufReader::new(run.child.stderr.take().expect("it is piped"));
    let (sender, receiver) = channel();
    let reader = thread::spawn(move || {
        let mut line = String::new();
        while errors.read_line(&mut line).is_ok_and(|count| count > 0) {
            let _ = sender.send(std::mem::take(&mut line));
        }
    });
    run.signal(libc::SIGUSR1);
    let until = Instant::now() + PATIENCE;
    loop {
        match receiver.recv_timeout(PATIENCE) {
            Ok(line) if line.contains("stage, ms") => break,
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => panic!("no statistics"),
        }
        assert!(Instant::now() < until);
    }
    run.frame();
    run.ctl(&["quit"]).expect(0);
    assert_eq!(run.end().0.status, Some(0));
    reader.join().expect("no panic");
}
