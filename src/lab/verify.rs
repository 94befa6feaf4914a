//! Runs a reference's inputs on this machine, and compares the outputs with the stored ones.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::lab::compare::{Difference, Limit, unit};
use crate::lab::probe::Probe;
use crate::lab::reference::{Reference, ReferenceFace, ReferenceLimits, StoredTensor};
use faceptor::stages::read_photo;
use faceptor_nn::bundle::Bundle;
use faceptor_nn::manifest::Task;

/// The result of a verification.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verification {
    /// The kernel that ran here.
    pub kernel: String,
    /// Differences with the stored input, by task.
    pub tasks: BTreeMap<String, MeasuredDifference>,
    /// Differences of shared parts with the stored input, as a share of the largest value.
    pub parts: BTreeMap<String, MeasuredDifference>,
    /// Differences from the picture on.
    pub end_to_end: EndToEnd,
}

/// A difference with its unit.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MeasuredDifference {
    pub unit: &'static str,
    #[serde(flatten)]
    pub difference: Difference,
}

/// Differences of a run from the pictures on.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EndToEnd {
    pub pictures: u64,
    pub faces: u64,
    /// Faces of the reference that were not found here.
    pub missing: u64,
    /// Faces that the reference does not have.
    pub extra: u64,
    pub keypoints: MeasuredDifference,
    pub input: MeasuredDifference,
    pub tasks: BTreeMap<String, MeasuredDifference>,
}

/// One check with its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifyCheck {
    /// The group that reports list it under.
    pub group: &'static str,
    pub name: String,
    pub passed: bool,
    /// The measured difference, or why the check failed.
    pub message: String,
}

/// The stored tensors, with a row for each face.
struct Stored {
    inputs: Vec<(StoredTensor, Vec<f32>)>,
    parts: Vec<(StoredTensor, Vec<f32>)>,
    tasks: Vec<(Task, StoredTensor, Vec<f32>)>,
}

/// Computes all outputs of a reference again and compares them.
///
/// # Errors
/// When the folder contradicts the network, or a picture cannot be read. Differences are no errors.
pub fn compare(bundle: &Arc<Bundle>, reference: &Reference) -> Result<Verification> {
    let mut probe = Probe::new(bundle.clone())?;
    let stored = load(&probe, reference)?;
    let mut found = Verification { kernel: probe.kernel().to_owned(), ..Verification::default() };
    compare_stored(&mut probe, &stored, reference.faces(), &mut found)?;
    compare_pictures(&mut probe, reference, &stored, &mut found.end_to_end)?;
    Ok(found)
}

fn load(probe: &Probe, reference: &Reference) -> Result<Stored> {
    let faces = reference.faces();
    ensure!(faces > 0, "the reference holds no face");
    let read = |wanted: &StoredTensor, stored: &[StoredTensor]| -> Result<Vec<f32>> {
        let listed = stored.iter().find(|output| *output == wanted);
        let listed =
            listed.with_context(|| format!("the reference has no {} of shape {:?}", wanted.name, wanted.shape))?;
        Ok(reference.floats(&listed.file, faces, listed.shape.iter().product())?)
    };
    let index = &reference.index;
    let inputs = probe.inputs().iter().map(|output| Ok((output.clone(), read(output, &index.inputs)?)));
    let parts = probe.parts().map(|output| Ok((output.clone(), read(&output, &index.parts)?)));
    let tasks = probe.tasks().map(|(task, output)| {
        let numbers = read(&output, &index.tasks)?;
        Ok((task.clone(), output, numbers))
    });
    Ok(Stored {
        inputs: inputs.collect::<Result<_>>()?,
        parts: parts.collect::<Result<_>>()?,
        tasks: tasks.collect::<Result<_>>()?,
    })
}

/// Returns one face's row of a stored tensor.
fn row(numbers: &[f32], output: &StoredTensor, face: usize) -> Result<Vec<f32>> {
    let each: usize = output.shape.iter().product();
    numbers.get(face * each..(face + 1) * each).map(<[f32]>::to_vec).context("a tensor of the reference is too short")
}

