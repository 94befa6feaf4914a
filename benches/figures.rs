//! Prints the figures of docs/bench.md as Markdown: `make bench`, or `cargo bench --bench figures -- [frame] [start] [jitter] [switch]`.
//!
//! All figures are measured with the real program, as a user could do by hand; each table names its command, its machine
//! and its date. `FRAMES` (default 10000) and `SECONDS` (default 60) make it shorter.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_faceptor");
const SETS: [(&str, &str); 3] = [("one", "landmarks"), ("three", "landmarks,age,expression"), ("all six", "all")];

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    // Cargo adds --bench.
    let wanted: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    if wants("frame") {
        frame(number("FRAMES", 10_000))?;
    }
    if wants("start") {
        start(30)?;
    }
    if wants("jitter") {
        jitter(number("SECONDS", 60))?;
    }
    if wants("switch") {
        switch(1000)?;
    }
    Ok(())
}

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn today() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d"]).output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}

/// Runs `faceptor` with these arguments and returns its standard output as JSON.
fn faceptor(arguments: &[&str]) -> Result<Value, Failure> {
    let output = Command::new(PROGRAM).args(arguments).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("faceptor {} ended with {}", arguments.join(" "), output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn ms(value: &Value) -> String {
    value.as_f64().map_or("-".to_owned(), |us| format!("{:.2}", us / 1000.0))
}

/// Formats whole numbers without a fraction.
fn count(value: &Value) -> String {
    value.as_f64().map_or("-".to_owned(), |count| count.to_string())
}

fn heading(command: &str, report: &Value) {
    let machine = &report["machine"];
    let text = |key: &str| machine[key].as_str().unwrap_or("unknown").to_owned();
    let place = if machine["virtual_machine"] == true { ", virtual machine" } else { "" };
    let kernel = report["kernel"].as_str().unwrap_or("unknown");
    println!(
        "`{command}` on {} ({} CPUs{place}, Linux {}, {kernel} kernel), {}\n",
        text("cpu"),
        machine["cpus"],
        text("kernel"),
        today()
    );
}

/// Measures frame times over demo frames for one, three and all tasks.
fn frame(frames: u64) -> Result<(), Failure> {
    let frames = frames.to_string();
    println!("### Frame time, ms\n");
    let mut first = true;
    let mut disturbed = Vec::new();
    for (name, tasks) in SETS {
        let report = faceptor(&["bench", "--tasks", tasks, "--frames", &frames, "--json", "-"])?;
        if std::mem::take(&mut first) {
            heading(&format!("faceptor bench --tasks NAMES --frames {frames}"), &report);
            println!("| tasks | p50 | p99 | p99.9 | max | missed 33.3 ms | allocations per frame: ours, engine |");
            println!("|---|---|---|---|---|---|---|");
        }
        let (frame, counted) = (&report["frame"], &report["allocations_per_frame"]);
        println!(
            "| {name} | {} | {} | {} | {} | {} | {}, {} |",
            ms(&frame["p50_us"]),
            ms(&frame["p99_us"]),
            ms(&frame["p999_us"]),
            ms(&frame["max_us"]),
            report["deadline"]["missed"],
            count(&counted["ours"]),
            count(&counted["engine"])
        );
        disturbed.extend(report["invalid_because"].as_str().map(|why| format!("{name}: {why}")));
    }
    println!();
    if !disturbed.is_empty() {
        println!("INVALID: {}\n", disturbed.join("; "));
    }
    Ok(())
}

/// Measures the time from start to the first result, and the program's memory and size.
fn start(times: usize) -> Result<(), Failure> {
    let arguments = ["run", "--source", "demo", "--tasks", "all", "--json", "--frames", "1"];
    let (mut first_line, mut load, mut to_answer) = (Vec::new(), Vec::new(), Vec::new());
    let mut report = Value::Null;
    for turn in 0..times {
        let begun = Instant::now();
        let mut child = Command::new(PROGRAM).args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let output = child.stdout.take().ok_or("no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        first_line.push(begun.elapsed().as_secs_f64() * 1000.0);
        child.wait()?;
        if !line.contains("\"landmarks\"") {
            return Err(format!("the first line has no answer: {line}").into());
        }
        // The last run is long enough to reach the steady state.
        let (warm_up, frames) = if turn + 1 == times { ("100", "1000") } else { ("1", "1") };
        report = faceptor(&["bench", "--tasks", "all", "--warm-up", warm_up, "--frames", frames, "--json", "-"])?;
        let us = |key: &str| report[key].as_f64().unwrap_or(f64::NAN);
        load.push(us("load_us") / 1000.0);
        to_answer.push((us("load_us") + us("first_us")) / 1000.0);
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    println!("### Start and size, medians of {times} starts\n");
    heading("faceptor bench --tasks all; faceptor run --source demo --tasks all --json", &report);
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let rss = |key: &str| mib(report["rss_bytes"][key].as_f64().unwrap_or(f64::NAN));
    println!("| what | | limit |\n|---|---|---|");
    println!("| network loaded, ms | {:.1} | |", median(&mut load));
    println!("| network loaded and the first frame answered, ms | {:.1} | 50 |", median(&mut to_answer));
    println!("| process start to the first line of output, ms | {:.1} | |", median(&mut first_line));
    println!("| resident memory after 1000 frames, MiB | {:.1} | 40 |", rss("steady"));
    println!(
        "| this program, the network and its compiler inside, MiB | {:.1} | |",
        mib(fs::metadata(PROGRAM)?.len() as f64)
    );
    println!();
    warn_of_load(&report);
    Ok(())
}

/// A loop that runs in the background, with its socket.
struct Loop {
    child: Child,
    socket: PathBuf,
}

impl Loop {
    fn start(more: &[&str]) -> Result<(Loop, String), Failure> {
        let socket = env::temp_dir().join(format!("faceptor-figures-{}.sock", process::id()));
        let mut arguments = vec!["run", "--source", "demo", "--json", "--control"];
        let path = socket.to_str().ok_or("the temporary folder has an odd name")?.to_owned();
        arguments.push(&path);
        arguments.extend(more);
        let child = Command::new(PROGRAM).args(&arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let command = format!("faceptor {}", arguments.join(" ")).replace(&path, "SOCKET");
        let begun = Instant::now();
        while !socket.exists() {
            if begun.elapsed() > Duration::from_secs(20) {
                return Err("the loop opened no socket".into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok((Loop { child, socket }, command))
    }

    fn ask(&self, verb: &str) -> Result<Value, Failure> {
        let mut stream = BufReader::new(UnixStream::connect(&self.socket)?);
        writeln!(stream.get_mut(), "{{\"verb\": \"{verb}\"}}")?;
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let answer: Value = serde_json::from_str(&line)?;
        match answer["ok"] == true {
            true => Ok(answer["result"].clone()),
            false => Err(format!("{verb}: {answer}").into()),
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.ask("quit");
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.socket);
    }
}

/// Measures how late results are published, at 30 frames a second.
fn jitter(seconds: u64) -> Result<(), Failure> {
    let frames = (seconds * 30 + 3000).to_string();
    let (mut running, command) = Loop::start(&["--fps", "30", "--tasks", "all", "--frames", &frames])?;
    let output = running.child.stdout.take().ok_or("no output")?;
    let lines = thread::spawn(move || BufReader::new(output).lines().map_while(Result::ok).count());
    thread::sleep(Duration::from_secs(seconds));
    let (stats, status) = (running.ask("stats")?, running.ask("status")?);
    drop(running);
    lines.join().map_err(|_| "the reader of the lines failed")?;
    let report = faceptor(&["bench", "--frames", "700", "--tasks", "none", "--json", "-"])?;
    println!("### Publication at capture + L, {seconds} s at 30 frames/s\n");
    heading(&command.replace(&frames, "N"), &report);
    println!(
        "| L, ms | frames | jitter p50, ms | p99 | p99.9 | max | left late | frame p99, ms | missed 33.3 ms | dropped |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let (jitter, total, counters) =
        (&stats["stages"]["publication jitter"], &stats["stages"]["total"], &status["source_counters"]);
    println!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
        ms(&status["latency_us"]),
        jitter["n"],
        ms(&jitter["p50_us"]),
        ms(&jitter["p99_us"]),
        ms(&jitter["p999_us"]),
        ms(&jitter["max_us"]),
        status["late"],
        ms(&total["p99_us"]),
        status["deadline"]["missed"],
        counters["stale_dropped"]
    );
    warn_of_load(&report);
    Ok(())
}

/// Checks with a bench right after the measurement that the machine was idle.
fn warn_of_load(report: &Value) {
    if let Some(why) = report["invalid_because"].as_str() {
        println!("INVALID: a bench right after says: {why}\n");
    }
}

/// Measures the first frames after a change of tasks, and later frames with these tasks.
fn switch(switches: usize) -> Result<(), Failure> {
    let (mut running, command) = Loop::start(&["--fps", "60", "--tasks", "age", "--frames", "100000"])?;
    let output = running.child.stdout.take().ok_or("no output")?;
    let reader = thread::spawn(move || {
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok()).collect::<Vec<_>>()
    });
    thread::sleep(Duration::from_secs(3));
    let mut stream = BufReader::new(UnixStream::connect(&running.socket)?);
    for turn in 0..switches {
        // About every third frame: one right after the switch, others with these tasks.
        thread::sleep(Duration::from_millis(50));
        let tasks = if turn % 2 == 0 { "landmarks,parsing,age" } else { "age" };
        writeln!(stream.get_mut(), "{{\"verb\": \"set-tasks\", \"tasks\": \"{tasks}\"}}")?;
        let mut line = String::new();
        stream.read_line(&mut line)?;
        if !line.contains("\"ok\":true") {
            return Err(format!("set-tasks: {line}").into());
        }
    }
    drop(stream);
    drop(running);
    let frames = reader.join().map_err(|_| "the reader of the lines failed")?;
    let chosen = |frame: &Value| frame["timing_us"]["decode"].as_object().map_or(0, serde_json::Map::len);
    let mut times: [Vec<f64>; 4] = Default::default();
    for pair in frames.windows(2) {
        let (before, tasks) = (chosen(&pair[0]), chosen(&pair[1]));
        let Some(us) = pair[1]["timing_us"]["total"].as_f64().filter(|_| tasks == 1 || tasks == 3) else { continue };
        times[usize::from(tasks == 3) * 2 + usize::from(before != tasks)].push(us);
    }
    let report = faceptor(&["bench", "--frames", "700", "--tasks", "none", "--json", "-"])?;
    println!("### Switching tasks, ms per frame\n");
    heading(&format!("{command} and {switches} times ctl set-tasks"), &report);
    println!("| tasks | n | p50 | p99 | max |\n|---|---|---|---|---|");
    let names = [
        "age: no switch",
        "age: first frame after a switch",
        "landmarks, parsing, age: no switch",
        "landmarks, parsing, age: first frame after a switch",
    ];
    for (name, times) in names.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = (share * times.len() as f64).ceil() as usize;
            times.get(place.clamp(1, times.len().max(1)) - 1).map_or("-".to_owned(), |us| format!("{:.2}", us / 1000.0))
        };
        println!("| {name} | {} | {} | {} | {} |", times.len(), at(0.5), at(0.99), at(1.0));
    }
    println!();
    warn_of_load(&report);
    Ok(())
}
