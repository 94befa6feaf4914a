//! Time in microseconds on `CLOCK_MONOTONIC`, the clock that V4L2 stamps frames with.

use std::io;

/// Returns microseconds of `CLOCK_MONOTONIC`, the time base of every `captured_us` and of the kernel's frame times.
pub fn now_us() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a timespec of ours that the call only writes to. It cannot fail: the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

/// Returns the resolution of that clock in nanoseconds: 1 where the kernel has high resolution timers.
pub fn resolution_ns() -> u64 {
    let mut resolution = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `resolution` is a timespec of ours that the call only writes to. It cannot fail: the clock exists.
    unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC, &mut resolution) };
    resolution.tv_sec as u64 * 1_000_000_000 + resolution.tv_nsec as u64
}

/// Sleeps until `now_us()` is `until_us` or later; returns at once if that is past. Signals do not end the sleep early.
pub fn sleep_until_us(until_us: u64) {
    let until = libc::timespec {
        tv_sec: (until_us / 1_000_000) as libc::time_t,
        tv_nsec: (until_us % 1_000_000 * 1000) as libc::c_long,
    };
    loop {
        // SAFETY: `until` outlives the call and is only read; the time is absolute, so no remaining time is requested.
        let result =
            unsafe { libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &until, std::ptr::null_mut()) };
        if io::Error::from_raw_os_error(result).kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
}

/// Measures consecutive stages.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    since_us: u64,
}

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Stopwatch {
        Stopwatch { since_us: now_us() }
    }

    /// Returns the microseconds since the start or the last lap, and begins the next lap.
    pub fn lap_us(&mut self) -> u64 {
        let now = now_us();
        let lap = now - self.since_us;
        self.since_us = now;
        lap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_until_the_time_and_returns_at_once_if_it_is_past() {
        let start = now_us();
        sleep_until_us(start + 3000);
        let woken = now_us();
        assert!(woken >= start + 3000, "{}", woken - start);
        sleep_until_us(start);
        sleep_until_us(0);
        // Taken for durations, these would last as long as the machine has been up.
        assert!(now_us() - woken < start);
    }
}
