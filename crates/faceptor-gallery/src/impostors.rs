//! The scores of impostors: how similar faces of different people are, and the threshold that follows from it.

use crate::error::{GalleryError, Result};

/// Tail of the distribution of scores between different people, as a network's manifest holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct ImpostorScores {
    /// Natural logarithm of the share of pairs that reach a score, falling; and the score, rising.
    tail: Vec<(f64, f64)>,
}

impl ImpostorScores {
    /// Takes shares of pairs of different people, from the largest to the smallest, and the score that each share reaches.
    ///
    /// # Errors
    /// Unless there are two or more, shares fall within 0..1, and scores rise within -1..1.
    pub fn new(rates: &[f64], scores: &[f32]) -> Result<ImpostorScores, GalleryError> {
        let refused = |text: &str| Err(GalleryError::Refused(format!("the table of impostor scores {text}")));
        if rates.len() != scores.len() || rates.len() < 2 {
            return refused("needs two or more rates, and a score for each");
        }
        if !(rates.iter().all(|rate| *rate > 0.0 && *rate < 1.0) && rates.windows(2).all(|pair| pair[0] > pair[1])) {
            return refused("has rates that do not fall from below 1 to above 0");
        }
        let in_range = scores.iter().all(|score| (-1.0..=1.0).contains(score));
        if !(in_range && scores.windows(2).all(|pair| pair[0] < pair[1])) {
            return refused("has scores that do not rise within -1..1");
        }
        let tail = rates.iter().zip(scores).map(|(rate, score)| (rate.ln(), f64::from(*score))).collect();
        Ok(ImpostorScores { tail })
    }

    /// Returns the score that this share of the pairs of different people reaches.
    ///
    /// Between two entries the logarithm of the share is interpolated. Beyond the last entry the line through the last two is
    /// extended: the tail falls faster than that, so that the score is rather too high than too low.
    pub fn score_at(&self, rate: f64) -> f32 {
        let wanted = rate.max(f64::MIN_POSITIVE).ln();
        let after = self.tail.partition_point(|(logarithm, _)| *logarithm > wanted);
        if after == 0 {
            return self.tail[0].1 as f32;
        }
        let upper = after.min(self.tail.len() - 1).max(1);
        let ((from, low), (to, high)) = (self.tail[upper - 1], self.tail[upper]);
        (low + (wanted - from) / (to - from) * (high - low)).min(1.0) as f32
    }

    /// Returns the threshold with which a stranger gets a name with probability `fpir`, the false positive identification rate.
    ///
    /// A stranger is compared with this many templates, so that each comparison may fail with probability
    /// 1 - (1 - FPIR)^(1 / comparisons). Templates of one person resemble each other, which makes the true rate a little
    /// smaller; `docs/identity.md` has it measured.
    pub fn threshold(&self, fpir: f64, comparisons: usize) -> f32 {
        self.score_at(rate_of_one(fpir, comparisons))
    }
}

/// Returns the probability of a false match in one comparison, if it is `fpir` in so many of them.
fn rate_of_one(fpir: f64, comparisons: usize) -> f64 {
    // 1 - (1 - f)^(1/n), without the loss of digits for small f.
    -((-fpir.clamp(0.0, 1.0 - f64::EPSILON)).ln_1p() / comparisons.max(1) as f64).exp_m1()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> ImpostorScores {
        ImpostorScores::new(&[1e-1, 1e-2, 1e-3, 1e-4], &[0.2, 0.3, 0.4, 0.5]).expect("a table")
    }

    #[test]
    fn scores_are_interpolated_and_extended() {
        let table = table();
        for (rate, score) in [(1e-1, 0.2), (1e-3, 0.4), (0.5, 0.2), (10f64.powf(-2.5), 0.35), (1e-6, 0.7), (1e-30, 1.0)]
        {
            assert!((table.score_at(rate) - score).abs() < 1e-5, "{rate}: {}", table.score_at(rate));
        }
        assert_eq!(table.score_at(0.0), 1.0);
    }

    #[test]
    fn more_comparisons_need_a_higher_threshold() {
        let table = table();
        assert!((rate_of_one(0.01, 100) - 1.005e-4).abs() < 1e-7);
        assert!((rate_of_one(0.01, 1) - 0.01).abs() < 1e-12 && rate_of_one(0.0, 5) == 0.0);
        assert!((table.threshold(0.01, 1) - 0.3).abs() < 1e-5);
        assert!((table.threshold(0.01, 100) - 0.4998).abs() < 1e-3);
        let thresholds: Vec<f32> = [0, 1, 10, 100, 10_000].map(|count| table.threshold(0.01, count)).into();
        assert!(thresholds.is_sorted() && thresholds[0] == thresholds[1], "{thresholds:?}");
    }

    #[test]
    fn tables_without_order_are_refused() {
        for (rates, scores) in [
            (&[0.1][..], &[0.2][..]),
            (&[0.1, 0.01], &[0.2]),
            (&[0.01, 0.1], &[0.2, 0.3]),
            (&[0.1, 0.01], &[0.3, 0.3]),
            (&[0.1, 0.01], &[0.3, f32::NAN]),
            (&[0.1, 0.01], &[0.3, 1.5]),
            (&[1.0, 0.1], &[0.2, 0.3]),
            (&[0.1, 0.0], &[0.2, 0.3]),
            (&[f64::NAN, 0.1], &[0.2, 0.3]),
        ] {
            assert!(ImpostorScores::new(rates, scores).is_err(), "{rates:?} {scores:?}");
        }
    }
}
