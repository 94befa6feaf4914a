//! The option `--force`, common to all commands that write files.

use clap::Args;

use crate::files::inputs::Inputs;
use crate::files::output_file::OutputRules;

#[derive(Args, Clone, Copy, Debug)]
pub struct ForceArgument {
    /// Overwrite files that faceptor did not write. Inputs of the command are never overwritten.
    #[arg(long)]
    pub force: bool,
}

impl ForceArgument {
    /// Returns what the outputs of a command with these inputs may replace.
    pub(crate) fn rules(self, inputs: Inputs) -> OutputRules {
        OutputRules { force: self.force, inputs }
    }
}
