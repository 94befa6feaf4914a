//! Reads a program's frames into the slot, and starts the program again when it fails or stalls.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::capture::child::commands::LiveReading;
use crate::capture::child::slot::{LiveFrame, Slot};
use crate::capture::source::{Poll, Source, Stamp};
use crate::capture::timed_reader::{Supply, TimedReader};
use crate::capture::y4m::{Header, Y4m};
use crate::platform::child_process::{ChildProcess, Piped};
use crate::platform::clock;

/// Longest time from the start of a program to its first frame: a network camera sends a whole picture every few seconds.
const START_PATIENCE_US: u64 = 15_000_000;
/// A stream without a frame for this many periods, and at least for the time below, has stalled.
const PATIENCE_PERIODS: u64 = 8;
const LEAST_PATIENCE_US: u64 = 5_000_000;
/// First and longest wait before the program is started again; each wait is twice the one before.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Time between two looks whether the end is asked for.
const LOOK_EVERY_US: u64 = 50_000;
/// Time for the rest of a header after its first byte.
const HEADER_US: u64 = 1_000_000;
/// Number of reasons that are remembered, so that each is logged once.
const REASONS: usize = 8;

/// The state of the reading thread.
pub(super) struct Supervisor {
    pub name: String,
    pub reading: LiveReading,
    pub exit_on_lost: bool,
    pub slot: Arc<Slot>,
}

/// Reason why the frames of one start of the program have ended.
enum Break {
    /// The end was asked for.
    Stopped,
    Failed(String),
    Stalled(String),
}

/// Time that the stream may be silent.
struct Patience {
    /// Time of the last frame, or of the start.
    heard_us: u64,
    limit_us: u64,
}

impl Patience {
    /// Begins anew with a frame of a stream whose frames are `period_us` apart.
    fn after_frame(heard_us: u64, period_us: u64) -> Patience {
        let limit_us = LEAST_PATIENCE_US.max(PATIENCE_PERIODS * period_us.min(10_000_000));
        Patience { heard_us, limit_us }
    }

    /// Returns how long the stream has been silent, if that is too long.
    fn silence_at(&self, now_us: u64) -> Option<u64> {
        let silence_us = now_us.saturating_sub(self.heard_us);
        (silence_us >= self.limit_us).then_some(silence_us)
    }
}

/// State carried from one start of the program to the next.
#[derive(Default)]
struct Progress {
    sequence: u64,
    scene: u64,
    /// True when this start of the program has delivered a frame.
    has_delivered: bool,
    buffer: Vec<u8>,
    /// Time of the last frame before a failure.
    lost_us: Option<u64>,
    reasons: Vec<String>,
}

impl Supervisor {
    /// Works until the end is asked for, the program cannot be started a first time, or it is lost and that ends the source.
    pub(super) fn work(self) {
        let mut progress = Progress::default();
        let mut wait = FIRST_WAIT;
        loop {
            progress.has_delivered = false;
            let ended = self.one_start(&mut progress);
            if progress.has_delivered {
                wait = FIRST_WAIT;
            }
            let reason = match ended {
                Break::Stopped => return,
                Break::Failed(reason) => reason,
                Break::Stalled(reason) => {
                    self.slot.count(|counters| counters.timeouts += 1);
                    reason
                }
            };
            if progress.sequence == 0 {
                return self.slot.end(reason);
            }
            if progress.has_delivered {
                if self.exit_on_lost {
                    return self.slot.end(reason);
                }
                self.slot.count(|counters| counters.lost += 1);
                log::warn!("{}: {reason}; getting it back", self.name);
                progress.lost_us = Some(clock::now_us());
            } else if progress.reasons.len() < REASONS && !progress.reasons.contains(&reason) {
                log::warn!("{}: {reason}; trying again", self.name);
                progress.reasons.push(reason);
            }
            self.slot.pause(wait);
            wait = (wait * 2).min(LONGEST_WAIT);
            if self.slot.is_stopping() {
                return;
            }
        }
    }

    /// Starts the program and reads its frames until they end. The program has ended then.
    fn one_start(&self, progress: &mut Progress) -> Break {
        let mut process = match ChildProcess::start(&self.reading.program, Piped::Output) {
            Ok(process) => process,
            Err(error) => return Break::Failed(error.to_string()),
        };
        let Some(output) = process.output() else { return Break::Failed("it has no output".to_owned()) };
        let ended = self.read(TimedReader::of_file(output), progress);
        // Its last messages are complete only when it has ended.
        if matches!(ended, Break::Failed(_)) {
            process.wait_until(Instant::now() + Duration::from_millis(200));
        }
        process.end();
        match ended {
            Break::Failed(reason) if reason.is_empty() => Break::Failed(match process.succeeded() {
                true => format!("{}: the stream has ended", process.name()),
                false => process.last_words(),
            }),
            other => other,
        }
    }