fn compare_stored(probe: &mut Probe, stored: &Stored, faces: usize, found: &mut Verification) -> Result<()> {
    for face in 0..faces {
        for (input, numbers) in &stored.inputs {
            probe.feed(&input.tensor, &row(numbers, input, face)?)?;
        }
        for (output, numbers) in &stored.parts {
            let measured = found.parts.entry(output.name.clone()).or_default();
            measured.unit = "of the largest value";
            let expected = row(numbers, output, face)?;
            let here = probe.output(&output.tensor)?;
            let largest = expected.iter().fold(f32::MIN_POSITIVE, |most, value| most.max(value.abs()));
            let mut scaled = Difference::default();
            scaled.add_values(here, &expected);
            measured.difference.values += scaled.values;
            measured.difference.unequal += scaled.unequal;
            here.iter().zip(&expected).for_each(|(a, b)| measured.difference.add(f64::from((a - b) / largest)));
        }
        for (task, output, numbers) in &stored.tasks {
            let expected = row(numbers, output, face)?;
            let size = probe.size(task);
            let measured = found.tasks.entry(task.name.clone()).or_default();
            measured.unit = unit(task.kind);
            measured.difference.add_outputs(task, &output.shape, size, probe.output(&output.tensor)?, &expected);
        }
    }
    Ok(())
}

fn compare_pictures(probe: &mut Probe, reference: &Reference, stored: &Stored, found: &mut EndToEnd) -> Result<()> {
    found.keypoints.unit = "px of the picture";
    found.input.unit = "grey levels";
    let mut first = 0;
    for golden in &reference.index.pictures {
        // Checked against its length and checksum before it is decoded.
        reference.bytes(&golden.file)?;
        let path = reference.path(&golden.file);
        let picture = read_photo(&path).with_context(|| path.display().to_string())?.into_picture();
        let mut here = probe.find(&picture)?;
        found.pictures += 1;
        for (number, expected) in golden.faces.iter().enumerate() {
            found.faces += 1;
            let Some(face) = take_nearest(&mut here, expected) else {
                found.missing += 1;
                continue;
            };
            for (a, b) in face.keypoints.iter().zip(&expected.keypoints) {
                found.keypoints.difference.add(f64::from(a[0] - b[0]).hypot(f64::from(a[1] - b[1])));
            }
            let index = first + number;
            probe.look(&picture, &face)?;
            for (input, numbers) in &stored.inputs {
                let levels = probe.levels(&input.tensor);
                let in_levels = |input: &[f32]| input.iter().map(|value| value * levels).collect::<Vec<_>>();
                let here = in_levels(probe.output(&input.tensor)?);
                found.input.difference.add_values(&here, &in_levels(&row(numbers, input, index)?));
            }
            for (task, output, numbers) in &stored.tasks {
                let expected = row(numbers, output, index)?;
                let size = probe.size(task);
                let measured = found.tasks.entry(task.name.clone()).or_default();
                measured.unit = unit(task.kind);
                measured.difference.add_outputs(task, &output.shape, size, probe.output(&output.tensor)?, &expected);
            }
        }
        found.extra += here.len() as u64;
        first += golden.faces.len();
    }
    Ok(())
}

/// Removes the face with the nearest keypoints from the list; returns `None` if they are half a box away or more.
fn take_nearest(faces: &mut Vec<ReferenceFace>, wanted: &ReferenceFace) -> Option<ReferenceFace> {
    let away = |face: &ReferenceFace| {
        let pairs = face.keypoints.iter().zip(&wanted.keypoints);
        pairs.map(|(a, b)| (a[0] - b[0]).hypot(a[1] - b[1])).sum::<f32>() / 5.0
    };
    let (place, distance) = faces.iter().map(away).enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b))?;
    (distance < (wanted.edges[2] - wanted.edges[0]) / 2.0).then(|| faces.remove(place))
}

