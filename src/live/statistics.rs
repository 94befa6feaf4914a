//! Latency statistics in fixed memory: recording neither allocates nor locks, so it is done for every frame.
//!
//! Not the crate `hdrhistogram`: it corrects for coordinated omission one missed period at a time, so a long stall would
//! take the publisher's time, and its resolution in decimal digits would change the figures of reports.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Equal steps of each power of two: a quantile is at most 1/32 too high.
const STEPS: usize = 32;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Number of buckets; values from 2^36 us (19 hours) share the last one.
const BUCKETS: usize = STEPS * 32;

/// A histogram of microseconds, exact below 32 us and within 3 % above; it takes 8 KiB.
#[derive(Clone)]
pub struct LatencyHistogram {
    buckets: Box<[u64; BUCKETS]>,
    count: u64,
    added: u64,
    sum_us: u128,
    min_us: u64,
    max_us: u64,
}

impl Default for LatencyHistogram {
    fn default() -> LatencyHistogram {
        LatencyHistogram { buckets: Box::new([0; BUCKETS]), count: 0, added: 0, sum_us: 0, min_us: u64::MAX, max_us: 0 }
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

/// Returns the largest value of a bucket.
fn upper_end(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let (exponent, step) = (bucket / STEPS - 1, bucket % STEPS);
    (((STEPS + step + 1) as u64) << exponent) - 1
}

/// The figures of a stage in reports. Quantiles cover the measured durations and those added for coordinated omission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Number of measured durations.
    pub n: u64,
    pub min_us: u64,
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
    /// Number of durations added for frames that could not be measured because an earlier one took too long.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub added: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl LatencyHistogram {
    /// Records one duration.
    pub fn record(&mut self, us: u64) {
        self.count += 1;
        self.put(us, 1);
    }

    /// Records one duration of an event that is due every `period_us`, and corrects for coordinated omission as
    /// HdrHistogram does: while one event takes longer than a period, those due meanwhile are not measured, although they
    /// would have waited `us - period_us`, `us - 2 period_us` and so on. Takes constant time, however long the stall is.
    pub fn record_periodic(&mut self, us: u64, period_us: u64) {
        self.record(us);
        let periods = us.checked_div(period_us).unwrap_or(0);
        if periods < 2 {
            return;
        }
        // The k-th event that waited, k = 1..periods, took us - k period_us, which is at least a period. So the loop goes
        // from the bucket of a period to the bucket of `us`.
        let mut done = periods - 1;
        for index in bucket(period_us)..=bucket(us) {
            // Events with k >= least are not above this bucket; all with k > done are below it.
            let least =
                if index == BUCKETS - 1 { 1 } else { (us.saturating_sub(upper_end(index))).div_ceil(period_us).max(1) };
            if least <= done {
                self.buckets[index] = self.buckets[index].saturating_add(done - least + 1);
                done = least - 1;
            }
        }
        let waited = u128::from(periods - 1);
        self.added = self.added.saturating_add(periods - 1);
        self.sum_us += waited * u128::from(us) - waited * u128::from(periods) / 2 * u128::from(period_us);
        self.min_us = self.min_us.min(us - (periods - 1) * period_us);
    }

    fn put(&mut self, us: u64, times: u64) {
        self.buckets[bucket(us)] += times;
        self.sum_us += u128::from(us) * u128::from(times);
        self.min_us = self.min_us.min(us);
        self.max_us = self.max_us.max(us);
    }

    /// Forgets all durations and keeps the memory. Used after a warm-up.
    pub fn reset(&mut self) {
        self.buckets.fill(0);
        (self.count, self.added, self.sum_us, self.min_us, self.max_us) = (0, 0, 0, u64::MAX, 0);
    }

    /// Returns the number of durations, measured and added.
    fn all(&self) -> u64 {
        self.count.saturating_add(self.added)
    }

    /// Returns the number of measured durations.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the shortest duration; 0 if there is none.
    pub fn min_us(&self) -> u64 {
        if self.count == 0 { 0 } else { self.min_us }
    }

    /// Returns the longest duration; 0 if there is none.
    pub fn max_us(&self) -> u64 {
        self.max_us
    }

    /// Returns the mean; 0 if there is no duration.
    pub fn mean_us(&self) -> u64 {
        (self.sum_us / u128::from(self.all().max(1))) as u64
    }

    /// Returns the smallest recorded value that a share `q` (0..1) of all do not exceed, rounded up by at most 3 %.
    pub fn quantile_us(&self, q: f64) -> u64 {
        self.quantiles_us([q])[0]
    }

    /// Returns the quantiles of several rising shares, in one pass.
    pub fn quantiles_us<const N: usize>(&self, shares: [f64; N]) -> [u64; N] {
        let all = self.all();
        let wanted = shares.map(|q| ((q * all as f64).ceil() as u64).clamp(1, all.max(1)));
        let mut found = [self.max_us; N];
        let (mut seen, mut next) = (0, 0);
        for (index, &here) in self.buckets.iter().enumerate() {
            seen = here.saturating_add(seen);
            while next < N && seen >= wanted[next] {
                found[next] = upper_end(index).clamp(self.min_us(), self.max_us);
                next += 1;
            }
        }
        found
    }

    /// Returns each bucket that is not empty: its largest value in microseconds, and its number of durations.
    pub fn filled(&self) -> Vec<(u64, u64)> {
        let filled = self.buckets.iter().enumerate().filter(|&(_, &count)| count > 0);
        filled.map(|(index, &count)| (upper_end(index), count)).collect()
    }

    /// Returns the figures for a report.
    pub fn summary(&self) -> Summary {
        let [p50_us, p90_us, p99_us, p999_us] = self.quantiles_us([0.5, 0.9, 0.99, 0.999]);
        let (n, added, min_us, max_us) = (self.count, self.added, self.min_us(), self.max_us);
        Summary { n, min_us, p50_us, p90_us, p99_us, p999_us, max_us, added }
    }
}

/// Counts of frames within and beyond their deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadlines {
    /// The time that a frame may take; 0 if there is no deadline, and then none is missed.
    pub budget_us: u64,
    /// Frames that were counted.
    pub frames: u64,
    /// Frames that missed their deadline.
    pub missed: u64,
    /// The most misses in a row.
    pub longest_miss_run: u64,
    #[serde(skip)]
    run: u64,
}

