//! Where the windows of a product's results lie in its activations.

use std::ops::Range;

/// The places of the windows of some rows of results.
///
/// A window is `runs` runs of `run_len` bytes, `run_step` apart. Positions beside each other in a line have windows `step`
/// apart; lines are `line_step` apart. Of each `period` positions in a line, the first `valid` are rows of results, the
/// others lie between them and are computed in vain: so a convolution over a padded image has one long line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Windows {
    pub(crate) runs: usize,
    pub(crate) run_len: usize,
    pub(crate) run_step: usize,
    pub(crate) step: usize,
    pub(crate) positions: usize,
    pub(crate) period: usize,
    pub(crate) valid: usize,
    pub(crate) lines: usize,
    pub(crate) line_step: usize,
}

impl Windows {
    /// Returns the windows of `rows` rows of `depth` bytes, one after the other.
    pub(crate) fn dense(rows: usize, depth: usize) -> Windows {
        let all = rows.max(1);
        Windows {
            runs: 1,
            run_len: depth,
            run_step: 0,
            step: depth,
            positions: rows,
            period: all,
            valid: all,
            lines: 1,
            line_step: 0,
        }
    }

    /// Returns the bytes of a window.
    pub(crate) fn depth(&self) -> usize {
        self.runs * self.run_len
    }

    /// Returns the rows of results of a line.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "used by families of x86 only"))]
    pub(crate) fn rows_of_line(&self) -> usize {
        let whole = self.positions / self.period;
        whole * self.valid + (self.positions - whole * self.period).min(self.valid)
    }

    /// Returns how many bytes of activations the windows reach to; none if that cannot be counted.
    pub(crate) fn reach(&self) -> Option<usize> {
        let last = |count: usize, step: usize| count.saturating_sub(1).checked_mul(step);
        let start = last(self.lines, self.line_step)?.checked_add(last(self.positions, self.step)?)?;
        start.checked_add(last(self.runs, self.run_step)?)?.checked_add(self.run_len)
    }

    /// Calls `each` for the runs of rows among positions of a line: with the first position and the rows in the line.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "used by families of x86 only"))]
    pub(crate) fn for_rows(&self, positions: Range<usize>, mut each: impl FnMut(usize, Range<usize>)) {
        let mut position = positions.start;
        while position < positions.end {
            let (period, place) = (position / self.period, position % self.period);
            let end = positions.end.min((period + 1) * self.period);
            let last = (end - period * self.period).min(self.valid);
            if place < last {
                each(position, period * self.valid + place..period * self.valid + last);
            }
            position = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_between_the_paddings() {
        // Lines of seven positions, of which five are rows; the last one ends with its rows.
        let windows = Windows { period: 7, valid: 5, positions: 19, ..Windows::dense(19, 4) };
        let mut rows = Vec::new();
        for start in (0..19).step_by(4) {
            windows.for_rows(start..(start + 4).min(19), |position, found| {
                found.enumerate().for_each(|(i, row)| rows.push((position + i, row)));
            });
        }
        let expected: Vec<_> = (0..19).filter(|p| p % 7 < 5).map(|p| (p, p / 7 * 5 + p % 7)).collect();
        assert_eq!(rows, expected);
        assert_eq!(windows.rows_of_line(), expected.len());
    }

    #[test]
    fn the_reach_ends_with_the_last_window() {
        assert_eq!(Windows::dense(3, 20).reach(), Some(60));
        let image = Windows { runs: 3, run_len: 12, run_step: 40, step: 4, positions: 8, ..Windows::dense(8, 4) };
        assert_eq!(image.reach(), Some(7 * 4 + 2 * 40 + 12));
        assert_eq!(Windows { lines: 3, line_step: usize::MAX / 2 + 1, ..image }.reach(), None);
    }
}