impl Verification {
    /// Checks each difference against its limit; a task without a limit fails.
    pub fn checks(&self, limits: &ReferenceLimits) -> Vec<VerifyCheck> {
        let mut checks = Vec::new();
        let mut check = |group, name: &str, measured: &MeasuredDifference, limit: Option<&Limit>| {
            let violation = match limit {
                Some(limit) => limit.violation(&measured.difference),
                None => Some("the reference has no limit for it".to_owned()),
            };
            let (passed, message) = (violation.is_none(), violation.unwrap_or_else(|| measured.describe()));
            checks.push(VerifyCheck { group, name: name.to_owned(), passed, message });
        };
        for (name, measured) in &self.parts {
            check("stored input, parts", name, measured, Some(&limits.parts));
        }
        for (name, measured) in &self.tasks {
            check("stored input, tasks", name, measured, limits.tasks.get(name));
        }
        let whole = &self.end_to_end;
        check("from the picture", "keypoints", &whole.keypoints, Some(&limits.keypoints));
        check("from the picture", "input", &whole.input, Some(&limits.input));
        for (name, measured) in &whole.tasks {
            check("from the picture", name, measured, limits.end_to_end.get(name));
        }
        let (missing, extra) = (whole.missing, whole.extra);
        let message = format!("{} faces, {missing} not found, {extra} found besides", whole.faces);
        checks.push(VerifyCheck {
            group: "from the picture",
            name: "faces".to_owned(),
            passed: missing + extra == 0,
            message,
        });
        checks
    }

    /// Returns the differences as a table for people.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:<28}{:>12}{:>12}{:>14}{:>20}  unit\n",
            "stored input", "mean", "largest", "flips", "values unequal"
        );
        let mut lines = |rows: &BTreeMap<String, MeasuredDifference>| {
            for (name, measured) in rows {
                measured.line(&mut text, name);
            }
        };
        lines(&self.parts);
        lines(&self.tasks);
        text.push_str("from the picture\n");
        let whole = &self.end_to_end;
        whole.keypoints.line(&mut text, "keypoints");
        whole.input.line(&mut text, "input");
        for (name, measured) in &whole.tasks {
            measured.line(&mut text, name);
        }
        // Writing to a String does not fail.
        let _ = writeln!(text, "{} faces, {} not found, {} found besides", whole.faces, whole.missing, whole.extra);
        text
    }
}

impl MeasuredDifference {
    fn line(&self, text: &mut String, name: &str) {
        let Difference { mean, max, flips, decisions, values, unequal, .. } = self.difference;
        let flips = if decisions > 0 { format!("{flips}/{decisions}") } else { "-".to_owned() };
        let unequal = if values > 0 { format!("{unequal}/{values}") } else { "-".to_owned() };
        let _ = writeln!(text, "  {name:<26}{mean:>12.6}{max:>12.6}{flips:>14}{unequal:>20}  {}", self.unit);
    }

    fn describe(&self) -> String {
        let Difference { mean, max, flips, decisions, values, unequal, .. } = self.difference;
        let unit = self.unit;
        format!(
            "mean {mean:.6}, largest {max:.6} {unit}; {flips} of {decisions} decisions and {unequal} of {values} values differ"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face(x: f32) -> ReferenceFace {
        ReferenceFace { score: 0.9, edges: [x, 0.0, x + 100.0, 100.0], keypoints: [[x + 50.0, 50.0]; 5] }
    }

    #[test]
    fn matches_faces_by_place_unless_they_are_far_apart() {
        let mut found = vec![face(300.0), face(2.0)];
        let taken = take_nearest(&mut found, &face(0.0)).expect("one is near");
        assert_eq!((taken, found.len()), (face(2.0), 1));
        assert!(take_nearest(&mut found, &face(0.0)).is_none());
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn a_task_without_a_limit_and_a_missing_face_fail() {
        let limit = Limit { mean: 1.0, max: 1.0, flips: 0.0 };
        let limits = ReferenceLimits {
            tasks: BTreeMap::from([("age".to_owned(), limit)]),
            end_to_end: BTreeMap::new(),
            keypoints: limit,
            input: limit,
            parts: limit,
        };
        let mut verification = Verification::default();
        verification.tasks.insert("age".to_owned(), MeasuredDifference::default());
        let failed = |v: &Verification| v.checks(&limits).iter().filter(|check| !check.passed).count();
        assert_eq!(failed(&verification), 0);
        verification.tasks.insert("mood".to_owned(), MeasuredDifference::default());
        verification.end_to_end.missing = 1;
        assert_eq!(failed(&verification), 2);
    }
}
