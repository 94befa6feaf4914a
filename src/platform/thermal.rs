//! The heat level of the machine. The loop degrades by it before the kernel slows the CPU down.
//!
//! | level | reached when | left when |
//! |---|---|---|
//! | 0 cool | | |
//! | 1 warm | a zone is within 5 degrees of its passive trip point | all are 3 degrees below that, ten seconds long |
//! | 2 hot | a zone is at it, a clock limit is below that of the start, or the firmware throttles | the same |
//! | 3 critical | a zone is within 5 degrees of its critical trip point | the same |
//!
//! The level rises at once and falls one step at a time. `live::degradation` sheds work by it.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Serialize;

use crate::platform::scheduling;
use crate::platform::sensors::{Reading, Sensors};

const WARM_BELOW_PASSIVE: f32 = 5.0;
const CRITICAL_MARGIN: f32 = 5.0;
/// Degrees below a threshold at which a level is left.
const HYSTERESIS: f32 = 3.0;
/// Consecutive readings below a level before it falls by one.
const CALM_READINGS: u32 = 10;
const PERIOD: Duration = Duration::from_secs(1);
/// Stack of the thread that reads the sensors.
const STACK_BYTES: usize = 256 << 10;

/// The highest level.
pub const MAX_LEVEL: u8 = 3;
/// The names of the levels.
pub const LEVELS: [&str; MAX_LEVEL as usize + 1] = ["cool", "warm", "hot", "critical"];

/// The latest reading and its level.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HeatReport {
    /// 0 cool, 1 warm, 2 hot, 3 critical.
    pub level: u8,
    /// Why the level is not lower.
    pub reasons: Vec<String>,
    /// The sensors.
    #[serde(flatten)]
    pub reading: Reading,
}

/// Returns the level of a single reading with its reasons.
pub fn level_of(reading: &Reading) -> (u8, Vec<String>) {
    judge(reading, reading, 0.0)
}

/// Returns the level of a reading with its reasons; `eased` degrees are added to each temperature.
fn judge(reading: &Reading, start: &Reading, eased: f32) -> (u8, Vec<String>) {
    let mut found: Vec<(u8, String)> = Vec::new();
    for zone in &reading.temperatures {
        let celsius = zone.celsius + eased;
        let level = match (zone.passive_celsius, zone.critical_celsius) {
            (_, Some(critical)) if celsius >= critical - CRITICAL_MARGIN => 3,
            (Some(passive), _) if celsius >= passive => 2,
            (Some(passive), _) if celsius >= passive - WARM_BELOW_PASSIVE => 1,
            _ => continue,
        };
        found.push((level, format!("{} at {:.1} C", zone.zone, zone.celsius)));
    }
    for (now, before) in reading.clocks.iter().zip(&start.clocks).filter(|(a, b)| a.limit_khz < b.limit_khz) {
        let [before, now_mhz] = [before.limit_khz, now.limit_khz].map(|khz| khz / 1000);
        found.push((2, format!("clock limit of CPUs {} lowered from {before} to {now_mhz} MHz", now.cpus)));
    }
    let troubles = reading.firmware_troubles();
    if !troubles.is_empty() {
        found.push((2, format!("the firmware reports {}", troubles.join(", "))));
    }
    let level = found.iter().map(|(level, _)| *level).max().unwrap_or(0);
    (level, found.into_iter().filter(|(of, _)| *of == level).map(|(_, reason)| reason).collect())
}

/// Derives the level from readings, with hysteresis.
#[derive(Debug)]
struct Judge {
    start: Reading,
    level: u8,
    reasons: Vec<String>,
    calm: u32,
}

impl Judge {
    fn new(start: Reading) -> Judge {
        Judge { start, level: 0, reasons: Vec::new(), calm: 0 }
    }

    /// Takes the next reading, a second after the last, and returns the level.
    fn step(&mut self, reading: &Reading) -> u8 {
        let (reached, reasons) = judge(reading, &self.start, 0.0);
        let (held, _) = judge(reading, &self.start, HYSTERESIS);
        if reached >= self.level {
            (self.level, self.reasons, self.calm) = (reached, reasons, 0);
            return self.level;
        }
        self.calm = if held >= self.level { 0 } else { self.calm + 1 };
        if self.calm == CALM_READINGS {
            (self.level, self.calm) = (self.level - 1, 0);
            self.reasons = if self.level == reached { reasons } else { vec!["cooling down".to_owned()] };
        }
        self.level
    }
}

