//! Counts which part of a picture its scans have brought.

use heapless::Vec as ShortVec;

use super::frame::{Frame, MAX_COMPONENTS};
use super::scan::{Contents, Scan};

/// State of one component.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// For each coefficient in zigzag order, the bit position down to which it is known; `None`: nothing of it was there.
    low: [Option<u32>; 64],
    /// Smallest share of the blocks that a first scan of coefficients has brought.
    first: f32,
    /// Smallest share of the blocks that any scan has brought.
    any: f32,
}

/// Coefficients that the scans have set so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage {
    components: ShortVec<Seen, MAX_COMPONENTS>,
    pub disorders: usize,
    pub left: usize,
}

impl Coverage {
    pub(crate) fn new(frame: &Frame) -> Coverage {
        let mut components = ShortVec::new();
        for _ in &frame.components {
            let _ = components.push(Seen { low: [None; 64], first: 1.0, any: 1.0 });
        }
        Coverage { components, disorders: 0, left: 0 }
    }

    /// Adds a scan.
    pub(crate) fn add(&mut self, scan: &Scan, contents: &Contents) {
        let share = contents.read as f32 / contents.total.max(1) as f32;
        // Rounding must not make a picture whole that lacks one MCU of millions.
        let share = if contents.read < contents.total { share.min(0.999_999) } else { 1.0 };
        let [from, to] = scan.band;
        for component in &scan.components {
            let Some(seen) = self.components.get_mut(component.index) else { continue };
            seen.any = seen.any.min(share);
            if scan.high == 0 {
                seen.first = seen.first.min(share);
            }
            for known in &mut seen.low[from..=to] {
                // A scan that refines what has not come brings nothing: the one between them is missing.
                if scan.high == 0 || *known == Some(scan.high) {
                    *known = Some(scan.low);
                }
            }
        }
        self.disorders += contents.disorders;
        self.left = self.left.max(contents.left);
    }

    /// Returns the share of the picture that was there, and the share of its detail.
    pub(crate) fn result(&self) -> (f32, f32) {
        let mut read = 1.0f32;
        let mut details: ShortVec<f32, MAX_COMPONENTS> = ShortVec::new();
        for seen in &self.components {
            read = read.min(if seen.low[0].is_some() { seen.first } else { 0.0 });
            // A coefficient of which the last bits are missing is half known, a third, and so on.
            let known: f32 = seen.low.iter().map(|low| low.map_or(0.0, |low| 1.0 / (1.0 + low as f32))).sum();
            // What first scans lack is counted as missing already.
            let later = if seen.first < 1.0 { 1.0 } else { seen.any };
            let _ = details.push(known / 64.0 * later);
        }
        // The first component is luma: without its detail, that of the others does not count.
        let luma = details.first().copied().unwrap_or(0.0);
        let mean = details.iter().sum::<f32>() / details.len().max(1) as f32;
        (read, if luma < 1.0 { luma.min(mean) } else { mean })
    }
}
