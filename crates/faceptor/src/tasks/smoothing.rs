//! Smooths expression, age and attributes of a tracked face over time: an exponential filter for each.
//!
//! Predictions of single frames are noisy while the person hardly changes. The filter reports a weighted mean over the last
//! frames: after a step it has covered 63 % of the way when the time constant has passed, and 95 % after three of them; a
//! steady change is followed one time constant later. It works in seconds, so a task that runs in every third frame lags no
//! more than one that runs in each.

use crate::tasks::prediction::Prediction;

/// The time constant of `faceptor run` without `--steady-ms`.
pub const TIME_CONSTANT_S: f32 = 0.3;

/// Returns the weight of a new prediction, `elapsed_s` after the last one; 1 without a time constant.
pub fn share(elapsed_s: f32, time_constant_s: f32) -> f32 {
    if time_constant_s > 0.0 { 1.0 - (-elapsed_s.max(0.0) / time_constant_s).exp() } else { 1.0 }
}

/// Moves `result` towards `fresh` by a weight. Values that are not finite, or of another length, are replaced.
pub fn blend(result: &mut Prediction, fresh: &Prediction, share: f32) {
    let towards = |result: &mut f32, fresh: f32| {
        let mixed = *result + share * (fresh - *result);
        *result = if mixed.is_finite() { mixed } else { fresh };
    };
    match (result, fresh) {
        (Prediction::Age(result), Prediction::Age(fresh)) => {
            towards(&mut result.years, fresh.years);
            towards(&mut result.std, fresh.std);
        }
        (Prediction::Expression(result), Prediction::Expression(fresh))
        | (Prediction::Attributes(result), Prediction::Attributes(fresh))
            if result.len() == fresh.len() =>
        {
            result.iter_mut().zip(fresh).for_each(|(result, &fresh)| towards(result, fresh));
        }
        (result, fresh) => result.clone_from(fresh),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::age::Age;

    fn years(answer: &Prediction) -> f32 {
        match answer {
            Prediction::Age(age) => age.years,
            _ => f32::NAN,
        }
    }

    fn age(years: f32) -> Prediction {
        Prediction::Age(Age { years, std: 4.0 })
    }

    #[test]
    fn a_step_is_followed_as_the_time_constant_says_at_any_rate() {
        for period_s in [0.01f32, 1.0 / 30.0, 0.1] {
            let mut result = age(20.0);
            let mut passed_s = 0.0;
            while passed_s < 0.3 - 1e-4 {
                blend(&mut result, &age(30.0), share(period_s, 0.3));
                passed_s += period_s;
            }
            assert!((years(&result) - 26.32).abs() < 0.01, "{period_s}: {result:?}");
        }
    }

    #[test]
    fn a_steady_change_is_followed_one_time_constant_behind() {
        let mut result = age(0.0);
        for frame in 1..=300u16 {
            blend(&mut result, &age(f32::from(frame) / 30.0), share(1.0 / 30.0, 0.3));
        }
        // Half a frame less, for the newest answer is of now.
        assert!((10.0 - years(&result) - 0.3).abs() < 0.02, "{result:?}");
    }

    #[test]
    fn blended_scores_sum_to_one_and_a_different_length_replaces_them() {
        let mut result = Prediction::Expression(vec![0.7, 0.3]);
        blend(&mut result, &Prediction::Expression(vec![0.1, 0.9]), 0.25);
        let Prediction::Expression(scores) = &result else { panic!("{result:?}") };
        assert!((scores[0] - 0.55).abs() < 1e-6 && (scores.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        let mut broken = age(f32::NAN);
        blend(&mut broken, &age(31.0), 0.5);
        assert_eq!(years(&broken), 31.0);
        blend(&mut result, &Prediction::Expression(vec![1.0]), 0.5);
        assert_eq!(result, Prediction::Expression(vec![1.0]));
    }

    #[test]
    fn without_a_time_constant_nothing_is_kept() {
        assert_eq!((share(0.01, 0.0), share(0.0, 0.3)), (1.0, 0.0));
        assert!(!Prediction::Recognition(Vec::new()).is_smoothed() && age(1.0).is_smoothed());
    }
}
