//! The manifest: the parts and tasks of a network, and how its tensors are read.
//!
//! The exporter writes it beside the ONNX files as `manifest.toml`; a bundle holds the same TOML text.

mod face_check;
mod finder;
mod impostors;
mod preprocessing;

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

pub use face_check::FaceCheck;
pub use finder::{Finder, FinderSize};
pub use impostors::Impostors;
pub use preprocessing::{Align, Group, GroupBorder, GroupColour, GroupFrame, GroupWarp};

/// The manifest format that this version reads.
pub const FORMAT: u32 = 1;

/// Reports why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The text is no TOML, or has other fields than the format.
    #[error("manifest is not valid TOML for format {FORMAT}: {0}")]
    Syntax(String),
    /// The text has another format.
    #[error("manifest has format {found}, this version reads format {FORMAT}")]
    Format {
        /// Format of the text.
        found: u32,
    },
    /// The contents contradict each other.
    #[error("manifest: {0}")]
    Content(String),
}

/// A network: its parts, its tasks, its face detector, and the aligned frame that it reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format of the manifest: [`FORMAT`].
    pub format: u32,
    /// Name of the network.
    pub name: String,
    /// Version of the network.
    pub version: String,
    /// Notice for the weights, which may differ from the code's licence.
    #[serde(default)]
    pub licence: String,
    /// The input tensor, if all tasks share one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Input>,
    /// The aligned frame of that input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<Frame>,
    /// Preprocessing groups, in place of `input` and `frame` or beside them, if tasks need different inputs.
    #[serde(rename = "group", default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
    /// The ONNX graphs.
    #[serde(rename = "part")]
    pub parts: Vec<Part>,
    /// The tasks.
    #[serde(rename = "task", default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<Task>,
    /// The face detector, if the network has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finder: Option<Finder>,
    /// The scores of impostors, if they were measured: thresholds of recognition follow from them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impostors: Option<Impostors>,
    /// The check whether a crop shows a face, if the network has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub face_check: Option<FaceCheck>,
    /// Names of the tasks that were taken out with [`Manifest::take_out`].
    #[serde(skip)]
    pub taken_out: Vec<String>,
}

/// The input tensor of the face network: `[1, 3, size, size]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// Name of the tensor.
    pub tensor: String,
    /// Side of the square, pixels.
    pub size: usize,
    /// Order of the channels.
    #[serde(default)]
    pub colour: Colour,
    /// Mean of each channel: the tensor has `(pixel - mean) / std`, pixels are in 0..=255.
    pub mean: [f32; 3],
    /// Standard deviation of each channel.
    pub std: [f32; 3],
}

/// Order of the three channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// The aligned frame, and how the network samples it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// Places of eyes, nose, mouth corners, left to right in the image, in units of the frame's side (0..1).
    pub template: [[f32; 2]; 5],
    /// Mapping of network to frame coordinates.
    #[serde(default)]
    pub warp: Warp,
    /// `a` of `v = a u + (1 - a) u^3`, for [`Warp::Cubic`].
    #[serde(default = "one")]
    pub warp_linear: f32,
    /// Pixels of a frame that reaches beyond the photo.
    #[serde(default)]
    pub border: Border,
}

/// The pixels outside the photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Border {
    /// The photo's nearest pixels.
    #[default]
    Replicate,
}

/// The mapping of a network coordinate `u` in -1..1 to a frame coordinate `v` in -1..1, on each axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Warp {
    /// `v = u`.
    #[default]
    None,
    /// `v = a u + (1 - a) u^3`: more samples in the middle of the face.
    Cubic,
}

fn one() -> f32 {
    1.0
}

/// One ONNX graph. Parts are connected by tensor name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Name of the part.
    pub name: String,
    /// ONNX file, relative to the export folder.
    pub file: String,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// Tensors that the part reads.
    pub inputs: Vec<String>,
    /// Tensors that the part computes.
    pub outputs: Vec<String>,
    /// The file's names for `inputs`, in the same order; empty if they are the same. Parts that differ in nothing but their
    /// names share a file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub graph_inputs: Vec<String>,
    /// The file's names for `outputs`, in the same order; empty if they are the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub graph_outputs: Vec<String>,
}

impl Part {
    /// Returns the file's name for each input, in the order of `inputs`.
    pub fn file_inputs(&self) -> &[String] {
        if self.graph_inputs.is_empty() { &self.inputs } else { &self.graph_inputs }
    }

    /// Returns the file's name for each output, in the order of `outputs`.
    pub fn file_outputs(&self) -> &[String] {
        if self.graph_outputs.is_empty() { &self.outputs } else { &self.graph_outputs }
    }
}

