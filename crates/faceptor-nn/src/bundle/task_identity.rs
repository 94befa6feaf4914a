//! The identity of a task: equal for two bundles whose outputs of that task are the same numbers.

use sha2::{Digest, Sha256};

use crate::bundle::{Bundle, HASH_BYTES};
use crate::manifest::{Manifest, Part, Task};

impl Bundle {
    /// Returns the identity of a task: a SHA-256 over the ONNX files of the parts that it needs, the names of its tensors, and
    /// how a face is sampled for it. Other tasks, the face finder, names, versions and the order of the weights do not change
    /// it. Stored results of a task, such as the templates of a gallery, stay valid as long as it is the same.
    pub fn task_identity(&self, task: &Task) -> [u8; HASH_BYTES] {
        let manifest = self.manifest();
        let mut hash = Sha256::new();
        let mut add = |label: &str, bytes: &[u8]| {
            hash.update((label.len() as u64).to_le_bytes());
            hash.update(label);
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        add("output", task.output.as_bytes());
        for part in needed_parts(manifest, task) {
            add("part", part.sha256.as_bytes());
            part.inputs.iter().for_each(|name| add("input", name.as_bytes()));
            part.outputs.iter().for_each(|name| add("output", name.as_bytes()));
            if part.sha256.is_empty() {
                // Only the whole bundle says what it computes.
                add("bundle", &self.identity);
            }
        }
        let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        match (manifest.group_of(task), &manifest.input, &manifest.frame) {
            (Some(group), ..) => add("group", format!("{group:?}").as_bytes()),
            (None, Some(input), Some(frame)) => {
                add("size", &(input.size as u64).to_le_bytes());
                add("colour", format!("{:?}", input.colour).as_bytes());
                add("normalization", &floats(&[input.mean, input.std].concat()));
                add("template", &floats(frame.template.as_flattened()));
                add("warp", format!("{:?} {:?}", frame.warp, frame.border).as_bytes());
                add("warp_linear", &frame.warp_linear.to_le_bytes());
            }
            _ => {}
        }
        hash.finalize().into()
    }
}

/// Returns the parts whose run a task needs, in the manifest's order.
fn needed_parts<'a>(manifest: &'a Manifest, task: &Task) -> impl Iterator<Item = &'a Part> {
    let mut needed = vec![task.part.as_str()];
    let mut next = 0;
    while let Some(part) = needed.get(next).and_then(|name| manifest.part(name)) {
        next += 1;
        for input in &part.inputs {
            let producers = manifest.parts.iter().filter(|p| p.outputs.contains(input)).map(|p| p.name.as_str());
            for name in producers {
                if !needed.contains(&name) {
                    needed.push(name);
                }
            }
        }
    }
    let needed: Vec<String> = needed.into_iter().map(str::to_owned).collect();
    manifest.parts.iter().filter(move |part| needed.contains(&part.name))
}