    /// Reads frames. An empty reason stands for the program's own last words.
    fn read(&self, mut reader: TimedReader<File>, progress: &mut Progress) -> Break {
        let begun_us = clock::now_us();
        let mut stream = match self.reading.raw {
            Some(header) => Y4m::raw(&self.name, reader, header),
            None => {
                let header = match self.first_byte(&mut reader, begun_us + START_PATIENCE_US) {
                    Ok(()) => Header::read(&mut reader, clock::now_us() + HEADER_US),
                    Err(ended) => return ended,
                };
                match header {
                    Ok(header) => Y4m::after_header(&self.name, reader, header),
                    Err(error) => return Break::Failed(error.to_string()),
                }
            }
        };
        let mut patience = Patience { heard_us: begun_us, limit_us: START_PATIENCE_US };
        loop {
            match stream.poll(clock::now_us() + LOOK_EVERY_US) {
                Ok(Poll::Frame(stamp)) => {
                    self.deliver(&mut stream, stamp, progress);
                    let period_us = stream.header().fps.map_or(0, |fps| (1e6 / fps) as u64);
                    patience = Patience::after_frame(stamp.captured_us, period_us);
                }
                Ok(Poll::Nothing) => {
                    if let Some(silence_us) = patience.silence_at(clock::now_us()) {
                        return stalled(silence_us);
                    }
                }
                Ok(Poll::Ended) => return Break::Failed(String::new()),
                // The message begins with the name, which the caller adds.
                Err(error) => return Break::Failed(error.to_string().replacen(&format!("{}: ", self.name), "", 1)),
            }
            if self.slot.is_stopping() {
                return Break::Stopped;
            }
        }
    }

    /// Waits for the first byte.
    fn first_byte(&self, reader: &mut TimedReader<File>, until_us: u64) -> Result<(), Break> {
        loop {
            match reader.supply(clock::now_us() + LOOK_EVERY_US) {
                Ok(Supply::Bytes) => return Ok(()),
                Ok(Supply::Ended) => return Err(Break::Failed(String::new())),
                Ok(Supply::Nothing) if clock::now_us() >= until_us => return Err(stalled(START_PATIENCE_US)),
                Ok(Supply::Nothing) if self.slot.is_stopping() => return Err(Break::Stopped),
                Ok(Supply::Nothing) => {}
                Err(error) => return Err(Break::Failed(error.to_string())),
            }
        }
    }

    fn deliver(&self, stream: &mut Y4m<File>, stamp: Stamp, progress: &mut Progress) {
        if !std::mem::replace(&mut progress.has_delivered, true) && progress.sequence > 0 {
            progress.scene += 1;
            progress.reasons.clear();
            self.slot.count(|counters| counters.reopened += 1);
            if let Some(lost_us) = progress.lost_us.take() {
                let seconds = stamp.captured_us.saturating_sub(lost_us) as f64 / 1e6;
                log::info!("{}: frames again after {seconds:.1} s", self.name);
            }
        }
        let mut bytes = std::mem::take(&mut progress.buffer);
        stream.swap_planes(&mut bytes);
        let stamp = Stamp { sequence: progress.sequence, ..stamp };
        progress.sequence += 1;
        progress.buffer = self.slot.put(LiveFrame { header: *stream.header(), bytes, stamp, scene: progress.scene });
    }
}

fn stalled(silence_us: u64) -> Break {
    Break::Stalled(format!("no frame for {:.0} s", silence_us as f64 / 1e6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_from_the_last_frame() {
        let start = Patience { heard_us: 1_000_000, limit_us: START_PATIENCE_US };
        assert_eq!([15_999_999, 16_000_000].map(|now| start.silence_at(now)), [None, Some(15_000_000)]);
        let late = Patience::after_frame(600_000_000, 33_333);
        assert_eq!([604_999_999, 605_000_000].map(|now| late.silence_at(now)), [None, Some(5_000_000)]);
        let slow = Patience::after_frame(600_000_000, 2_000_000);
        assert_eq!([615_000_000, 616_000_000].map(|now| slow.silence_at(now)), [None, Some(16_000_000)]);
        assert_eq!(late.silence_at(0), None, "a clock that lags");
    }
}