/// One task of the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Name of the task.
    pub name: String,
    /// Meaning of the output tensor.
    pub kind: TaskKind,
    /// The part whose run is this task's own cost.
    pub part: String,
    /// The output tensor.
    pub output: String,
    /// `true` if the task is chosen when the user names none.
    #[serde(default)]
    pub default: bool,
    /// First query and the one after the last, in the whole query table.
    #[serde(default)]
    pub queries: [usize; 2],
    /// Interpreter of the queries.
    #[serde(default)]
    pub interpreter: Interpreter,
    /// Class or attribute names, one per query or class.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Years of the age bins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bins: Vec<f32>,
    /// Index of the mirrored point or class, if mirroring the image permutes them: pairs that trade places, or itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flip: Vec<usize>,
    /// `true` if a mirrored face has the same output, except for `flip`; not if a label names a side.
    #[serde(default)]
    pub mirror: bool,
}

impl Task {
    /// Returns a task of that kind with placeholders for everything else, for tests.
    #[doc(hidden)]
    pub fn of_kind(kind: TaskKind) -> Task {
        Task {
            name: "mine".into(),
            kind,
            part: "p".into(),
            output: "o".into(),
            default: true,
            queries: [0, 1],
            interpreter: Interpreter::Value,
            labels: Vec::new(),
            bins: Vec::new(),
            flip: Vec::new(),
            mirror: false,
        }
    }
}

/// The meaning of a task's output tensor, float32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskKind {
    /// `[1, points, 2]`: x, y in network coordinates, 0..1.
    Landmarks,
    /// `[1, classes, height, width]`: logits on the network's grid.
    Parsing,
    /// `[1, bins]`: probabilities that sum to one.
    Age,
    /// `[1, classes]`: probabilities that sum to one. A manifest may call it `classes` too.
    #[serde(alias = "classes")]
    Expression,
    /// `[1, attributes]`: one probability each.
    Attributes,
    /// `[1, dimensions]`: embedding, not normalised.
    Recognition,
}

/// The interpreter that turns a task's queries into its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpreter {
    /// Dot products of query embeddings with pixel features.
    Map,
    /// A number from each query.
    #[default]
    Value,
    /// A vector from the encoder's features.
    Feature,
}

/// Largest side, in pixels, of any input tensor: keeps a hostile manifest from asking for huge buffers.
pub(crate) const MAX_SIDE: usize = 4096;

