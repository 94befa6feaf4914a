//! Frames with cold caches: another program's memory passes through them before each frame, as on a robot.

use std::fmt::{self, Write};
use std::hint::black_box;
use std::path::Path;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::lab::report::{Named, PageFaults};
use crate::live::statistics::{Summary, write_table};
use crate::platform::cpu_cache;
use crate::platform::machine_facts::MachineFacts;

/// Last-level cache that is assumed where the kernel does not describe it: more than boards have.
const ASSUMED_CACHE: u64 = 16 << 20;
/// Words of a cache line.
const LINE: usize = 64 / size_of::<u64>();

/// Memory of another program.
pub(crate) struct OtherMemory {
    words: Vec<u64>,
    last_level_cache_bytes: Option<u64>,
}

impl OtherMemory {
    /// Returns how many bytes pass through: those that were asked for, or twice the last-level cache.
    ///
    /// # Errors
    /// When that is more than half of the memory that is available.
    pub(crate) fn choose_bytes(asked: Option<u64>) -> Result<u64> {
        let bytes = asked.unwrap_or_else(|| 2 * cpu_cache::last_level_bytes().unwrap_or(ASSUMED_CACHE));
        let available = MachineFacts::read(Path::new("/")).available_memory_bytes;
        ensure!(
            available.is_none_or(|available| bytes <= available / 2),
            "--cold: {:.0} MiB are more than half of the memory that is available ({:.0} MiB): name a smaller size, as in --cold 64",
            mib(bytes),
            mib(available.unwrap_or(0))
        );
        Ok(bytes)
    }

    /// Allocates the memory.
    pub(crate) fn allocate(bytes: u64) -> OtherMemory {
        // Not zeros: those would share one page.
        let words = vec![1; bytes as usize / size_of::<u64>()];
        OtherMemory { words, last_level_cache_bytes: cpu_cache::last_level_bytes() }
    }

    /// Reads and writes each cache line once.
    pub(crate) fn pass_through(&mut self) {
        for line in self.words.chunks_mut(LINE) {
            line[0] = line[0].wrapping_add(1);
        }
        black_box(&mut self.words);
    }

    pub(crate) fn bytes(&self) -> u64 {
        size_of_val(&*self.words) as u64
    }

    pub(crate) fn last_level_cache_bytes(&self) -> Option<u64> {
        self.last_level_cache_bytes
    }
}

/// The figures of frames with cold caches.
#[derive(Clone, Debug, Serialize)]
pub struct Cold {
    /// Memory that passed through the caches before each frame.
    pub passed_bytes: u64,
    /// The last-level cache; `None` if the kernel does not describe it.
    pub last_level_cache_bytes: Option<u64>,
    pub stages: Named<Summary>,
    pub frame: Summary,
    /// The cold 99th percentile, relative to the median with warm caches.
    pub p99_to_warm_p50: f64,
    pub page_faults_per_frame: PageFaults,
}

impl Cold {
    /// Writes the table of stages, and the whole frame beside the warm one.
    pub(crate) fn write(&self, f: &mut String, warm: &Summary) -> fmt::Result {
        let cache = match self.last_level_cache_bytes {
            Some(bytes) => format!("the last-level cache has {:.1} MiB", mib(bytes)),
            None => "the kernel does not name the size of the last-level cache".to_owned(),
        };
        writeln!(
            f,
            "cold: {:.1} MiB of another program's memory before each frame ({cache})\n",
            mib(self.passed_bytes)
        )?;
        let stages = self.stages.0.iter().map(|(name, summary)| (name.as_str(), *summary));
        write_table(f, stages.chain([("frame", self.frame)]))?;
        let quantiles = |s: &Summary| [s.p50_us, s.p99_us, s.p999_us].map(|us| us as f64 / 1000.0);
        let ([p50, p99, p999], [cold50, cold99, cold999]) = (quantiles(warm), quantiles(&self.frame));
        writeln!(
            f,
            "\n\nframe, ms (p50, p99, p99.9): warm {p50:.2}, {p99:.2}, {p999:.2}; cold {cold50:.2}, {cold99:.2}, {cold999:.2}"
        )?;
        let PageFaults { ours, capture } = self.page_faults_per_frame;
        writeln!(
            f,
            "cold p99 is {:.2} of warm p50; page faults per frame: ours {ours}, source {capture}",
            self.p99_to_warm_p50
        )
    }
}

/// Returns the ratio of two times, rounded to hundredths.
pub(crate) fn ratio(us: u64, to_us: u64) -> f64 {
    (us as f64 / to_us.max(1) as f64 * 100.0).round() / 100.0
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cache_line_is_touched() {
        let mut other = OtherMemory::allocate(4096 + 8);
        other.pass_through();
        other.pass_through();
        let touched = other.words.iter().filter(|&&word| word == 3).count();
        assert_eq!((other.bytes(), touched), (4104, 65));
    }

    #[test]
    fn more_memory_than_there_is_is_refused_before_it_is_taken() {
        let error = OtherMemory::choose_bytes(Some(u64::MAX)).expect_err("too much").to_string();
        assert!(error.contains("more than half") && error.contains("--cold 64"), "{error}");
    }
}
