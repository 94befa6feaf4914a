//! Results of a face in a few words, the most important first: for captions and plain text.

use crate::identity::Identity;
use faceptor::stages::{Face, Prediction, TaskDecoder, largest};

/// Least probability of an attribute that is named.
const LIKELY: f32 = 0.5;
/// Most attributes that are named.
const MOST_ATTRIBUTES: usize = 5;

/// Returns a short text for each result: `31 y ±5`, `happiness 87 %`, likely attributes one by one. The text of an earlier
/// frame's result has its age in frames: `31 y ±5 (-3)`. If a task does not have its kind's usual name, the text begins
/// with its name, to distinguish two tasks of a kind. The gallery's answer comes first.
pub fn phrases(face: &Face, decoders: &[TaskDecoder], identity: Option<&Identity<'_>>) -> Vec<String> {
    let mut phrases = Vec::new();
    phrases.extend(identity.map(Identity::phrase));
    for (_, decoder, result) in face.known(decoders) {
        let task = decoder.task();
        let usual = ["age", "expression", "attributes"].contains(&task.name.as_str());
        let prefix = if usual { String::new() } else { format!("{}: ", task.name) };
        let first = phrases.len();
        match &result.prediction {
            Prediction::Age(age) => phrases.push(format!("{prefix}{:.0} y \u{b1}{:.0}", age.years, age.std)),
            Prediction::Expression(scores) => {
                let best = largest(scores);
                if let (Some(label), Some(score)) = (task.labels.get(best), scores.get(best)) {
                    phrases.push(format!("{prefix}{label} {:.0} %", score * 100.0));
                }
            }
            Prediction::Attributes(values) => {
                phrases.extend(likely(&task.labels, values).map(|label| format!("{prefix}{label}")));
            }
            Prediction::Landmarks(_) | Prediction::Parsing(_) | Prediction::Recognition(_) => {}
        }
        if result.stale_frames > 0 {
            phrases[first..].iter_mut().for_each(|phrase| phrase.push_str(&format!(" (-{})", result.stale_frames)));
        }
    }
    phrases
}

/// Returns the likely attributes, the most probable first, underscores as spaces.
fn likely<'a>(labels: &'a [String], values: &'a [f32]) -> impl Iterator<Item = String> + 'a {
    let mut order: Vec<usize> = (0..values.len().min(labels.len())).filter(|&i| values[i] >= LIKELY).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order.into_iter().take(MOST_ATTRIBUTES).map(|index| labels[index].replace('_', " "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use faceptor::stages::TaskResult;
    use faceptor_nn::manifest::{Task, TaskKind};

    #[test]
    fn stale_result_has_its_age() {
        let task = Task {
            name: "expression".into(),
            labels: vec!["neutral".into(), "anger".into()],
            ..Task::of_kind(TaskKind::Expression)
        };
        let decoders = [TaskDecoder::new(&task, &[1, 2]).expect("two numbers")];
        let mut face = Face::blank(&decoders);
        face.results[0] = TaskResult::fresh(Prediction::Expression(vec![0.2, 0.8]));
        assert_eq!(phrases(&face, &decoders, None), ["anger 80 %"]);
        face.results[0].stale_frames = 3;
        assert_eq!(phrases(&face, &decoders, None), ["anger 80 % (-3)"]);
    }

    #[test]
    fn most_probable_attributes_come_first() {
        let labels: Vec<String> = ["Young", "Bald", "Wearing_Hat"].map(String::from).into();
        let named: Vec<String> = likely(&labels, &[0.6, 0.4, 0.9]).collect();
        assert_eq!(named, ["Wearing Hat", "Young"]);
    }
}
