//! `--threads`: the same answers with several threads as with one.

use std::{mem, thread};

use faceptor_edge::platform::network_threads::allowed_cpus;
use faceptor_test_support::skip;

use crate::program::{PORTRAIT, faceptor};

#[test]
fn more_threads_than_cpus_are_refused() {
    // The program inherits the CPUs of the thread that starts it: here one, whatever the machine has.
    let start = || {
        let cpu = allowed_cpus()[0];
        // SAFETY: all zeros is an empty set, and `cpu` was in one; the kernel reads a set of the given size.
        let limited = unsafe {
            let mut set: libc::cpu_set_t = mem::zeroed();
            libc::CPU_SET(cpu, &mut set);
            libc::sched_setaffinity(0, size_of_val(&set), &set)
        };
        assert_eq!(limited, 0, "a thread may give up CPUs");
        faceptor(&["image", "--threads", "2", PORTRAIT])
    };
    let run = thread::spawn(start).join().expect("no panic").expect(1);
    assert!(run.err.contains("--threads 2"), "{}", run.err);
}

#[test]
fn every_verb_that_runs_the_network_takes_threads() {
    if allowed_cpus().len() < 2 {
        return skip("two CPUs are needed");
    }
    let faces = |threads: &str| {
        let run = faceptor(&["image", "--threads", threads, "--tasks", "all", "--json", PORTRAIT]).expect(0);
        run.json()[0]["faces"].clone()
    };
    assert_eq!(faces("2"), faces("1"));
    let run = faceptor(&["run", "--source", "demo", "--threads", "2", "--frames", "5", "--json"]).expect(0);
    assert_eq!(run.json().len(), 5);
    let quick = ["bench", "--threads", "2", "--frames", "20", "--warm-up", "1", "--tasks", "age", "--json", "-"];
    let report = &faceptor(&quick).expect(0).json()[0];
    assert_eq!(report["threads"], 2);
    let gain = &report["threads_gain"];
    assert!(gain["n"] == 20 && gain["times"].as_f64() > Some(0.0), "{gain}");
    for kind in ["ours", "engine"] {
        assert_eq!(report["allocations_per_frame"][kind].as_f64(), Some(0.0), "{kind}");
    }
    let alone = faceptor(&["bench", "--frames", "2", "--warm-up", "1", "--tasks", "age", "--json", "-"]).expect(0);
    assert!(alone.json()[0].get("threads_gain").is_none());
}
