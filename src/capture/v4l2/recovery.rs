//! Decides what to do when a camera fails: a state machine that has neither a clock nor a device.
//!
//! ```text
//!            no frame within the patience       again, or the stream failed
//!   well  ------------------------------> silent ---------------------------+
//!     |                                                                     v
//!     +-- the stream failed, the camera is gone, its format changed ---->  away --> open again after 0, 0.1, 0.2 ... 2 s
//!     ^                                                                     |
//!     +------------------------- the first frame <--------------------------+
//! ```

use std::io;

use crate::capture::source::SourceCounters;

/// First and longest wait between attempts to open the camera; each wait is twice the one before.
const FIRST_WAIT_US: u64 = 100_000;
const LONGEST_WAIT_US: u64 = 2_000_000;
/// A camera without a frame for this many periods, and at least for the time below, is silent.
const PATIENCE_PERIODS: u64 = 8;
const LEAST_PATIENCE_US: u64 = 1_000_000;
/// Longest time from the start of a camera to its first frame.
const START_PATIENCE_US: u64 = 3_000_000;
/// Number of consecutive refused buffers after which the stream is closed.
const REQUEUE_PATIENCE: u32 = 8;
/// Number of reasons of failed opening that are remembered, so that each is logged once.
const REASONS: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Well,
    /// The stream is open and delivers nothing.
    Silent,
    /// There is no stream, or it has not delivered a frame yet.
    Away,
}

/// A failure of a stream.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The driver delivered no frame within the patience.
    Silence,
    /// Waiting for a frame or taking it failed.
    Failed(io::Error),
    /// A buffer could not be given back.
    NotTaken(io::Error),
    /// The driver is set to another format.
    OtherFormat,
}

/// The next action on the stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Keep,
    /// Close it, and open it again at `Recovery::retry_us`.
    Close,
    /// Close it, and end the source.
    GiveUp(String),
}

/// The state of one camera.
#[derive(Debug)]
pub(crate) struct Recovery {
    name: String,
    exit_on_lost: bool,
    health: Health,
    /// Time of the last frame before the failure.
    since_us: u64,
    /// Time of the start of the stream or of its last frame.
    sign_us: u64,
    patience_us: u64,
    wait_us: u64,
    retry_us: u64,
    not_taken: u32,
    reasons: Vec<String>,
}

fn has_left(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO))
}

impl Recovery {
    /// Starts with a camera that has just been opened.
    pub(crate) fn new(name: String, exit_on_lost: bool, now_us: u64) -> Recovery {
        Recovery {
            name,
            exit_on_lost,
            health: Health::Well,
            since_us: now_us,
            sign_us: now_us,
            patience_us: START_PATIENCE_US,
            wait_us: 0,
            retry_us: now_us,
            not_taken: 0,
            reasons: Vec::with_capacity(REASONS),
        }
    }

    /// Returns the time at which a stream without frames is silent.
    pub(crate) fn patience_end_us(&self) -> u64 {
        self.sign_us + self.patience_us
    }

    /// Returns the time of the next attempt to open the camera.
    pub(crate) fn retry_us(&self) -> u64 {
        self.retry_us
    }

    /// Notes a usable frame; the next one is expected a period later.
    pub(crate) fn frame(&mut self, period_us: Option<u64>, now_us: u64) {
        if self.health != Health::Well {
            log::info!("{}: frames again after {:.1} s", self.name, now_us.saturating_sub(self.since_us) as f64 / 1e6);
            self.health = Health::Well;
            self.reasons.clear();
        }
        (self.sign_us, self.wait_us) = (now_us, 0);
        self.patience_us = LEAST_PATIENCE_US.max(PATIENCE_PERIODS * period_us.unwrap_or(0));
    }

    /// Notes that the driver has taken a buffer back.
    pub(crate) fn taken(&mut self) {
        self.not_taken = 0;
    }

    /// Counts a failure and decides what to do with the stream.
    pub(crate) fn trouble(&mut self, trouble: &Trouble, now_us: u64, counters: &mut SourceCounters) -> Verdict {
        match trouble {
            Trouble::Silence => {
                counters.timeouts += 1;
                let before = self.health;
                let silence = now_us.saturating_sub(self.sign_us) as f64 / 1e6;
                if before == Health::Well {
                    self.leave(Health::Silent, now_us, &format!("no frame for {silence:.1} s, waiting for it"));
                    self.sign_us = now_us;
                    return Verdict::Keep;
                }
                self.close(&format!("no frame for {silence:.1} s"), now_us)
            }
            Trouble::Failed(error) if has_left(error) => {
                counters.lost += 1;
                self.close("the camera is gone", now_us)
            }
            Trouble::Failed(error) => {
                counters.io_errors += 1;
                self.close(&format!("{error}"), now_us)
            }
            Trouble::NotTaken(error) if has_left(error) => {
                counters.lost += 1;
                self.close("the camera is gone", now_us)
            }
            Trouble::NotTaken(error) => {
                counters.requeue_errors += 1;
                self.not_taken += 1;
                match self.not_taken >= REQUEUE_PATIENCE {
                    true => self.close(&format!("it takes no buffers: {error}"), now_us),
                    false => Verdict::Keep,
                }
            }
            Trouble::OtherFormat => {
                self.leave(Health::Away, now_us, "its format changed, starting it again");
                self.schedule(now_us);
                Verdict::Close
            }
        }
    }