impl Deadlines {
    /// Starts with no frame counted.
    pub fn new(budget_us: u64) -> Deadlines {
        Deadlines { budget_us, ..Deadlines::default() }
    }

    /// Counts a frame that took `used_us`, and returns true if it missed its deadline.
    pub fn record(&mut self, used_us: u64) -> bool {
        let missed = self.budget_us > 0 && used_us > self.budget_us;
        self.count(missed);
        missed
    }

    /// Counts a frame; the caller decides whether it missed its deadline.
    pub fn count(&mut self, missed: bool) {
        self.frames += 1;
        self.missed += u64::from(missed);
        self.run = if missed { self.run + 1 } else { 0 };
        self.longest_miss_run = self.longest_miss_run.max(self.run);
    }
}

/// One row of a [`StageTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageRow(usize);

struct Entry {
    name: String,
    period_us: u64,
    statistics: LatencyHistogram,
}

/// Statistics of a run's stages. Rows are registered at the start; recording into them does not allocate.
#[derive(Default)]
pub struct StageTable {
    entries: Vec<Entry>,
}

impl StageTable {
    /// Adds a row for the stage `name`. With a period in microseconds, its durations are corrected for coordinated
    /// omission.
    pub fn register(&mut self, name: &str, period_us: Option<u64>) -> StageRow {
        let name = name.to_owned();
        self.entries.push(Entry { name, period_us: period_us.unwrap_or(0), statistics: LatencyHistogram::default() });
        StageRow(self.entries.len() - 1)
    }

    /// Records a duration. A row of another table is ignored.
    pub fn record(&mut self, row: StageRow, us: u64) {
        match self.entries.get_mut(row.0) {
            Some(Entry { statistics, period_us: 0, .. }) => statistics.record(us),
            Some(Entry { statistics, period_us, .. }) => statistics.record_periodic(us, *period_us),
            None => {}
        }
    }

    /// Forgets all durations and keeps the rows.
    pub fn reset(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.statistics.reset());
    }

    /// Returns the stages with their statistics in the order of registration, including those without a duration.
    pub fn rows(&self) -> impl Iterator<Item = (&str, &LatencyHistogram)> {
        self.entries.iter().map(|entry| (entry.name.as_str(), &entry.statistics))
    }
}

/// Writes the table for people; rows without a duration are left out.
impl fmt::Display for StageTable {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let shown = self.rows().filter(|(_, statistics)| statistics.count() > 0);
        write_table(f, shown.map(|(name, statistics)| (name, statistics.summary())))
    }
}

