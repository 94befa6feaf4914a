//! A compiled network in one file.

use std::path::Path;
use std::sync::Arc;

use crate::embedded;
use crate::error::{Error, ErrorKind, Result};
use crate::task::Task;
use faceptor_nn::bundle as nn_bundle;
use faceptor_nn::bundle::BundleError;

/// A compiled network in one file, as `faceptor compile` writes it. A clone shares its memory.
#[derive(Clone)]
pub struct Bundle(Arc<nn_bundle::Bundle>);

impl Bundle {
    /// Opens the network that was compiled into the library (feature `embedded`, or `nano` in a library without that).
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] when none was.
    pub fn embedded() -> Result<Bundle, Error> {
        embedded::bundle().map(Bundle).map_err(refused)
    }

    /// Reads a bundle file and checks it.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] when the file cannot be read, is not a bundle, or is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Bundle, Error> {
        let path = path.as_ref();
        nn_bundle::Bundle::open(path).map(Bundle).map_err(|reason| refused(reason).within(path.display()))
    }

    /// Copies a bundle from memory and checks it.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] when the bytes are no bundle, or damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Bundle, Error> {
        nn_bundle::Bundle::from_bytes(bytes).map(Bundle).map_err(refused)
    }

    /// Returns the network's name and version.
    pub fn name(&self) -> String {
        format!("{} {}", self.0.manifest().name, self.0.manifest().version)
    }

    /// Returns the tasks, in the order of the manifest.
    pub fn tasks(&self) -> impl Iterator<Item = Task> {
        self.0.manifest().tasks.iter().map(|task| Task::named(&task.name))
    }

    /// Returns the bundle for the engine.
    pub(crate) fn inner(&self) -> &Arc<nn_bundle::Bundle> {
        &self.0
    }
}

impl From<Arc<nn_bundle::Bundle>> for Bundle {
    fn from(bundle: Arc<nn_bundle::Bundle>) -> Bundle {
        Bundle(bundle)
    }
}

fn refused(reason: BundleError) -> Error {
    Error::new(ErrorKind::Bundle, reason.to_string())
}
