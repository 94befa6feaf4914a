//! Selects tasks by their names, which are looked up in the bundle's manifest.

use crate::error::{Result, bail};
use faceptor_nn::manifest::{Manifest, Task};

/// Maximum number of tasks of a bundle.
pub const MAX_TASKS: usize = 32;

/// Tasks in the order of their priority, as indices into the manifest's tasks.
pub type TaskList = heapless::Vec<u8, MAX_TASKS>;

/// The reason for which a task of expressions cannot be chosen.
const EXPRESSION_TAKEN_OUT: &str = "inferring emotions is forbidden at work and in schools (AI Act, Article 5; docs/privacy.md). \
     This program was built with the feature no-expression, or runs with --no-expression";

/// A wrong `--tasks`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SelectionError {
    #[error("unknown task '{name}': this bundle has {known} (or all, none)")]
    Unknown { name: String, known: String },
    #[error("the task '{name}' was taken out: {EXPRESSION_TAKEN_OUT}")]
    TakenOut { name: String },
    #[error("no task is named: give names separated by commas, or all, or none for the face detector alone")]
    Empty,
}

/// Selects tasks by names separated by commas, in that order, or by `all` or `none`; `None` selects the manifest's defaults.
/// A name that is given twice counts once, with a warning.
///
/// # Errors
/// When a name is unknown, or none is given.
pub fn select(manifest: &Manifest, request: Option<&str>) -> Result<TaskList, SelectionError> {
    let Some(request) = request else { return Ok(defaults(manifest)) };
    let mut chosen = TaskList::new();
    let names: Vec<&str> = request.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    match names.as_slice() {
        [] => return Err(SelectionError::Empty),
        ["all"] => return Ok(every(manifest).collect()),
        ["none"] => return Ok(chosen),
        _ => {}
    }
    for name in names {
        let Some(index) = manifest.tasks.iter().position(|task| task.name == name) else {
            return Err(match was_taken_out(manifest, name) {
                true => SelectionError::TakenOut { name: name.to_owned() },
                false => SelectionError::Unknown { name: name.to_owned(), known: known_names(manifest) },
            });
        };
        if chosen.contains(&(index as u8)) {
            log::warn!("task {name} is named twice; once is enough");
        } else {
            // There is room for every task of a bundle.
            let _ = chosen.push(index as u8);
        }
    }
    Ok(chosen)
}

/// Returns the tasks that run when the user names none.
pub fn defaults(manifest: &Manifest) -> TaskList {
    every(manifest).filter(|&index| manifest.tasks[usize::from(index)].default).collect()
}

/// Returns all tasks; a pipeline refuses bundles with more than [`MAX_TASKS`].
fn every(manifest: &Manifest) -> std::ops::Range<u8> {
    0..manifest.tasks.len().min(MAX_TASKS) as u8
}

/// Finds a task by its name.
///
/// # Errors
/// [`ErrorKind::Task`](crate::ErrorKind::Task) when the bundle has none of that name; the text lists those it has.
pub(crate) fn find(manifest: &Manifest, name: &str) -> Result<u8> {
    match every(manifest).find(|&index| manifest.tasks[usize::from(index)].name == name) {
        Some(index) => Ok(index),
        None if was_taken_out(manifest, name) => bail!(Task, "{}", SelectionError::TakenOut { name: name.to_owned() }),
        None => bail!(Task, "unknown task '{name}': this bundle has {}", known_names(manifest)),
    }
}

fn was_taken_out(manifest: &Manifest, name: &str) -> bool {
    manifest.taken_out.iter().any(|task| task == name)
}

fn known_names(manifest: &Manifest) -> String {
    let names: Vec<&str> = manifest.tasks.iter().map(|task| task.name.as_str()).collect();
    names.join(", ")
}

/// Returns the names of the parts that run for `task`, producers first and its own part last.
pub fn parts_of<'a>(manifest: &'a Manifest, task: &'a Task) -> Vec<&'a str> {
    let mut order = Vec::new();
    visit(manifest, &task.part, &mut order);
    order
}

fn visit<'a>(manifest: &'a Manifest, name: &'a str, order: &mut Vec<&'a str>) {
    let Some(part) = manifest.part(name) else { return };
    if order.contains(&name) {
        return;
    }
    for input in &part.inputs {
        // A graph with a loop is refused by the engine; here a part is never its own producer.
        let producer = manifest.parts.iter().find(|p| p.outputs.contains(input) && p.name != name);
        if let Some(producer) = producer {
            visit(manifest, &producer.name, order);
        }
    }
    order.push(name);
}

/// A part that several tasks may need (encoder, memory, pixel decoder): computed once for each face.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedPart {
    pub name: String,
    /// One of its outputs; preparing it runs the part.
    pub tensor: String,
    /// Tasks of the manifest that need it, a bit each.
    pub needed_by: u32,
}