/// Writes the head and a line for each stage, in milliseconds.
pub fn write_table<'a>(f: &mut impl fmt::Write, rows: impl Iterator<Item = (&'a str, Summary)>) -> fmt::Result {
    write!(f, "{:<24}{:>8}{:>9}{:>9}{:>9}{:>9}{:>9}", "stage, ms", "n", "p50", "p90", "p99", "p99.9", "max")?;
    for (name, s) in rows {
        write!(f, "\n{name:<24}{:>8}", s.n)?;
        for us in [s.p50_us, s.p90_us, s.p99_us, s.p999_us, s.max_us] {
            write!(f, "{:>9.2}", us as f64 / 1000.0)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_contiguous() {
        for value in (0..5000).chain([1 << 20, (1 << 20) + 4321, 1 << 35]) {
            let index = bucket(value);
            assert!(upper_end(index) >= value && (index == 0 || upper_end(index - 1) < value), "{value}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_within_three_percent() {
        let mut statistics = LatencyHistogram::default();
        (1..=10_000).rev().for_each(|us| statistics.record(us));
        for (q, exact) in [(0.5, 5000.0), (0.9, 9000.0), (0.99, 9900.0), (0.999, 9990.0)] {
            let ratio = statistics.quantile_us(q) as f64 / exact;
            assert!((1.0..1.032).contains(&ratio), "{q}: {ratio}");
        }
        assert_eq!((statistics.min_us(), statistics.max_us(), statistics.mean_us()), (1, 10_000, 5000));
        assert_eq!(statistics.quantile_us(1.0), 10_000);
        let summary = statistics.summary();
        assert_eq!((summary.n, summary.added, summary.p99_us), (10_000, 0, statistics.quantile_us(0.99)));
    }

    #[test]
    fn figures_are_zero_without_a_duration() {
        assert_eq!(LatencyHistogram::default().summary(), Summary::default());
        assert_eq!(LatencyHistogram::default().mean_us(), 0);
        let mut used = LatencyHistogram::default();
        used.record_periodic(500, 10);
        used.reset();
        assert_eq!(used.summary(), Summary::default());
    }

    /// The loop of HdrHistogram's documentation.
    fn corrected_one_by_one(statistics: &mut LatencyHistogram, us: u64, period_us: u64) {
        statistics.record(us);
        let mut missing = us.saturating_sub(period_us);
        while missing >= period_us {
            statistics.put(missing, 1);
            statistics.added += 1;
            missing -= period_us;
        }
    }

    #[test]
    fn adds_omitted_frames_as_hdr_histogram_does() {
        for period_us in [1, 7, 33, 1000, 33_333] {
            for us in (0..300).chain([1000, 33_333, 66_665, 66_666, 99_999, 100_000, 1_234_567]) {
                let (mut quick, mut slow) = (LatencyHistogram::default(), LatencyHistogram::default());
                quick.record_periodic(us, period_us);
                corrected_one_by_one(&mut slow, us, period_us);
                assert_eq!(quick.buckets, slow.buckets, "{us} every {period_us}");
                assert_eq!((quick.summary(), quick.sum_us), (slow.summary(), slow.sum_us), "{us} every {period_us}");
            }
        }
    }

    #[test]
    fn a_long_stall_moves_the_tail_in_constant_time() {
        let mut statistics = LatencyHistogram::default();
        (0..900).for_each(|_| statistics.record_periodic(5000, 33_333));
        statistics.record_periodic(3_333_300, 33_333);
        let summary = statistics.summary();
        assert_eq!((summary.n, summary.added), (901, 99));
        assert!(summary.p90_us < 5200 && summary.p99_us > 2_900_000, "{summary:?}");
        let mut endless = LatencyHistogram::default();
        endless.record_periodic(u64::MAX, 1);
        endless.record_periodic(5, 0);
        assert_eq!(endless.summary().n, 2);
    }

    #[test]
    fn keeps_the_longest_run_of_misses() {
        let mut deadlines = Deadlines::new(10);
        for us in [11, 5, 12, 13, 14, 10, 11] {
            deadlines.record(us);
        }
        assert_eq!((deadlines.frames, deadlines.missed, deadlines.longest_miss_run), (7, 5, 3));
        let mut none = Deadlines::new(0);
        assert!(!none.record(u64::MAX));
    }

    #[test]
    fn the_table_keeps_the_order_and_hides_empty_rows() {
        let mut table = StageTable::default();
        let [find, encode, _] = ["find", "encode", "decode"].map(|name| table.register(name, None));
        let frame = table.register("frame", Some(100));
        for (row, us) in [(encode, 20), (find, 1500), (find, 2500), (frame, 250), (StageRow(9), 1)] {
            table.record(row, us);
        }
        let counts: Vec<_> = table.rows().map(|(name, s)| (name, s.count(), s.summary().added)).collect();
        let buckets: Vec<_> = table.rows().map(|(_, s)| s.filled()).collect();
        // 1500 lies in 1472..=1503, steps of 32; the frame of 250 adds one of 150.
        assert_eq!(buckets, [vec![(1503, 1), (2559, 1)], vec![(20, 1)], vec![], vec![(151, 1), (251, 1)]]);
        assert_eq!(counts, [("find", 2, 0), ("encode", 1, 0), ("decode", 0, 0), ("frame", 1, 1)]);
        let text = table.to_string();
        assert!(text.lines().nth(1).is_some_and(|line| line.starts_with("find") && line.contains("2.50")), "{text}");
        assert!(!text.contains("decode"), "{text}");
        table.reset();
        assert_eq!(table.to_string().lines().count(), 1);
    }
}
