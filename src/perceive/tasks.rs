//! Which tasks are answered: names from the command line, looked up in the bundle's manifest.

use crate::model::manifest::{Manifest, Task};

/// A wrong `--tasks`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SelectionError {
    #[error("unknown task '{name}': this bundle has {known} (or all, none)")]
    Unknown { name: String, known: String },
    #[error("no task is named: give names separated by commas, or all, or none for the finder alone")]
    Empty,
}

/// Indices into the manifest's tasks in the order of the request; `None` asks for the manifest's defaults.
/// `all` and `none` stand for themselves; a name given twice counts once, with a warning.
pub fn select(manifest: &Manifest, request: Option<&str>) -> Result<Vec<usize>, SelectionError> {
    let every = 0..manifest.tasks.len();
    let Some(request) = request else {
        return Ok(every.filter(|&index| manifest.tasks[index].default).collect());
    };
    let mut chosen: Vec<usize> = Vec::new();
    let names: Vec<&str> = request.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    match names.as_slice() {
        [] => return Err(SelectionError::Empty),
        ["all"] => return Ok(every.collect()),
        ["none"] => return Ok(Vec::new()),
        _ => {}
    }
    for name in names {
        let Some(index) = manifest.tasks.iter().position(|task| task.name == name) else {
            let known: Vec<&str> = manifest.tasks.iter().map(|task| task.name.as_str()).collect();
            return Err(SelectionError::Unknown { name: name.to_owned(), known: known.join(", ") });
        };
        if chosen.contains(&index) {
            log::warn!("task {name} is named twice; once is enough");
        } else {
            chosen.push(index);
        }
    }
    Ok(chosen)
}

/// Names of the parts that must run for `task`, producers first and its own part last.
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

/// One output tensor of each part that several tasks share (encoder, memory, pixel decoder), producers first, for the
/// chosen tasks alone: computing these is the cost of a face before any task is decoded.
pub fn shared_tensors(manifest: &Manifest, chosen: &[usize]) -> Vec<String> {
    let mut parts: Vec<&str> = Vec::new();
    for task in chosen.iter().filter_map(|&index| manifest.tasks.get(index)) {
        for part in parts_of(manifest, task) {
            if part != task.part && !parts.contains(&part) {
                parts.push(part);
            }
        }
    }
    parts.iter().filter_map(|name| manifest.part(name)?.outputs.first().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn names_all_none_and_defaults() {
        let manifest = manifest();
        assert_eq!(select(&manifest, None), Ok(vec![0, 1]));
        assert_eq!(select(&manifest, Some("all")), Ok(vec![0, 1, 2]));
        assert_eq!(select(&manifest, Some("none")), Ok(vec![]));
        assert_eq!(select(&manifest, Some("recognition, age")), Ok(vec![2, 1]));
        assert_eq!(select(&manifest, Some("age,age,landmarks,age")), Ok(vec![1, 0]));
        assert_eq!(select(&manifest, Some(" ,")), Err(SelectionError::Empty));
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = select(&manifest(), Some("age,ages")).expect_err("ages is not a task").to_string();
        assert!(error.contains("'ages'") && error.contains("landmarks, age, recognition"), "{error}");
    }

    #[test]
    fn only_what_the_chosen_tasks_need_is_shared() {
        let manifest = manifest();
        assert_eq!(shared_tensors(&manifest, &[0, 1, 2]), ["feature", "key", "pixel"]);
        assert_eq!(shared_tensors(&manifest, &[1]), ["feature", "key"]);
        assert_eq!(shared_tensors(&manifest, &[2]), ["feature"]);
        assert!(shared_tensors(&manifest, &[]).is_empty());
        assert_eq!(parts_of(&manifest, &manifest.tasks[1]), ["encoder", "memory", "t_age"]);
    }
}
