//! Another network for the recognition of a bundle: any that maps a face aligned by five keypoints to an embedding.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use tract_onnx::tract_hir::internal::*;

use crate::MAX_ONNX_BYTES;
use faceptor_nn::manifest::{
    Align, Group, GroupBorder, GroupColour, GroupFrame, GroupWarp, Impostors, Interpreter, Manifest, Part, Task,
    TaskKind,
};

/// Side of the aligned crop, pixels.
const SIDE: usize = 112;
/// Places of eyes, nose and mouth corners in that crop, pixels: the template of ArcFace.
const TEMPLATE: [[f32; 2]; 5] =
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]];
/// Numbers of an embedding.
const DIMENSIONS: std::ops::RangeInclusive<usize> = 128..=512;

/// Name of the part and of the group; their tensors.
const NAME: &str = "recognizer";
const IMAGE: &str = "recognizer_image";
const EMBEDDING: &str = "out_recognizer";

/// Order of the channels of a crop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Channels {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// A recognition network in an ONNX file: it reads one aligned crop `[1, 3, 112, 112]`, float32, and returns an embedding of 128 to
/// 512 numbers. The file is float32, or quantized with QuantizeLinear and DequantizeLinear.
#[derive(Debug, Clone)]
pub struct Recognizer {
    /// The ONNX file.
    pub file: PathBuf,
    /// Order of the channels.
    pub channels: Channels,
    /// Mean of each channel, in that order: the network reads `(pixel - mean) / std`, pixels are in 0..=255.
    pub mean: [f32; 3],
    /// Standard deviation of each channel.
    pub std: [f32; 3],
    /// Impostor scores of this network, if they were measured.
    pub impostors: Option<Impostors>,
}

/// A recognition network that was read.
pub(crate) struct Network {
    pub file: PathBuf,
    pub part: Part,
    pub model: TypedModel,
    group: Group,
    impostors: Option<Impostors>,
}

impl Recognizer {
    /// Reads the file.
    ///
    /// # Errors
    /// When it is no such network.
    pub(crate) fn read(&self) -> Result<Network> {
        let size = std::fs::metadata(&self.file).context("cannot read the file")?.len();
        ensure!(size <= MAX_ONNX_BYTES, "the file has {size} bytes, more than {MAX_ONNX_BYTES}");
        let bytes = std::fs::read(&self.file).context("cannot read the file")?;
        let mut model = crate::inference(&bytes)?;
        let name_of = |outlet: &OutletId| {
            let label = model.outlet_label(*outlet).map(str::to_owned);
            label.unwrap_or_else(|| model.node(outlet.node).name.clone())
        };
        let inputs: Vec<String> = model.input_outlets()?.iter().map(|one| model.node(one.node).name.clone()).collect();
        let outputs: Vec<String> = model.output_outlets()?.iter().map(name_of).collect();
        ensure!(
            inputs.len() == 1 && outputs.len() == 1,
            "a recognition network has one input and one output, this has {} and {}",
            inputs.len(),
            outputs.len()
        );
        // Files for batches of any size have no first number.
        model
            .set_input_fact(0, f32::fact([1, 3, SIDE, SIDE]).into())
            .with_context(|| format!("its input is not a crop [1, 3, {SIDE}, {SIDE}]"))?;
        let part = Part {
            name: NAME.into(),
            file: self.file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            sha256: faceptor_nn::bundle::hexadecimal(&Sha256::digest(&bytes)),
            inputs: vec![IMAGE.into()],
            outputs: vec![EMBEDDING.into()],
            graph_inputs: inputs,
            graph_outputs: outputs,
        };
        let model = crate::typed(model, &part).with_context(|| {
            format!("the network cannot be used with a crop [1, 3, {SIDE}, {SIDE}]: another input, or an operator that is not known")
        })?;
        let shape = model.output_fact(0)?.shape.as_concrete().context("its output's shape is not static")?.to_vec();
        let numbers: usize = shape.iter().product();
        if !DIMENSIONS.contains(&numbers) {
            bail!(
                "its output {shape:?} has {numbers} numbers; an embedding has {} to {}",
                DIMENSIONS.start(),
                DIMENSIONS.end()
            );
        }
        let template = TEMPLATE.map(|point| point.map(|pixel| (pixel + 0.5) / SIDE as f32));
        let group = Group {
            name: NAME.into(),
            tensor: IMAGE.into(),
            size: SIDE,
            colour: match self.channels {
                Channels::Rgb => GroupColour::Rgb,
                Channels::Bgr => GroupColour::Bgr,
            },
            mean: self.mean.to_vec(),
            std: self.std.to_vec(),
            frame: GroupFrame {
                align: Align::Keypoints { template },
                warp: GroupWarp::None,
                warp_tanh: 1.0,
                // As the alignments of these networks' trainings fill it.
                border: GroupBorder::Black,
            },
        };
        Ok(Network { file: self.file.clone(), part, model, group, impostors: self.impostors.clone() })
    }
}

impl Network {
    /// Returns a manifest in which this network answers the recognition task.
    pub fn within(&self, mut manifest: Manifest) -> Manifest {
        let own = manifest.tasks.iter().position(|task| task.kind == TaskKind::Recognition);
        let replaced: Vec<Task> = manifest.tasks.extract_if(.., |task| task.kind == TaskKind::Recognition).collect();
        let task = Task {
            name: replaced.first().map_or_else(|| "recognition".to_owned(), |task| task.name.clone()),
            kind: TaskKind::Recognition,
            part: NAME.into(),
            output: EMBEDDING.into(),
            default: replaced.first().is_some_and(|task| task.default),
            queries: [0, 0],
            interpreter: Interpreter::Feature,
            labels: Vec::new(),
            bins: Vec::new(),
            flip: Vec::new(),
            mirror: true,
        };
        let place = own.unwrap_or(manifest.tasks.len()).min(manifest.tasks.len());
        manifest.impostors = self.impostors.clone().map(|table| Impostors { task: task.name.clone(), ..table });
        manifest.tasks.insert(place, task);
        // Layers that only the former recognition needed are removed with it.
        for task in &replaced {
            let is_read = |part: &Part| {
                let is_input = |output| manifest.parts.iter().any(|other| other.inputs.contains(output));
                part.outputs.iter().any(is_input) || manifest.tasks.iter().any(|other| other.part == part.name)
            };
            if manifest.part(&task.part).is_some_and(|part| !is_read(part)) {
                manifest.parts.retain(|part| part.name != task.part);
            }
        }
        manifest.parts.push(self.part.clone());
        manifest.groups.push(self.group.clone());
        let stem = self.file.file_stem().unwrap_or_default().to_string_lossy();
        manifest.name = format!("{}+{stem}", manifest.name);
        let own = format!("the recognition network {} has a licence of its own", self.part.file);
        manifest.licence = match manifest.licence.trim() {
            "" => own,
            licence => format!("{licence}; {own}"),
        };
        manifest
    }
}
