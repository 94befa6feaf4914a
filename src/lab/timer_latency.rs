//! Measures how late a sleeping thread wakes up on this machine.

use std::time::Duration;

use serde::Serialize;

use crate::live::statistics::LatencyHistogram;
use crate::platform::clock::{now_us, sleep_until_us};

/// How late a thread woke up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Lateness {
    pub sleeps: u64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
}

/// Sleeps `count` times for `period`, each time until an absolute time, as the publisher does.
pub fn measure(count: u32, period: Duration) -> Lateness {
    let mut late = LatencyHistogram::default();
    let period_us = period.as_micros() as u64;
    let mut due_us = now_us() + period_us;
    for _ in 0..count {
        sleep_until_us(due_us);
        let woken_us = now_us();
        late.record(woken_us.saturating_sub(due_us));
        // After a very late wake-up the next one is due later; otherwise it would count as late too.
        due_us = (due_us + period_us).max(woken_us);
    }
    Lateness {
        sleeps: late.count(),
        p50_us: late.quantile_us(0.5),
        p99_us: late.quantile_us(0.99),
        max_us: late.max_us(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_wake_ups_after_their_time() {
        let start = now_us();
        let late = measure(20, Duration::from_millis(2));
        assert!(now_us() - start >= 40_000, "it slept");
        assert_eq!(late.sleeps, 20);
        assert!(late.p50_us <= late.p99_us && late.p99_us <= late.max_us);
    }
}