/// Returns the shared parts of a bundle, producers first.
pub fn shared_parts(manifest: &Manifest) -> Vec<SharedPart> {
    let mut parts: Vec<SharedPart> = Vec::new();
    for (index, task) in manifest.tasks.iter().enumerate().take(MAX_TASKS) {
        for name in parts_of(manifest, task).into_iter().filter(|name| *name != task.part) {
            match parts.iter_mut().find(|part| part.name == name) {
                Some(part) => part.needed_by |= 1 << index,
                None => {
                    parts.extend(manifest.part(name).and_then(|part| part.outputs.first()).map(|tensor| SharedPart {
                        name: name.to_owned(),
                        tensor: tensor.clone(),
                        needed_by: 1 << index,
                    }))
                }
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use faceptor_nn::manifest::TaskKind;

    fn manifest() -> Manifest {
        let mut text = String::from(
            "format = 1\nname = 'n'\nversion = '0'\n[input]\ntensor = 'image'\nsize = 8\nmean = [0, 0, 0]\n\
             std = [1, 1, 1]\n[frame]\ntemplate = [[0, 0], [1, 0], [0.5, 0.5], [0, 1], [1, 1]]\n",
        );
        let parts = [
            ("encoder", "image", "feature"),
            ("memory", "feature", "key"),
            ("pixel", "feature", "pixel"),
            ("t_landmarks", "key', 'pixel", "o_landmarks"),
            ("t_age", "key", "o_age"),
            ("t_recognition", "feature", "o_recognition"),
        ];
        for (name, inputs, output) in parts {
            text += &format!(
                "[[part]]\nname = '{name}'\nfile = 'x'\nsha256 = ''\ninputs = ['{inputs}']\noutputs = ['{output}']\n"
            );
        }
        for (name, default) in [("landmarks", true), ("age", true), ("recognition", false)] {
            text += &format!(
                "[[task]]\nname = '{name}'\nkind = '{name}'\npart = 't_{name}'\noutput = 'o_{name}'\n\
                 default = {default}\n"
            );
        }
        Manifest::parse(&text).expect("a valid manifest")
    }

    fn list(indices: &[u8]) -> TaskList {
        TaskList::from_slice(indices).expect("few")
    }

    #[test]
    fn names_all_none_and_defaults() {
        let manifest = manifest();
        assert_eq!(select(&manifest, None), Ok(list(&[0, 1])));
        assert_eq!(select(&manifest, Some("all")), Ok(list(&[0, 1, 2])));
        assert_eq!(select(&manifest, Some("none")), Ok(list(&[])));
        assert_eq!(select(&manifest, Some("recognition, age")), Ok(list(&[2, 1])));
        assert_eq!(select(&manifest, Some("age,age,landmarks,age")), Ok(list(&[1, 0])));
        assert_eq!(select(&manifest, Some(" ,")), Err(SelectionError::Empty));
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = select(&manifest(), Some("age,ages")).expect_err("ages is not a task").to_string();
        assert!(error.contains("'ages'") && error.contains("landmarks, age, recognition"), "{error}");
    }

    #[test]
    fn a_task_that_was_taken_out_is_no_task() {
        let mut manifest = manifest();
        manifest.take_out(TaskKind::Age);
        assert_eq!(select(&manifest, None), Ok(list(&[0])));
        assert_eq!(select(&manifest, Some("all")), Ok(list(&[0, 1])));
        assert_eq!(select(&manifest, Some("recognition")), Ok(list(&[1])));
        let refused = select(&manifest, Some("landmarks,age")).expect_err("it was taken out");
        assert_eq!(refused, SelectionError::TakenOut { name: "age".to_owned() });
        let reason = refused.to_string();
        assert!(reason.contains("'age'") && reason.contains("Article 5") && reason.contains("--no-expression"));
        assert_eq!(find(&manifest, "age").expect_err("it was taken out").to_string(), reason);
        assert!(shared_parts(&manifest).iter().all(|part| part.name != "memory" || part.needed_by == 1));
        let unknown = select(&manifest, Some("ages")).expect_err("no task").to_string();
        assert!(unknown.contains("has landmarks, recognition ("), "{unknown}");
    }

    #[test]
    fn shared_parts_know_who_needs_them() {
        let manifest = manifest();
        let shared: Vec<_> = shared_parts(&manifest).into_iter().map(|p| (p.name, p.tensor, p.needed_by)).collect();
        let part = |name: &str, tensor: &str, needed_by| (name.to_owned(), tensor.to_owned(), needed_by);
        assert_eq!(shared, [part("encoder", "feature", 7), part("memory", "key", 3), part("pixel", "pixel", 1)]);
        assert_eq!(parts_of(&manifest, &manifest.tasks[1]), ["encoder", "memory", "t_age"]);
    }
}
