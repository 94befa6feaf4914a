//! `faceptor doctor`, and `faceptor ctl` without a running loop.

use std::os::unix::net::UnixListener;

use serde_json::Value;

use crate::program::{Folder, command, faceptor, finish};

const CHECKS: [&str; 14] = [
    "board", "kernel", "cpu", "kernels", "clocks", "heat", "memory", "priority", "locking", "timer", "wake-up",
    "control", "cameras", "network",
];

fn state<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().expect("a list");
    let check = checks.iter().find(|check| check["check"] == name);
    check.unwrap_or_else(|| panic!("no check {name}: {report}"))
}

#[test]
fn the_machine_that_runs_the_tests_can_run_the_loop() {
    let folder = Folder::new();
    let mut doctor = command(&["doctor", "--json"]);
    let run = finish({
        doctor.env("XDG_RUNTIME_DIR", folder.path()).env_remove("FACEPTOR_KERNEL");
        doctor
    });
    let [report] = &run.json()[..] else { panic!("one object: {run:#?}") };
    for name in CHECKS {
        let check = state(report, name);
        let needs_advice = check["state"] != "ok";
        assert_eq!(check["advice"].is_string(), needs_advice, "{check}");
        assert!(check["found"].as_str().is_some_and(|found| !found.is_empty()), "{check}");
    }
    for name in ["network", "answers", "kernels", "control"] {
        assert_eq!(state(report, name)["state"], "ok", "{report}");
    }
    assert!(folder.names("").is_empty(), "the socket that was tried is gone");
    // It fails only where something keeps the loop from working.
    let failed = report["checks"].as_array().expect("a list").iter().any(|check| check["state"] == "fail");
    assert_eq!(run.status, Some(i32::from(failed)));
}

#[test]
fn an_obstacle_to_the_loop_is_a_failure_with_advice() {
    let folder = Folder::new();
    let broken = folder.write("broken.bundle", b"no bundle");
    let run = faceptor(&["doctor", "--model", &broken]).expect(1);
    let line = run.out.lines().position(|line| line.starts_with("FAIL  network")).expect("a line about it");
    assert!(run.out.contains("broken.bundle"), "{}", run.out);
    assert!(run.out.lines().nth(line + 1).is_some_and(|line| line.trim_start().starts_with("-> ")), "{}", run.out);
    assert!(run.out.lines().last().is_some_and(|line| line.starts_with("Not ready: ")), "{}", run.out);
    let mut doctor = command(&["doctor", "--json"]);
    doctor.env("FACEPTOR_KERNEL", "abacus");
    let run = finish(doctor).expect(1);
    assert_eq!(state(&run.json()[0], "kernels")["state"], "fail", "{}", run.out);
}

#[test]
fn ctl_without_a_loop_says_why_and_wrong_usage_is_told_apart() {
    let folder = Folder::new();
    let (missing, dead, file) = (folder.file("no.sock"), folder.file("dead.sock"), folder.write("file", b"x"));
    drop(UnixListener::bind(&dead).expect("a socket"));
    for (socket, reason) in [
        (&missing, "nothing listens at"),
        (&dead, "its faceptor has ended"),
        (&file, "this file is not a socket"),
        (&"x".repeat(200), "1 to 107 bytes"),
    ] {
        let run = faceptor(&["ctl", "--control", socket, "status"]).expect(1);
        assert!(run.err.contains(reason) && run.out.is_empty(), "{socket}: {}", run.err);
        assert_eq!(run.err.lines().count(), 1, "{}", run.err);
    }
    // The default is in the user's own folder.
    let mut status = command(&["ctl", "status"]);
    status.env("XDG_RUNTIME_DIR", folder.path());
    assert!(finish(status).expect(1).err.contains(&folder.file("faceptor.sock")));
    for wrong in
        [&["ctl"][..], &["ctl", "dance"], &["ctl", "set-tasks"], &["ctl", "budget", "soon"], &["ctl", "budget", "inf"]]
    {
        assert!(faceptor(wrong).expect(2).out.is_empty(), "{wrong:?}");
    }
}
