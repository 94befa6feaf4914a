//! The network of a command: the bundle inside the binary, or one from a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, anyhow};
use clap::Args;

use crate::model::Bundle;
use crate::perceive::{Pipeline, tasks};

/// Which network.
#[derive(Args)]
pub struct NetworkArguments {
    /// A bundle made by `faceptor compile`, instead of the one inside this program.
    #[arg(long, value_name = "BUNDLE")]
    pub model: Option<PathBuf>,
}

/// Which tasks of it.
#[derive(Args)]
pub struct TaskArguments {
    /// Names separated by commas, `all`, or `none` for the finder alone [default: all but recognition].
    #[arg(long, value_name = "NAMES")]
    pub tasks: Option<String>,
}

impl NetworkArguments {
    /// Opens the bundle.
    pub fn open(&self) -> Result<Arc<Bundle>> {
        match &self.model {
            Some(path) => open(path),
            None => Bundle::embedded()
                .map_err(|reason| anyhow!("the network inside this program: {reason} (give one with --model)")),
        }
    }
}

/// Opens a bundle file; the error names it.
pub fn open(path: &Path) -> Result<Arc<Bundle>> {
    // Its error holds the reason already, so it is not chained.
    Bundle::open(path).map_err(|reason| anyhow!("{}: {reason}", path.display()))
}

impl TaskArguments {
    /// A pipeline for the chosen tasks of a bundle.
    pub fn pipeline(&self, bundle: &Arc<Bundle>) -> Result<Pipeline> {
        let chosen = tasks::select(bundle.manifest(), self.tasks.as_deref())?;
        Pipeline::new(bundle.clone(), &chosen)
    }
}
