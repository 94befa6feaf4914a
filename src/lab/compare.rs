//! Measures how far two outputs of one task differ: in the task's unit, and in decisions that change.

use serde::{Deserialize, Serialize};

use faceptor::stages::largest;
use faceptor_nn::manifest::{Task, TaskKind};

/// A landmark that moved further, in pixels of the network's input, counts as a changed decision.
const MOVED_PX: f64 = 0.5;
/// An age that differs by more years counts as a changed decision.
const AGED_YEARS: f64 = 1.0;

/// Returns the unit of a task's differences.
pub fn unit(kind: TaskKind) -> &'static str {
    match kind {
        TaskKind::Landmarks => "px of the network's input",
        TaskKind::Parsing => "logit",
        TaskKind::Age => "years",
        TaskKind::Expression | TaskKind::Attributes => "probability",
        TaskKind::Recognition => "1 - cosine",
    }
}

/// Summary of many differences of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Difference {
    /// Number of differences.
    pub n: u64,
    /// Their mean.
    pub mean: f64,
    /// The largest.
    pub max: f64,
    /// Decisions that changed: a landmark that moved by over half a pixel, another class of a cell or a face, an attribute
    /// on the other side of one half, an age that differs by over a year.
    pub flips: u64,
    /// Number of decisions.
    pub decisions: u64,
    /// Number of output values.
    pub values: u64,
    /// Output values that differ in any bit.
    pub unequal: u64,
    /// Values and differences that are not finite. Any of them fails the comparison.
    pub not_finite: u64,
}

/// The largest difference that passes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    pub mean: f64,
    pub max: f64,
    /// Share of the decisions that may change.
    pub flips: f64,
}

impl Limit {
    /// Returns the limit that a reference is written with. Integer products are equal on every CPU. Float sums round
    /// differently, and a sum that crosses the border of a quantization step moves all later values by that step.
    pub fn of(kind: TaskKind) -> Limit {
        let limit = |mean, max, flips| Limit { mean, max, flips };
        match kind {
            TaskKind::Landmarks => limit(0.02, 0.5, 0.001),
            TaskKind::Parsing => limit(0.02, 2.0, 0.002),
            TaskKind::Age => limit(0.05, 0.5, 0.0),
            TaskKind::Expression => limit(0.002, 0.05, 0.0),
            TaskKind::Attributes => limit(0.002, 0.05, 0.002),
            TaskKind::Recognition => limit(0.0002, 0.002, 0.0),
        }
    }

    /// Returns the limit for outputs computed from the picture: single pixels of the crop may differ by a grey level, which
    /// moves an output more than the rounding of sums does.
    pub fn end_to_end(self) -> Limit {
        Limit { mean: self.mean * 5.0, max: self.max * 4.0, flips: self.flips + 0.01 }
    }

    /// Returns why a difference is beyond the limit; `None` if it is within.
    pub fn violation(&self, difference: &Difference) -> Option<String> {
        let mut reasons = Vec::new();
        let Difference { mean, max, not_finite, .. } = *difference;
        if not_finite > 0 {
            reasons.push(format!("{not_finite} values are no numbers"));
        }
        if mean > self.mean {
            reasons.push(format!("mean {mean:.5} is above {}", self.mean));
        }
        if max > self.max {
            reasons.push(format!("largest {max:.5} is above {}", self.max));
        }
        if difference.flips as f64 > self.flips * difference.decisions as f64 {
            let (flips, decisions) = (difference.flips, difference.decisions);
            reasons.push(format!("{flips} of {decisions} decisions differ, a share of {} may", self.flips));
        }
        (!reasons.is_empty()).then(|| reasons.join(", "))
    }
}

impl Difference {
    /// Adds one difference.
    pub fn add(&mut self, difference: f64) {
        if !difference.is_finite() {
            self.not_finite += 1;
            return;
        }
        let difference = difference.abs();
        self.n += 1;
        self.mean += (difference - self.mean) / self.n as f64;
        self.max = self.max.max(difference);
    }

    fn decide(&mut self, differs: bool) {
        self.decisions += 1;
        self.flips += u64::from(differs);
    }

    fn count_unequal(&mut self, found: &[f32], expected: &[f32]) {
        self.values += expected.len() as u64;
        self.unequal += found.iter().zip(expected).filter(|(a, b)| a.to_bits() != b.to_bits()).count() as u64;
        // A decoder may hide such a value: a share below zero or not finite counts as zero.
        self.not_finite += found.iter().chain(expected).filter(|value| !value.is_finite()).count() as u64;
    }

    /// Adds two tensors of the same length, value by value.
    pub fn add_values(&mut self, found: &[f32], expected: &[f32]) {
        self.count_unequal(found, expected);
        found.iter().zip(expected).for_each(|(a, b)| self.add(f64::from(a - b)));
    }

