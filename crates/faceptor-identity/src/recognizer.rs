//! The recognition task of a network.

use anyhow::{Result, anyhow};

use faceptor_gallery::{ImpostorScores, Network};
use faceptor_nn::bundle::{Bundle, TensorName};
use faceptor_nn::manifest::TaskKind;

/// The facts of a network that a gallery needs.
pub struct Recognizer {
    /// The index of the task in the manifest.
    pub task: usize,
    /// The network that embeddings are of.
    pub network: Network,
    /// The scores of impostors, where they were measured.
    pub impostors: Option<ImpostorScores>,
}

impl Recognizer {
    /// Finds the recognition of a bundle.
    ///
    /// # Errors
    /// When the bundle has none.
    pub fn of(bundle: &Bundle) -> Result<Recognizer> {
        let manifest = bundle.manifest();
        let task = manifest.tasks.iter().position(|task| task.kind == TaskKind::Recognition);
        let task =
            task.ok_or_else(|| anyhow!("this network has no recognition task: name another one with --model"))?;
        let own = &manifest.tasks[task];
        let mut tensors = bundle.parts().flat_map(|part| &part.outputs);
        let output = tensors.find(|tensor| TensorName::parse(&tensor.name).tensor == own.output);
        let dimension = output.map_or(0, |tensor| tensor.shape.iter().product());
        let network = Network {
            name: format!("{} {}", manifest.name, manifest.version),
            recognition: bundle.task_identity(own),
            dimension,
        };
        let table = manifest.impostors.as_ref().filter(|table| table.task == own.name);
        let impostors = table.map(|table| ImpostorScores::new(&table.rates, &table.scores)).transpose()?;
        Ok(Recognizer { task, network, impostors })
    }
}
