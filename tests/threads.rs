//! The network with several threads: the same bits, whoever computes which rows.

mod util;

use faceptor_edge::platform::network_threads::allowed_cpus;
use faceptor_nn::cpu::Kernel;
use faceptor_nn::engine::Engine;
use faceptor_nn::thread_pool::Threads;
use util::{PORTRAIT, faceptor};

/// The bits of every task's answer and of the finder's outputs, twice in a row.
fn bits(kernel: Kernel, count: usize) -> Vec<u32> {
    let bundle = faceptor::stages::embedded_bundle().expect("a network");
    let threads = Threads { count, ..Threads::default() };
    let mut engine = Engine::with_threads(bundle.clone(), kernel, &threads).expect("an engine");
    assert_eq!(engine.threads(), count);
    let mut found = Vec::new();
    for face in 0..2 {
        let manifest = bundle.manifest();
        for input in manifest.image_tensors().chain(["finder_image_160x120"]) {
            for (i, value) in engine.input(input).expect("an input").iter_mut().enumerate() {
                *value = ((i * 7 + face * 13) % 251) as f32 / 125.0 - 1.0;
            }
        }
        let outputs = manifest.tasks.iter().map(|task| task.output.as_str()).chain(["f160x120_s8"]);
        for output in outputs {
            found.extend(engine.output(output).expect("an output").iter().map(|value| value.to_bits()));
        }
    }
    found
}

#[test]
fn answers_are_the_same_bits_with_any_number_of_threads() {
    let fastest = Kernel::choose().expect("a kernel");
    for kernel in Kernel::available() {
        let one = bits(kernel, 1);
        // Shares of different sizes once; more threads than CPUs wait for each other.
        let counts: &[usize] = if kernel == fastest { &[2, 3, 5] } else { &[2] };
        for &count in counts {
            assert!(bits(kernel, count) == one, "{} with {count} threads", kernel.name());
        }
    }
}

#[test]
fn every_verb_that_runs_the_network_takes_threads() {
    if allowed_cpus().len() < 2 {
        let run = faceptor(&["image", "--threads", "2", PORTRAIT]).expect(1);
        assert!(run.err.contains("--threads 2"), "{}", run.err);
        return;
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
