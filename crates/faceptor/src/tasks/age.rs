//! Age: the mean and spread of a distribution over bins of years.

use crate::error::Result;
use crate::tasks::shape::check_numbers;
use faceptor_nn::manifest::Task;

/// An age: the mean of the network's distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Age {
    /// Mean, years.
    pub years: f32,
    /// Standard deviation, years.
    pub std: f32,
}

/// Checks for `[1, bins]` with the year of each bin.
pub(super) fn check(task: &Task, shape: &[usize]) -> Result<()> {
    check_numbers(task, shape, Some(task.bins.len()))
}

impl Age {
    /// Decodes `probabilities` of the bins whose middles are `years`. They are normalised again, because rounding in the
    /// network leaves their sum only near 1.
    pub fn read(probabilities: &[f32], years: &[f32]) -> Age {
        let sum: f32 = probabilities.iter().map(|p| p.max(0.0)).sum::<f32>().max(1e-6);
        let expect = |of: &dyn Fn(f32) -> f32| -> f32 {
            probabilities.iter().zip(years).map(|(p, &year)| p.max(0.0) * of(year)).sum::<f32>() / sum
        };
        let mean = expect(&|year| year);
        let variance = expect(&|year| (year - mean) * (year - mean));
        Age { years: mean, std: variance.sqrt() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_spread_of_the_bins() {
        let age = Age::read(&[0.0, 0.25, 0.5, 0.25], &[0.0, 20.0, 30.0, 40.0]);
        assert!((age.years - 30.0).abs() < 1e-4 && (age.std - 50.0f32.sqrt()).abs() < 1e-4, "{age:?}");
        assert_eq!(Age::read(&[0.2, 0.2], &[10.0, 20.0]), Age::read(&[0.5, 0.5], &[10.0, 20.0]));
    }

    #[test]
    fn an_empty_distribution_is_still_a_number() {
        assert_eq!(Age::read(&[0.0, 0.0], &[10.0, 20.0]), Age { years: 0.0, std: 0.0 });
    }
}
