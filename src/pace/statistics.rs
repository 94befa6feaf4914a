//! Latency statistics in fixed memory, and the table of a run.

use std::fmt;

/// Each power of two is split into so many equal steps: a quantile is at most 1/32 too high.
const STEPS: usize = 32;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Values from 2^36 us (19 hours) on share the last bucket.
const BUCKETS: usize = STEPS * 32;

/// A histogram of microseconds, exact below 32 us and within 3 % above; 8 KiB whatever it counts.
#[derive(Clone)]
pub struct Statistics {
    buckets: Box<[u64; BUCKETS]>,
    count: u64,
    sum_us: u64,
    min_us: u64,
    max_us: u64,
}

impl Default for Statistics {
    fn default() -> Statistics {
        Statistics { buckets: Box::new([0; BUCKETS]), count: 0, sum_us: 0, min_us: u64::MAX, max_us: 0 }
    }
}

fn bucket(value: u64) -> usize {
    if value < STEPS as u64 {
        return value as usize;
    }
    let exponent = value.ilog2() - STEP_BITS;
    let step = (value >> exponent) as usize - STEPS;
    ((exponent as usize + 1) * STEPS + step).min(BUCKETS - 1)
}

/// The largest value that falls into a bucket.
fn upper_end(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let (exponent, step) = (bucket / STEPS - 1, bucket % STEPS);
    (((STEPS + step + 1) as u64) << exponent) - 1
}

impl Statistics {
    /// Counts one duration.
    pub fn record(&mut self, us: u64) {
        self.buckets[bucket(us)] += 1;
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(us);
        self.min_us = self.min_us.min(us);
        self.max_us = self.max_us.max(us);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The shortest; 0 when none was counted.
    pub fn min_us(&self) -> u64 {
        if self.count == 0 { 0 } else { self.min_us }
    }

    /// The longest.
    pub fn max_us(&self) -> u64 {
        self.max_us
    }

    /// The mean; 0 when none was counted.
    pub fn mean_us(&self) -> u64 {
        self.sum_us / self.count.max(1)
    }

    /// The smallest recorded value that a share `q` (0..1) of all do not exceed, rounded up by at most 3 %.
    pub fn quantile_us(&self, q: f64) -> u64 {
        let wanted = ((q * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (index, &here) in self.buckets.iter().enumerate() {
            seen += here;
            if seen >= wanted {
                return upper_end(index).clamp(self.min_us(), self.max_us);
            }
        }
        self.max_us
    }
}

/// Statistics by name, in the order of their first appearance.
#[derive(Default)]
pub struct Table {
    rows: Vec<(String, Statistics)>,
}

impl Table {
    /// Counts a duration of the stage `name`.
    pub fn record(&mut self, name: &str, us: u64) {
        let row = match self.rows.iter().position(|(known, _)| known == name) {
            Some(row) => row,
            None => {
                self.rows.push((name.to_owned(), Statistics::default()));
                self.rows.len() - 1
            }
        };
        self.rows[row].1.record(us);
    }

    /// The stages with their statistics.
    pub fn rows(&self) -> impl Iterator<Item = (&str, &Statistics)> {
        self.rows.iter().map(|(name, statistics)| (name.as_str(), statistics))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let ms = |us: u64| format!("{:.2}", us as f64 / 1000.0);
        write!(f, "{:<24}{:>8}{:>9}{:>9}{:>9}{:>9}", "stage, ms", "n", "p50", "p90", "p99", "max")?;
        for (name, s) in self.rows() {
            let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|q| ms(s.quantile_us(q)));
            write!(f, "\n{name:<24}{:>8}{p50:>9}{p90:>9}{p99:>9}{:>9}", s.count(), ms(s.max_us()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_their_values_and_follow_each_other() {
        for value in (0..5000).chain([1 << 20, (1 << 20) + 4321, 1 << 35]) {
            let index = bucket(value);
            assert!(upper_end(index) >= value && (index == 0 || upper_end(index - 1) < value), "{value}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_within_three_percent() {
        let mut statistics = Statistics::default();
        (1..=10_000).rev().for_each(|us| statistics.record(us));
        for (q, exact) in [(0.5, 5000.0), (0.9, 9000.0), (0.99, 9900.0)] {
            let ratio = statistics.quantile_us(q) as f64 / exact;
            assert!((1.0..1.032).contains(&ratio), "{q}: {ratio}");
        }
        assert_eq!((statistics.min_us(), statistics.max_us(), statistics.mean_us()), (1, 10_000, 5000));
        assert_eq!(statistics.quantile_us(1.0), 10_000);
    }

    #[test]
    fn nothing_counted_is_zero() {
        let statistics = Statistics::default();
        assert_eq!((statistics.quantile_us(0.5), statistics.min_us(), statistics.mean_us()), (0, 0, 0));
    }

    #[test]
    fn the_table_keeps_the_order_of_the_stages() {
        let mut table = Table::default();
        for (name, us) in [("find", 1500), ("encode", 20), ("find", 2500)] {
            table.record(name, us);
        }
        assert_eq!(table.rows().map(|(n, s)| (n, s.count())).collect::<Vec<_>>(), [("find", 2), ("encode", 1)]);
        assert!(table.to_string().lines().nth(1).is_some_and(|line| line.starts_with("find") && line.contains("2.50")));
    }
}