    /// Notes that the camera was opened again.
    pub(crate) fn opened(&mut self, name: String, now_us: u64) {
        self.name = name;
        (self.sign_us, self.patience_us, self.not_taken) = (now_us, START_PATIENCE_US, 0);
    }

    /// Notes that the camera could not be opened.
    pub(crate) fn not_opened(&mut self, reason: &str, now_us: u64) {
        if self.reasons.len() < REASONS && !self.reasons.iter().any(|known| known == reason) {
            log::warn!("{}: {reason}; trying again", self.name);
            self.reasons.push(reason.to_owned());
        }
        self.schedule(now_us);
    }

    fn close(&mut self, reason: &str, now_us: u64) -> Verdict {
        if self.exit_on_lost {
            return Verdict::GiveUp(reason.to_owned());
        }
        self.leave(Health::Away, now_us, &format!("{reason}; getting it back"));
        self.schedule(now_us);
        Verdict::Close
    }

    /// Enters a worse state, and logs it when it differs from the present one.
    fn leave(&mut self, health: Health, now_us: u64, what: &str) {
        if self.health == Health::Well {
            self.since_us = self.sign_us.min(now_us);
        }
        if self.health != health {
            log::warn!("{}: {what}", self.name);
        }
        self.health = health;
    }

    fn schedule(&mut self, now_us: u64) {
        self.retry_us = now_us + self.wait_us;
        self.wait_us = (self.wait_us * 2).clamp(FIRST_WAIT_US, LONGEST_WAIT_US);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(exit_on_lost: bool) -> (Recovery, SourceCounters) {
        let mut recovery = Recovery::new("camera".to_owned(), exit_on_lost, 0);
        recovery.frame(Some(33_333), 1000);
        (recovery, SourceCounters::default())
    }

    fn errno(number: i32) -> io::Error {
        io::Error::from_raw_os_error(number)
    }

    #[test]
    fn first_silence_is_tolerated_and_second_restarts() {
        let (mut recovery, mut counters) = start(false);
        assert_eq!(recovery.patience_end_us(), 1_001_000);
        assert_eq!(recovery.trouble(&Trouble::Silence, 1_001_000, &mut counters), Verdict::Keep);
        assert_eq!(recovery.patience_end_us(), 2_001_000);
        assert_eq!(recovery.trouble(&Trouble::Silence, 2_001_000, &mut counters), Verdict::Close);
        assert_eq!((recovery.retry_us(), counters.timeouts), (2_001_000, 2));
    }

    #[test]
    fn waits_grow_to_a_limit_and_end_with_the_first_frame() {
        let (mut recovery, mut counters) = start(false);
        assert_eq!(recovery.trouble(&Trouble::Failed(errno(libc::ENODEV)), 5000, &mut counters), Verdict::Close);
        assert_eq!(recovery.retry_us(), 5000, "the first attempt is made at once");
        let mut waits = Vec::new();
        for _ in 0..7 {
            let now = recovery.retry_us();
            recovery.not_opened("no camera there", now);
            waits.push((recovery.retry_us() - now) / 1000);
        }
        assert_eq!(waits, [100, 200, 400, 800, 1600, 2000, 2000]);
        recovery.opened("camera".to_owned(), 9_000_000);
        // The camera opened but failed before its first frame: the wait stays long.
        let again = recovery.trouble(&Trouble::Failed(errno(libc::EIO)), 9_100_000, &mut counters);
        assert_eq!((again, recovery.retry_us()), (Verdict::Close, 11_100_000));
        recovery.frame(None, 11_200_000);
        let now = 11_300_000;
        assert_eq!(recovery.trouble(&Trouble::Failed(errno(libc::EIO)), now, &mut counters), Verdict::Close);
        assert_eq!((recovery.retry_us(), counters.lost, counters.io_errors), (now, 1, 2));
    }

    #[test]
    fn eight_refused_buffers_close_the_stream() {
        let (mut recovery, mut counters) = start(false);
        for round in 0..20 {
            let trouble = Trouble::NotTaken(errno(libc::EINVAL));
            assert_eq!(recovery.trouble(&trouble, round, &mut counters), Verdict::Keep);
            recovery.taken();
        }
        let verdicts: Vec<Verdict> =
            (0..8).map(|now| recovery.trouble(&Trouble::NotTaken(errno(libc::EINVAL)), now, &mut counters)).collect();
        assert!(verdicts[..7].iter().all(|verdict| *verdict == Verdict::Keep) && verdicts[7] == Verdict::Close);
        assert_eq!(counters.requeue_errors, 28);
        let gone = Trouble::NotTaken(errno(libc::ENODEV));
        assert_eq!((recovery.trouble(&gone, 40, &mut counters), counters.lost), (Verdict::Close, 1));
    }

    #[test]
    fn exit_on_lost_gives_up_when_the_camera_is_gone() {
        let (mut recovery, mut counters) = start(true);
        assert_eq!(recovery.trouble(&Trouble::Silence, 1, &mut counters), Verdict::Keep);
        assert_eq!(recovery.trouble(&Trouble::OtherFormat, 2, &mut counters), Verdict::Close);
        let gone = recovery.trouble(&Trouble::Failed(errno(libc::ENODEV)), 3, &mut counters);
        assert_eq!(gone, Verdict::GiveUp("the camera is gone".to_owned()));
    }

    #[test]
    fn patience_is_eight_periods_of_a_slow_camera() {
        let (mut recovery, _) = start(false);
        recovery.frame(Some(500_000), 10);
        assert_eq!(recovery.patience_end_us(), 4_000_010);
    }
}