/// Reads the sensors once a second in a thread, which ends when this is dropped.
#[derive(Debug)]
pub struct HeatMonitor {
    level: Arc<AtomicU8>,
    report: Arc<Mutex<HeatReport>>,
    end: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl HeatMonitor {
    /// Starts the thread. On a machine without sensors there is no thread, and the level stays 0.
    pub fn start(sensors: Sensors) -> HeatMonitor {
        HeatMonitor::every(PERIOD, sensors)
    }

    fn every(period: Duration, sensors: Sensors) -> HeatMonitor {
        let mut watch = HeatMonitor { level: Arc::default(), report: Arc::default(), end: None, thread: None };
        if sensors.is_empty() {
            return watch;
        }
        let (end, ended) = mpsc::sync_channel(1);
        let mut judge = Judge::new(sensors.read());
        let (level, report) = (watch.level.clone(), watch.report.clone());
        let work = move || {
            scheduling::yield_to_others();
            loop {
                sample(&sensors, &mut judge, &level, &report);
                // The monitor drops the other end to end this thread.
                if ended.recv_timeout(period) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        match thread::Builder::new().name("heat".to_owned()).stack_size(STACK_BYTES).spawn(work) {
            Ok(thread) => (watch.thread, watch.end) = (Some(thread), Some(end)),
            Err(error) => log::warn!("temperatures are not watched: {error}"),
        }
        watch
    }

    /// Returns the level, which the loop loads for each frame.
    pub fn level(&self) -> Arc<AtomicU8> {
        self.level.clone()
    }

    /// Returns the latest reading and its level.
    pub fn report(&self) -> HeatReport {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for HeatMonitor {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // The panic hook has already printed a panic of that thread.
            let _ = thread.join();
        }
    }
}

fn sample(sensors: &Sensors, judge: &mut Judge, level: &AtomicU8, report: &Mutex<HeatReport>) {
    let reading = sensors.read();
    let before = judge.level;
    let now = judge.step(&reading);
    if now != before {
        let name = LEVELS[usize::from(now)];
        match now > before {
            true => log::warn!("heat: {name}: {}", judge.reasons.join("; ")),
            false => log::info!("heat: {name} again"),
        }
    }
    level.store(now, Ordering::Relaxed);
    let new = HeatReport { level: now, reasons: judge.reasons.clone(), reading };
    *report.lock().unwrap_or_else(PoisonError::into_inner) = new;
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::platform::sensors::tests::Board;

    /// A board with its passive trip point at 75 and its critical one at 95 degrees.
    struct Run {
        board: Board,
        sensors: Sensors,
        judge: Judge,
    }

    impl Run {
        fn new() -> Run {
            let board = Board::new();
            let sensors = board.sensors();
            let judge = Judge::new(sensors.read());
            Run { board, sensors, judge }
        }

        /// Keeps a temperature for some seconds, and returns the level at the end.
        fn at(&mut self, celsius: i32, seconds: u32) -> u8 {
            self.board.heat_to(celsius);
            let mut step = || self.judge.step(&self.sensors.read());
            (0..seconds).map(|_| step()).last().unwrap_or(0)
        }
    }

    #[test]
    fn levels_rise_at_once() {
        let mut run = Run::new();
        let levels = [45, 69, 70, 74, 75, 89, 90, 100].map(|celsius| run.at(celsius, 1));
        assert_eq!(levels, [0, 0, 1, 1, 2, 2, 3, 3]);
        assert_eq!(run.judge.reasons, ["cpu-thermal at 100.0 C"]);
        assert_eq!(Run::new().at(91, 1), 3, "from cool to critical in one reading");
    }

    #[test]
    fn levels_fall_one_by_one_after_ten_calm_seconds() {
        let mut run = Run::new();
        assert_eq!(run.at(91, 1), 3);
        let fall: Vec<u8> = (0..31).map(|_| run.at(40, 1)).collect();
        let expected: Vec<u8> = [(3, 9), (2, 10), (1, 10), (0, 2)].iter().flat_map(|(l, n)| vec![*l; *n]).collect();
        assert_eq!(fall, expected);
        assert!(run.judge.reasons.is_empty());
    }

    #[test]
    fn the_level_is_steady_while_the_temperature_swings_about_a_threshold() {
        let mut run = Run::new();
        assert_eq!(run.at(75, 1), 2);
        for _ in 0..40 {
            assert_eq!(run.at(73, 9), 2, "within three degrees of the threshold");
            assert_eq!(run.at(71, 9), 2, "not yet ten seconds");
        }
        assert_eq!(run.at(71, 10), 1);
        assert_eq!(run.at(71, 60), 1, "still within five degrees");
    }

    #[test]
    fn a_lowered_clock_and_the_firmware_count_as_hot() {
        let mut run = Run::new();
        run.board.set("devices/system/cpu/cpufreq/policy0/scaling_max_freq", "1000000");
        assert_eq!(run.at(40, 1), 2);
        assert_eq!(run.judge.reasons, ["clock limit of CPUs 0 1 2 3 lowered from 1800 to 1000 MHz"]);
        run.board.set("devices/system/cpu/cpufreq/policy0/scaling_max_freq", "1800000");
        assert_eq!(run.at(40, 20), 0);
        run.board.set("devices/platform/soc/soc:firmware/get_throttled", "50005");
        assert_eq!(run.at(40, 1), 2);
        assert_eq!(run.judge.reasons, ["the firmware reports undervoltage, throttled"]);
        // The upper half of the flags is the history since boot.
        run.board.set("devices/platform/soc/soc:firmware/get_throttled", "50000");
        assert_eq!(run.at(40, 20), 0);
    }

    #[test]
    fn the_thread_publishes_the_level_and_ends() {
        let board = Board::new();
        let watch = HeatMonitor::every(Duration::from_millis(5), board.sensors());
        let level = watch.level();
        board.heat_to(80);
        let until = Instant::now() + Duration::from_secs(20);
        while watch.report().level != 2 && Instant::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
        assert_eq!((level.load(Ordering::Relaxed), watch.report().reasons.len()), (2, 1));
        drop(watch);
        assert_eq!(Arc::strong_count(&level), 1, "the thread is gone");
    }

    #[test]
    fn starts_no_thread_without_sensors() {
        let watch = HeatMonitor::start(Sensors::default());
        assert!(watch.thread.is_none() && watch.report().level == 0);
    }
}
