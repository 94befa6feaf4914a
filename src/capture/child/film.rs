//! A film that ffmpeg reads: every frame, in its order, as fast as the frames are taken.

use std::fs::File;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::capture::source::{Poll, Source, SourceCounters, SourceError, Stamp};
use crate::capture::timed_reader::{Supply, TimedReader};
use crate::capture::y4m::{Header, Y4m};
use crate::platform::child_process::{ChildProcess, Piped, Program};
use crate::platform::clock;
use faceptor::stages::ImageView;

/// Longest time without a byte of a film: disks spin up, servers are slow, and a damaged part of a film is passed over.
const PATIENCE_US: u64 = 30_000_000;

/// A film that is being played.
pub(crate) struct Film {
    name: String,
    program: Program,
    process: ChildProcess,
    stream: Y4m<File>,
    sequence: u64,
    /// True when this round has delivered a frame.
    has_delivered: bool,
    /// Since when the next frame is waited for.
    waiting_since_us: Option<u64>,
    scene: u64,
    counters: SourceCounters,
}

impl Film {
    /// Starts the program and reads the size of the frames. `name` has no credentials.
    ///
    /// # Errors
    /// When the program is absent or cannot read the film; the message contains what it said.
    pub(crate) fn open(name: &str, program: Program) -> Result<Film> {
        let (process, stream) = start(name, &program)?;
        Ok(Film {
            name: name.to_owned(),
            program,
            process,
            stream,
            sequence: 0,
            has_delivered: false,
            waiting_since_us: None,
            scene: 0,
            counters: SourceCounters::default(),
        })
    }

    fn lost(&self, reason: String) -> SourceError {
        SourceError::Lost { name: self.name.clone(), reason: anyhow!(reason) }
    }
}

fn start(name: &str, program: &Program) -> Result<(ChildProcess, Y4m<File>)> {
    let mut process = ChildProcess::start(program, Piped::Output)?;
    let mut reader = TimedReader::of_file(process.output().context("it has no output")?);
    match reader.supply(clock::now_us() + PATIENCE_US).context("it cannot be read")? {
        Supply::Bytes => {}
        Supply::Nothing => bail!("{} gives nothing for {} s", process.name(), PATIENCE_US / 1_000_000),
        Supply::Ended => {
            process.wait_until(Instant::now() + Duration::from_secs(1));
            process.end();
            bail!("{}", process.last_words());
        }
    }
    let header = Header::read(&mut reader, clock::now_us() + PATIENCE_US)?;
    Ok((process, Y4m::after_header(name, reader, header)))
}

impl Source for Film {
    fn poll(&mut self, until_us: u64) -> Result<Poll, SourceError> {
        // Also without a time limit, a program that hangs is noticed.
        let deadline_us = *self.waiting_since_us.get_or_insert_with(clock::now_us) + PATIENCE_US;
        match self.stream.poll(until_us.min(deadline_us))? {
            Poll::Frame(stamp) => {
                let stamp = Stamp { sequence: self.sequence, ..stamp };
                self.sequence += 1;
                self.counters.frames += 1;
                self.has_delivered = true;
                self.waiting_since_us = None;
                Ok(Poll::Frame(stamp))
            }
            Poll::Nothing if clock::now_us() >= deadline_us => {
                Err(self.lost(format!("{} gives nothing for {} s", self.process.name(), PATIENCE_US / 1_000_000)))
            }
            Poll::Nothing => Ok(Poll::Nothing),
            Poll::Ended => {
                self.process.wait_until(Instant::now() + Duration::from_secs(1));
                self.process.end();
                if !self.process.succeeded() && !self.has_delivered {
                    return Err(self.lost(self.process.last_words()));
                }
                if !self.process.succeeded() {
                    self.counters.decode_errors += 1;
                    log::warn!("{}: it ends too early: {}", self.name, self.process.last_words());
                }
                Ok(Poll::Ended)
            }
        }
    }

    fn view(&self) -> ImageView<'_> {
        self.stream.view()
    }

    fn counters(&self) -> SourceCounters {
        let cut_off = self.stream.counters().decode_errors;
        SourceCounters { decode_errors: self.counters.decode_errors + cut_off, ..self.counters }
    }

    fn describe(&self) -> String {
        let Header { width, height, fps, .. } = *self.stream.header();
        let rate = fps.map(|fps| format!(", made for {} frames/s", (fps * 100.0).round() / 100.0));
        format!("{}: film {width} x {height} by {}{}", self.name, self.process.name(), rate.unwrap_or_default())
    }

    fn rewind(&mut self) -> bool {
        if !std::mem::take(&mut self.has_delivered) {
            return false;
        }
        self.counters.decode_errors += self.stream.counters().decode_errors;
        match start(&self.name, &self.program) {
            Ok((process, stream)) => {
                (self.process, self.stream) = (process, stream);
                self.waiting_since_us = None;
                self.scene += 1;
                true
            }
            Err(error) => {
                log::warn!("{}: it cannot start over: {error:#}", self.name);
                false
            }
        }
    }

    fn scene(&self) -> u64 {
        self.scene
    }
}
