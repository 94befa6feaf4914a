//! Rules for the files that the outputs of a command may replace: the option `--force`, and the inputs, which are never replaced.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::capture::photo_files;
use crate::cli::network_arguments::NetworkArguments;
use crate::files::output_file::OutputRules;
use crate::files::result_kind::ResultKind;
use crate::update::NETWORK;

#[derive(Args, Clone, Copy, Debug)]
pub struct ForceArgument {
    /// Overwrite files that faceptor did not write. Inputs of the command are never overwritten.
    #[arg(long)]
    pub force: bool,
}

impl ForceArgument {
    /// Returns what the outputs of a command with these inputs may replace.
    pub(crate) fn rules<P: AsRef<Path>>(self, inputs: impl IntoIterator<Item = P>) -> OutputRules {
        OutputRules { force: self.force, inputs: inputs.into_iter().collect() }
    }
}

/// Returns the files of a source: itself, the photos of a folder, or what standard input was redirected from.
pub(crate) fn source_files(source: &str) -> Vec<PathBuf> {
    match Path::new(source) {
        _ if source == "-" => vec![PathBuf::from("/dev/stdin")],
        folder if folder.is_dir() => photo_files::list(&[folder.to_owned()], &[]).photos,
        file => vec![file.to_owned()],
    }
}

/// Returns the files of a network: a bundle, or those of an export folder.
pub(crate) fn network_files(network: &NetworkArguments) -> Vec<PathBuf> {
    match &network.model {
        Some(folder) if folder.is_dir() => export_files(folder),
        model => {
            let installed = network.bundles.iter().map(|folder| folder.join("current").join(NETWORK));
            model.iter().cloned().chain(installed).collect()
        }
    }
}

/// Returns the files of an export folder. A bundle that an earlier command wrote there does not count.
pub(crate) fn export_files(folder: &Path) -> Vec<PathBuf> {
    let files = folder_files(folder).into_iter();
    files.filter(|path| !(path.is_file() && ResultKind::Bundle.is_in(path))).collect()
}

/// Returns the entries of a folder; none if it cannot be read.
pub(crate) fn folder_files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
