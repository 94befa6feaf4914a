//! Shows progress over many files, on a terminal only.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Progress is shown from this number of files on.
const MANY: usize = 20;
/// Shortest time between two updates.
const PAUSE: Duration = Duration::from_millis(100);

/// Characters of the bar.
const BAR: usize = 20;

/// Shows how many files are done, how many a second, and the time that is left.
pub(crate) struct Progress {
    all: usize,
    done: usize,
    shown: bool,
    start: Instant,
    last: Option<Instant>,
}

impl Progress {
    /// Starts at 0 of `all` files.
    pub fn of(all: usize) -> Progress {
        let shown = all >= MANY && std::io::stderr().is_terminal();
        Progress { all, done: 0, shown, start: Instant::now(), last: None }
    }

    /// Counts a file.
    pub fn step(&mut self) {
        self.done += 1;
        if !self.shown {
            return;
        }
        let now = Instant::now();
        if self.done < self.all && self.last.is_some_and(|last| now < last + PAUSE) {
            return;
        }
        self.last = Some(now);
        // A closed standard error is not a failure.
        let (bar, text) = (bar(self.done, self.all), describe(self.done, self.all, now - self.start));
        let _ = write!(std::io::stderr(), "\r\x1b[K{bar} {text}");
    }

    /// Clears the line, so that a message can be printed.
    pub fn clear(&mut self) {
        if self.shown {
            self.last = None;
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Draws the bar: `[==========          ]`.
fn bar(done: usize, all: usize) -> String {
    let filled = (BAR * done).checked_div(all).unwrap_or(BAR).min(BAR);
    format!("[{}{}]", "=".repeat(filled), " ".repeat(BAR - filled))
}

/// Describes the progress: `120 of 2000 photos, 12.3 a second, 2 min 33 s left`.
fn describe(done: usize, all: usize, elapsed: Duration) -> String {
    let count = format!("{done} of {all} photos");
    let seconds = elapsed.as_secs_f64();
    if done == 0 || seconds <= 0.0 {
        return count;
    }
    let rate = done as f64 / seconds;
    let rate_text = if rate < 1.0 { format!("{:.1} a minute", rate * 60.0) } else { format!("{rate:.1} a second") };
    format!("{count}, {rate_text}, {} left", time_text(all.saturating_sub(done) as f64 / rate))
}

fn time_text(seconds: f64) -> String {
    // A float that is too large becomes the largest number.
    let seconds = seconds.ceil() as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bar_fills_from_empty_to_full() {
        assert_eq!(bar(0, 40), format!("[{}]", " ".repeat(20)));
        assert_eq!(bar(20, 40), format!("[{}{}]", "=".repeat(10), " ".repeat(10)));
        for (done, all) in [(40, 40), (0, 0), (9, 8)] {
            assert_eq!(bar(done, all), format!("[{}]", "=".repeat(20)));
        }
    }

    #[test]
    fn rate_and_time_left_are_shown() {
        let after = |done, all, seconds| describe(done, all, Duration::from_secs_f64(seconds));
        assert_eq!(after(0, 100, 0.0), "0 of 100 photos");
        assert_eq!(after(50, 100, 5.0), "50 of 100 photos, 10.0 a second, 5 s left");
        assert_eq!(after(10, 2000, 1.0), "10 of 2000 photos, 10.0 a second, 3 min 19 s left");
        assert_eq!(after(1, 1000, 10.0), "1 of 1000 photos, 6.0 a minute, 2 h 46 min left");
        assert_eq!(after(10, 1_000_000, 1.0), "10 of 1000000 photos, 10.0 a second, 1 d 3 h left");
        assert_eq!(after(100, 100, 5.0), "100 of 100 photos, 20.0 a second, 0 s left");
        assert!(after(1, usize::MAX, 1e15).starts_with("1 of"), "no overflow");
    }
}
