//! Expression, age and attributes of a followed face over time: an exponential filter for each.
//!
//! One frame's answer is noisy while the person hardly changes, so what is given out is a mean over the last frames, the
//! newest counting most: after a step the answer has gone 63 % of the way when the time constant has passed, 95 % after
//! three of them, and a steady change is followed at a distance of one. The filter knows seconds, not frames, so a task
//! that is answered every third frame lags no more.

use crate::tasks::decoder::Answer;

/// The time constant of `faceptor run` without `--steady-ms`.
pub const TIME_CONSTANT_S: f32 = 0.3;

/// Whether answers of its kind are smoothed. Landmarks have a filter of their own, parsing and embeddings have none.
pub fn applies(answer: &Answer) -> bool {
    matches!(answer, Answer::Age(_) | Answer::Expression(_) | Answer::Attributes(_))
}

/// The share of a new answer in what is given out, `elapsed_s` after the last one. All of it without a time constant.
pub fn share(elapsed_s: f32, time_constant_s: f32) -> f32 {
    if time_constant_s > 0.0 { 1.0 - (-elapsed_s.max(0.0) / time_constant_s).exp() } else { 1.0 }
}

/// Moves `held` towards `fresh` by a share. What is no number, or of another length, is not mixed but taken over.
pub fn blend(held: &mut Answer, fresh: &Answer, share: f32) {
    let towards = |held: &mut f32, fresh: f32| {
        let mixed = *held + share * (fresh - *held);
        *held = if mixed.is_finite() { mixed } else { fresh };
    };
    match (held, fresh) {
        (Answer::Age(held), Answer::Age(fresh)) => {
            towards(&mut held.years, fresh.years);
            towards(&mut held.std, fresh.std);
        }
        (Answer::Expression(held), Answer::Expression(fresh))
        | (Answer::Attributes(held), Answer::Attributes(fresh))
            if held.len() == fresh.len() =>
        {
            held.iter_mut().zip(fresh).for_each(|(held, &fresh)| towards(held, fresh));
        }
        (held, fresh) => held.clone_from(fresh),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::age::Age;

    fn years(answer: &Answer) -> f32 {
        match answer {
            Answer::Age(age) => age.years,
            _ => f32::NAN,
        }
    }

    fn age(years: f32) -> Answer {
        Answer::Age(Age { years, std: 4.0 })
    }

    #[test]
    fn a_step_is_followed_as_the_time_constant_says_at_any_rate() {
        for period_s in [0.01f32, 1.0 / 30.0, 0.1] {
            let mut held = age(20.0);
            let mut passed_s = 0.0;
            while passed_s < 0.3 - 1e-4 {
                blend(&mut held, &age(30.0), share(period_s, 0.3));
                passed_s += period_s;
            }
            assert!((years(&held) - 26.32).abs() < 0.01, "{period_s}: {held:?}");
        }
    }

    #[test]
    fn a_steady_change_is_followed_one_time_constant_behind() {
        let mut held = age(0.0);
        for frame in 1..=300u16 {
            blend(&mut held, &age(f32::from(frame) / 30.0), share(1.0 / 30.0, 0.3));
        }
        // Half a frame less, for the newest answer is of now.
        assert!((10.0 - years(&held) - 0.3).abs() < 0.02, "{held:?}");
    }

    #[test]
    fn scores_still_sum_to_one_and_what_does_not_fit_is_taken_over() {
        let mut held = Answer::Expression(vec![0.7, 0.3]);
        blend(&mut held, &Answer::Expression(vec![0.1, 0.9]), 0.25);
        let Answer::Expression(scores) = &held else { panic!("{held:?}") };
        assert!((scores[0] - 0.55).abs() < 1e-6 && (scores.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        let mut broken = age(f32::NAN);
        blend(&mut broken, &age(31.0), 0.5);
        assert_eq!(years(&broken), 31.0);
        blend(&mut held, &Answer::Expression(vec![1.0]), 0.5);
        assert_eq!(held, Answer::Expression(vec![1.0]));
    }

    #[test]
    fn without_a_time_constant_nothing_is_kept() {
        assert_eq!((share(0.01, 0.0), share(0.0, 0.3)), (1.0, 0.0));
        assert!(!applies(&Answer::Recognition(Vec::new())) && applies(&age(1.0)));
    }
}