    /// Adds two outputs of `task`, tensors of `shape`; `size` is the side of the network's input in pixels.
    pub fn add_outputs(&mut self, task: &Task, shape: &[usize], size: usize, found: &[f32], expected: &[f32]) {
        match task.kind {
            TaskKind::Landmarks => {
                self.count_unequal(found, expected);
                for (a, b) in found.as_chunks::<2>().0.iter().zip(expected.as_chunks::<2>().0.iter()) {
                    let moved = f64::from(a[0] - b[0]).hypot(f64::from(a[1] - b[1])) * size as f64;
                    self.add(moved);
                    self.decide(moved > MOVED_PX || !moved.is_finite());
                }
            }
            TaskKind::Parsing => {
                self.add_values(found, expected);
                let classes = shape.get(1).copied().unwrap_or(1).max(1);
                let cells = expected.len() / classes;
                let mut scores = [vec![0.0; classes], vec![0.0; classes]];
                for cell in 0..cells {
                    for (scores, output) in scores.iter_mut().zip([found, expected]) {
                        scores.iter_mut().enumerate().for_each(|(class, score)| *score = output[class * cells + cell]);
                    }
                    self.decide(largest(&scores[0]) != largest(&scores[1]));
                }
            }
            TaskKind::Age => {
                self.count_unequal(found, expected);
                let years = |bins: &[f32]| f64::from(faceptor::stages::Age::read(bins, &task.bins).years);
                let aged = years(found) - years(expected);
                self.add(aged);
                self.decide(aged.abs() > AGED_YEARS || !aged.is_finite());
            }
            TaskKind::Expression => {
                self.add_values(found, expected);
                self.decide(largest(found) != largest(expected));
            }
            TaskKind::Attributes => {
                self.add_values(found, expected);
                found.iter().zip(expected).for_each(|(a, b)| self.decide((*a > 0.5) != (*b > 0.5)));
            }
            TaskKind::Recognition => {
                self.count_unequal(found, expected);
                self.add(1.0 - cosine(found, expected));
            }
        }
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(kind: TaskKind) -> Task {
        Task { bins: vec![0.0, 100.0], ..Task::of_kind(kind) }
    }

    fn difference(kind: TaskKind, shape: &[usize], found: &[f32], expected: &[f32]) -> Difference {
        let mut difference = Difference::default();
        difference.add_outputs(&task(kind), shape, 100, found, expected);
        difference
    }

    #[test]
    fn counts_the_decisions_of_each_kind() {
        let d = difference(TaskKind::Landmarks, &[1, 2, 2], &[0.5, 0.5, 0.1, 0.1], &[0.53, 0.54, 0.1, 0.1]);
        assert!((d.max - 5.0).abs() < 1e-4 && (d.mean - 2.5).abs() < 1e-4, "{d:?}");
        assert_eq!((d.flips, d.decisions, d.values, d.unequal), (1, 2, 4, 2));
        // Two classes, two cells: the second cell changes its class.
        let d = difference(TaskKind::Parsing, &[1, 2, 1, 2], &[1.0, 0.0, 0.0, 1.0], &[1.0, 1.5, 0.0, 1.0]);
        assert_eq!((d.flips, d.decisions, d.max, d.unequal), (1, 2, 1.5, 1));
        let d = difference(TaskKind::Age, &[1, 2], &[0.5, 0.5], &[0.52, 0.48]);
        assert!((d.max - 2.0).abs() < 1e-3 && d.flips == 1, "{d:?}");
        let d = difference(TaskKind::Expression, &[1, 2], &[0.6, 0.4], &[0.4, 0.6]);
        assert_eq!((d.flips, d.decisions), (1, 1));
        let d = difference(TaskKind::Attributes, &[1, 2], &[0.6, 0.4], &[0.4, 0.3]);
        assert_eq!((d.flips, d.decisions), (1, 2));
        let d = difference(TaskKind::Recognition, &[1, 2], &[1.0, 0.0], &[0.0, 3.0]);
        assert!((d.mean - 1.0).abs() < 1e-9, "{d:?}");
    }

    #[test]
    fn equal_outputs_have_no_difference() {
        for kind in [TaskKind::Landmarks, TaskKind::Age, TaskKind::Expression, TaskKind::Recognition] {
            let d = difference(kind, &[1, 1, 2], &[0.25, 0.75], &[0.25, 0.75]);
            assert!(d.max < 1e-12 && d.flips == 0 && d.unequal == 0 && d.n > 0, "{kind:?}: {d:?}");
            assert_eq!(Limit::of(kind).violation(&d), None);
        }
    }

    #[test]
    fn values_that_are_not_finite_never_pass() {
        for kind in [TaskKind::Landmarks, TaskKind::Age, TaskKind::Attributes, TaskKind::Recognition] {
            let d = difference(kind, &[1, 1, 2], &[f32::NAN, 0.75], &[0.25, 0.75]);
            assert!(Limit::of(kind).violation(&d).is_some(), "{kind:?}: {d:?}");
        }
    }

    #[test]
    fn limits_report_the_values_beyond_them() {
        let limit = Limit { mean: 0.1, max: 0.5, flips: 0.01 };
        let good = Difference { n: 9, mean: 0.1, max: 0.5, flips: 1, decisions: 100, ..Difference::default() };
        assert_eq!(limit.violation(&good), None);
        let bad = Difference { mean: 0.2, max: 0.6, flips: 2, ..good };
        let reasons = limit.violation(&bad).expect("three reasons");
        assert_eq!(
            reasons,
            "mean 0.20000 is above 0.1, largest 0.60000 is above 0.5, 2 of 100 decisions differ, a share of 0.01 may"
        );
    }
}