impl Manifest {
    /// Reads and checks TOML text.
    ///
    /// # Errors
    /// If the text has another format, or contradicts itself.
    pub fn parse(text: &str) -> Result<Manifest, ManifestError> {
        /// Read first, so that another format is not reported as a mistake.
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let syntax = |e: toml::de::Error| ManifestError::Syntax(e.to_string().trim().replace('\n', " "));
        let head: Head = toml::from_str(text).map_err(syntax)?;
        if head.format != FORMAT {
            return Err(ManifestError::Format { found: head.format });
        }
        let manifest: Manifest = toml::from_str(text).map_err(syntax)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Takes every task of a kind out: it is no task of the network any more, and only its name is kept.
    pub fn take_out(&mut self, kind: TaskKind) {
        let others = std::mem::take(&mut self.tasks);
        for task in others {
            match task.kind == kind {
                true => self.taken_out.push(task.name),
                false => self.tasks.push(task),
            }
        }
    }

    /// Returns the task of that name.
    pub fn task(&self, name: &str) -> Option<&Task> {
        self.tasks.iter().find(|t| t.name == name)
    }

    /// Returns the part of that name.
    pub fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|p| p.name == name)
    }

    /// Returns the preprocessing group of a task: the one whose tensor its part reads, directly or through other parts. `None`
    /// for a task that reads the tensor of `[input]`.
    pub fn group_of(&self, task: &Task) -> Option<&Group> {
        let mut open = vec![task.part.as_str()];
        let mut seen = HashSet::new();
        while let Some(name) = open.pop() {
            let Some(part) = self.part(name).filter(|p| seen.insert(p.name.as_str())) else { continue };
            for input in &part.inputs {
                if let Some(group) = self.groups.iter().find(|g| g.tensor == *input) {
                    return Some(group);
                }
                open.extend(self.parts.iter().filter(|p| p.outputs.contains(input)).map(|p| p.name.as_str()));
            }
        }
        None
    }

    /// Returns the tensors that a picture is sampled into: that of `[input]`, and those of the groups.
    pub fn image_tensors(&self) -> impl Iterator<Item = &str> {
        let shared = self.input.iter().map(|input| input.tensor.as_str());
        shared.chain(self.groups.iter().map(|group| group.tensor.as_str()))
    }

    fn check_groups(&self) -> Result<(), ManifestError> {
        let fail = |text: String| Err(ManifestError::Content(text));
        let mut used = HashSet::new();
        used.extend(self.input.iter().map(|input| ("tensor", input.tensor.as_str())));
        for group in &self.groups {
            let fresh = used.insert(("name", group.name.as_str())) && used.insert(("tensor", group.tensor.as_str()));
            if group.name.is_empty() || group.tensor.is_empty() || !fresh {
                return fail(format!("group {:?}: its name or tensor is empty or used twice", group.name));
            }
            if let Some(problem) = group.problem(MAX_SIDE) {
                return fail(format!("group {}: {problem}", group.name));
            }
        }
        if self.input.is_some() != self.frame.is_some() {
            return fail("it has [input] or [frame]: both or neither".into());
        }
        match self.tasks.iter().find(|task| self.input.is_none() && self.group_of(task).is_none()) {
            Some(task) => fail(format!("task {}: no part that it needs reads a group's tensor", task.name)),
            None => Ok(()),
        }
    }

    fn check(&self) -> Result<(), ManifestError> {
        let fail = |text: String| Err(ManifestError::Content(text));
        if self.parts.is_empty() {
            return fail("it has no [[part]]".into());
        }
        let mut part_names = HashSet::new();
        let mut produced = HashSet::new();
        for part in &self.parts {
            if part.name.is_empty() || !part_names.insert(part.name.as_str()) {
                return fail(format!("part name {:?} is empty or used twice", part.name));
            }
            if part.outputs.is_empty() {
                return fail(format!("part {} has no outputs", part.name));
            }
            if part.file_inputs().len() != part.inputs.len() || part.file_outputs().len() != part.outputs.len() {
                return fail(format!(
                    "part {} has another number of graph_inputs or graph_outputs than of its own",
                    part.name
                ));
            }
            for output in &part.outputs {
                if !produced.insert(output.as_str()) {
                    return fail(format!("tensor {output} is produced by more than one part"));
                }
            }
        }
        let mut task_names = HashSet::new();
        for task in &self.tasks {
            if task.name.is_empty() || !task_names.insert(task.name.as_str()) {
                return fail(format!("task name {:?} is empty or used twice", task.name));
            }
            match self.part(&task.part) {
                None => return fail(format!("task {} names part {}, which is not there", task.name, task.part)),
                Some(part) if !part.outputs.contains(&task.output) => {
                    return fail(format!("task {}: part {} has no output {}", task.name, part.name, task.output));
                }
                Some(_) => {}
            }
            if task.queries[0] > task.queries[1] {
                return fail(format!("task {}: queries end before they begin", task.name));
            }
            if let Some(index) = (0..task.flip.len()).find(|&i| task.flip.get(task.flip[i]) != Some(&i)) {
                return fail(format!("task {}: flip has no pair for index {index}", task.name));
            }
            if task.mirror && task.flip.is_empty() && matches!(task.kind, TaskKind::Landmarks | TaskKind::Parsing) {
                return fail(format!("task {}: mirror needs flip, which says what trades places", task.name));
            }
        }
        if !self.groups.is_empty() {
            self.check_groups()?;
        } else if !self.tasks.is_empty() && (self.input.is_none() || self.frame.is_none()) {
            return fail("it has tasks, so it needs [input] and [frame]".into());
        }
        if let Some(input) = &self.input {
            if input.size == 0 || input.size > MAX_SIDE {
                return fail(format!("input size {} is not in 1..={MAX_SIDE}", input.size));
            }
            check_normalisation("input", &input.mean, &input.std)?;
        }
        if let Some(frame) = &self.frame {
            if !frame.template.iter().flatten().all(|v| v.is_finite()) {
                return fail("frame: template is not finite".into());
            }
            // At 0 the cubic is flat in the middle; above 1 it would sample the rim more densely than the face.
            if !(frame.warp_linear > 0.0 && frame.warp_linear <= 1.0) {
                return fail(format!("frame: warp_linear {} is not above 0 and at most 1", frame.warp_linear));
            }
        }
        if let Some(finder) = &self.finder {
            finder.check(self)?;
        }
        if let Some(impostors) = &self.impostors {
            impostors.check(self)?;
        }
        if let Some(check) = &self.face_check {
            check.check(self)?;
        }
        Ok(())
    }
}

pub(crate) fn check_normalisation(what: &str, mean: &[f32; 3], std: &[f32; 3]) -> Result<(), ManifestError> {
    if mean.iter().all(|m| m.is_finite()) && std.iter().all(|s| s.is_finite() && *s != 0.0) {
        return Ok(());
    }
    Err(ManifestError::Content(format!("{what}: mean or std is not finite, or std is zero")))
}

#[cfg(test)]
mod tests;
